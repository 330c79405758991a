//! The product, started as a user would: `slipway up --json`.
//!
//! In: a folder for its data. Out: its addresses, token, processes and events as they come. Never: reaches into its
//! data otherwise.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use slipway_model::At;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The binary to measure instead of a release build, for trying a benchmark out.
const BINARY: &str = "SLIPWAY_BENCH_BINARY";
/// It stops everything it runs within this time.
const STOP: Duration = Duration::from_secs(60);

/// The `slipway` to measure: a release build of this tree, made now when it is not up to date.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY) {
        crate::note(&format!("measures `{}`, which may not be a release build", named.display()));
        return Ok(named.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no workspace")?;
    let built = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package", "slipway"])
        .status()
        .context("`cargo build` cannot be started")?;
    ensure!(built.success(), "`slipway` cannot be built");
    let beside = std::env::current_exe()?.with_file_name("slipway");
    ensure!(beside.exists(), "`{}` is not there after building it", beside.display());
    Ok(beside)
}

/// Something that happened, as the event stream shows it.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What kind.
    pub kind: String,
    /// On what.
    pub subject: String,
    /// The rest.
    pub data: Value,
}

impl Event {
    fn read(line: &str) -> Option<Event> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let at = At::parse(&text("at")?)?;
        Some(Event { at_ms: at.0, kind: text("kind")?, subject: text("subject")?, data: value["data"].clone() })
    }

    /// The phase, of a rollout that moved on.
    #[must_use]
    pub fn phase(&self) -> Option<&str> {
        (self.kind == "rollout.phase").then(|| self.data["phase"].as_str()).flatten()
    }
}

/// A running Slipway; stopped with everything it runs when dropped.
#[derive(Debug)]
pub struct Slipway {
    /// `http://127.0.0.1:8400`.
    pub url: String,
    /// The folder of its data.
    pub data: PathBuf,
    /// Its first token.
    pub token: String,
    /// `up`, `serve`, `node` and `worker`.
    pub processes: Vec<(&'static str, u32)>,
    /// The program.
    pub binary: PathBuf,
    up: Child,
    events: Receiver<Event>,
}

impl Slipway {
    /// Starts it on free ports.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(binary: &Path, data: &Path) -> Result<Slipway> {
        let mut up = Command::new(binary)
            .args(["up", "--json", "--http", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("`{}` cannot be started", binary.display()))?;
        let mut lines = BufReader::new(up.stdout.take().context("no output of `up`")?).lines();
        let Some(Ok(first)) = lines.next() else {
            let _ = up.kill();
            bail!("`slipway up` did not become ready; `slipway doctor` says what this machine lacks");
        };
        let ready: Value = serde_json::from_str(&first).context("`up --json` did not answer JSON")?;
        let text = |key: &str| ready[key].as_str().with_context(|| format!("`up` says no `{key}`"));
        let pid = |key: &str| ready[key].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let mut processes = vec![("up", up.id())];
        for (name, key) in [("serve", "server_pid"), ("node", "node_pid"), ("worker", "worker_pid")] {
            processes.push((name, pid(key).with_context(|| format!("`up` says no `{key}`"))?));
        }
        let (told, events) = channel();
        let token = std::fs::read_to_string(text("token_file")?)?.trim().to_owned();
        let (url, data) = (text("url")?.to_owned(), data.to_owned());
        std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| Event::read(&line)) {
                let _ = told.send(event);
            }
        });
        Ok(Slipway { url, data, token, processes, binary: binary.to_owned(), up, events })
    }

    /// Waits for the first event of which `wanted` makes something; those before it are gone.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        let until = Instant::now() + limit;
        let mut last = String::from("nothing");
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => match wanted(&event) {
                    Some(found) => return Ok(found),
                    None => last = format!("{} {} {}", event.kind, event.subject, event.phase().unwrap_or_default()),
                },
                Err(RecvTimeoutError::Timeout) => bail!("{what} did not happen in {limit:?}; last was {last}"),
                Err(RecvTimeoutError::Disconnected) => bail!("`slipway up` ended before {what}"),
            }
        }
    }

    /// Waits until a rollout is over; all its events, or an error when it did not end in `phase`.
    ///
    /// # Errors
    /// When it takes too long or ends otherwise.
    pub fn rollout(&self, phase: &str, limit: Duration) -> Result<Vec<Event>> {
        let mut seen = Vec::new();
        let ended = self.wait("the end of a rollout", limit, |event| {
            seen.push(event.clone());
            let ends = ["succeeded", "rolled-back", "needs-human", "dropped"];
            event.phase().filter(|phase| ends.contains(phase)).map(str::to_owned)
        })?;
        let reason = seen.last().map(|event| event.data["reason"].to_string()).unwrap_or_default();
        ensure!(ended == phase, "the rollout ended as {ended}, not as {phase}: {reason}");
        Ok(seen)
    }

    /// What a command line prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, project: &str, arguments: &[&str]) -> Result<String> {
        let answer = Command::new(&self.binary)
            .args(arguments)
            .args(["--project", project, "--data"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.success(), "`slipway {}`: {}", arguments.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// The address of a service's own port, as `127.0.0.1:31234`.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, project: &str, service: &str) -> Result<String> {
        let status: Value = serde_json::from_str(&self.ask(project, &["status", "--json"])?)?;
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let services = list(&status, "environments").into_iter().flat_map(|one| list(&one, "services"));
        let addresses = services.filter(|lane| lane["name"] == service).flat_map(|lane| list(&lane, "addresses"));
        let own =
            addresses.filter_map(|address| address.as_str()?.strip_prefix("http://127.0.0.1:").map(str::to_owned));
        let port = own.map(|port| port.trim_end_matches('/').to_owned()).next();
        port.map(|port| format!("127.0.0.1:{port}")).with_context(|| format!("`{service}` has no address in {status}"))
    }
}

impl Drop for Slipway {
    fn drop(&mut self) {
        let pid = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::INT);
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            if !matches!(self.up.try_wait(), Ok(None)) {
                return;
            }
            crate::pause(Duration::from_millis(20));
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}
