//! `slipway up` and `down`: everything on this machine.
//!
//! In: addresses, the data folder. Out: three supervised processes and their sockets kept. Never: stops instances
//! because it was itself killed.

use crate::cli::{Global, address};
use crate::client::Client;
use crate::commands::doctor::refused;
use crate::commands::front::Front;
use crate::commands::supervise::{Part, last_words, recorded};
use crate::commands::watch::fact;
use crate::exit::{Done, Exit, SURROUNDINGS, surroundings};
use crate::paths::Data;
use crate::term;
use crate::wire::serve::{lock, make_private, program, taken};
use clap::Args;
use rustix::process::Signal;
use slipway_feedback::ticker::Ticker;
use slipway_model::text::printable;
use slipway_node::fd_store::FdStore;
use slipway_sandbox::{Launcher, Level};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// The parts have to be ready within this time.
const READY: Duration = Duration::from_secs(60);
/// A look at whether sandboxes can be made takes milliseconds; one that takes longer has found out enough.
const PROBE: Duration = Duration::from_secs(10);
/// A node looks for a new `up` at least this often.
const HANDED_OVER: Duration = Duration::from_secs(6);
/// Draining and stopping everything takes at most so long.
const DOWN: Duration = Duration::from_secs(180);
/// Between two looks at whether they are; only while starting.
const LOOK: Duration = Duration::from_millis(20);

/// A reader that went away must not end `up`.
macro_rules! offer {
    () => { crate::term::offer_line(format_args!("")) };
    ($($text:tt)*) => { crate::term::offer_line(format_args!($($text)*)) };
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The address for everything but the services; port 0 picks a free one and keeps it
    #[arg(long, value_parser = address, default_value = "127.0.0.1:8400")]
    pub http: SocketAddr,
    /// The proxy's address; port 0 picks a free one and keeps it
    #[arg(long, value_parser = address, default_value = "127.0.0.1:8480")]
    pub proxy: SocketAddr,
    /// The domain under which services are reached
    #[arg(long, default_value = "localhost")]
    pub domain: String,
    /// TLS, and whom to believe
    #[command(flatten)]
    pub front: Front,
}

/// Options of `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// Also what runs
    #[arg(long)]
    pub services: bool,
}

/// `slipway up`.
pub async fn up(global: &Global, up: Up) -> Done {
    let data = Data::find(global.data.clone());
    up.front.check()?;
    if !data.0.exists() {
        // A taken port is said before anything is made.
        for asked in [up.http, up.proxy].into_iter().chain(up.front.proxy_tls) {
            TcpListener::bind(asked).map_err(|error| taken(asked, &error))?;
        }
    }
    for folder in [data.0.clone(), data.run(), data.logs()] {
        make_private(&folder)?;
    }
    let held = lock(&data.0.join("lock"), "slipway up")?;
    if recorded(&data, "worker").is_none() {
        can_run(&data).await?;
    }
    let (http, proxy) = addresses(&data, &up)?;
    let store = FdStore::serve(&data.fd_socket()).map_err(surroundings)?;
    let parts = parts(&data, http, proxy, &up)?;
    let (stop, told) = watch::channel(None);
    let mut tasks = Vec::new();
    let mut pids = Vec::new();
    let mut kept_before = false;
    for part in parts {
        let (living, adopted) = part.adopt_or_start(&data)?;
        if adopted {
            eprintln!("{} goes on, process {}", part.name, living.pid);
            kept_before |= part.name == "node";
        }
        let (say, pid) = watch::channel(living.pid);
        pids.push(pid);
        tasks.push((part.name, say.subscribe(), tokio::spawn(part.keep(data.clone(), living, say, told.clone()))));
    }
    let client = ready(&data, http).await?;
    if kept_before {
        sockets_kept(&store).await;
    }
    crate::client::remember(&client.url, &data);
    announce(global, &data, http, &served(proxy, &up), &pids);
    let events = tokio::spawn(print_events(global.json, client));
    let ending = ending().await;
    events.abort();
    match ending {
        // Drain and stop everything: the node first, while the control plane still hears what it does.
        Signal::INT => {
            eprintln!("stopping everything; a second Ctrl-C leaves at once");
            let _ = stop.send(Some(Signal::INT));
            wait(&mut tasks, true).await;
        }
        // The services go on: only control plane and worker end.
        _ => {
            for (_, _, task) in &tasks {
                task.abort();
            }
            for name in ["serve", "worker"] {
                if let Some(living) = recorded(&data, name) {
                    living.signal(Signal::TERM);
                }
            }
        }
    }
    drop(store);
    drop(held);
    Ok(())
}

