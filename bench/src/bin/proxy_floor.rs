//! Requests per second of one processor core through the proxy, against haproxy, by the processor time that each used.
//!
//! The load is shared by everything on the machine; dividing by processor time leaves that out.

use anyhow::{Context, Result};
use slipway_bench::{
    Connection, Disk, Load, Pace, Project, Row, Slipway, binary, cpu, median, program, static_server, used_seconds,
};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(60);
const USERS: Pace = Pace { users: 16, per_second: 0, requests: &[("GET", "/")] };

fn main() -> Result<()> {
    let haproxy = program("haproxy", "haproxy")?;
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let settings = "replicas: 1, verify: { bake: 0s }";
    let project = Project::new(&slipway, &disk.path("repository"), "stop: { grace: 1s }", settings)?;
    project.push("VERSION: \"1\"", &[])?;
    slipway.rollout("succeeded", LIMIT)?;
    let (_, node) = slipway.processes[2];
    let address = slipway.address("web", "web")?;
    let peer = Peer::start(&haproxy, &disk)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(per_core(&address, node)?);
        theirs.push(per_core(&peer.address, peer.proxy.0.id())?);
    }
    let ratio = median(&ours) / median(&theirs);
    let words = |rates: &[f64]| format!("{:.0}/s per core (n = {})", median(rates), rates.len());
    Row {
        case: "requests through the proxy per core, 16 kept connections",
        ours: format!("{} = {ratio:.2}x", words(&ours)),
        against: "haproxy, one thread",
        theirs: words(&theirs),
        aim: "none yet (later ≥ 0.75x)",
        holds: true,
    }
    .print(disk.kind());
    Ok(())
}

/// Requests per second of processor time of this process.
fn per_core(address: &str, pid: u32) -> Result<f64> {
    let before = cpu(pid)?;
    let load = Load::start(address, &[USERS]);
    slipway_bench::pause(ROUND);
    let (tallies, _) = load.stop();
    let used = used_seconds(&before, &cpu(pid)?);
    anyhow::ensure!(tallies[0].failed == 0, "{} of {} failed", tallies[0].failed, tallies[0].asked);
    #[allow(clippy::cast_precision_loss)] // some hundred thousand requests
    Ok(tallies[0].asked as f64 / used)
}

/// haproxy in front of the same server.
struct Peer {
    proxy: Ended,
    address: String,
    _server: Ended,
}

impl Peer {
    fn start(haproxy: &Path, disk: &Disk) -> Result<Peer> {
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (front, back) = (free()?, free()?);
        static_server(&disk.path("server"))?;
        let server = Ended(Command::new(disk.path("server")).env("PORT", back.to_string()).spawn()?);
        let text = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server \
             30s\nfrontend f\n  bind 127.0.0.1:{front}\n  default_backend b\nbackend b\n  server s 127.0.0.1:{back}\n"
        );
        let file = disk.path("haproxy.cfg");
        std::fs::write(&file, text)?;
        let proxy = Command::new(haproxy).arg("-db").arg("-f").arg(&file).stderr(Stdio::null()).spawn()?;
        let proxy = Ended(proxy);
        let address = format!("127.0.0.1:{front}");
        let until = Instant::now() + LIMIT;
        while Connection::open(&address).and_then(|mut open| open.ask("GET", "/")).is_err() {
            anyhow::ensure!(Instant::now() < until, "haproxy does not answer");
            slipway_bench::pause(Duration::from_millis(10));
        }
        Ok(Peer { proxy, address, _server: server })
    }
}

/// A process that does not outlive its benchmark.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait().context("a process that was killed");
    }
}
