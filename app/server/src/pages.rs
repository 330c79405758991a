//! The first plain pages: what runs where, changes with their road, one commit on the road.
//!
//! In: views. Out: HTML that is readable without scripts. Never: an act; each problem shows the command instead.

use crate::page::{mark, page, sign};
use crate::{Caller, Server};
use axum::extract::{Extension, Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;
use slipway_feedback::why;
use slipway_model::fact::ChangeState;
use slipway_model::view::{ChangeView, Status};
use slipway_model::{At, ProjectName, time::words};

#[derive(Deserialize)]
pub struct Code {
    code: Option<String>,
}

/// `GET /login?code=`.
pub async fn login(State(server): State<Server>, Query(query): Query<Code>) -> Response {
    let session = query.code.and_then(|code| server.parts.auth.redeem(&code, server.now()));
    match session {
        Some(session) => {
            let cookie = format!("slipway={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        None => sign_in().into_response(),
    }
}

/// Shown to somebody without a session.
pub fn sign_in() -> impl IntoResponse {
    let body = html! {
        h1 { "Sign in" }
        p { "This link has been used, is too old, or there was none. Make a new one in a terminal:" }
        pre { "slipway open" }
    };
    (StatusCode::UNAUTHORIZED, Html(page("Sign in", false, body).into_string()))
}

/// `GET /`.
pub async fn home(State(server): State<Server>, Extension(caller): Extension<Caller>) -> Response {
    let projects: Vec<ProjectName> = server.road().look(|projection| {
        projection
            .projects
            .keys()
            .filter(|name| **name != crate::auth::system() && caller.may("page", Some(name)))
            .cloned()
            .collect()
    });
    if projects.is_empty() {
        return Html(page("Nothing yet", true, empty(&server)).into_string()).into_response();
    }
    let now = server.now();
    let mut all: Vec<Status> = Vec::new();
    for name in &projects {
        all.extend(server.status(name, 8).await);
    }
    let moving = all.iter().flat_map(|status| &status.changes).any(|change| !change.state.is_final());
    let body = html! {
        @for status in &all { (project_part(status, now)) }
    };
    Html(page("Home", moving, body).into_string()).into_response()
}

/// `GET /p/{project}`.
pub async fn project(State(server): State<Server>, Path(name): Path<String>) -> Response {
    let missing = || nothing(&format!("There is no project {name}"), "slipway status --project NAME").into_response();
    let Ok(project) = ProjectName::parse(&name) else { return missing() };
    let now = server.now();
    match server.status(&project, 50).await {
        Some(status) => Html(page(project.as_str(), false, project_part(&status, now)).into_string()).into_response(),
        None => missing(),
    }
}

/// A page for what is not there: who looks with a browser reads no JSON.
fn nothing(what: &str, command: &str) -> impl IntoResponse + use<> {
    let body = html! {
        h1 { (what) }
        p { a href="/" { "What there is" } ", or in a terminal:" }
        pre { (command) }
    };
    (StatusCode::NOT_FOUND, Html(page("Not found", false, body).into_string()))
}

fn empty(server: &Server) -> Markup {
    html! {
        h1 { "Nothing here yet" }
        p { "Push a repository; its name makes the project:" }
        pre { "git remote add slipway " (server.parts.address) "/git/NAME.git\ngit push slipway main" }
        p class="soft" { "Any user name with a token as password. The first token is in the file " code { "token" } " of the data folder." }
    }
}

fn project_part(status: &Status, now: At) -> Markup {
    html! {
        h1 { a href={ "/p/" (status.project) } { (status.project) } }
        h2 { "Needs you" }
        @if status.needs_you.is_empty() { p class="soft" { "Nothing waits for you." } }
        @for need in &status.needs_you {
            div class="card" { b { (need.what) } ": " (need.why) " " span class="soft" { "for " (words(now.since_ms(need.since))) } pre { (need.command) } }
        }
        h2 { "What runs where" }
        (lanes(status))
        h2 { "Changes" }
        table {
            thead { tr { th { "commit" } th { "state" } th { "what" } th { "when" } } }
            tbody { @for change in &status.changes { (change_row(status, change, now)) } }
        }
    }
}

fn lanes(status: &Status) -> Markup {
    html! {
        table {
            thead { tr { th { "environment" } th { "service" } th { "release" } th { "state" } th { "traffic" } th { "address" } } }
            tbody {
                @for environment in &status.environments {
                    @for lane in &environment.services {
                        tr {
                            td { (environment.name) }
                            td { (lane.name) }
                            td { @match &lane.release { Some(release) => { "r" (release.number) " " code { (release.id) } } None => { "–" } } }
                            td { (mark(&lane.phase)) @if let Some(waiting) = &lane.waiting { br; span class="soft" { (waiting.what) } } }
                            td { @for share in &lane.traffic { (share.weight) " % " code { (share.release) } " (" (share.ready) " ready, 5xx " (share.errors) " of " (share.requests) ")" br; } }
                            td { @if !lane.url.is_empty() { a href=(lane.url) { (lane.url) } } }
                        }
                    }
                }
            }
        }
    }
}

/// The word for how a change stands now: what went live and serves nowhere any more was live.
fn word_now(status: &Status, change: &ChangeView) -> &'static str {
    let lanes = status.environments.iter().flat_map(|environment| &environment.services);
    let mut serving = lanes.filter_map(|lane| lane.release.as_ref());
    let serves = serving.any(|release| change.releases.iter().any(|made| made.id == release.id));
    if change.state == ChangeState::Live && !serves { "was live" } else { change.state.word() }
}

fn change_row(status: &Status, change: &ChangeView, now: At) -> Markup {
    let project = &status.project;
    html! {
        tr {
            td { a href={ "/p/" (project) "/c/" (change.commit) } { code { (change.commit.short()) } } }
            td { (mark(word_now(status, change))) }
            td { (change.subject) " " span class="soft" { "by " (change.author) " on " (change.branch) } }
            td { time datetime=(change.received) title=(change.received) { (words(now.since_ms(change.received))) " ago" } }
        }
    }
}

/// `GET /p/{project}/c/{commit}`.
pub async fn commit(State(server): State<Server>, Path((name, text)): Path<(String, String)>) -> Response {
    let Ok(project) = ProjectName::parse(&name) else {
        return nothing(&format!("There is no project {name}"), "slipway status --project NAME").into_response();
    };
    match server.find_change(&project, &text).await {
        Ok(view) => {
            let title = format!("{} {}", view.commit.short(), view.subject);
            Html(page(&title, !view.state.is_final(), commit_part(&project, &view, server.now())).into_string())
                .into_response()
        }
        Err(problem) => nothing(&problem.detail, "slipway status").into_response(),
    }
}

fn commit_part(project: &ProjectName, view: &ChangeView, now: At) -> Markup {
    html! {
        h1 { (view.subject) }
        p class="soft" {
            code { (view.commit.short()) } " on " (view.branch) " by " (view.author) ", "
            time datetime=(view.received) title=(view.received) { (words(now.since_ms(view.received))) " ago" }
            " in " a href={ "/p/" (project) } { (project) }
        }
        p class="verdict" { (mark(view.state.word())) @if !view.reason.is_empty() { ": " (view.reason) } }
        @if let Some(waiting) = &view.waiting {
            div class="card" { "Waits: " (waiting.what) @if let Some(next) = &waiting.next { pre { (next) } } }
        }
        (road(view))
        @for gate in &view.gates { p { (mark(&gate.state)) " " (why::gate(gate)) } }
        @for job in view.jobs.iter().filter(|job| matches!(job.result.as_str(), "failed" | "timed-out" | "lost")) {
            h2 { "Job " (job.name) }
            pre { (why::job(job).join("\n")) }
            pre { "slipway run " (job.name) "\nslipway logs " (job.name) }
        }
        @for rollout in view.rollouts.iter() {
            h2 { "Rollout " (rollout.environment) " " (rollout.service) " " (rollout.to) }
            pre { (why::rollout(rollout).join("\n")) }
        }
        h2 { "Plan" }
        table {
            thead { tr { th { "item" } th { "decision" } th { "because" } } }
            tbody { @for item in &view.plan.items { tr { td { (item.id) } td { (mark(&item.decision)) } td { (item.reason) } } } }
        }
        @for warning in &view.plan.warnings { p class="wait" { "◷ " (warning) } }
    }
}

fn road(view: &ChangeView) -> Markup {
    let jobs_word = if view.jobs.iter().any(|job| matches!(job.result.as_str(), "failed" | "timed-out" | "lost")) {
        "failed"
    } else if view.jobs.iter().any(|job| matches!(job.result.as_str(), "running" | "queued")) {
        "running"
    } else {
        "passed"
    };
    html! {
        ol class="road" {
            (station("Plan", if view.plan.items.is_empty() { "queued" } else { "passed" }, &format!("{} items", view.plan.items.len())))
            (station("Jobs", jobs_word, &format!("{} of {} run", view.jobs.iter().filter(|job| job.attempt > 0).count(), view.jobs.len())))
            @for image in &view.images { (station(&format!("Image {}", image.service), "built", &image.reference)) }
            @for release in &view.releases { (station(&format!("Release r{}", release.number), "passed", release.id.as_str())) }
            @for rollout in &view.rollouts {
                @let back = if rollout.phase == "rolled-back" { format!("↩ back to {}", rollout.from.clone().unwrap_or_default()) } else { rollout.to.clone() };
                (station(&format!("{} {}", rollout.environment, rollout.service), &rollout.phase, &back))
            }
        }
    }
}

fn station(name: &str, word: &str, detail: &str) -> Markup {
    let (_, class) = sign(word);
    html! { li class=(class) { b { (name) } (mark(word)) br; span { (detail) } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_serves_nowhere_any_more_was_live() {
        let info = json!({ "id": "0123456789abcdef", "event": "push", "reference": "refs/heads/main",
            "branch": "main", "production": true, "commit": "1f3c9ab0".repeat(5), "author": "kim", "subject": "Greet",
            "pusher": "kim" });
        let mut change = slipway_feedback::change::received(&serde_json::from_value(info).unwrap(), At(1));
        change.state = ChangeState::Live;
        let release = json!({ "id": "bbbbbbbb", "number": 1, "image": format!("sha256:{}", "0".repeat(64)),
            "commit": "1f3c9ab0".repeat(5) });
        change.releases.push(serde_json::from_value(release.clone()).unwrap());
        let status = |serves: bool| -> Status {
            let mut lane = json!({ "name": "api", "url": "", "addresses": [], "phase": "succeeded", "instances": [],
                "traffic": [] });
            if serves {
                lane["release"] = release.clone();
            }
            let environment = json!({ "name": "production", "frozen": false, "services": [lane] });
            let all = json!({ "project": "shop", "needs_you": [], "changes": [], "environments": [environment] });
            serde_json::from_value(all).unwrap()
        };
        assert_eq!(word_now(&status(true), &change), "live");
        assert_eq!(word_now(&status(false), &change), "was live");
    }
}
