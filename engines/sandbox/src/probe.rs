//! What this machine allows, tried for real. In: a scratch folder, a limit. Out: a level, and a check with proof or cause and remedy for each part.
//! Never says that something works which it has not seen work.

use crate::error::{Failure, SandboxError};
use crate::launch::Launcher;
use crate::shim::Setup;
use crate::spec::{Kind, Limits, Network, Root, Spec, Stack, Step, Workspace};
use crate::standing::IDS_UNUSED;
use crate::subordinate;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Everything.
    Root,
    /// An ordinary user with subordinate ids: users inside are users of their own.
    SubordinateIds,
    /// An ordinary user with one id: everything inside runs as root of the sandbox.
    SingleId,
    /// No sandbox.
    Refused,
}

impl Level {
    /// For people and scripts: `subordinate-ids`.
    pub fn word(self) -> &'static str {
        match self {
            Level::Root => "root",
            Level::SubordinateIds => "subordinate-ids",
            Level::SingleId => "single-id",
            Level::Refused => "refused",
        }
    }
}

/// How a sandbox reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outbound {
    /// Its own address, translated.
    Nat,
    /// Its own network, and `pasta` speaks for it.
    Pasta,
    /// Its own network, and `slirp4netns` speaks for it.
    Slirp4netns,
    /// Only by sharing the host's network, without isolation.
    #[serde(rename = "shared-network")]
    Shared,
}

impl Outbound {
    /// The network of a run that may reach the world.
    pub fn network(self) -> Network {
        match self {
            Outbound::Nat => Network::Outbound,
            Outbound::Pasta => Network::UserMode(Stack::Pasta),
            Outbound::Slirp4netns => Network::UserMode(Stack::Slirp4netns),
            Outbound::Shared => Network::Host,
        }
    }

    /// For people and scripts: `shared-network`.
    pub fn word(self) -> &'static str {
        match self {
            Outbound::Nat => "nat",
            Outbound::Pasta => Stack::Pasta.program(),
            Outbound::Slirp4netns => Stack::Slirp4netns.program(),
            Outbound::Shared => "shared-network",
        }
    }
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
    /// What to do for the next level; nothing at the highest.
    pub next: Option<String>,
}

impl Probe {
    /// Whether a part works.
    pub fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && check.ok)
    }
}

impl Launcher {
    /// Tries only whether a sandbox can be made, and at which level.
    pub fn probe_sandbox(&self, scratch: &Path, limit: Duration) -> Probe {
        let probing = Probing { launcher: self, scratch, until: Instant::now() + limit };
        let mut checks = Vec::new();
        let level = probing.sandbox(&mut checks);
        Probe { level, checks, outbound: Outbound::Shared, next: next(level) }
    }

    /// Tries it. `scratch` must lie on the file system that runs will use; folders made in it are removed.
    pub fn probe(&self, scratch: &Path, limit: Duration) -> Probe {
        let probing = Probing { launcher: self, scratch, until: Instant::now() + limit };
        let mut checks = Vec::new();
        let level = probing.sandbox(&mut checks);
        let mut outbound = Outbound::Shared;
        if level != Level::Refused {
            probing.limits(&mut checks);
            outbound = probing.outbound(level, &mut checks);
        }
        Probe { level, checks, outbound, next: next(level) }
    }
}

/// A remedy that a person can carry out.
fn next(level: Level) -> Option<String> {
    match level {
        Level::Root => None,
        Level::SubordinateIds => Some(
            "run `slipway up` as root: files of images keep their owners, limits hold everywhere, \
             and the network needs no program beside"
                .to_owned(),
        ),
        Level::SingleId => {
            Some("give this account subordinate ids, as said above: images with another USER run then".to_owned())
        }
        Level::Refused => None,
    }
}

fn give_ids() -> String {
    let name = subordinate::own_name();
    format!(
        "as root: `apt-get install uidmap`, then \
         `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}` (ids that no other account has)"
    )
}

struct Probing<'a> {
    launcher: &'a Launcher,
    scratch: &'a Path,
    until: Instant,
}

