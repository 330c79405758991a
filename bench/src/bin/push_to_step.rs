//! From the start of a push to its first sandboxed step, in a repository of 5,000 files of which one changes.
//!
//! Floor: a plain `git push` to a bare repository beside it, a checkout in a kept tree, and the same step in `bwrap`.

use anyhow::{Context, Result};
use slipway_bench::{Disk, Repository, Row, Slipway, binary, median, note, now_ms, program, spread};
use std::process::Command;

const FILES: usize = 5_000;
const FOLDERS: usize = 50;
const ROUNDS: usize = 20;
const STEP: &str = "date +%s%N";
const CONFIGURATION: &str =
    "project: many\njobs:\n  step: { run: \"date +%s%N\", network: off, image: host, inputs: [\"**\"] }\n";

fn main() -> Result<()> {
    let bwrap = program("bwrap", "bubblewrap")?;
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let repository = Repository::new(&slipway, &disk.path("repository"), "many")?;
    for file in 0..FILES {
        let line = format!("line of file {file}\n");
        repository.write(&format!("part{}/file{file}", file % FOLDERS), &line.repeat(2_700 / line.len()))?;
    }
    repository.write("slipway.yaml", CONFIGURATION)?;
    repository.commit("many files")?;
    let floor = Floor::new(&repository, &disk, bwrap)?;
    repository.push(&[])?;
    let (mut ours, mut theirs, mut parts) = (Vec::new(), Vec::new(), Parts::default());
    for round in 0..ROUNDS {
        repository.write("part7/file7", &format!("changed in round {round}\n"))?;
        repository.commit(&format!("round {round}"))?;
        // Both in turn, and in turn the first.
        for first in [round % 2 == 0, round % 2 == 1] {
            if first {
                ours.push(push(&slipway, &repository, &mut parts)?);
            } else {
                theirs.push(floor.push(&repository)?);
            }
        }
    }
    parts.tell();
    let ratio = median(&ours) / median(&theirs);
    Row {
        case: "push start to first sandboxed step, 5,000 files",
        ours: format!("{} = {ratio:.2}x", spread(&ours)),
        against: "plain local git push + kept checkout + bwrap",
        theirs: spread(&theirs),
        aim: "≤ 1.5x",
        holds: ratio <= 1.5,
    }
    .print(disk.kind());
    Ok(())
}

/// When each fact of a push was recorded, in milliseconds after its start.
#[derive(Default)]
struct Parts {
    received: Vec<f64>,
    planned: Vec<f64>,
    started: Vec<f64>,
    stepped: Vec<f64>,
}

impl Parts {
    fn tell(&self) {
        let [received, planned, started, stepped] =
            [&self.received, &self.planned, &self.started, &self.stepped].map(|times| median(times));
        note(&format!(
            "after the start of the push: received {received:.0} ms, planned {planned:.0} ms, job started \
             {started:.0} ms, step {stepped:.0} ms"
        ));
    }
}

/// Pushes to Slipway; milliseconds until its step ran.
fn push(slipway: &Slipway, repository: &Repository, parts: &mut Parts) -> Result<f64> {
    let begun = now_ms();
    repository.push(&[])?;
    let said = slipway.ask("many", &["logs", "step"])?;
    let ran = stamp(said.split_whitespace().last().unwrap_or_default())? - begun;
    parts.stepped.push(ran);
    slipway.wait("the end of a change", std::time::Duration::from_secs(60), |event| {
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are far below 2^52
        let after = event.at_ms as f64 - begun;
        match event.kind.as_str() {
            "change.received" if after >= 0.0 => parts.received.push(after),
            "plan.made" if after >= 0.0 => parts.planned.push(after),
            "job.started" if after >= 0.0 => parts.started.push(after),
            "change.ended" if after >= 0.0 => return Some(()),
            _ => {}
        }
        None
    })?;
    Ok(ran)
}

/// Nanoseconds as `date` prints them, in milliseconds.
fn stamp(text: &str) -> Result<f64> {
    Ok(text.trim().parse::<f64>().with_context(|| format!("the step printed `{text}`"))? / 1e6)
}

struct Floor {
    kept: String,
    bwrap: std::path::PathBuf,
}

impl Floor {
    fn new(repository: &Repository, disk: &Disk, bwrap: std::path::PathBuf) -> Result<Floor> {
        let bare = disk.path("bare.git").display().to_string();
        let kept = disk.path("kept").display().to_string();
        repository.git(&["init", "-q", "--bare", "-b", "main", &bare])?;
        repository.git(&["remote", "add", "bare", &bare])?;
        repository.git(&["push", "-q", "bare", "main"])?;
        repository.git(&["-C", &bare, "worktree", "add", "-q", "--detach", &kept, "main"])?;
        Ok(Floor { kept, bwrap })
    }

    fn push(&self, repository: &Repository) -> Result<f64> {
        let begun = now_ms();
        repository.git(&["push", "-q", "bare", "main"])?;
        repository.git(&["-C", &self.kept, "checkout", "-q", "--detach", "main"])?;
        let answer = Command::new(&self.bwrap)
            .args(["--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"])
            .args(["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc"])
            .args(["--dev", "/dev", "--tmpfs", "/tmp", "--bind", &self.kept, "/work", "--chdir", "/work"])
            .args(["sh", "-e", "-c", STEP])
            .output()?;
        Ok(stamp(&String::from_utf8_lossy(&answer.stdout))? - begun)
    }
}
