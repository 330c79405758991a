//! The picture of a road: a lane for each service, stations as wide as their time, waits hatched, a rollback that bends
//! back to what serves.
//!
//! In: a road. Out: lists that a stylesheet draws, from left to right where there is room and downwards on a phone.
//! Never: a width, colour or text that only scripts or styles within the page could give.

use super::words::took;
use maud::{Markup, html};
use slipway_feedback::road::{Mark, Road, RoadLane, Station};

/// The widest that one station grows in comparison with the narrowest.
const GROW_MAX: u64 = 24;
/// Waits shorter than this have no stretch of their own.
const WAIT_MS_MIN: u64 = 1_000;
/// Lanes that are drawn; further ones fold.
const LANES: usize = 12;

/// A column of the picture: as wide in every lane.
struct Column<'a> {
    name: &'a str,
    grow: u64,
    wait: Option<u64>,
    bends: bool,
}

/// The whole picture.
pub fn picture(road: &Road) -> Markup {
    let columns = columns(road);
    let (drawn, folded) = road.lanes.split_at(road.lanes.len().min(LANES));
    html! {
        section class={ "card road" @if columns.len() > 7 { " many" } } id="road" aria-labelledby="road-title" {
            div class="head" { h2 id="road-title" { "The road" } p class="sum" { (sum(road)) } }
            @if road.lanes.is_empty() { p class="soft" { "Nothing runs for this commit." } }
            @for (index, lane) in drawn.iter().enumerate() { (lane_of(lane, &columns, index == 0)) }
            @if !folded.is_empty() {
                details { summary { (folded.len()) " more lanes" }
                    @for (index, lane) in folded.iter().enumerate() { (lane_of(lane, &columns, index == 0)) }
                }
            }
            @if !road.not_affected.is_empty() { (not_affected(road)) }
        }
    }
}

fn sum(road: &Road) -> Markup {
    let waiting = road.all_ms.saturating_sub(road.work_ms);
    html! {
        b { (took(road.all_ms)) " in all" } " · " (took(road.work_ms)) " work · " (took(waiting)) " waiting"
        @if let Some((why, ms)) = &road.longest { ", longest: " (short(why)) " " b { (took(*ms)) } }
    }
}

fn not_affected(road: &Road) -> Markup {
    let names: Vec<String> = road.not_affected.iter().map(ToString::to_string).collect();
    html! {
        @if names.len() <= 3 {
            p class="rest" { b { (names.join(", ")) } span class="dots" aria-hidden="true" {} "not affected: the same content passed before" }
        } @else {
            details class="rest" { summary { (names.len()) " services not affected" } p { (names.join(", ")) } }
        }
    }
}

fn columns(road: &Road) -> Vec<Column<'_>> {
    let all = road.all_ms.max(1);
    // The longest lane has the order; one without a service has the first stations only.
    let longest = road.lanes.iter().max_by_key(|lane| lane.stations.len());
    let names = longest.iter().flat_map(|lane| &lane.stations).map(|station| station.name.as_str());
    names
        .map(|name| {
            let here = || road.lanes.iter().flat_map(|lane| &lane.stations).filter(move |station| station.name == name);
            let work = here().filter_map(|station| station.work_ms).max().unwrap_or(0);
            let wait = here().map(|station| station.wait_ms).max().unwrap_or(0);
            let wait = (wait >= WAIT_MS_MIN && name != "Jobs").then(|| grow(wait, all));
            Column { name, grow: grow(work, all), wait, bends: here().any(|station| station.back.is_some()) }
        })
        .collect()
}

/// By the square root, so that what is short can still be seen beside what is long.
fn grow(ms: u64, all: u64) -> u64 {
    (ms.saturating_mul(GROW_MAX * GROW_MAX) / all).isqrt().clamp(1, GROW_MAX)
}

