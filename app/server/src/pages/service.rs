//! One service: where it runs, its releases, and for one environment its metrics, health, events and logs side by side
//! (R306), and its history (R384).
//!
//! In: the status of a project, lines of logs. Out: the page. Never: all lines of a log; a page has its end.

use super::frame::{Look, Place, page};
use super::words::{Tone, ago, command, distance, errors, mark, milliseconds, pill, since};
use super::{ansi, environment, history, home, sign};
use crate::Server;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use slipway_model::release::Release;
use slipway_model::view::{EnvironmentView, LaneView, Status};
use slipway_model::{At, Lane, ProjectName, ServiceName};
use std::time::Duration;

/// Last lines of the log.
const LOG_LINES: usize = 60;
/// The node has so long to give them; a page waits no longer for it.
const LOG_WAIT: Duration = Duration::from_millis(400);
/// Lines of history, and releases.
const LINES: usize = 30;

#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    env: String,
    #[serde(default)]
    search: String,
}

/// `GET /p/{project}/s/{service}`.
pub async fn service(
    State(server): State<Server>,
    Path((name, of)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    look: Look,
) -> Response {
    let Ok(project) = ProjectName::parse(&name) else { return sign::no_project(&look, &name) };
    let Some(status) = server.status(&project, 0).await else { return sign::no_project(&look, &name) };
    let missing = || sign::nothing(&look, &format!("There is no service {of} in {project}."), "slipway status");
    let Ok(service) = ServiceName::parse(&of) else { return missing() };
    if !server.services(&project).contains(&service) {
        return missing();
    }
    let chosen = chosen(&status, &service, &asked.env);
    let moves = chosen.is_some_and(|(_, lane)| lane.rollout.is_some());
    let now = server.now();
    let body = html! {
        div class="title" { h1 { (service) } (addresses(chosen)) }
        (places(&status, &service, chosen))
        @if let Some((place, lane)) = chosen { (beside(&server, &project, place, lane, now).await) }
        (releases(&server, &status, &service, now))
        @let wanted = history::Wanted { env: asked.env.clone(), service: service.to_string(), search: asked.search.clone() };
        (history::panel(&server, &project, &wanted, &format!("/p/{project}/s/{service}"), LINES))
    };
    let place = Place {
        title: format!("{service} of {project}"),
        project: Some(project.clone()),
        crumbs: vec![(service.to_string(), String::new())],
        every_seconds: Some(if moves { 1 } else { 3 }),
    };
    page(&server, &look, &place, body)
}

type Chosen<'a> = (&'a EnvironmentView, &'a LaneView);

/// The environment that was asked for, else the last of the order that has the service: what users see.
fn chosen<'a>(status: &'a Status, service: &ServiceName, env: &str) -> Option<Chosen<'a>> {
    let lanes = status.environments.iter().flat_map(|place| place.services.iter().map(move |lane| (place, lane)));
    let own: Vec<Chosen<'a>> = lanes.filter(|(_, lane)| &lane.name == service).collect();
    let asked = own.iter().find(|(place, _)| place.name.as_str() == env);
    asked.or_else(|| own.iter().find(|(place, _)| place.name.as_str() == "production")).or(own.last()).copied()
}

fn addresses(chosen: Option<Chosen<'_>>) -> Markup {
    html! {
        @if let Some((_, lane)) = chosen {
            p class="soft" { @for address in lane.addresses.iter().take(4) { a href=(address) rel="noreferrer" { (address) } " " } }
        } @else { p class="soft" { "It was not deployed yet." } }
    }
}

fn places(status: &Status, service: &ServiceName, chosen: Option<Chosen<'_>>) -> Markup {
    let own = |place: &'_ EnvironmentView| place.services.iter().find(|lane| &lane.name == service).cloned();
    html! {
        nav class="tabs" aria-label="environments" {
            @for place in &status.environments { @if let Some(lane) = own(place) {
                @let here = chosen.is_some_and(|(chosen, _)| chosen.name == place.name);
                a href={ "/p/" (status.project) "/s/" (service) "?env=" (place.name) } aria-current=[here.then_some("page")] { b { (place.name) } " " (home::state(&lane)) }
            } }
        }
    }
}

