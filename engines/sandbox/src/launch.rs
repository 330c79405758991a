//! Starts shims and finds them again. In: specs, state folders. Out: handles of living shims, records of ended ones.
//! Safe in a process with threads: it never forks by itself, it only spawns.

use crate::client::Shim;
use crate::error::SandboxError;
use crate::record::{ExitRecord, read_record};
use crate::shim::{Report, ShimState, Way};
use crate::spec::Spec;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From the spawn to the first step's exec.
const LAUNCH_LIMIT: Duration = Duration::from_secs(35);
/// A shim that was told to end, or has closed its socket.
const ENDING_LIMIT: Duration = Duration::from_secs(10);
/// A report is small.
const REPORT_BYTES_MAX: usize = 256 * 1024;

/// Knows which program becomes the shim.
#[derive(Debug, Clone)]
pub struct Launcher {
    exe: PathBuf,
    word: String,
    /// A shim that waits for its spec, where one is kept. It ends by itself when this process does.
    ready: Option<Arc<Mutex<Option<Waiting>>>>,
}

/// A shim that has begun and waits for its spec.
#[derive(Debug)]
struct Waiting {
    input: ChildStdin,
    output: ChildStdout,
}

impl Launcher {
    /// A program whose `main` calls [`crate::shim_main`] when its first argument is `shim`.
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        Self { exe: exe.into(), word: "shim".to_owned(), ready: None }
    }

    /// Keeps one shim begun for the next launch, which is two milliseconds faster then, for the memory of one shim.
    #[must_use]
    pub fn keeping_one_ready(self) -> Self {
        Self { ready: Some(Arc::default()), ..self }
    }

    /// This program itself, even if its file was replaced meanwhile.
    pub fn this_program() -> Self {
        Self::new("/proc/self/exe")
    }

    /// Starts a run. Returns when its first step was exec'ed. The run lives on when the caller dies.
    ///
    /// Blocks for a few milliseconds: from async code call it on a blocking thread.
    pub fn launch(&self, spec: &Spec) -> Result<Shim, SandboxError> {
        self.launch_within(spec, LAUNCH_LIMIT)
    }

    /// As [`Launcher::launch`], with a limit of its own.
    pub(crate) fn launch_within(&self, spec: &Spec, limit: Duration) -> Result<Shim, SandboxError> {
        spec.check()?;
        match self.spawn(spec, limit)? {
            Report::Ready(setup) => Shim::new(&spec.dir, &spec.id, setup),
            Report::Failed(failure) => Err(failure.into()),
        }
    }

    fn spawn(&self, spec: &Spec, limit: Duration) -> Result<Report, SandboxError> {
        let way = Way::for_network(spec.network);
        let failed = |e| SandboxError::io(format!("start of the shim of `{}`", spec.id), e);
        let mut bytes = serde_json::to_vec(spec).map_err(|e| failed(e.into()))?;
        let taken = self.ready.as_ref().filter(|_| way == Way::Own).and_then(|ready| lock(ready).take());
        // One that was killed while it waited takes no spec, so nothing of the run was started.
        let told = taken.and_then(|waiting| waiting.tell(&bytes).ok());
        let output = match told {
            Some(output) => Ok(output),
            None => self.begin(way).and_then(|waiting| waiting.tell(&bytes)),
        };
        bytes.fill(0);
        let report = read_report(output.map_err(failed)?, &spec.id, limit);
        if way == Way::Own {
            self.make_ready();
        }
        report
    }

    /// Begins a shim. What was spawned forks it and ends at once, and is collected here.
    fn begin(&self, way: Way) -> io::Result<Waiting> {
        let mut child = self
            .command(way.word())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let forked = child.wait()?;
        match pipes.filter(|_| forked.success()) {
            Some((input, output)) => Ok(Waiting { input, output }),
            None => Err(io::Error::other(format!("it could not fork: {forked}"))),
        }
    }

    /// Begins the next one beside; without it the next launch begins one itself.
    fn make_ready(&self) {
        let Some(ready) = self.ready.clone() else { return };
        let launcher = self.clone();
        std::thread::spawn(move || {
            if let Ok(waiting) = launcher.begin(Way::Own) {
                lock(&ready).get_or_insert(waiting);
            }
        });
    }

    pub(crate) fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg(&self.word).arg(what).env_clear();
        command
    }
}

impl Waiting {
    /// Hands the spec over; the report comes from what is returned.
    fn tell(mut self, spec: &[u8]) -> io::Result<ChildStdout> {
        self.input.write_all(spec)?;
        Ok(self.output)
    }
}

fn lock(ready: &Mutex<Option<Waiting>>) -> MutexGuard<'_, Option<Waiting>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_report(mut output: ChildStdout, id: &str, limit: Duration) -> Result<Report, SandboxError> {
    let what = || format!("start of the shim of `{id}`");
    let until = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !crate::wire::readable_within(&output, left).map_err(|e| SandboxError::io(what(), e))? {
            return Err(SandboxError::Timeout { what: what(), limit_ms: limit.as_millis() as u64 });
        }
        match output.read(&mut buffer).map_err(|e| SandboxError::io(what(), e))? {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
        if bytes.len() > REPORT_BYTES_MAX {
            break;
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| SandboxError::Failed {
        what: what(),
        source: crate::error::Cause("it ended without a report".to_owned()),
    })
}

/// What attaching finds.
#[derive(Debug)]
pub enum Attached {
    /// The run goes on.
    Running(Shim),
    /// It ended; this is how.
    Ended(ExitRecord),
    /// Its shim was killed, and everything inside with it; no exit status exists.
    Lost {
        /// What the shim said if it ended by a bug.
        panic: Option<String>,
    },
}

/// Finds a run again by its state folder.
pub fn attach(dir: &Path) -> Result<Attached, SandboxError> {
    // The record is looked for on both sides of connecting: a run may end in between.
    if let Some(record) = read_record(dir)? {
        return Ok(Attached::Ended(record));
    }
    match Shim::connect_to(dir) {
        Ok(shim) => Ok(Attached::Running(shim)),
        Err(SandboxError::Gone { .. }) => match ended_record(dir)? {
            Some(record) => Ok(Attached::Ended(record)),
            None => {
                if let Some(state) = ShimState::read(dir) {
                    crate::cgroup::remove_folders(&state.cgroups);
                }
                Ok(Attached::Lost { panic: std::fs::read_to_string(dir.join("panic")).ok() })
            }
        },
        Err(e) => Err(e),
    }
}

/// The record of a shim that no longer answers. It holds a lock on its folder while it lives, and writes the record before it ends.
pub(crate) fn ended_record(dir: &Path) -> Result<Option<ExitRecord>, SandboxError> {
    use rustix::fs::{FlockOperation, flock};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    if let Some(record) = read_record(dir)? {
        return Ok(Some(record));
    }
    let Ok(folder) = std::fs::File::open(dir) else { return Ok(None) };
    if flock(&folder, FlockOperation::NonBlockingLockShared).is_err() {
        // It is about to end. While the lock is held, the pid is still its own.
        let pid = ShimState::read(dir).and_then(|state| Pid::from_raw(state.shim_pid as i32));
        if let Some(shim) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            let _ = crate::wire::readable_within(shim, ENDING_LIMIT);
        }
    }
    read_record(dir)
}

/// Removes the state folder of an ended run. The record, the log and every writable layer go with it.
pub fn release(dir: &Path) -> Result<(), SandboxError> {
    match crate::settle::remove_folder(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::io(format!("removing of state folder `{}`", dir.display()), e))
        }
        _ => Ok(()),
    }
}
