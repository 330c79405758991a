//! What a worker keeps of one run on disk.
//!
//! In: records. Out: the same records after a crash. Never: a secret; half a record under its final name.

use crate::error::WorkerError;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slipway_model::job::JobOutcome;
use slipway_model::{Digest, RunId};
use slipway_ports::RunRequest;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

const STATE_FILE: &str = "state.json";
const ENDING_FILE: &str = "ending.json";
const OUTCOME_FILE: &str = "outcome.json";
/// Room for a name and the hash behind it within the 64 bytes of a sandbox's id.
const NAME_KEPT_BYTES: usize = 47;

/// A run whose sandbox was or is about to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Version of this record.
    pub v: u32,
    /// The request, without the values of its secrets.
    pub request: RunRequest,
    /// The folder with its files.
    pub tree: PathBuf,
    /// When it got its slot, milliseconds since the epoch.
    pub begun_ms: u64,
    /// Its memory limit.
    pub memory_bytes: Option<u64>,
    /// What people must know about how it runs.
    pub notes: Vec<String>,
}

/// Why a run is ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// Someone asked.
    Cancelled,
    /// The job's limit has passed.
    TimedOut,
    /// The machine's fault.
    Lost {
        /// Why.
        reason: String,
    },
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn of(work: &Path, run: &RunId) -> Folder {
        Folder { path: jobs(work).join(folder_name(run)) }
    }

    pub fn at(path: PathBuf) -> Folder {
        Folder { path }
    }

    /// The shim's folder.
    pub fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// The folder that the steps see.
    pub fn shared(&self) -> PathBuf {
        self.path.join("shared")
    }

    /// Makes it, readable by nobody else: files of jobs lie in it.
    pub fn create(&self) -> Result<(), WorkerError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(WorkerError::file("make", &self.path))
    }

    /// Lives through the end of the worker, not of the machine: nothing that it speaks of does.
    pub fn write_state(&self, state: &State) -> Result<(), WorkerError> {
        self.write(STATE_FILE, state, false)
    }

    pub fn state(&self) -> Result<Option<State>, WorkerError> {
        self.read(STATE_FILE)
    }

    pub fn write_ending(&self, ending: &Ending) -> Result<(), WorkerError> {
        self.write(ENDING_FILE, ending, false)
    }

    pub fn ending(&self) -> Result<Option<Ending>, WorkerError> {
        self.read(ENDING_FILE)
    }

    pub fn write_outcome(&self, outcome: &JobOutcome) -> Result<(), WorkerError> {
        self.create()?;
        self.write(OUTCOME_FILE, outcome, true)
    }

    pub fn outcome(&self) -> Result<Option<JobOutcome>, WorkerError> {
        self.read(OUTCOME_FILE)
    }

    /// When the outcome was written; `None` while there is none.
    pub fn outcome_at(&self) -> Option<SystemTime> {
        fs::metadata(self.path.join(OUTCOME_FILE)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Puts everything but the records out of the way and says what is to be removed.
    pub fn discard_contents(&self, work: &Path) -> Vec<PathBuf> {
        let contents = [self.sandbox(), self.shared()];
        // A file is a bar, see below.
        contents.iter().filter(|path| !path.is_file()).filter_map(|folder| throw_away(work, folder)).collect()
    }

    /// Takes the sandbox's folder before any shim can: one that was started by a worker which was killed in that moment may
    /// still be on its way. `None`: a shim has it.
    pub fn claim_sandbox(&self) -> Option<Claim> {
        let path = self.sandbox();
        // It is there, or it cannot be made; opening tells.
        let _ = fs::create_dir(&path);
        let lock = File::open(&path).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Claim { _lock: lock })
    }

    /// Puts a file where a sandbox would be: no shim can ever start there.
    pub fn bar_sandbox(&self, work: &Path) -> Result<Option<PathBuf>, WorkerError> {
        let (path, bar) = (self.sandbox(), self.path.join("barred"));
        let failed = |error| WorkerError::file("bar", &path)(error);
        File::create(&bar).map_err(failed)?;
        renameat_with(CWD, &bar, CWD, &path, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
        Ok(throw_away(work, &bar))
    }

    /// Removes all of it.
    pub fn remove(&self) -> Result<(), WorkerError> {
        match slipway_sandbox::remove_folder(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(WorkerError::file("remove", &self.path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write<T: Serialize>(&self, name: &str, record: &T, sync: bool) -> Result<(), WorkerError> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        let failed = |error| WorkerError::file("write", &path)(error);
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        if sync {
            file.sync_all().map_err(failed)?;
        }
        fs::rename(&fresh, &path).map_err(failed)?;
        if sync {
            File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, WorkerError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WorkerError::file("read", &path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| WorkerError::Record { path, source })
    }
}

/// A sandbox's folder that no shim can take while this lives.
pub(crate) struct Claim {
    _lock: File,
}

/// Folders of commits that jobs may be using which outlived this process. The control plane hands them to whoever
/// makes such folders before it connects to the worker.
///
/// # Errors
/// When the worker's folder cannot be read.
pub fn trees_in_use(work: &Path) -> Result<Vec<PathBuf>, WorkerError> {
    let mut trees = Vec::new();
    for folder in all(work)? {
        // A record that cannot be read is the worker's to judge; it loses the run.
        if let (Ok(Some(state)), Ok(None)) = (folder.state(), folder.outcome())
            && !trees.contains(&state.tree)
        {
            trees.push(state.tree);
        }
    }
    Ok(trees)
}

/// The folders of all runs.
pub(crate) fn all(work: &Path) -> Result<Vec<Folder>, WorkerError> {
    let jobs = jobs(work);
    let listing = match fs::read_dir(&jobs) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(WorkerError::file("list", &jobs)(error)),
    };
    let entries: io::Result<Vec<_>> = listing.map(|entry| entry.map(|entry| Folder::at(entry.path()))).collect();
    entries.map_err(WorkerError::file("list", &jobs))
}

pub(crate) fn jobs(work: &Path) -> PathBuf {
    work.join("jobs")
}

pub(crate) fn trash(work: &Path) -> PathBuf {
    work.join("trash")
}

/// A run id as the name of a folder and of a sandbox: itself where that is possible.
pub(crate) fn folder_name(run: &RunId) -> String {
    let text = run.as_str();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    // A leading dot is left to files that are not runs.
    if plain && text.len() <= 64 && !text.starts_with('.') {
        return text.to_owned();
    }
    let kept: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(NAME_KEPT_BYTES).collect();
    let hash: String = Digest::of(text.as_bytes()).hex().chars().take(16).collect();
    format!("{kept}-{hash}")
}

fn throw_away(work: &Path, folder: &Path) -> Option<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let away = trash(work).join(format!("{}-{number}", std::process::id()));
    // A name left by a dead process of our number: removed in place then.
    match fs::rename(folder, &away) {
        Ok(()) => Some(away),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(folder.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_names_its_folder_and_no_other() {
        let name = |text: &str| folder_name(&RunId::parse(text).unwrap());
        assert_eq!(name("0011223344556677-api.test-1"), "0011223344556677-api.test-1");
        assert_ne!(name("a/b"), name("a:b"));
        let long = "x".repeat(160);
        for odd in ["..", "../../etc", ".hidden", "a/b", &long] {
            let name = name(odd);
            assert!(name.len() <= 64 && !name.contains('/') && !name.starts_with('.'), "{name}");
        }
    }
}
