//! What was deployed when, by whom, from which commit, and what came of it; with filter and search (R384).
//!
//! In: the histories of a project's lanes. Out: a page, or a part of one. Never: how something stands now.

use super::frame::{Look, Place, page};
use super::sign;
use super::words::{Tone, ago, pill, spoken, tone, took};
use crate::Server;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use slipway_model::view::HistoryLine;
use slipway_model::{At, ProjectName};

/// Lines of a page.
const LINES: usize = 100;

/// What is looked for.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Wanted {
    /// In this environment.
    #[serde(default)]
    pub env: String,
    /// Of this service.
    #[serde(default)]
    pub service: String,
    /// With this text: a release, a commit, a name, a result, a word of the reason.
    #[serde(default)]
    pub search: String,
}

/// `GET /p/{project}/history`.
pub async fn history(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    look: Look,
) -> Response {
    let Ok(project) = ProjectName::parse(&name) else { return sign::no_project(&look, &name) };
    let known = server.road().look(|projection| projection.projects.contains_key(&project));
    if !known {
        return sign::no_project(&look, &name);
    }
    let body = html! { h1 class="hid" { "History of " (project) } (panel(&server, &project, &wanted, &format!("/p/{project}/history"), LINES)) };
    let place = Place {
        title: format!("History of {project}"),
        project: Some(project),
        crumbs: vec![("history".into(), String::new())],
        every_seconds: Some(30),
    };
    page(&server, &look, &place, body)
}

/// The panel, wherever it stands; its form leads back there.
pub fn panel(server: &Server, project: &ProjectName, wanted: &Wanted, address: &str, limit: usize) -> Markup {
    let (all, places, services) = server.road().look(|projection| {
        let Some(state) = projection.projects.get(project) else { return Default::default() };
        let places: Vec<String> = state.order.iter().map(ToString::to_string).collect();
        let mut services: Vec<String> = state.lanes.keys().map(|(_, service)| service.to_string()).collect();
        services.sort();
        services.dedup();
        (state.history(), places, services)
    });
    let found: Vec<&HistoryLine> = all.iter().filter(|line| is_wanted(line, wanted)).collect();
    let one_service = address.contains("/s/");
    html! {
        section class="card" id="history" aria-labelledby="history-title" {
            div class="head" {
                h2 id="history-title" { "History" }
                form class="search" action={ (address) "#history" } method="get" role="search" {
                    label for="h-env" { "Environment" }
                    select id="h-env" name="env" { (choices("all", &places, &wanted.env)) }
                    @if !one_service { label for="h-service" { "Service" } select id="h-service" name="service" { (choices("all", &services, &wanted.service)) } }
                    label for="h-search" { "Search" } input id="h-search" type="search" name="search" value=(wanted.search) placeholder="release, commit, name, reason";
                    button { "Find" }
                }
            }
            (table(&found, project, limit, server.now(), all.is_empty()))
        }
    }
}

fn choices(none: &str, all: &[String], chosen: &str) -> Markup {
    html! {
        option value="" { (none) }
        @for one in all { option value=(one) selected[one == chosen] { (one) } }
    }
}

fn table(found: &[&HistoryLine], project: &ProjectName, limit: usize, now: At, never: bool) -> Markup {
    html! {
        @if found.is_empty() { p class="soft" { (if never { "Nothing was deployed yet." } else { "Nothing that was deployed is like that." }) } }
        @else {
            table class="history" {
                thead { tr { th scope="col" { "when" } th scope="col" { "what" } th scope="col" { "result" } th scope="col" { "by" } th scope="col" { "commit" } th scope="col" { "took" } } }
                tbody { @for line in found.iter().take(limit) { (row(line, project, now)) } }
            }
            @if found.len() > limit { p class="soft" { "and " (found.len() - limit) " older; search, or " code { "slipway history" } } }
        }
    }
}

fn row(line: &HistoryLine, project: &ProjectName, now: At) -> Markup {
    html! {
        tr {
            td class="soft" { (ago(line.at, now)) }
            td { b { (line.lane.service) " " (line.release) } " " span class="soft" { "→ " (line.lane.environment) } @if !line.reason.is_empty() { br; span class="soft" { (line.reason) } } }
            td { (attempt(&line.result)) }
            td { (line.by) }
            td { a href={ "/p/" (project) "/c/" (line.commit) } { code { (line.commit.short()) } } }
            td class="soft" { (took(line.took_ms)) }
        }
    }
}

/// How an attempt ended, in the past: it is no state of what serves now.
pub fn attempt(result: &str) -> Markup {
    match result {
        "succeeded" | "contracting" => pill("✓", Tone::Good, "went live"),
        "baking" => pill("✓", Tone::Good, "live, watched"),
        "rolled-back" => pill("↩", Tone::Bad, "was taken back"),
        "needs-human" => pill("✕", Tone::Bad, "needed a person"),
        "dropped" => pill("–", Tone::Soft, "not started"),
        other => pill(tone(other).sign(), tone(other), &spoken(other)),
    }
}

fn is_wanted(line: &HistoryLine, wanted: &Wanted) -> bool {
    let text = format!(
        "{} {} {}@{} {} {} {} {} {} {}",
        line.lane.environment,
        line.lane.service,
        line.lane.service,
        line.release,
        line.release_id,
        line.commit,
        line.result,
        spoken(&line.result),
        line.by,
        line.reason
    );
    (wanted.env.is_empty() || line.lane.environment.as_str() == wanted.env)
        && (wanted.service.is_empty() || line.lane.service.as_str() == wanted.service)
        && (wanted.search.is_empty() || text.to_lowercase().contains(&wanted.search.trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // R384
    #[test]
    fn history_is_found_by_release_name_commit_result_and_reason() {
        let line: HistoryLine =
            serde_json::from_value(json!({ "at": At(1), "lane": { "project": "shop", "environment":
            "production", "service": "api" }, "release": "r41", "release_id": "bbbbbbbb", "commit":
            "1f3c9ab0".repeat(5), "by": "Kim", "result": "rolled-back", "reason": "gave 5xx", "took_ms": 1 }))
            .unwrap();
        let search = |text: &str| is_wanted(&line, &Wanted { search: text.into(), ..Wanted::default() });
        for good in ["api@r41", "kim", "1f3c9ab", "rolled-back", "rolled back", "5XX", "", " r41 "] {
            assert!(search(good), "{good}");
        }
        assert!(!search("r42"));
        assert!(!is_wanted(&line, &Wanted { env: "staging".into(), ..Wanted::default() }));
        assert!(is_wanted(&line, &Wanted { env: "production".into(), service: "api".into(), ..Wanted::default() }));
    }
}
