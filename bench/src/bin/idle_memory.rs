//! What Slipway costs when nothing happens: memory and processor time of its four processes, and of twenty shims.

use anyhow::{Context, Result, ensure};
use slipway_bench::{Disk, Memory, Project, Row, Slipway, binary, cpu, memory, note, shims, used_seconds};
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(20);
/// Starting leaves threads behind that end after ten idle seconds, and take their count with them.
const SETTLE: Duration = Duration::from_secs(12);
const LIMIT: Duration = Duration::from_secs(120);
const SHIMS: usize = 20;
const LIMIT_KIB: u64 = 60 * 1024;
const SHIM_LIMIT_KIB: u64 = 4 * 1024;
/// Below this it prints as 0.0 %.
const CPU_PERCENT: f64 = 0.05;

fn main() -> Result<()> {
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    idle(&slipway, &disk, "serve + node + worker + up, idle, nothing deployed", true)?;
    let others = shims(&slipway.binary);
    let settings = format!("replicas: {SHIMS}, verify: {{ bake: 0s }}");
    let project = Project::new(&slipway, &disk.path("repository"), "stop: { grace: 1s }", &settings)?;
    project.push("VERSION: first", &[])?;
    slipway.rollout("succeeded", LIMIT)?;
    idle(&slipway, &disk, "serve + node + worker + up, idle, 20 instances", false)?;
    each_shim(&slipway, &disk, &others)
}

fn idle(slipway: &Slipway, disk: &Disk, case: &str, aimed: bool) -> Result<()> {
    slipway_bench::pause(SETTLE);
    let read = || slipway.processes.iter().map(|(_, pid)| cpu(*pid)).collect::<Result<Vec<_>>>();
    let before = read()?;
    slipway_bench::pause(IDLE);
    let used: f64 = before.iter().zip(&read()?).map(|(before, after)| used_seconds(before, after)).sum();
    let percent = used / IDLE.as_secs_f64() * 100.0;
    let mut all = Memory::default();
    for (name, pid) in &slipway.processes {
        let one = memory(*pid)?;
        note(&format!("{name}: {}", words(one)));
        all = all + one;
    }
    Row {
        case,
        ours: format!("{}; {percent:.2} % of a core over {} s", words(all), IDLE.as_secs()),
        against: if aimed { "fixed limit" } else { "nothing" },
        theirs: if aimed { "60 MiB; 0.0 %" } else { "none" }.into(),
        aim: if aimed { "RSS ≤ 60 MiB, CPU 0.0 %" } else { "none" },
        holds: !aimed || (all.rss <= LIMIT_KIB && percent < CPU_PERCENT),
    }
    .print(disk.kind());
    Ok(())
}

fn each_shim(slipway: &Slipway, disk: &Disk, others: &[u32]) -> Result<()> {
    let mut sizes = Vec::new();
    for pid in shims(&slipway.binary).into_iter().filter(|pid| !others.contains(pid)) {
        sizes.push(memory(pid)?);
    }
    ensure!(sizes.len() >= SHIMS, "{} shims run, expected are {SHIMS}", sizes.len());
    let largest = sizes.iter().max_by_key(|size| size.rss).context("there is no shim")?;
    let all = sizes.iter().fold(Memory::default(), |sum, size| sum + *size);
    Row {
        case: "20 idle shims",
        ours: format!(
            "largest of {} processes: {}; all of them PSS {:.1} MiB, {:.1} MiB an instance",
            sizes.len(),
            words(*largest),
            mebibytes(all.pss),
            mebibytes(all.pss) / 20.0
        ),
        against: "fixed limit",
        theirs: "4 MiB".into(),
        aim: "RSS ≤ 4 MiB each",
        holds: largest.rss <= SHIM_LIMIT_KIB,
    }
    .print(disk.kind());
    Ok(())
}

fn words(memory: Memory) -> String {
    format!("RSS {:.1} MiB, PSS {:.1} MiB", mebibytes(memory.rss), mebibytes(memory.pss))
}

#[allow(clippy::cast_precision_loss)] // some million KiB
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
