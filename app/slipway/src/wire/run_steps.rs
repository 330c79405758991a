//! Commands of Dockerfiles in sandboxes, for the builder.
//!
//! In: a command and the folders of its layers. Out: the folder with what it wrote, or how it ended and its last lines.
//! Never: a secret, a file or the loopback of this machine inside; a sandbox that lives on unnoticed: what a dead server
//! left is ended at the next start.

use crate::commands::parts::machine_memory;
use crate::wire::caches::{self, HeldCache};
use slipway_builder::{KeptLayers, Owners, Ran, RunFailure, RunStep, RunsSteps};
use slipway_model::text::{printable, shortened};
use slipway_sandbox::{
    Attached, Bind, Ended, ExitRecord, Kind, Launcher, Level, Limits, Network, Root, SandboxError, Shim, Spec, Step,
    attach, read_log, read_record, remove_folder,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// One command may take so long; then it is ended, and the build fails.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// From the end of a command to its record.
const RECORD_LIMIT: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL.
const KILL_GRACE_MS: u64 = 2_000;
/// A probe that takes longer has found out enough.
const PROBE: Duration = Duration::from_secs(10);
/// Unpacked layers that are kept for the next command.
const LAYERS_BYTES: u64 = 10 << 30;
/// Kept of what a command writes while it runs: its beginning and its end.
const LOG_BYTES: u64 = 1 << 20;
/// Processes and threads of one command.
const PROCESSES: u32 = 4096;
/// Shown of what a failed command wrote.
const LINES_SHOWN: usize = 20;
const LINE_CHARACTERS: usize = 300;
/// The same on every machine, so that nothing can depend on it.
const HOSTNAME: &str = "slipway-build";
/// A shim that is setting up is waited for by each look.
const LOOKS_MAX: u32 = 8;
/// Name of a command's folder, before its number.
const FOLDER: &str = "run-";

/// Runs commands of Dockerfiles on this machine.
pub struct SandboxSteps {
    launcher: Launcher,
    work: PathBuf,
    /// Layers that lie ready.
    pub layers: KeptLayers,
    slots: Arc<Semaphore>,
    ground: OnceLock<Ground>,
    next: AtomicU64,
    running: Mutex<Running>,
    ended: Condvar,
}

/// What the machine allows, as the probe found.
struct Ground {
    refused: Option<String>,
    outbound: Network,
    memory_bytes: Option<u64>,
}

#[derive(Default)]
struct Running {
    /// The server leaves: nothing more is begun.
    leaves: bool,
    /// Commands that are being started or run.
    begun: usize,
    shims: BTreeMap<PathBuf, Arc<Shim>>,
}

impl SandboxSteps {
    /// Runs them as `shim`, with folders below `work`.
    pub fn new(work: PathBuf, shim: PathBuf) -> SandboxSteps {
        let slots = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        SandboxSteps {
            launcher: Launcher::new(shim),
            layers: KeptLayers::new(work.join("layers-unpacked"), LAYERS_BYTES),
            work,
            slots: Arc::new(Semaphore::new(slots)),
            ground: OnceLock::new(),
            next: AtomicU64::new(0),
            running: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// For the commands of one project.
    pub fn of<'a>(&'a self, project: &'a str) -> OfProject<'a> {
        OfProject { steps: self, project }
    }

    /// Ends what runs below this folder, and begins nothing more there that was not begun.
    pub fn end(&self, below: &Path) {
        for (_, shim) in self.running().shims.iter().filter(|(folder, _)| folder.starts_with(below)) {
            let _ = shim.kill(); // who waits for it sees the end
        }
    }

    /// Ends all, for good, and waits until nothing of it is left.
    pub fn leave(&self) {
        let mut running = self.running();
        running.leaves = true;
        for shim in running.shims.values() {
            let _ = shim.kill();
        }
        // One that is just being started sees that it may not run. What is left after the limit is ended by the next server.
        let _ = self.ended.wait_timeout_while(running, RECORD_LIMIT, |running| running.begun > 0);
    }

    /// Whether the server leaves: what was ended then did not fail.
    pub fn leaves(&self) -> bool {
        self.running().leaves
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ground(&self) -> &Ground {
        self.ground.get_or_init(|| {
            let scratch = self.work.join("probe-steps");
            let _ = std::fs::create_dir_all(&scratch); // the probe says what it cannot use
            let probe = self.launcher.probe(&scratch, PROBE);
            let failed = probe.checks.iter().find(|check| !check.ok).and_then(|check| check.cause.clone());
            let limits = probe.checks.iter().any(|check| check.name == "limits" && check.ok);
            Ground {
                refused: (probe.level == Level::Refused).then(|| failed.unwrap_or_default()),
                outbound: probe.outbound.network(),
                memory_bytes: machine_memory().filter(|_| limits).map(|all| all / 4 * 3),
            }
        })
    }

    fn spec(&self, step: &RunStep<'_>, folder: &Path, number: u64, caches: &[HeldCache]) -> Spec {
        let ground = self.ground();
        let root = Root::Layers { lower: step.layers.to_vec() };
        let mut spec = Spec::new(format!("run-{}-{number}", std::process::id()), folder, Kind::Job, root);
        spec.hostname = HOSTNAME.to_owned();
        spec.network = if step.network { ground.outbound } else { Network::None };
        spec.limits = Limits {
            memory_bytes: ground.memory_bytes,
            processes: PROCESSES,
            log_bytes: LOG_BYTES,
            ..Limits::default()
        };
        spec.user = step.user.to_owned();
        for held in caches {
            spec.binds.extend(held.targets.iter().map(|target| Bind {
                source: held.folder.clone(),
                target: PathBuf::from(target),
                read_only: false,
            }));
        }
        spec.kill_grace_ms = KILL_GRACE_MS;
        spec.steps = vec![Step {
            name: shortened(step.name, 100),
            argv: step.arguments.to_vec(),
            env: step.environment.to_vec(),
            cwd: PathBuf::from(step.folder),
            timeout_ms: u64::try_from(LIMIT.as_millis()).ok(),
        }];
        spec
    }

    /// Starts it, and waits for its end.
    fn run_in(&self, spec: &Spec, step: &RunStep<'_>) -> Result<(), RunFailure> {
        let shim = match self.launcher.launch(spec) {
            Ok(shim) => Arc::new(shim),
            Err(error) => return Err(not_started(&spec.dir, error)),
        };
        let may_run = {
            let mut running = self.running();
            running.shims.insert(spec.dir.clone(), shim.clone());
            !running.leaves && !step.stop.load(Ordering::Relaxed)
        };
        if !may_run {
            let _ = shim.kill();
        }
        match shim.wait(LIMIT + RECORD_LIMIT) {
            Ok(Some(record)) => judge(&record, &spec.dir, spec.limits.memory_bytes),
            Ok(None) => {
                let _ = shim.kill();
                Err(machine("it passed its time limit and could not be ended"))
            }
            Err(error) => Err(RunFailure::Machine(Box::new(error))),
        }
    }

    /// Notes that a command is begun, unless the server leaves.
    fn begin(&self, folder: PathBuf) -> Option<Begun<'_>> {
        let mut running = self.running();
        if running.leaves {
            return None;
        }
        running.begun += 1;
        Some(Begun { steps: self, folder })
    }

    fn owners(&self, spec: &Spec) -> Owners {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if user.is_root() {
            let (first, count) = spec.ids.range(&spec.id);
            return Owners { first_user: first, first_group: first, count };
        }
        // What an ordinary user's sandbox wrote is his when it has ended.
        Owners { first_user: user.as_raw(), first_group: group.as_raw(), count: 1 }
    }
}

/// A command that is being started or runs.
struct Begun<'a> {
    steps: &'a SandboxSteps,
    folder: PathBuf,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut running = self.steps.running();
        running.shims.remove(&self.folder);
        running.begun -= 1;
        self.steps.ended.notify_all();
    }
}

/// Runs the commands of one project.
pub struct OfProject<'a> {
    steps: &'a SandboxSteps,
    project: &'a str,
}