/// Metrics, health, events and logs of one environment, per release, side by side (R306).
async fn beside(server: &Server, project: &ProjectName, place: &EnvironmentView, lane: &LaneView, now: At) -> Markup {
    let of = Lane { project: project.clone(), environment: place.name.clone(), service: lane.name.clone() };
    let lines = last_lines(server, &of).await;
    html! {
        (environment::notes(lane, place, now))
        div class="pair" {
            (metrics(server, &of, lane))
            (health(server, &of, lane, now))
        }
        div class="pair" {
            (events(server, &of, now))
            (log(&of, &lines))
        }
    }
}

fn number(server: &Server, of: &Lane, id: &slipway_model::ReleaseId) -> String {
    let number = |release: &Release| format!("r{}", release.number);
    let known = server.road().look(|projection| projection.projects.get(&of.project)?.releases.get(id).map(number));
    known.unwrap_or_else(|| id.to_string())
}

fn metrics(server: &Server, of: &Lane, lane: &LaneView) -> Markup {
    html! {
        section class="card" id="metrics" aria-labelledby="metrics-title" {
            h2 id="metrics-title" { "Traffic" }
            @if lane.traffic.is_empty() { p class="soft" { "No release takes traffic." } } @else {
                table {
                    thead { tr { th scope="col" { "release" } th scope="col" { "share" } th scope="col" { "requests" } th scope="col" { "5xx" } th scope="col" { "p95" } } }
                    tbody { @for share in &lane.traffic {
                        tr {
                            th scope="row" { (number(server, of, &share.release)) }
                            td data-label="share" { (share.weight) " % " meter class="share" min="0" max="100" value=(share.weight) aria-label="share of traffic" { (share.weight) " %" } }
                            td data-label="requests" { (share.requests) }
                            td data-label="5xx" { @if share.errors > 0 { b class="bad" { "✕ " (errors(share.errors, share.requests)) } } @else { "none" } }
                            td data-label="p95" { (milliseconds(share.p95_us)) }
                        }
                    } }
                }
            }
        }
    }
}

fn health(server: &Server, of: &Lane, lane: &LaneView, now: At) -> Markup {
    html! {
        section class="card" id="health" aria-labelledby="health-title" {
            h2 id="health-title" { "Health" }
            @if lane.instances.is_empty() { p class="soft" { "No instance runs." } } @else {
                table {
                    thead { tr { th scope="col" { "instance" } th scope="col" { "state" } th scope="col" { "for" } th scope="col" { "restarts" } } }
                    tbody { @for instance in &lane.instances {
                        tr {
                            th scope="row" { (number(server, of, &instance.release)) " " code { (instance.id.rsplit('-').next().unwrap_or(&instance.id)) } }
                            td { (mark(instance.state.word())) @if !instance.reason.is_empty() { br; span class="soft" { (instance.reason) } } @if let Some(ms) = instance.ready_ms { " " span class="soft" { "ready in " (distance_or_ms(ms)) } } }
                            td data-label="for" { (since(instance.since, now)) }
                            td data-label="restarts" { (instance.restarts) }
                        }
                    } }
                }
            }
        }
    }
}

fn distance_or_ms(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { distance(ms) }
}

/// What happened here: attempts, holds, instances that ended.
fn events(server: &Server, of: &Lane, now: At) -> Markup {
    let key = (of.environment.clone(), of.service.clone());
    let state = server.road().look(|projection| projection.projects.get(&of.project)?.lanes.get(&key).cloned());
    let Some(state) = state else { return html! {} };
    let mut events: Vec<(At, Markup)> = Vec::new();
    for line in state.history.iter().rev().take(LINES) {
        events.push((line.at, html! { (history::attempt(&line.result)) " " b { (line.release) } " by " (line.by) @if !line.reason.is_empty() { ": " (line.reason) } }));
    }
    for (at, ended) in &state.ended {
        let why = if ended.reason.is_empty() {
            ended.exit.as_ref().map_or_else(|| "ended".into(), |exit| format!("exited with code {}", exit.code))
        } else {
            ended.reason.clone()
        };
        events.push((*at, html! { (pill("✕", Tone::Bad, "instance ended")) " " code { (ended.id.to_string().rsplit('-').next().unwrap_or_default()) } ": " (why) }));
    }
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    html! {
        section class="card" id="events" aria-labelledby="events-title" {
            h2 id="events-title" { "Events" }
            @if events.is_empty() { p class="soft" { "Nothing happened yet." } }
            ul class="list scrolls" tabindex="0" aria-label="events" { @for (at, event) in events.iter().take(LINES) { li { span class="soft age" { (ago(*at, now)) } " " (event) } } }
            @for (commit, reason) in state.held.iter().take(5) { p class="note" { code { (commit.short()) } " is held: " (reason) } }
        }
    }
}