fn lane_of(lane: &RoadLane, columns: &[Column<'_>], first: bool) -> Markup {
    let bent = lane.stations.iter().any(|station| station.back.is_some());
    let name = lane.service.as_ref().map_or("repository", |service| service.as_str());
    html! {
        div class={ "lane" @if first { " first" } @if bent { " bent" } } {
            h3 { (name) }
            ol aria-label={ "stations of " (name) } {
                @for column in columns {
                    @match lane.stations.iter().find(|station| station.name == column.name) {
                        Some(station) => {
                            @if let Some(grow) = column.wait { (gap(station, grow)) }
                            (stop(station, column.grow))
                        }
                        None => {
                            @if let Some(grow) = column.wait { li class={ "gap none g" (grow) } aria-hidden="true" {} }
                            li class={ "st none g" (column.grow) } aria-hidden="true" {}
                        }
                    }
                    @if column.bends { li class="turn" aria-hidden="true" {} }
                }
            }
        }
    }
}

/// The stretch of waiting before a station.
fn gap(station: &Station, grow: u64) -> Markup {
    let waits = station.wait_ms >= WAIT_MS_MIN;
    let class = match (waits, station.mark) {
        (true, _) => "wait",
        (false, Mark::Ahead) => "ahead",
        (false, _) => "through",
    };
    html! {
        @if waits {
            li class={ "gap " (class) " g" (grow) } title=(station.waited_for) {
                span class="tk" {}
                span class="lab" { "waited " (took(station.wait_ms)) @if !station.waited_for.is_empty() { span { " for " (short(&station.waited_for)) } } }
            }
        } @else {
            li class={ "gap " (class) " g" (grow) } aria-hidden="true" { span class="tk" {} }
        }
    }
}

/// What was waited for, as short as it can be said in a picture.
pub fn short(why: &str) -> String {
    let first = why.split([';', '(']).next().unwrap_or_default().trim();
    // Of how many somebody has to approve is told where it can be done.
    if let Some((before, rest)) = first.split_once("approval ") {
        let who = rest.split_once(" by ").map(|(_, who)| who).filter(|who| !who.starts_with("anybody"));
        return who.map_or_else(|| format!("{before}approval"), |who| format!("{before}approval by {who}"));
    }
    match first.char_indices().nth(48) {
        Some((at, _)) => format!("{}…", first.get(..at).unwrap_or_default().trim_end()),
        None => first.to_owned(),
    }
}

fn stop(station: &Station, grow: u64) -> Markup {
    let (class, sign, said) = shape(station.mark);
    html! {
        li class={ "st " (class) " g" (grow) } {
            span class="nm" { (station.name) }
            span class="tk" { span class="dot" { span aria-hidden="true" { (sign) } span class="hid" { (said) } } }
            span class="de" { (station.detail) }
            @if let Some(ms) = station.work_ms { span class="ms" { (took(ms)) } }
            @if let Some((serves, ms)) = &station.back { (bend(station, serves.as_deref(), *ms)) }
        }
    }
}

fn bend(station: &Station, serves: Option<&str>, ms: Option<u64>) -> Markup {
    html! {
        span class="bend" {
            span class="to" {
                @match serves { Some(serves) => { (serves) " serves " (station.name) } None => { "nothing to go back to" } }
            }
            span class="line" aria-hidden="true" {}
            @if let Some(ms) = ms { span class="after" { (took(ms)) span class="hid" { " later" } } }
        }
    }
}

fn shape(mark: Mark) -> (&'static str, &'static str, &'static str) {
    match mark {
        Mark::Done => ("done", "✓", "passed"),
        Mark::Moving => ("moving", "↻", "under way"),
        Mark::Waiting => ("waiting", "◷", "waits"),
        Mark::Failed => ("failed", "✕", "failed"),
        Mark::Back => ("failed back", "✕", "rolled back"),
        Mark::Passed => ("passed", "–", "not needed"),
        Mark::Ahead => ("ahead", "", "not reached"),
    }
}

/// A road as a thin strip, for lists.
pub fn strip(lane: &RoadLane) -> Markup {
    let name = lane.service.as_ref().map_or("repository", |service| service.as_str());
    html! {
        ol class="strip" aria-label={ "stations of " (name) } {
            @for station in &lane.stations {
                @let (class, _, said) = shape(station.mark);
                li class=(class) { span class="tk" { span class="hid" { (said) } } b { (station.name) } @if station.mark != Mark::Done { " " (station.detail) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(name: &str, mark: Mark) -> Station {
        Station {
            name: name.into(),
            mark,
            detail: "<b>".into(),
            work_ms: Some(9_800),
            wait_ms: 0,
            waited_for: String::new(),
            back: None,
        }
    }

    // R075
    #[test]
    fn a_rollback_bends_back_and_a_wait_is_named() {
        let mut production = station("production", Mark::Back);
        (production.wait_ms, production.waited_for) = (472_000, "approval 1 of 2 by ops; none given yet".into());
        production.back = Some((Some("r39".into()), Some(100)));
        let lane = RoadLane { service: "api".parse().ok(), stations: vec![station("Jobs", Mark::Done), production] };
        let road = Road {
            lanes: vec![lane],
            not_affected: vec!["web".parse().unwrap()],
            all_ms: 521_000,
            work_ms: 31_000,
            longest: Some(("production: approval 1 of 2 by ops; none given yet".into(), 472_000)),
        };
        let text = picture(&road).into_string();
        for said in [
            "8 m 41 s in all",
            "longest: production: approval by ops",
            "waited 7 m 52 s",
            "r39 serves production",
            "rolled back",
            "&lt;b&gt;",
            "<b>web</b>",
        ] {
            assert!(text.contains(said), "`{said}` is missing in {text}");
        }
        assert!(!text.contains("style="), "{text}");
    }
}