impl RunsSteps for OfProject<'_> {
    fn run(&self, step: &RunStep<'_>) -> Result<Ran, RunFailure> {
        let steps = self.steps;
        if let Some(why) = &steps.ground().refused {
            return Err(machine(&format!("this account can make no sandbox: {why}; `slipway doctor` says more")));
        }
        // The caches before the slot: whoever has a slot waits for nobody.
        let place = steps.work.join("run-caches").join(self.project);
        let caches = caches::hold(&place, step.caches).map_err(|error| RunFailure::Machine(Box::new(error)))?;
        let slots = steps.slots.clone();
        let slot = tokio::runtime::Handle::current().block_on(slots.acquire_owned());
        if step.stop.load(Ordering::Relaxed) {
            return Err(RunFailure::Stopped);
        }
        let number = steps.next.fetch_add(1, Ordering::Relaxed);
        let folder = step.scratch.join(format!("{FOLDER}{number}"));
        // Until the folder of one that fails is gone again.
        let Some(_begun) = steps.begin(folder.clone()) else { return Err(RunFailure::Stopped) };
        let folder = RunFolder(folder);
        let spec = steps.spec(step, &folder.0, number, &caches);
        let ran = steps.run_in(&spec, step);
        drop(slot);
        caches.iter().for_each(HeldCache::limit);
        match ran {
            Ok(()) => {
                let upper = folder.0.join("root/upper");
                Ok(Ran { upper, owners: steps.owners(&spec), guard: Box::new(folder) })
            }
            Err(_) if step.stop.load(Ordering::Relaxed) || steps.leaves() => Err(RunFailure::Stopped),
            Err(failure) => Err(failure),
        }
    }
}

