//! One environment: what needs you there, every service with its release, instances and traffic, what waits, what was.
//!
//! In: the status of a project. Out: the page. Never: an act.

use super::frame::{Look, Place, page};
use super::words::{ago, command, errors, milliseconds};
use super::{history, home, sign};
use crate::Server;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use slipway_model::instance::InstanceState;
use slipway_model::view::{EnvironmentView, LaneView, Status};
use slipway_model::{At, ProjectName};

/// Lines of history.
const LINES: usize = 30;

/// `GET /p/{project}/e/{environment}`.
pub async fn environment(
    State(server): State<Server>,
    Path((name, of)): Path<(String, String)>,
    Query(wanted): Query<history::Wanted>,
    look: Look,
) -> Response {
    let Ok(project) = ProjectName::parse(&name) else { return sign::no_project(&look, &name) };
    let Some(mut status) = server.status(&project, 0).await else { return sign::no_project(&look, &name) };
    let Some(at) = status.environments.iter().position(|place| place.name.as_str() == of) else {
        return sign::nothing(&look, &format!("There is no environment {of} in {project}."), "slipway status");
    };
    status.needs_you.retain(|need| need.what.split(' ').next() == Some(of.as_str()));
    let view = status.environments.remove(at);
    let moves = view.services.iter().any(|lane| lane.rollout.is_some());
    let address = format!("/p/{project}/e/{of}");
    let wanted = history::Wanted { env: of.clone(), ..wanted };
    let now = server.now();
    let body = html! {
        div class="title" { h1 { (of) } @if view.frozen { p class="verdict" { "Frozen: nothing goes in." } } }
        (home::needs(std::slice::from_ref(&status), now))
        (services(&status, &view, now))
        (history::panel(&server, &project, &wanted, &address, LINES))
    };
    let place = Place {
        title: format!("{of} of {project}"),
        project: Some(project),
        crumbs: vec![(of, String::new())],
        every_seconds: Some(if moves { 2 } else { 10 }),
    };
    page(&server, &look, &place, body)
}

fn services(status: &Status, view: &EnvironmentView, now: At) -> Markup {
    html! {
        section class="card" aria-labelledby="services-title" {
            h2 id="services-title" { "Services" }
            table class="services" {
                thead { tr { th scope="col" { "service" } th scope="col" { "release" } th scope="col" { "instances" } th scope="col" { "requests" } th scope="col" { "5xx" } th scope="col" { "p95" } th scope="col" { "address" } } }
                tbody { @for lane in &view.services { (row(status, view, lane, now)) } }
            }
            @if view.services.is_empty() { p class="soft" { "Nothing was deployed here yet." } }
        }
    }
}

fn row(status: &Status, view: &EnvironmentView, lane: &LaneView, now: At) -> Markup {
    let ready = lane.instances.iter().filter(|instance| instance.state == InstanceState::Ready).count();
    let requests: u64 = lane.traffic.iter().map(|share| share.requests).sum();
    let failed: u64 = lane.traffic.iter().map(|share| share.errors).sum();
    let p95 = lane.traffic.iter().filter(|share| share.weight > 0).map(|share| share.p95_us).max().unwrap_or(0);
    html! {
        tr {
            th scope="row" { a href={ "/p/" (status.project) "/s/" (lane.name) "?env=" (view.name) } { (lane.name) } }
            td { (home::state(lane)) (notes(lane, view, now)) }
            td data-label="instances" { (ready) " of " (lane.instances.len()) " ready" }
            td data-label="requests" { (requests) }
            td data-label="5xx" { @if failed > 0 { b class="bad" { "✕ " (errors(failed, requests)) } } @else { "none" } }
            td data-label="p95" { (milliseconds(p95)) }
            td { @if lane.url.is_empty() { span class="soft" { "–" } } @else { a href=(lane.url) rel="noreferrer" { (lane.url.trim_start_matches("http://").trim_start_matches("https://")) } } }
        }
    }
}

/// What else there is to know of a lane: what goes in, waits, is held, is out of date.
pub fn notes(lane: &LaneView, view: &EnvironmentView, now: At) -> Markup {
    html! {
        @if let Some(rollout) = &lane.rollout {
            p class="note" { (rollout.from.as_deref().unwrap_or("nothing")) " → " (rollout.to) " by " (rollout.by) ", " (ago(rollout.started, now)) ": " (slipway_feedback::why::meaning(&rollout.phase).unwrap_or(&rollout.phase)) }
        }
        @if let Some(waiting) = &lane.waiting {
            p class="note" { "waits: " (waiting.what) " " span class="soft" { (ago(waiting.since, now)) } @if let Some(next) = &waiting.next { " " (command(next)) } }
        }
        @for commit in lane.held.iter().take(5) {
            p class="note" { code { (commit.short()) } " is held here, and what contains it waits " (command(&format!("slipway unhold {}", commit.short()))) }
        }
        @if !lane.stale_secrets.is_empty() {
            p class="note" { (lane.stale_secrets.join(", ")) " changed since its instances began " (command(&format!("slipway restart {} --env {}", lane.name, view.name))) }
        }
    }
}
