//! The proxy against haproxy: requests per second of one processor core, by the processor time that each used; the
//! slowest answers at a steady pace; and requests that fail while weights change.
//!
//! The load is shared by everything on the machine; dividing by processor time leaves that out.

use anyhow::{Context, Result};
use slipway_bench::{
    Connection, Disk, Load, Pace, Project, Row, Slipway, binary, cpu, median, percentile, program, static_server,
    used_seconds,
};
use slipway_proxy::{
    Affinity, Backend, BackendState, Binding, Limits, Notice, Protocol, Proxy, Service, ServiceKey, Table,
    TcpConnector, Upstreams,
};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(60);
const USERS: Pace = Pace { users: 16, per_second: 0, requests: &[("GET", "/")] };
/// 4,000 a second in all.
const STEADY: Pace = Pace { users: 16, per_second: 250, requests: &[("GET", "/")] };
const WEIGHTS: u32 = 1_000;
const APART: Duration = Duration::from_millis(5);

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
    throughput(&disk, (&address, node), &peer)?;
    slowest(&disk, &address, &peer)?;
    weights(&disk, &peer)
}

fn throughput(disk: &Disk, (address, node): (&str, u32), peer: &Peer) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(per_core(address, node)?);
        theirs.push(per_core(&peer.address, peer.proxy.0.id())?);
    }
    let ratio = median(&ours) / median(&theirs);
    let words = |rates: &[f64]| format!("{:.0}/s per core (n = {})", median(rates), rates.len());
    Row {
        case: "requests through the proxy per core, 16 kept connections",
        ours: format!("{} = {ratio:.2}x", words(&ours)),
        against: "haproxy, one thread",
        theirs: words(&theirs),
        aim: "≥ 0.75x",
        holds: ratio >= 0.75,
    }
    .print(disk.kind());
    Ok(())
}

/// The 99th percentile at a steady pace; the two take turns, so that what else the machine does meets both.
fn slowest(disk: &Disk, address: &str, peer: &Peer) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(percentile(&steady(address, ROUND)?, 99));
        theirs.push(percentile(&steady(&peer.address, ROUND)?, 99));
    }
    let ratio = median(&ours) / median(&theirs);
    let words = |times: &[f64]| format!("p99 {:.3} ms (n = {})", median(times), times.len());
    Row {
        case: "answers at 4,000 requests/s, 16 kept connections",
        ours: format!("{} = {ratio:.2}x", words(&ours)),
        against: "haproxy, one thread",
        theirs: words(&theirs),
        aim: "≤ 1.25x",
        holds: ratio <= 1.25,
    }
    .print(disk.kind());
    Ok(())
}

fn steady(address: &str, time: Duration) -> Result<Vec<f64>> {
    let load = Load::start(address, &[STEADY]);
    slipway_bench::pause(time);
    let (mut tallies, _) = load.stop();
    anyhow::ensure!(tallies[0].failed == 0, "{} of {} failed", tallies[0].failed, tallies[0].asked);
    Ok(std::mem::take(&mut tallies[0].took_ms))
}

/// The proxy of the node as a library, because nothing else changes weights so often.
fn weights(disk: &Disk, peer: &Peer) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let connector = Arc::new(TcpConnector::new());
    for instance in ["old", "new"] {
        connector.set(instance, peer.server);
    }
    let proxy = Proxy::new(Limits { threads: 2, ..Limits::default() }, connector, 1);
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    proxy.apply(table(0))?;
    let _listener = proxy.listen(socket, Binding::Port(1))?;
    let load = Load::start(&address.to_string(), &[STEADY]);
    for change in 1..=WEIGHTS {
        proxy.apply(table(change % 101))?;
        slipway_bench::pause(APART);
    }
    let (tallies, took) = load.stop();
    let (asked, failed) = (tallies[0].asked, tallies[0].failed);
    Row {
        case: "requests that fail during 1,000 changes of weights, at 4,000 requests/s",
        ours: format!("{failed} of {asked} in {:.1} s, {WEIGHTS} changes", took.as_secs_f64()),
        against: "the clients' own count",
        theirs: format!("{asked} asked"),
        aim: "0",
        holds: failed == 0,
    }
    .print(disk.kind());
    Ok(())
}

/// So much of a hundred to the new release; at the ends one of the two drains.
fn table(share: u32) -> Table {
    let release = |name: &str, weight: u32| {
        let state = if weight == 0 { BackendState::Draining } else { BackendState::Serving };
        let backends = vec![Backend { instance: name.into(), state }];
        Upstreams { release: name.into(), weight, backends }
    };
    let share = share.min(100);
    let key = ServiceKey { project: "shop".into(), environment: "production".into(), service: "web".into() };
    Table {
        services: vec![Service {
            key,
            hosts: Vec::new(),
            ports: vec![1],
            affinity: Affinity::None,
            protocol: Protocol::Http1,
            hold_ms: 0,
            notice: Notice::default(),
            releases: vec![release("old", 100 - share), release("new", share)],
        }],
    }
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
    server: std::net::SocketAddr,
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
        Ok(Peer { proxy, address, server: ([127, 0, 0, 1], back).into(), _server: server })
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