/// The folder of one command, gone when nobody needs it.
struct RunFolder(PathBuf);

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = remove_folder(&self.0); // what stays goes with the build's folder, or at the next start
    }
}

fn machine(why: &str) -> RunFailure {
    RunFailure::Machine(Box::from(why))
}

/// A program or user that the image does not have is the Dockerfile's fault, all else the machine's.
fn not_started(folder: &Path, error: SandboxError) -> RunFailure {
    let record = read_record(folder).ok().flatten();
    let ended = record.as_ref().and_then(ExitRecord::last_step).map(|step| step.ended.clone());
    if let Some(Ended::NotStarted(failure)) = ended {
        return never_ran(&failure.what, &failure.cause);
    }
    match &error {
        SandboxError::Failed { what, source } if what.starts_with("user `") => never_ran(what, &source.to_string()),
        _ => RunFailure::Machine(Box::new(error)),
    }
}

fn never_ran(what: &str, cause: &str) -> RunFailure {
    RunFailure::Failed { why: printable(&format!("could not be started: {what}: {cause}")), output: Vec::new() }
}

fn failed(why: String, folder: &Path) -> RunFailure {
    let lines = read_log(folder).unwrap_or_default();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    let output = lines[from..].iter().map(|line| shortened(&line.text, LINE_CHARACTERS)).collect();
    RunFailure::Failed { why: printable(&why), output }
}

fn judge(record: &ExitRecord, folder: &Path, memory_bytes: Option<u64>) -> Result<(), RunFailure> {
    let Some(step) = record.last_step() else { return Err(machine("its record is empty")) };
    let why = match &step.ended {
        Ended::Exited { code: 0 } => return Ok(()),
        Ended::Exited { code } => format!("exited with {code}"),
        Ended::Signalled { signal } => format!("was ended by signal {signal}"),
        Ended::TimedOut => format!("was ended at its time limit of {} min", LIMIT.as_secs() / 60),
        Ended::OutOfMemory => match memory_bytes {
            Some(bytes) => format!("ran out of memory, of which it may have {} MiB", bytes >> 20),
            None => "ran out of memory".to_owned(),
        },
        Ended::NotStarted(failure) => return Err(never_ran(&failure.what, &failure.cause)),
        Ended::Stopped { .. } => return Err(machine("it was ended from outside")),
    };
    Err(failed(why, folder))
}

/// Ends the commands of builds that a server left behind which was killed, and removes the folders of those builds.
pub fn end_left_over(builds: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let listing = std::fs::read_dir(folder).map(|listing| listing.flatten().map(|entry| entry.path()).collect());
        listing.unwrap_or_default()
    };
    for folder in below(builds).iter().flat_map(|build| below(build)) {
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOLDER)) {
            end_one(&folder);
        }
    }
    match remove_folder(builds) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Box::new(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn end_one(folder: &Path) {
    for _ in 0..LOOKS_MAX {
        match attach(folder) {
            Ok(Attached::Running(shim)) => {
                let _ = shim.kill();
                let _ = shim.wait(RECORD_LIMIT);
                return;
            }
            Ok(Attached::Ended(_)) => return,
            Ok(Attached::Lost { .. }) | Err(_) => {}
        }
        // A shim that is just setting up holds the folder, but has no socket yet; looking again waits for it.
        if File::open(folder).is_ok_and(|folder| folder.try_lock().is_ok()) {
            return;
        }
    }
}
