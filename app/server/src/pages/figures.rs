//! DORA's four figures of the last thirty days, from what is remembered.
//!
//! In: histories and changes. Out: four numbers, or the words that there are too few. Never: zero where nothing is known.

use super::words::took;
use crate::Server;
use maud::{Markup, html};
use slipway_model::At;
use slipway_model::view::{HistoryLine, Status};

/// The time that the figures are of.
const DAYS: u64 = 30;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// With fewer rollouts than this a figure would say nothing.
const ENOUGH: usize = 5;

/// The four figures.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    tenths_a_day: u64,
    to_live_ms: Option<u64>,
    failed_tenths_percent: u64,
    to_restore_ms: Option<u64>,
}

/// The panel.
pub fn panel(server: &Server, all: &[Status], now: At) -> Markup {
    let (lines, mut live, mut restored) = server.road().look(|projection| {
        let states = || all.iter().filter_map(|status| projection.projects.get(&status.project));
        let lines: Vec<HistoryLine> = states().flat_map(slipway_feedback::project::ProjectState::history).collect();
        let changes = || states().flat_map(|state| &state.changes);
        let live: Vec<u64> = changes().filter_map(|change| change.timings.get("to_live").copied()).collect();
        let rollouts = changes().flat_map(|change| &change.rollouts);
        let incidents =
            rollouts.filter_map(|rollout| Some(rollout.incident.recovered?.since_ms(rollout.incident.recognised?)));
        (lines, live, incidents.collect::<Vec<u64>>())
    });
    let found = figures(&lines, &mut live, &mut restored, now);
    html! {
        section class="card" id="figures" aria-labelledby="figures-title" {
            h2 id="figures-title" { "Last " (DAYS) " days" }
            @match found {
                None => { p class="soft" { "Not enough data yet: " (ENOUGH) " rollouts make the first figures." } }
                Some(found) => { dl class="figures" {
                    div { dt { "deployments a day" } dd { (found.tenths_a_day / 10) "." (found.tenths_a_day % 10) } }
                    div { dt { "commit to live" } dd { (found.to_live_ms.map_or_else(|| "–".into(), took)) } }
                    div { dt { "changes that failed" } dd { (found.failed_tenths_percent / 10) "." (found.failed_tenths_percent % 10) " %" } }
                    div { dt { "to restore" } dd { (found.to_restore_ms.map_or_else(|| "–".into(), took)) } }
                } }
            }
        }
    }
}

fn figures(lines: &[HistoryLine], live: &mut [u64], restored: &mut [u64], now: At) -> Option<Figures> {
    let young: Vec<&HistoryLine> = lines.iter().filter(|line| now.since_ms(line.at) <= DAYS * DAY_MS).collect();
    let well =
        young.iter().filter(|line| matches!(line.result.as_str(), "succeeded" | "baking" | "contracting")).count();
    let bad = young.iter().filter(|line| matches!(line.result.as_str(), "rolled-back" | "needs-human")).count();
    if well + bad < ENOUGH {
        return None;
    }
    // A young installation is measured over its own days.
    let first = young.iter().map(|line| line.at).min().unwrap_or(now);
    let days = now.since_ms(first).div_ceil(DAY_MS).clamp(1, DAYS);
    Some(Figures {
        tenths_a_day: (well as u64 * 10).div_ceil(days),
        to_live_ms: middle(live),
        failed_tenths_percent: bad as u64 * 1000 / (well + bad) as u64,
        to_restore_ms: middle(restored),
    })
}

fn middle(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn too_few_rollouts_give_no_figure() {
        let line = |result: &str, day: u64| -> HistoryLine {
            serde_json::from_value(json!({ "at": At(day * DAY_MS), "lane": { "project": "shop", "environment":
                "production", "service": "api" }, "release": "r1", "release_id": "bbbbbbbb", "commit":
                "1f3c9ab0".repeat(5), "by": "kim", "result": result, "reason": "", "took_ms": 1 }))
            .unwrap()
        };
        let now = At(40 * DAY_MS);
        let mut lines: Vec<HistoryLine> = (36..40).map(|day| line("succeeded", day)).collect();
        assert_eq!(figures(&lines, &mut [], &mut [], now), None);
        lines.extend([line("rolled-back", 39), line("succeeded", 1)]);
        let found = figures(&lines, &mut [3, 1, 2], &mut [], now).unwrap();
        let expected =
            Figures { tenths_a_day: 10, to_live_ms: Some(2), failed_tenths_percent: 200, to_restore_ms: None };
        assert_eq!(found, expected);
    }
}
