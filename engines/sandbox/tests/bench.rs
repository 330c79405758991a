//! Figures, printed; run by hand: `cargo test --release -p slipway-sandbox --test main -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::print_stdout)] // that is what it is for

use crate::network::echo;
use crate::support::*;
use slipway_sandbox::*;
use std::time::{Duration, Instant};

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{name}: median {:?}, best {:?}, 95 % {:?}",
        times[times.len() / 2],
        times[0],
        times[times.len() * 95 / 100]
    );
}

#[test]
#[ignore = "measures"]
fn figures() {
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..100 {
        let scratch = Scratch::new();
        let mut spec = scratch.job("");
        spec.steps[0].argv = vec!["/bin/true".into()];
        let begun = Instant::now();
        let shim = launcher().launch(&spec).unwrap();
        starts.push(begun.elapsed());
        shim.wait(LIMIT).unwrap().unwrap();
        ends.push(begun.elapsed());
    }
    show("launch to first exec", starts);
    show("launch to record", ends);

    let scratch = Scratch::new();
    let shim = echo(&scratch, &["80"]);
    let mut times = Vec::new();
    for _ in 0..2000 {
        let begun = Instant::now();
        let stream = shim.connect(80, LIMIT).unwrap();
        times.push(begun.elapsed());
        drop(stream);
    }
    show("connect", times);

    let status = shim.status().unwrap();
    for (name, pid) in [("shim", status.shim_pid), ("first process", status.init_pid)] {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let field = |key: &str| rollup.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_owned();
        println!("{name}: rss {}, pss {}", field("Rss:"), field("Pss:"));
    }

    let scratch = Scratch::new();
    let spec = scratch.spec(Kind::Instance, "while read -r -t 0.01 x < <(:) || sleep 0.01; do date +%s%N; done");
    let shim = launcher().launch(&spec).unwrap();
    let mut follow = shim.follow(0);
    let mut delays = Vec::new();
    while delays.len() < 200 {
        let chunk = follow.next(LIMIT).unwrap().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        delays.extend(chunk.lines.iter().map(|l| now.saturating_sub(Duration::from_nanos(l.text.parse().unwrap()))));
    }
    show("line to follower (with the writer's exec)", delays);
}
