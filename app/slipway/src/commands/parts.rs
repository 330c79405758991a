//! `serve`, `node start`, `worker start`: the parts alone, as `up` starts them.

use crate::cli::{Global, address};
use crate::commands::doctor::refused;
use crate::commands::front::Front;
use crate::exit::{Done, Exit, surroundings};
use crate::paths::Data;
use crate::wire::serve::{ServeOptions, make_private, program, serve as run_serve};
use crate::wire::unpack::StoreUnpack;
use clap::Args;
use slipway_blobs::Blobs;
use slipway_node::{Ending, Node, NodeOptions};
use slipway_ports::Machine;
use slipway_ports::machine::MACHINE_FILE;
use slipway_sandbox::{Launcher, Level, Outbound, Probe};
use slipway_worker::{Shutdown, Worker, WorkerOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A probe that takes longer has found out enough.
const PROBE: Duration = Duration::from_secs(10);

/// The control plane's addresses.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where it listens
    #[arg(long, value_parser = address, default_value = "127.0.0.1:8400")]
    pub http: SocketAddr,
    /// Where the proxy listens, for the addresses it shows
    #[arg(long, value_parser = address, default_value = "127.0.0.1:8480")]
    pub proxy: SocketAddr,
    /// The domain under which services are reached
    #[arg(long, default_value = "localhost")]
    pub domain: String,
}

/// `start`, and what a part needs.
#[derive(Debug, Args)]
pub struct Part {
    /// `start`
    pub act: String,
    /// Where the proxy listens
    #[arg(long, value_parser = address, default_value = "127.0.0.1:8480")]
    pub proxy: SocketAddr,
    /// TLS, and whom to believe
    #[command(flatten)]
    pub front: Front,
}

/// `slipway serve`.
pub async fn serve(global: &Global, serve: Serve) -> Done {
    let options = ServeOptions {
        data: Data::find(global.data.clone()),
        http: serve.http,
        proxy: serve.proxy,
        domain: serve.domain,
    };
    let mut term = signal(SignalKind::terminate()).map_err(surroundings)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(surroundings)?;
    run_serve(options, async move {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
    })
    .await
}

/// `slipway node start`. SIGTERM leaves the instances running, SIGINT stops them.
pub async fn node(global: &Global, part: Part) -> Done {
    let data = Data::find(global.data.clone());
    make_private(&data.0)?;
    let blobs = Blobs::open(data.blobs()).map_err(surroundings)?;
    let unpack = Arc::new(StoreUnpack { blobs, folder: data.work().join("images") });
    let mut options = NodeOptions::new(data.node(), data.link_socket(), program()?, unpack);
    options.fd_store_socket = Some(data.fd_socket());
    options.proxy_addresses = vec![part.proxy];
    options.say = Arc::new(|line| eprintln!("{line}"));
    part.front.apply(&mut options)?;
    let mut term = signal(SignalKind::terminate()).map_err(surroundings)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(surroundings)?;
    let leave = Box::pin(async move {
        tokio::select! {
            _ = term.recv() => Ending::LeaveRunning,
            _ = interrupt.recv() => Ending::StopInstances,
        }
    });
    Node::run(options, leave).await.map_err(surroundings)
}

/// `slipway worker start`. SIGTERM leaves the jobs running, SIGINT ends them.
pub async fn worker(global: &Global) -> Done {
    let data = Data::find(global.data.clone());
    make_private(&data.0)?;
    make_private(&data.work())?;
    // Before the probe: one that is broken off would leave its folder.
    let mut term = signal(SignalKind::terminate()).map_err(surroundings)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(surroundings)?;
    let options = worker_options(&data).await?;
    let (say, told) = tokio::sync::watch::channel(Shutdown::No);
    tokio::spawn(async move {
        let how = tokio::select! {
            _ = term.recv() => Shutdown::LeaveJobs,
            _ = interrupt.recv() => Shutdown::EndJobs,
        };
        let _ = say.send(how);
    });
    Worker::run(options, &data.link_socket(), told).await.map_err(surroundings)
}

/// A worker on this data folder, at the level that the probe finds.
pub async fn worker_options(data: &Data) -> Result<WorkerOptions, Exit> {
    let exe = program()?;
    let blobs = Blobs::open(data.blobs()).map_err(surroundings)?;
    let mut options = WorkerOptions::new(&data.0, blobs.clone(), exe.clone());
    options.unpack = Some(Arc::new(StoreUnpack { blobs, folder: data.work().join("images") }));
    let scratch = data.work().join("probe");
    // What a worker left that was killed while it probed.
    let _ = slipway_sandbox::remove_folder(&scratch);
    std::fs::create_dir_all(&scratch).map_err(surroundings)?;
    let probe =
        tokio::task::spawn_blocking(move || Launcher::new(exe).probe(&scratch, PROBE)).await.map_err(surroundings)?;
    if probe.level == Level::Refused {
        return Err(refused(&probe));
    }
    if probe.has("limits") {
        options.limits.memory_bytes = machine_memory().map(|all| all / 4 * 3);
    }
    options.outbound = probe.outbound;
    note_machine(data, &probe);
    Ok(options)
}

/// What plans have to say of this machine. Without it they say nothing.
fn note_machine(data: &Data, probe: &Probe) {
    let limits = probe.checks.iter().find(|check| check.name == "limits" && !check.ok);
    let machine = Machine {
        shares_network: probe.outbound == Outbound::Shared,
        unlimited: limits.and_then(|check| check.cause.clone()),
    };
    let text = serde_json::to_vec(&machine).unwrap_or_default();
    let _ = slipway_vault::write_private(&data.run().join(MACHINE_FILE), &text);
}

/// All memory of this machine in bytes (proc_meminfo(5)). One job may have three quarters of it, so that what runs
/// beside it lives on.
pub fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