impl Probing<'_> {
    /// A step with a writable copy of a folder: namespaces, ids, `/proc`, overlay.
    fn sandbox(&self, checks: &mut Vec<Check>) -> Level {
        const NAME: &str = "sandbox";
        let begun = Instant::now();
        let setup = match self.run("probe-sandbox", Network::None, Limits::default()) {
            Ok(setup) => setup,
            Err(e) => {
                checks.push(Check::fails(NAME, whole(&e), &refusal(&whole(&e))));
                return Level::Refused;
            }
        };
        let text = format!("a step ran in namespaces of its own, start to end {} ms", begun.elapsed().as_millis());
        checks.push(Check::works(NAME, text));
        match (setup.level, subordinate::own()) {
            (Level::SubordinateIds, Ok(ranges)) => {
                let text = format!("{} beside this account's own, by newuidmap and newgidmap", ranges.count);
                checks.push(Check::works("subordinate ids", text));
            }
            (Level::SingleId, Err(why)) => checks.push(Check::fails("subordinate ids", why, &give_ids())),
            _ => {}
        }
        let (unused, others): (Vec<String>, Vec<String>) =
            setup.notes.into_iter().partition(|note| note.starts_with(IDS_UNUSED));
        for note in unused {
            let why = note.trim_start_matches(IDS_UNUSED);
            let remedy = "as root: see that `newuidmap` and `newgidmap` (package `uidmap`) may map what `/etc/subuid` and `/etc/subgid` give to this account";
            checks.push(Check::fails("subordinate ids", why, remedy));
        }
        for note in others {
            checks.push(Check::fails(
                "full strength",
                note,
                "the guide, \"Your own server\", says what is weaker then",
            ));
        }
        setup.level
    }

    fn limits(&self, checks: &mut Vec<Check>) {
        const NAME: &str = "limits";
        let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500), ..Limits::default() };
        let missing: Vec<String> = match self.run("probe-limits", Network::None, limits) {
            Ok(setup) => setup.notes.into_iter().filter(|note| note.contains(" not limited to ")).collect(),
            Err(e) => {
                let remedy = "make the cgroup controllers memory, cpu and pids writable";
                return checks.push(Check::fails(NAME, whole(&e), remedy));
            }
        };
        let Some(first) = missing.first() else {
            return checks.push(Check::works(NAME, "memory, cpu and process limits were set"));
        };
        let why = first.split_once(": ").map_or(first.as_str(), |(_, why)| why);
        let what: Vec<&str> = missing.iter().filter_map(|note| note.split(' ').next()).collect();
        let cause =
            format!("{} cannot be limited: {why}; processes, open files and file sizes are", what.join(" and "));
        let remedy = "start it in a group that this account was given: as a unit of `systemctl --user`, or `systemd-run --user --scope -p Delegate=yes slipway up`";
        checks.push(Check::fails(NAME, cause, remedy));
    }

    fn outbound(&self, level: Level, checks: &mut Vec<Check>) -> Outbound {
        const NAME: &str = "outbound network";
        if level == Level::Root {
            let tried = self.run("probe-outbound", Network::Outbound, Limits::default());
            let remedy = "load the kernel's veth and nf_tables (nft_masq); until then only a shared network leads out";
            return match tried {
                Ok(_) => {
                    checks.push(Check::works(NAME, "a link with address translation was made"));
                    Outbound::Nat
                }
                Err(e) => {
                    checks.push(Check::fails(NAME, whole(&e), remedy));
                    Outbound::Shared
                }
            };
        }
        let mut causes = Vec::new();
        for (stack, found) in [(Stack::Pasta, Outbound::Pasta), (Stack::Slirp4netns, Outbound::Slirp4netns)] {
            let name = stack.program();
            if stack.found().is_none() {
                causes.push(format!("`{name}` is not installed"));
                continue;
            }
            match self.run(&format!("probe-{name}"), found.network(), Limits::default()) {
                Ok(_) => {
                    checks.push(Check::works(NAME, format!("`{name}` made a network with a way out")));
                    return found;
                }
                Err(e) => causes.push(whole(&e).trim_start_matches("outbound network: ").to_owned()),
            }
        }
        causes.dedup();
        let remedy = "as root: `apt-get install passt`, and let this account open `/dev/net/tun`; until then jobs with `network: on` share this machine's network, without isolation";
        checks.push(Check::fails(NAME, causes.join("; "), remedy));
        Outbound::Shared
    }

    fn run(&self, id: &str, network: Network, limits: Limits) -> Result<Setup, SandboxError> {
        if Instant::now() >= self.until {
            return Err(Failure::new(format!("`{id}` was not tried"), "the time for all of this was up").into());
        }
        let dir = self.scratch.join(format!("{id}-{}", std::process::id()));
        let lower = dir.with_extension("lower");
        let result = std::fs::create_dir_all(&lower)
            .and_then(|()| std::fs::write(lower.join("file"), "x"))
            .map_err(|e| SandboxError::io(format!("making of `{}`", lower.display()), e))
            .and_then(|()| self.run_to_end(&probe_spec(id, &dir, &lower, network, limits)));
        for folder in [&dir, &lower] {
            let _ = self.launcher.remove(folder);
        }
        result
    }

    fn run_to_end(&self, spec: &Spec) -> Result<Setup, SandboxError> {
        let left = || self.until.saturating_duration_since(Instant::now());
        let shim = self.launcher.launch_within(spec, left())?;
        let left = left();
        let timeout = || SandboxError::Timeout { what: format!("`{}`", spec.id), limit_ms: left.as_millis() as u64 };
        let Some(record) = shim.wait(left)? else {
            shim.kill()?;
            return Err(timeout());
        };
        if !record.succeeded() {
            let how = record.last_step().map(|step| format!("{:?}", step.ended)).unwrap_or_default();
            return Err(SandboxError::Spec(format!("the probe's step did not succeed: {how}")));
        }
        shim.setup().cloned().ok_or_else(timeout)
    }
}

fn probe_spec(id: &str, dir: &Path, lower: &Path, network: Network, limits: Limits) -> Spec {
    const WORKSPACE: &str = "/workspace";
    let mut spec = Spec::new(id, dir, Kind::Job, Root::HostTools { tools: Vec::new(), caches: Vec::new() });
    spec.network = network;
    spec.limits = limits;
    spec.workspace = Some(Workspace { lower: lower.to_owned(), target: WORKSPACE.into() });
    spec.steps = vec![Step::new("probe", &["/bin/sh", "-c", "cat file >copy && rm file && test ! -e file"])];
    spec.steps[0].cwd = WORKSPACE.into();
    spec
}

/// What can be done where there is no sandbox at all, by what the kernel refused.
fn refusal(why: &str) -> String {
    let is_root = rustix::process::geteuid().is_root();
    let in_container = Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
    match (in_container && why.contains("not permitted"), is_root) {
        (true, _) => "this container allows no namespaces or mounts: run Slipway on the machine itself, \
                      or in a container with `--privileged`"
            .to_owned(),
        (false, true) => {
            "run on the machine itself or in a privileged container, with a kernel of 5.12 or newer and overlayfs"
                .to_owned()
        }
        (false, false)
            if why.contains("user namespace") || why.contains("id mapping") || why.contains("namespaces") =>
        {
            "let accounts make user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns), or run as root"
                .to_owned()
        }
        (false, false) => "run as root, with a kernel of 5.14 or newer and overlayfs".to_owned(),
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