async fn last_lines(server: &Server, of: &Lane) -> Result<Vec<String>, &'static str> {
    let asked = tokio::time::timeout(LOG_WAIT, server.parts.logs.service(of, None, LOG_LINES, false)).await;
    let Ok(Ok(mut stream)) = asked else { return Err("The node does not give them now.") };
    let mut lines = Vec::new();
    let until = tokio::time::Instant::now() + LOG_WAIT;
    while let Ok(Some(line)) = tokio::time::timeout_at(until, stream.recv()).await {
        lines.push(line);
        if lines.len() >= LOG_LINES {
            break;
        }
    }
    Ok(lines)
}

fn log(of: &Lane, lines: &Result<Vec<String>, &'static str>) -> Markup {
    html! {
        section class="card" id="log-panel" aria-labelledby="log-title" {
            div class="head" { h2 id="log-title" { "Log" } p { (command(&format!("slipway logs {} --env {} --follow", of.service, of.environment))) } }
            @match lines {
                Err(why) => { p class="soft" { (why) } }
                Ok(lines) if lines.is_empty() => { p class="soft" { "It has printed nothing." } }
                Ok(lines) => { pre class="log scrolls end" tabindex="0" aria-label="last lines of the log" { @for line in lines { (log_line(line)) "\n" } } }
            }
        }
    }
}

/// `AT SERVICE rN RELEASE INSTANCE TEXT`, of which time, release and text matter here.
fn log_line(line: &str) -> Markup {
    let mut words = line.splitn(6, ' ');
    let (at, _, number) = (words.next().unwrap_or_default(), words.next(), words.next().unwrap_or_default());
    let text = words.nth(2).unwrap_or_default();
    html! { span class="at" title=(at) { (at.get(11..19).unwrap_or(at)) } " " span class="at" { (number) } " " (ansi::html(text)) }
}

fn releases(server: &Server, status: &Status, service: &ServiceName, now: At) -> Markup {
    let (mut all, made): (Vec<Release>, Vec<(slipway_model::ReleaseId, At)>) = server.road().look(|projection| {
        let Some(state) = projection.projects.get(&status.project) else { return Default::default() };
        let own = state.releases.values().filter(|release| &release.bundle.service == service).cloned().collect();
        let made = state.changes.iter().flat_map(|change| {
            let at = change.spans.iter().filter(|span| span.station == "release").filter_map(|span| span.to).max();
            change.releases.iter().filter_map(move |release| Some((release.id.clone(), at?)))
        });
        (own, made.collect())
    });
    all.sort_by_key(|release| std::cmp::Reverse(release.number));
    let runs = |release: &Release| -> Vec<String> {
        let here = |lane: &&LaneView| {
            &lane.name == service && lane.release.as_ref().is_some_and(|serves| serves.id == release.id)
        };
        let places = status.environments.iter().filter(|place| place.services.iter().any(|lane| here(&lane)));
        places.map(|place| place.name.to_string()).collect()
    };
    html! {
        section class="card" id="releases" aria-labelledby="releases-title" {
            h2 id="releases-title" { "Releases" }
            @if all.is_empty() { p class="soft" { "There is none yet." } } @else {
                table {
                    thead { tr { th scope="col" { "release" } th scope="col" { "serves in" } th scope="col" { "commit" } th scope="col" { "image" } th scope="col" { "made" } } }
                    tbody { @for release in all.iter().take(LINES) {
                        tr {
                            th scope="row" { "r" (release.number) " " code { (release.id) } }
                            td data-label="serves in" { @let places = runs(release); @if places.is_empty() { span class="soft" { "nowhere" } } @else { (pill("✓", Tone::Good, &places.join(", "))) } }
                            td { a href={ "/p/" (status.project) "/c/" (release.origin.commit) } { code { (release.origin.commit.short()) } } }
                            td { code { (release.origin.tag) } }
                            td class="soft" { @if let Some((_, at)) = made.iter().find(|(id, _)| id == &release.id) { (ago(*at, now)) } }
                        }
                    } }
                }
                @if all.len() > LINES { p class="soft" { "and " (all.len() - LINES) " older: " code { "slipway release ls" } } }
            }
        }
    }
}
