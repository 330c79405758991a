//! A release that answers 500 for one address: how long users still get that after the request that gave it away.
//!
//! Peer: Argo Rollouts with an analysis every second, whose figures were not measured in this run.

use anyhow::{Context, Result};
use slipway_bench::{Bad, Disk, Event, Load, Pace, Project, Row, Slipway, binary, median, note, sorted, spread};
use slipway_model::At;
use std::time::Duration;

const ROUNDS: usize = 7;
const LIMIT: Duration = Duration::from_secs(60);
/// Often enough that the next bad answer would come within milliseconds.
const USERS: Pace = Pace { users: 40, per_second: 50, requests: &[("GET", "/"), ("GET", "/item"), ("POST", "/")] };
const PEER: &str = "Argo Rollouts 1.8.3, analysis every second (measured elsewhere, not in this run)";

fn main() -> Result<()> {
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let service = "stop: { grace: 1s }";
    let project = Project::new(&slipway, &disk.path("repository"), service, "replicas: 4, verify: { bake: 1s }")?;
    project.push("VERSION: good", &[])?;
    slipway.rollout("succeeded", LIMIT)?;
    let address = slipway.address("web", "web")?;
    let (mut after_tipping, mut whole) = (Vec::new(), Vec::new());
    let mut fixes = String::new();
    for round in 0..ROUNDS {
        let load = Load::start(&address, &[USERS]);
        // The bad commit before is held; without saying so, one on top of it would wait for a person.
        let options = if fixes.is_empty() { Vec::new() } else { vec!["-o", &fixes] };
        let said = project.push(&format!("VERSION: \"{round}\", BAD: /item"), &options)?;
        let events = slipway.rollout("rolled-back", LIMIT).context(said);
        let (tallies, _) = load.stop();
        let (events, bad) = (events?, sorted(&tallies));
        let (first, last) = (bad.first().context("nobody got a bad answer")?, bad.last().context("nobody")?);
        after_tipping.push(last.at_ms - tipped(&events)?);
        whole.push(last.at_ms - first.at_ms);
        fixes = format!("fixes={}", project.repository.git(&["rev-parse", "HEAD"])?.trim());
        if round == 0 {
            tell(&events, first, bad.len());
        }
    }
    Row {
        case: "bad release: from the request that tips the verdict to the last bad answer",
        ours: spread(&after_tipping),
        against: PEER,
        theirs: "1.1 to 2.1 s from the metric turning bad".into(),
        aim: "≤ 250 ms, better 100 ms",
        holds: median(&after_tipping) <= 250.0,
    }
    .print(disk.kind());
    Row {
        case: "bad release: from the first bad answer to the last, at 2,000 requests/s",
        ours: spread(&whole),
        against: PEER,
        theirs: "1.1 to 2.1 s from the metric turning bad".into(),
        aim: "none",
        holds: true,
    }
    .print(disk.kind());
    Ok(())
}

/// When the request came that tipped the verdict.
#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are far below 2^52
fn tipped(events: &[Event]) -> Result<f64> {
    let verdicts = events.iter().filter(|event| event.kind == "verdict.given");
    let tipped = verdicts.filter_map(|event| At::parse(event.data["verdict"]["tipped_at"].as_str()?)).next_back();
    Ok(tipped.context("no verdict says which request tipped it")?.0 as f64)
}

#[allow(clippy::cast_precision_loss)] // as above
fn tell(events: &[Event], first: &Bad, count: usize) {
    let since = |event: &Event| format!("{:.0}", event.at_ms as f64 - first.at_ms);
    let wanted = ["verdict.given", "evidence.kept"];
    let told = events.iter().filter(|event| wanted.contains(&event.kind.as_str()) || event.phase().is_some());
    let words: Vec<_> =
        told.map(|event| format!("{} {}", event.phase().unwrap_or(&event.kind), since(event))).collect();
    note(&format!("ms after the first of {count} bad answers ({}): {}", first.how, words.join(", ")));
}
