//! Three instances that are ready at once, replaced one by one, each step verified by smoke requests.
//!
//! Floor: the same server started three times in `bwrap` until it answers, and the three waits that verification
//! takes by default when no user comes.

use anyhow::Result;
use slipway_bench::{
    Connection, Disk, Project, Row, Slipway, binary, median, milliseconds, note, program, spread, static_server,
};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const REPLICAS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);
/// `hold`, the default: when no request comes for so long, the smoke requests decide.
const HOLD_MS: f64 = 500.0;

fn main() -> Result<()> {
    let bwrap = program("bwrap", "bubblewrap")?;
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let settings = format!("replicas: {REPLICAS}, verify: {{ bake: 0s }}");
    let project = Project::new(&slipway, &disk.path("repository"), "stop: { grace: 1s }", &settings)?;
    project.push("VERSION: first", &[])?;
    slipway.rollout("succeeded", LIMIT)?;
    let server = disk.path("server");
    static_server(&server)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        project.push(&format!("VERSION: \"{round}\""), &[])?;
        ours.push(rollout(&slipway, round == 0)?);
        let mut took = 0.0;
        for _ in 0..REPLICAS {
            took += HOLD_MS + start(&bwrap, &server)?;
        }
        theirs.push(took);
    }
    let took = median(&ours);
    Row {
        case: "three instances replaced by rolling update, verified by smoke requests",
        ours: format!("{} = {:.2}x", spread(&ours), took / median(&theirs)),
        against: "3 × server in bwrap until it answers + 3 × 500 ms hold (policy, not slept)",
        theirs: spread(&theirs),
        aim: "≤ 2 s",
        holds: took <= 2_000.0,
    }
    .print(disk.kind());
    Ok(())
}

/// Milliseconds from its turn to its success, by the times of its facts.
fn rollout(slipway: &Slipway, tell: bool) -> Result<f64> {
    let events = slipway.rollout("succeeded", LIMIT)?;
    let phases: Vec<_> = events.iter().filter_map(|event| Some((event.phase()?, event.at_ms))).collect();
    let begun = phases.first().map_or(0, |(_, at)| *at);
    if tell {
        let words: Vec<_> = phases.iter().map(|(phase, at)| format!("{phase} {}", at - begun)).collect();
        note(&format!("ms: {}", words.join(", ")));
    }
    let ended = phases.last().map_or(0, |(_, at)| *at);
    #[allow(clippy::cast_precision_loss)] // some thousand milliseconds
    Ok((ended - begun) as f64)
}

/// Milliseconds until the server answers in `bwrap`.
fn start(bwrap: &Path, server: &Path) -> Result<f64> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let begun = Instant::now();
    let mut child = Command::new(bwrap)
        .args(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--ro-bind"])
        .arg(server)
        .args(["/server", "--setenv", "PORT", &port.to_string(), "/server"])
        .spawn()?;
    let until = begun + LIMIT;
    while Connection::open(&address).and_then(|mut connection| connection.ask("GET", "/")).is_err() {
        anyhow::ensure!(Instant::now() < until, "the server did not answer in `bwrap`");
        slipway_bench::pause(Duration::from_micros(200));
    }
    let took = begun.elapsed();
    child.kill()?;
    child.wait()?;
    Ok(milliseconds(took))
}
