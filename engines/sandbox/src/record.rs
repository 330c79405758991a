//! How a run ended, and how it stands. In: what the shim saw. Out: `DIR/exit.json`, written once, atomically, with fsync.
//! Never holds arguments, environment or secrets; the last line is masked like the log it comes from.

use crate::error::{Failure, SandboxError};
use crate::spec::Kind;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Version of the record.
pub const RECORD_VERSION: u32 = 1;
/// File name of the record in the state folder.
pub const RECORD_FILE: &str = "exit.json";
const RECORD_NEW: &str = "exit.new";
/// Room that is taken at the start, so that a full disk cannot lose the record.
const RECORD_RESERVE_BYTES: u64 = 16 * 1024;
/// A last line is cut to this.
pub const LAST_LINE_BYTES_MAX: usize = 1024;

/// The record of an ended run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version.
    pub v: u32,
    /// The run.
    pub id: String,
    /// Instance or job.
    pub kind: Kind,
    /// Start of the first step, milliseconds since the epoch.
    pub started_ms: u64,
    /// When nothing of it was left.
    pub ended_ms: u64,
    /// One per step that was begun.
    pub steps: Vec<StepRecord>,
    /// What the log holds.
    pub log: LogRecord,
}

impl ExitRecord {
    /// Whether every step that was begun exited with 0.
    pub fn succeeded(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.ended == Ended::Exited { code: 0 })
    }

    /// The step that decided how it ended.
    pub fn last_step(&self) -> Option<&StepRecord> {
        self.steps.last()
    }
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// How.
    pub ended: Ended,
    /// Start, milliseconds since the epoch.
    pub started_ms: u64,
    /// End.
    pub ended_ms: u64,
    /// What it used.
    pub usage: Usage,
    /// Its last line that was not empty, masked, at most 1 KiB.
    pub last_line: String,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// By itself.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// By a signal that nobody here sent.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// It passed its time limit and was stopped.
    TimedOut,
    /// The kernel killed a process of it at the memory limit, and it failed.
    OutOfMemory,
    /// It was asked to stop.
    Stopped {
        /// Exit code, when it exited.
        code: Option<i32>,
        /// Signal, when one ended it.
        signal: Option<i32>,
    },
    /// Its program could not be started.
    NotStarted(Failure),
}

/// What a step used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu_ms: u64,
    /// Most memory at one time (0: no memory controller).
    pub memory_peak_bytes: u64,
    /// Read from block devices by processes that ended in it.
    pub read_bytes: u64,
    /// Written to block devices by processes that ended in it.
    pub written_bytes: u64,
}

/// What the log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Lines logged, dropped ones included.
    pub lines: u64,
    /// Bytes logged, dropped ones included.
    pub bytes: u64,
    /// Lines no longer on disk.
    pub dropped_lines: u64,
    /// Bytes no longer on disk.
    pub dropped_bytes: u64,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The run.
    pub id: String,
    /// Instance or job.
    pub kind: Kind,
    /// The shim's pid on the host.
    pub shim_pid: u32,
    /// Pid on the host of the sandbox's first process.
    pub init_pid: u32,
    /// Start of the first step, milliseconds since the epoch.
    pub started_ms: u64,
    /// Index of the running step.
    pub step: Option<usize>,
    /// Steps that ended.
    pub ended: Vec<StepRecord>,
    /// The log so far.
    pub log: LogRecord,
    /// The last line so far.
    pub last_line: String,
    /// Memory in use now (0: no memory controller).
    pub memory_bytes: u64,
    /// CPU time so far.
    pub cpu_ms: u64,
}

/// How a command beside the steps ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when one ended it.
    pub signal: Option<i32>,
    /// Whether it was killed at its limit.
    pub timed_out: bool,
    /// The last 16 KiB of stdout and stderr together, masked.
    pub output: String,
}

impl Executed {
    /// Whether it exited with 0 in time.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }
}

/// What the sandbox's first process saw of a process that ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Reaping {
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when one ended it.
    pub signal: Option<i32>,
    /// CPU time of it and of orphans reaped since the last report, microseconds.
    pub cpu_us: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

/// Room on disk for a record that will be written later.
pub struct Reserved {
    file: File,
}

impl Reserved {
    /// Takes the room now.
    pub fn take(dir: BorrowedFd<'_>) -> io::Result<Self> {
        use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, openat};
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = File::from(openat(dir, RECORD_NEW, flags, Mode::from_raw_mode(0o600))?);
        // A file system without it (some network ones) gives no guarantee; the record is then written like any file.
        let _ = fallocate(file.as_fd(), FallocateFlags::empty(), 0, RECORD_RESERVE_BYTES);
        Ok(Self { file })
    }

    /// Writes the record: all of it or nothing, on disk when this returns.
    pub fn write(mut self, dir: BorrowedFd<'_>, record: &ExitRecord) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        self.file.write_all(&bytes)?;
        self.file.set_len(bytes.len() as u64)?;
        self.file.sync_all()?;
        rustix::fs::renameat(dir, RECORD_NEW, dir, RECORD_FILE)?;
        rustix::fs::fsync(dir)?;
        Ok(())
    }
}

/// Reads the record of a run, if it has ended.
pub fn read_record(dir: &Path) -> Result<Option<ExitRecord>, SandboxError> {
    let path = dir.join(RECORD_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(SandboxError::io(format!("read of exit record `{}`", path.display()), e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| SandboxError::io(format!("read of exit record `{}`", path.display()), e.into()))
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
