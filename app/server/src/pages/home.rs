//! Home: what needs you, what runs where, what moves, what came last. A project's page is the same for it alone.
//!
//! In: the status of projects. Out: the page; on an empty install the lines to copy. Never: two states in one cell.

use super::frame::{Look, Place, page};
use super::words::{Tone, ago, command, mark, pill, since};
use super::{figures, road as picture, sign};
use crate::{Caller, Server};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use slipway_feedback::road;
use slipway_model::fact::ChangeState;
use slipway_model::instance::InstanceState;
use slipway_model::view::{ChangeView, EnvironmentView, LaneView, Need, RolloutView, Status};
use slipway_model::{At, EnvironmentName, ProjectName, ServiceName};

/// Changes of a project that home shows, and its own page.
const RECENT: usize = 8;
const RECENT_OF_ONE: usize = 50;
/// From so many services on there is a search.
const SEARCH_FROM: usize = 12;
/// Roads that are drawn as moving.
const MOVING: usize = 12;

#[derive(Deserialize)]
pub struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /`.
pub async fn home(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Query(search): Query<Search>,
    look: Look,
) -> Response {
    let projects: Vec<ProjectName> = server.road().look(|projection| {
        let visible = |name: &&ProjectName| **name != crate::auth::system() && caller.may("page", Some(name));
        projection
            .projects
            .iter()
            .filter(|(name, state)| visible(name) && !state.changes.is_empty())
            .map(|(name, _)| name.clone())
            .collect()
    });
    let mut all: Vec<Status> = Vec::new();
    for name in &projects {
        all.extend(server.status(name, RECENT).await);
    }
    let place = |every| Place { title: "Home".into(), every_seconds: Some(every), ..Place::default() };
    if all.is_empty() {
        return page(&server, &look, &place(2), empty(&server));
    }
    let body = overview(&server, &all, &search.q, "/");
    page(&server, &look, &place(every(&all)), body)
}

/// `GET /p/{project}`.
pub async fn project(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(search): Query<Search>,
    look: Look,
) -> Response {
    let Ok(project) = ProjectName::parse(&name) else { return sign::no_project(&look, &name) };
    let Some(status) = server.status(&project, RECENT_OF_ONE).await else { return sign::no_project(&look, &name) };
    let all = [status];
    let body = overview(&server, &all, &search.q, &format!("/p/{project}"));
    let place = Place {
        title: project.to_string(),
        project: Some(project),
        every_seconds: Some(every(&all)),
        ..Place::default()
    };
    page(&server, &look, &place, body)
}

/// What moves is looked at more often than what stands.
fn every(all: &[Status]) -> u32 {
    let moves = all.iter().any(|status| status.changes.iter().any(|change| !change.state.is_final()));
    if moves { 2 } else { 10 }
}

fn overview(server: &Server, all: &[Status], search: &str, address: &str) -> Markup {
    let now = server.now();
    html! {
        h1 class="hid" { @match all { [one] => { (one.project) } _ => { "Home" } } }
        (needs(all, now))
        (matrix(all, search, address, now))
        div class="pair" {
            (moving(server, all, now))
            (figures::panel(server, all, now))
        }
        (recent(all, now))
    }
}

fn empty(server: &Server) -> Markup {
    let address = &server.parts.address;
    html! {
        section class="card narrow" {
            h1 { "Nothing here yet" }
            p { "Push a repository that has a Dockerfile; its name here makes the project. This page becomes its road as soon as the push arrives." }
            pre class="copy" data-copy tabindex="0" aria-label="lines to copy" { "git remote add slipway " (address) "/git/NAME.git\ngit push slipway main" }
            p class="soft" { "Git asks for a user name, which may be anything, and a password, which is a token. The first token is in the file " code { "token" } " of the data folder; " code { "slipway token add" } " makes more." }
        }
    }
}

/// What waits for a person.
pub fn needs(all: &[Status], now: At) -> Markup {
    let several = all.len() > 1;
    let count: usize = all.iter().map(|status| status.needs_you.len()).sum();
    html! {
        section class="card" id="needs" aria-labelledby="needs-title" {
            h2 id="needs-title" { "Needs you" @if count > 0 { " " span class="count" { (count) } } }
            @if count == 0 { p class="calm" { (pill("✓", Tone::Good, "calm")) " Nothing waits for you." } }
            ul class="list needs" {
                @for status in all { @for need in &status.needs_you {
                    @let (sign, tone, word) = kind(need);
                    li {
                        (pill(sign, tone, word)) " "
                        span class="what" { @if several { (status.project) " " } b { (need.what) } " " (need.why) }
                        " " span class="soft age" { (since(need.since, now)) } " " (command(&need.command))
                    }
                } }
            }
        }
    }
}

fn kind(need: &Need) -> (&'static str, Tone, &'static str) {
    match need.command.split(' ').nth(1) {
        Some("approve") => ("◷", Tone::Wait, "approval"),
        Some("secret") => ("◷", Tone::Wait, "secret"),
        Some("unhold") => ("◷", Tone::Wait, "held"),
        Some("why") if need.why.starts_with("was rolled back") => ("↩", Tone::Bad, "taken back"),
        Some("why") => ("✕", Tone::Bad, "failed"),
        _ => ("◷", Tone::Wait, "waits"),
    }
}

/// A service in all environments of its project.
struct Row<'a> {
    project: &'a ProjectName,
    service: &'a ServiceName,
    cells: Vec<Option<(&'a EnvironmentView, &'a LaneView)>>,
}

fn rows<'a>(status: &'a Status) -> Vec<Row<'a>> {
    let mut services: Vec<&ServiceName> =
        status.environments.iter().flat_map(|place| place.services.iter().map(|lane| &lane.name)).collect();
    services.sort();
    services.dedup();
    let of = |service: &'a ServiceName| Row {
        project: &status.project,
        service,
        cells: status
            .environments
            .iter()
            .map(|place| place.services.iter().find(|lane| &lane.name == service).map(|lane| (place, lane)))
            .collect(),
    };
    services.into_iter().map(of).collect()
}

/// Services and environments; problems first.
pub fn matrix(all: &[Status], search: &str, address: &str, now: At) -> Markup {
    let count: usize = all.iter().map(|status| rows(status).len()).sum();
    html! {
        section class="card" id="where" aria-labelledby="where-title" {
            div class="head" {
                h2 id="where-title" { "What runs where" }
                @if count >= SEARCH_FROM || !search.is_empty() {
                    form class="search" action=(address) method="get" role="search" {
                        label for="q" { "Service" } input id="q" type="search" name="q" value=(search); button { "Find" }
                    }
                }
            }
            @for status in all { (matrix_of(status, all.len() > 1, search, now)) }
            @if count == 0 { p class="soft" { "Nothing was deployed yet." } }
        }
    }
}

fn matrix_of(status: &Status, several: bool, search: &str, now: At) -> Markup {
    let mut rows = rows(status);
    rows.retain(|row| {
        search.is_empty() || row.service.as_str().contains(search) || row.project.as_str().contains(search)
    });
    let worst = |row: &Row<'_>| row.cells.iter().flatten().map(|(_, lane)| rank(lane)).min().unwrap_or(9);
    rows.sort_by_key(worst);
    html! {
        @if !rows.is_empty() {
            table class="matrix" {
                @if several { caption { a href={ "/p/" (status.project) } { (status.project) } } }
                thead { tr { th scope="col" { "service" } @for place in &status.environments { th scope="col" { a href={ "/p/" (status.project) "/e/" (place.name) } { (place.name) } } } } }
                tbody { @for row in &rows {
                    tr {
                        th scope="row" { a href={ "/p/" (row.project) "/s/" (row.service) } { (row.service) } }
                        @for (index, cell) in row.cells.iter().enumerate() {
                            @let before = index.checked_sub(1).and_then(|before| row.cells.get(before)?.as_ref()).map(|(_, lane)| *lane);
                            td data-label=[status.environments.get(index).map(|place| place.name.as_str())] {
                                @match cell { Some((place, lane)) => (cell_of(row, place, lane, before, now)), None => span class="soft" { "–" } }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn ready(lane: &LaneView) -> (usize, usize) {
    let own = lane
        .instances
        .iter()
        .filter(|instance| lane.release.as_ref().is_none_or(|serves| serves.id == instance.release));
    let (all, ready) = own
        .fold((0, 0), |(all, ready), instance| (all + 1, ready + usize::from(instance.state == InstanceState::Ready)));
    (ready, all)
}

fn rank(lane: &LaneView) -> u8 {
    let (ready, all) = ready(lane);
    match lane.phase.as_str() {
        "needs-human" => 0,
        _ if lane.release.is_some() && (ready < all || all == 0) && lane.rollout.is_none() => 1,
        "waiting" | "refused" => 2,
        _ if lane.rollout.is_some() => 3,
        _ => 4,
    }
}

/// How a service stands in an environment: one state, that of what serves. How the last attempt ended is no such state.
pub fn state(lane: &LaneView) -> Markup {
    let number = lane.release.as_ref().map(|release| format!("r{}", release.number));
    let (ready, all) = ready(lane);
    match (&lane.rollout, number) {
        (Some(rollout), from) => {
            let (sign, tone) = if super::words::tone(&rollout.phase) == Tone::Good {
                ("✓", Tone::Good)
            } else {
                ("↻", Tone::Move)
            };
            let words = match from {
                Some(from) if from != rollout.to => format!("{from} → {}", rollout.to),
                _ => rollout.to.clone(),
            };
            pill(sign, tone, &words)
        }
        (None, Some(number)) if lane.phase == "needs-human" => {
            pill("✕", Tone::Bad, &format!("{number} needs a person"))
        }
        (None, Some(number)) if ready < all || all == 0 => {
            pill("✕", Tone::Bad, &format!("{number} {ready} of {all} ready"))
        }
        (None, Some(number)) => pill("✓", Tone::Good, &number),
        (None, None) if lane.phase == "needs-human" => pill("✕", Tone::Bad, "needs a person"),
        (None, None) if lane.phase == "waiting" => pill("◷", Tone::Wait, "waits"),
        (None, None) if lane.phase == "refused" => pill("✕", Tone::Bad, "refused"),
        (None, None) => pill("–", Tone::Soft, "nothing yet"),
    }
}

fn cell_of(row: &Row<'_>, place: &EnvironmentView, lane: &LaneView, before: Option<&LaneView>, now: At) -> Markup {
    let since_at = lane.instances.iter().map(|instance| instance.since).min();
    let number = |lane: &LaneView| lane.release.as_ref().map(|release| release.number);
    let behind = before.and_then(number).zip(number(lane)).map_or(0, |(before, here)| before.saturating_sub(here));
    let failing: u64 = lane.traffic.iter().filter(|share| share.weight > 0).map(|share| share.errors).sum();
    let mut notes: Vec<Markup> = Vec::new();
    match (&lane.rollout, since_at) {
        (Some(rollout), _) => notes.push(html! { (step_of(rollout)) }),
        (None, Some(since_at)) => notes.push(since(since_at, now)),
        (None, None) => {}
    }
    let mut note = |is: bool, words: String| {
        if is {
            notes.push(html! { (words) });
        }
    };
    note(behind > 0, format!("{behind} behind"));
    let waits = lane.waiting.as_ref().map(|waiting| picture::short(&waiting.what));
    note(waits.is_some(), waits.unwrap_or_default());
    note(lane.phase == "rolled-back" && !lane.held.is_empty(), held(&lane.held));
    note(failing > 0, format!("{failing} errors"));
    note(!lane.stale_secrets.is_empty(), "secret changed since".into());
    note(place.frozen, "frozen".into());
    html! {
        a class="cell" href={ "/p/" (row.project) "/s/" (row.service) "?env=" (place.name) } { (state(lane)) }
        span class="soft" { @for (index, note) in notes.iter().enumerate() { (if index == 0 { " " } else { " · " }) (note) } }
    }
}

fn step_of(rollout: &RolloutView) -> String {
    let step = rollout.steps.last().map(|step| format!("{}, {} %", step.name, step.weight));
    step.unwrap_or_else(|| super::words::spoken(&rollout.phase))
}

fn held(commits: &[slipway_model::CommitId]) -> String {
    match commits {
        [one] => format!("{} held", one.short()),
        many => format!("{} commits held", many.len()),
    }
}

fn moving(server: &Server, all: &[Status], now: At) -> Markup {
    let open = all.iter().flat_map(|status| {
        status.changes.iter().filter(|change| !change.state.is_final()).map(move |change| (&status.project, change))
    });
    let open: Vec<(&ProjectName, &ChangeView)> = open.collect();
    let running: usize = open.iter().map(|(_, change)| jobs(change, "running")).sum();
    let queued: usize = open.iter().map(|(_, change)| jobs(change, "queued")).sum();
    html! {
        section class="card" id="moving" aria-labelledby="moving-title" {
            h2 id="moving-title" { "Moving now" }
            @for (project, change) in open.iter().take(MOVING) {
                div class="mover" {
                    p { a href={ "/p/" (project) "/c/" (change.commit) } { (title(change)) } " " span class="soft" { (change.author) " on " (change.branch) ", " (ago(change.received, now)) } " " (mark(change.state.word())) }
                    @let road = road::road(change, &environments(server, project, change), now);
                    @for lane in road.lanes.iter().take(3) { (picture::strip(lane)) }
                }
            }
            @if open.len() > MOVING { p { "and " (open.len() - MOVING) " more" } }
            p class="soft" {
                @if open.is_empty() { "Nothing moves. " }
                @if queued == 0 { "Queue: empty." } @else { "Queue: " (queued) " jobs wait for a place, " (running) " run." }
            }
        }
    }
}

fn jobs(change: &ChangeView, result: &str) -> usize {
    change.jobs.iter().filter(|job| job.result == result).count()
}

/// Where a change leads to.
fn environments(server: &Server, project: &ProjectName, change: &ChangeView) -> Vec<EnvironmentName> {
    server.road().look(|projection| {
        let Some(state) = projection.projects.get(project) else { return Vec::new() };
        let plan = state.plans.get(&change.id);
        let led =
            |name: &&EnvironmentName| plan.is_some_and(|plan| plan.environments.iter().any(|of| &of.name == *name));
        state.order.iter().filter(led).cloned().collect()
    })
}

/// The word for how a change stands now: what went live and serves nowhere any more was live.
pub fn word_now(status: &Status, change: &ChangeView) -> &'static str {
    let lanes = status.environments.iter().flat_map(|environment| &environment.services);
    let mut serving = lanes.filter_map(|lane| lane.release.as_ref());
    let serves = serving.any(|release| change.releases.iter().any(|made| made.id == release.id));
    if change.state == ChangeState::Live && !serves { "was live" } else { road::word(change) }
}

fn title(change: &ChangeView) -> &str {
    if change.subject.is_empty() { change.commit.short() } else { &change.subject }
}

fn recent(all: &[Status], now: At) -> Markup {
    let several = all.len() > 1;
    let mut changes: Vec<(&Status, &ChangeView)> =
        all.iter().flat_map(|status| status.changes.iter().map(move |change| (status, change))).collect();
    changes.sort_by_key(|(_, change)| std::cmp::Reverse(change.received));
    html! {
        section class="card" id="recent" aria-labelledby="recent-title" {
            h2 id="recent-title" { "Recent changes" }
            table class="changes" {
                thead { tr { th scope="col" { "state" } th scope="col" { "change" } th scope="col" { "commit" } th scope="col" { "when" } } }
                tbody { @for (status, change) in &changes {
                    tr {
                        td { (mark(word_now(status, change))) }
                        td { a href={ "/p/" (status.project) "/c/" (change.commit) } { (title(change)) } " " span class="soft" { (change.author) " on " (change.branch) @if several { " of " (status.project) } } }
                        td { code { (change.commit.short()) } }
                        td class="soft" { (ago(change.received, now)) }
                    }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lane(phase: &str, release: u64) -> LaneView {
        let mut lane = json!({ "name": "api", "url": "", "addresses": [], "phase": phase, "instances": [
            { "id": "a", "release": "bbbbbbbb", "state": "ready", "address": "a", "since": "2026-03-01T12:00:00.000Z" }],
            "traffic": [] });
        lane["release"] = json!({ "id": "bbbbbbbb", "number": release, "image": format!("sha256:{}", "0".repeat(64)),
            "commit": "1f3c9ab0".repeat(5) });
        serde_json::from_value(lane).unwrap()
    }

    #[test]
    fn what_serves_is_never_shown_as_rolled_back() {
        // The attempt was; what it went back to is well.
        assert_eq!(state(&lane("rolled-back", 39)).into_string(), pill("✓", Tone::Good, "r39").into_string());
        let mut none = lane("succeeded", 39);
        none.instances.clear();
        assert!(state(&none).into_string().contains("r39 0 of 0 ready"));
    }

    #[test]
    fn what_serves_nowhere_any_more_was_live() {
        let info = json!({ "id": "0123456789abcdef", "event": "push", "reference": "refs/heads/main",
            "branch": "main", "production": true, "commit": "1f3c9ab0".repeat(5), "author": "kim", "subject": "Greet",
            "pusher": "kim" });
        let mut change = slipway_feedback::change::received(&serde_json::from_value(info).unwrap(), At(1));
        change.state = ChangeState::Live;
        change.releases.extend(lane("succeeded", 1).release);
        let status = |serves: bool| -> Status {
            let services: Vec<LaneView> = serves.then(|| lane("succeeded", 1)).into_iter().collect();
            serde_json::from_value(json!({ "project": "shop", "needs_you": [], "changes": [], "environments": [
                { "name": "production", "frozen": false, "services": services }] }))
            .unwrap()
        };
        assert_eq!(word_now(&status(true), &change), "live");
        assert_eq!(word_now(&status(false), &change), "was live");
    }
}
