//! Users at 2,000 requests a second while twenty rollouts go through: nobody may lose a request.
//!
//! GET and POST over kept connections at a steady rate, and users whose requests take two seconds each, always some
//! in flight. Counted where they ask.

use anyhow::Result;
use slipway_bench::{Disk, Load, Pace, Project, Row, Slipway, binary, note, sorted};
use std::time::{Duration, Instant};

const ROLLOUTS: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);
const RATE: f64 = 2_000.0;
const QUICK: Pace =
    Pace { users: 40, per_second: 50, requests: &[("GET", "/"), ("GET", "/a"), ("POST", "/b"), ("GET", "/c/1")] };
const SLOW: Pace = Pace { users: 16, per_second: 0, requests: &[("GET", "/slow"), ("POST", "/slow")] };

fn main() -> Result<()> {
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let service = "drain: 10s\n    stop: { grace: 1s }";
    let project = Project::new(&slipway, &disk.path("repository"), service, "replicas: 3, verify: { bake: 1s }")?;
    project.push("VERSION: first", &[])?;
    slipway.rollout("succeeded", LIMIT)?;
    let load = Load::start(&slipway.address("web", "web")?, &[QUICK, SLOW]);
    let begun = Instant::now();
    let mut through = Ok(());
    for rollout in 0..ROLLOUTS {
        through = project
            .push(&format!("VERSION: \"{rollout}\""), &[])
            .and_then(|said| slipway.rollout("succeeded", LIMIT).map_err(|error| error.context(said)))
            .map(|_| ());
        if through.is_err() {
            break;
        }
    }
    let took = begun.elapsed();
    let (tallies, asking) = load.stop();
    for bad in sorted(&tallies).iter().take(10) {
        note(&format!("{:.0}: {}", bad.at_ms, bad.how));
    }
    through?;
    let (quick, slow) = (&tallies[0], &tallies[1]);
    #[allow(clippy::cast_precision_loss)] // some hundred thousand requests
    let rate = quick.asked as f64 / asking.as_secs_f64();
    let lost = quick.failed + slow.failed;
    Row {
        case: "requests lost at 2,000/s during 20 rollouts with verification",
        ours: format!(
            "{lost} lost of {} at {rate:.0}/s and {} of 2 s; rollouts took {:.0} s; slowest quick answer {:.0} ms",
            quick.asked,
            slow.asked,
            took.as_secs_f64(),
            quick.slowest_ms
        ),
        against: "the clients' own count",
        theirs: format!("{} asked", quick.asked + slow.asked),
        aim: "0 lost at ≥ 95 % of 2,000/s",
        holds: lost == 0 && rate >= RATE * 0.95,
    }
    .print(disk.kind());
    Ok(())
}
