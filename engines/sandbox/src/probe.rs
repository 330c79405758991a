//! What this machine allows, tried for real. In: a scratch folder, a limit. Out: a level, and a check with proof or cause and remedy for each part.
//! Never says that something works which it has not seen work.

use crate::error::SandboxError;
use crate::launch::Launcher;
use crate::spec::{Kind, Limits, Network, Root, Spec, Step};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Everything.
    Root,
    /// An ordinary user with subordinate ids; not yet supported.
    SubordinateIds,
    /// An ordinary user with one id; not yet supported.
    SingleId,
    /// No sandbox.
    Refused,
}

/// How a sandbox reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outbound {
    /// Its own address, translated.
    Nat,
    /// Only by sharing the host's network, without isolation.
    Shared,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// What was seen.
    pub proof: Option<String>,
    /// Why it does not work.
    pub cause: Option<String>,
    /// What a person can do.
    pub remedy: Option<String>,
}

impl Check {
    fn works(name: &str, proof: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, proof: Some(proof.into()), cause: None, remedy: None }
    }

    fn fails(name: &str, cause: impl Into<String>, remedy: &str) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            proof: None,
            cause: Some(cause.into()),
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The level.
    pub level: Level,
    /// Each part.
    pub checks: Vec<Check>,
    /// The way out.
    pub outbound: Outbound,
}

impl Launcher {
    /// Tries it. `scratch` must lie on the file system that runs will use; folders made in it are removed.
    pub fn probe(&self, scratch: &Path, limit: Duration) -> Probe {
        let until = Instant::now() + limit;
        if !rustix::process::geteuid().is_root() {
            return self.probe_as_user();
        }
        let mut checks = Vec::new();
        let works = self.try_sandbox(scratch, until, &mut checks);
        self.try_limits(scratch, until, &mut checks);
        let outbound = self.try_outbound(scratch, until, &mut checks);
        Probe { level: if works { Level::Root } else { Level::Refused }, checks, outbound }
    }

    fn probe_as_user(&self) -> Probe {
        let status = self.command("probe-user-namespace").status();
        let (level, check) = match status {
            Ok(status) if status.success() => {
                let name = std::env::var("USER").unwrap_or_default();
                let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
                let has_range = !name.is_empty() && ranges.lines().any(|line| line.split(':').next() == Some(&name));
                let level = if has_range { Level::SubordinateIds } else { Level::SingleId };
                (level, Check::works("user namespace", "one was made"))
            }
            Ok(_) => {
                let remedy = "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run as root";
                (Level::Refused, Check::fails("user namespace", "the kernel refused to make one", remedy))
            }
            Err(e) => (
                Level::Refused,
                Check::fails("user namespace", e.to_string(), "check that the program can start itself"),
            ),
        };
        let root = Check::fails(
            "root",
            "this process is an ordinary user's",
            "run as root: other levels are not yet supported",
        );
        Probe { level, checks: vec![check, root], outbound: Outbound::Shared }
    }

    fn try_sandbox(&self, scratch: &Path, until: Instant, checks: &mut Vec<Check>) -> bool {
        const NAME: &str = "sandbox";
        let begun = Instant::now();
        match self.run_probe(scratch, "probe-sandbox", Network::None, Limits::default(), until) {
            Ok(notes) => {
                let text =
                    format!("a step ran in namespaces of its own, start to end {} ms", begun.elapsed().as_millis());
                checks.push(Check::works(NAME, text));
                for note in notes {
                    checks.push(Check::fails("full strength", note, "see the user guide, chapter sandbox"));
                }
                true
            }
            Err(e) => {
                let remedy = "run on the machine itself or in a privileged container, with a kernel of 5.12 or newer and overlayfs";
                checks.push(Check::fails(NAME, whole(&e), remedy));
                false
            }
        }
    }

    fn try_limits(&self, scratch: &Path, until: Instant, checks: &mut Vec<Check>) {
        const NAME: &str = "limits";
        let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500), ..Limits::default() };
        match self.run_probe(scratch, "probe-limits", Network::None, limits, until) {
            Ok(_) => checks.push(Check::works(NAME, "memory, cpu and process limits were set")),
            Err(e) => {
                checks.push(Check::fails(NAME, whole(&e), "make the cgroup controllers memory, cpu and pids writable"))
            }
        }
    }

    fn try_outbound(&self, scratch: &Path, until: Instant, checks: &mut Vec<Check>) -> Outbound {
        const NAME: &str = "outbound network";
        match self.run_probe(scratch, "probe-outbound", Network::Outbound, Limits::default(), until) {
            Ok(_) => {
                checks.push(Check::works(NAME, "a link with address translation was made"));
                Outbound::Nat
            }
            Err(e) => {
                let remedy =
                    "load the kernel's veth and nf_tables (nft_masq); until then only a shared network leads out";
                checks.push(Check::fails(NAME, whole(&e), remedy));
                Outbound::Shared
            }
        }
    }

    fn run_probe(
        &self,
        scratch: &Path,
        id: &str,
        network: Network,
        limits: Limits,
        until: Instant,
    ) -> Result<Vec<String>, SandboxError> {
        let dir = scratch.join(format!("{id}-{}", std::process::id()));
        let root = Root::HostTools { tools: Vec::new(), caches: Vec::new() };
        let mut spec = Spec::new(id, &dir, Kind::Job, root);
        spec.network = network;
        spec.limits = limits;
        spec.steps = vec![Step::new("probe", &["/bin/sh", "-c", "exit 0"])];
        let result = self.run_to_end(&spec, until);
        let _ = crate::launch::release(&dir);
        result
    }

    fn run_to_end(&self, spec: &Spec, until: Instant) -> Result<Vec<String>, SandboxError> {
        let shim = self.launch(spec)?;
        let left = until.saturating_duration_since(Instant::now());
        let timeout = || SandboxError::Timeout { what: format!("`{}`", spec.id), limit_ms: left.as_millis() as u64 };
        let Some(record) = shim.wait(left)? else {
            shim.kill()?;
            return Err(timeout());
        };
        if !record.succeeded() {
            let how = record.last_step().map(|step| format!("{:?}", step.ended)).unwrap_or_default();
            return Err(SandboxError::Spec(format!("the probe's step did not succeed: {how}")));
        }
        Ok(shim.setup().map(|setup| setup.notes.clone()).unwrap_or_default())
    }
}

/// An error with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