/// Says at once that nothing could run here, instead of starting parts that end again and again.
async fn can_run(data: &Data) -> Done {
    let (exe, scratch) = (program()?, data.work().join("probe-up"));
    for folder in [data.work(), scratch.clone()] {
        make_private(&folder)?;
    }
    let place = scratch.clone();
    let probing = tokio::task::spawn_blocking(move || Launcher::new(exe).probe_sandbox(&place, PROBE));
    let probe = probing.await.map_err(surroundings)?;
    let _ = slipway_sandbox::remove_folder(&scratch);
    if probe.level == Level::Refused { Err(refused(&probe)) } else { Ok(()) }
}

type Kept = (&'static str, watch::Receiver<u32>, tokio::task::JoinHandle<()>);

async fn wait(tasks: &mut [Kept], interruptible: bool) {
    let interrupt = async {
        if interruptible && let Ok(mut again) = signal(SignalKind::interrupt()) {
            again.recv().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let all = async {
        for (_, _, task) in tasks.iter_mut() {
            let _ = task.await;
        }
    };
    tokio::select! { () = all => {}, () = interrupt => {} }
}

async fn ending() -> Signal {
    let (interrupt, term) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut term)) = (interrupt, term) else { return Signal::TERM };
    tokio::select! {
        _ = interrupt.recv() => Signal::INT,
        _ = term.recv() => Signal::TERM,
    }
}

fn parts(data: &Data, http: SocketAddr, proxy: SocketAddr, up: &Up) -> Result<Vec<Part>, Exit> {
    let exe = program()?;
    let folder = data.0.display().to_string();
    let part = |name, arguments: Vec<String>| Part { name, exe: exe.clone(), arguments };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut node = words(&["node", "start", "--data", &folder, "--proxy", &proxy.to_string()]);
    node.extend(up.front.words()?);
    Ok(vec![
        part(
            "serve",
            words(&[
                "serve",
                "--data",
                &folder,
                "--http",
                &http.to_string(),
                "--proxy",
                &proxy.to_string(),
                "--domain",
                &up.domain,
            ]),
        ),
        part("node", node),
        part("worker", words(&["worker", "start", "--data", &folder])),
    ])
}

/// The addresses asked for; a port 0 is chosen once and kept in the data folder.
fn addresses(data: &Data, up: &Up) -> Result<(SocketAddr, SocketAddr), Exit> {
    let kept: serde_json::Value =
        std::fs::read(data.addresses()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let http = choose(up.http, &kept, "http", recorded(data, "serve").is_some())?;
    let proxy = choose(up.proxy, &kept, "proxy", recorded(data, "node").is_some())?;
    let text = serde_json::json!({ "http": http, "proxy": proxy }).to_string();
    slipway_vault::write_private(&data.addresses(), text.as_bytes()).map_err(surroundings)?;
    Ok((http, proxy))
}

fn choose(asked: SocketAddr, kept: &serde_json::Value, name: &str, in_use: bool) -> Result<SocketAddr, Exit> {
    let kept: Option<SocketAddr> = kept.get(name).and_then(|text| text.as_str()).and_then(|text| text.parse().ok());
    let before = kept.filter(|kept| kept.ip() == asked.ip() && (asked.port() == 0 || kept.port() == asked.port()));
    if let Some(before) = before
        && (in_use || TcpListener::bind(before).is_ok())
    {
        return Ok(before);
    }
    let listener = TcpListener::bind(asked).map_err(|error| taken(asked, &error))?;
    listener.local_addr().map_err(surroundings)
}

/// Waits until the control plane answers and a node is connected.
async fn ready(data: &Data, http: SocketAddr) -> Result<Client, Exit> {
    let until = Instant::now() + READY;
    let url = format!("http://{http}");
    loop {
        if let Ok(token) = std::fs::read_to_string(data.token()) {
            let client = Client::new(&url, token.trim(), None);
            if client.get::<serde_json::Value>("/api/v1/whoami").await.is_ok() {
                return Ok(client);
            }
        }
        if Instant::now() > until {
            let words = last_words(&data.logs().join("serve.log"));
            return Err(Exit::new(
                SURROUNDINGS,
                format!("the control plane did not become ready; its last line: {words}"),
            )
            .hint(format!("its whole log is `{}`", data.logs().join("serve.log").display())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A node that outlived a former `up` gives this one copies of its sockets as soon as it has found it.
async fn sockets_kept(store: &FdStore) {
    let until = Instant::now() + HANDED_OVER;
    while store.names().is_empty() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}

/// Where services are served.
fn served(proxy: SocketAddr, up: &Up) -> Vec<String> {
    let tls = up.front.proxy_tls.map(|tls| format!("https://{tls}"));
    std::iter::once(format!("http://{proxy}")).chain(tls).collect()
}

fn announce(global: &Global, data: &Data, http: SocketAddr, served: &[String], pids: &[watch::Receiver<u32>]) {
    let pid = |index: usize| pids.get(index).map_or(0, |pid| *pid.borrow());
    if global.json {
        let line = serde_json::json!({
            "ready": true, "url": format!("http://{http}"), "proxy": served, "data": data.0,
            "token_file": data.token(), "server_pid": pid(0), "node_pid": pid(1), "worker_pid": pid(2),
        });
        offer!("{line}");
        return;
    }
    offer!("{} http://{http}", term::good("slipway is up at"));
    offer!("  services are served on {}", served.join(" and "));
    offer!("  data in {}, first token in {}", data.0.display(), data.token().display());
    offer!();
    offer!("  push a repository; its name makes the project:");
    offer!("    git remote add slipway http://{http}/git/NAME.git");
    offer!("    git push slipway main        (any user name, the token as password)");
    offer!();
    offer!("  Ctrl-C drains and stops everything; the next `slipway up` starts it again");
}

/// Every further line is an event of the log; for people only what they may want to know of.
async fn print_events(json: bool, client: Client) {
    let mut last: Option<u64> = None;
    let mut ticker = Ticker::default();
    loop {
        let after = last.map(|n| format!("?after={n}")).unwrap_or_default();
        let _ = client
            .lines(&format!("/api/v1/events{after}"), |line| {
                if let Some(n) = line.strip_prefix("id: ") {
                    last = n.parse().ok().or(last);
                }
                let data = line.strip_prefix("data: ")?;
                if json {
                    offer!("{data}");
                } else if let Ok(event) = serde_json::from_str::<slipway_model::view::Event>(data)
                    && let Some(line) = fact(&event).and_then(|fact| ticker.take(&fact))
                {
                    offer!("{}", term::line(&printable(&line)));
                }
                None
            })
            .await;
        // The control plane is being started again.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// `slipway down`.
pub async fn down(global: &Global, down: &Down) -> Done {
    // Inside a repository its server is meant, where that was started on this machine.
    let data = Data::find(global.data.clone().or_else(crate::client::data_of_remote));
    if !data.0.join("lock").is_file() {
        return Err(Exit::new(SURROUNDINGS, format!("nothing runs on `{}`", data.0.display()))
            .hint("`--data` names another folder"));
    }
    let text = std::fs::read_to_string(data.0.join("lock")).unwrap_or_default();
    let up: Option<i32> = text.trim().parse().ok();
    let running = lock(&data.0.join("lock"), "slipway up").is_err();
    let signal = if down.services { Signal::INT } else { Signal::TERM };
    if let Some(pid) = up.and_then(rustix::process::Pid::from_raw).filter(|_| running) {
        rustix::process::kill_process(pid, signal).map_err(surroundings)?;
    }
    let names: &[&str] = if down.services { &["node", "worker", "serve"] } else { &["worker", "serve"] };
    let mut stopped = running;
    for name in names {
        if let Some(living) = recorded(&data, name) {
            stopped = true;
            if !running {
                living.signal(signal);
            }
            if tokio::time::timeout(DOWN, living.ended()).await.is_err() {
                let what = format!("{name}, process {}, does not end", living.pid);
                return Err(Exit::new(SURROUNDINGS, what)
                    .hint("its log is in `logs` of the data folder; `kill -9` ends it, instances live on"));
            }
        }
    }
    if !stopped {
        return Err(Exit::new(SURROUNDINGS, format!("nothing runs on `{}`", data.0.display()))
            .hint("`--data` names another folder"));
    }
    println!("{}", if down.services { "stopped, with its services" } else { "control plane stopped; services go on" });
    Ok(())
}
