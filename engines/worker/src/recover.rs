//! What a worker does first: takes over what a former life of it left.
//!
//! In: its folder. Out: a worker in which every run that still lives is attended, and every run that ended meanwhile concluded.
//! Never: starts a run again; a second worker on the same folder.

use crate::conclude::End;
use crate::error::WorkerError;
use crate::folder::{self, Claim, Folder, State};
use crate::job::Job;
use crate::options::WorkerOptions;
use crate::worker::{Inner, Worker, blocking, now_ms};
use rustix::fs::{FlockOperation, flock};
use slipway_sandbox::{Attached, Shim, attach, read_record};
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Each look waits for a shim that is setting up; more would wait for one that never does.
const LOOKS_MAX: u32 = 8;
const LOCK_FILE: &str = "worker.lock";

impl Worker {
    /// Opens a worker on its folder. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When another worker uses the folder, or it cannot be read or written.
    pub async fn open(options: WorkerOptions) -> Result<Worker, WorkerError> {
        let inner = blocking(move || begin(options)).await?;
        let inner = Arc::new(inner);
        let looking = Arc::clone(&inner);
        for (job, state) in blocking(move || take_over(&looking)).await? {
            inner.jobs().insert(job.run.clone(), Arc::clone(&job));
            inner.beside(go_on(Arc::clone(&inner), job, state));
        }
        let tidying = Arc::clone(&inner);
        tokio::task::spawn_blocking(move || {
            sweep(&folder::trash(&tidying.options.work));
            tidying.tidy();
        });
        Ok(Worker { inner })
    }
}

fn begin(options: WorkerOptions) -> Result<Inner, WorkerError> {
    for path in [folder::jobs(&options.work), folder::trash(&options.work)] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(WorkerError::file("make", &path))?;
    }
    let path = options.work.join(LOCK_FILE);
    let lock = File::create(&path).map_err(WorkerError::file("open", &path))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| WorkerError::InUse(options.work.clone()))?;
    Ok(Inner::new(options, lock))
}

fn take_over(inner: &Inner) -> Result<Vec<(Arc<Job>, State)>, WorkerError> {
    let mut found = Vec::new();
    for folder in folder::all(&inner.options.work)? {
        if folder.outcome_at().is_some() {
            // The last life may have ended just before it removed them.
            sweep_all(folder.discard_contents(&inner.options.work));
            continue;
        }
        let Ok(Some(state)) = folder.state() else {
            // Nothing was started: the request comes again, with its secrets.
            folder.remove()?;
            continue;
        };
        found.push((job_of(inner, &state)?, state));
    }
    Ok(found)
}

/// A run of a former life, or one whose outcome could not be written.
pub(crate) fn job_of(inner: &Inner, state: &State) -> Result<Arc<Job>, WorkerError> {
    let job = Job::new(&inner.options.work, &state.request, &state.tree);
    if let Some(ending) = job.folder.ending()? {
        job.end(ending);
    }
    Ok(Arc::new(job))
}

/// What is left of a run.
enum Left {
    /// It goes on.
    Living(Shim),
    /// It has an exit record.
    Ended,
    /// Its shim was killed, or never came to be; while this lives, none can.
    Lost(Claim),
}

fn look(folder: &Folder) -> Left {
    for _ in 0..LOOKS_MAX {
        match attach(&folder.sandbox()) {
            Ok(Attached::Running(shim)) => return Left::Living(shim),
            Ok(Attached::Ended(_)) => return Left::Ended,
            Ok(Attached::Lost { .. }) | Err(_) => {}
        }
        // A shim that is just setting up holds the folder, but has no socket yet; looking again waits for it.
        if let Some(claim) = folder.claim_sandbox() {
            let has_record = matches!(read_record(&folder.sandbox()), Ok(Some(_)));
            return if has_record { Left::Ended } else { Left::Lost(claim) };
        }
    } // The disk refuses; the conclusion says so.
    Left::Ended
}

/// Attends it if it lives, and concludes it.
pub(crate) async fn go_on(inner: Arc<Inner>, job: Arc<Job>, state: State) {
    // It runs, whether there is a slot for it or not; but it takes one where there is.
    let slot = Arc::clone(&inner.slots).try_acquire_owned().ok();
    let folder = job.folder.clone();
    match blocking(move || look(&folder)).await {
        Left::Living(shim) => {
            job.runs();
            let ran_ms = now_ms().saturating_sub(state.begun_ms);
            let left = Duration::from_millis(state.request.job.timeout_ms.saturating_sub(ran_ms));
            inner.attend_to_end(&job, state, shim, left).await;
        }
        Left::Ended => inner.ends(&job, state, End::Seen).await,
        Left::Lost(claim) => inner.ends(&job, state, End::Lost(claim)).await,
    }
    drop(slot);
}

fn sweep(trash: &Path) {
    let Ok(listing) = fs::read_dir(trash) else { return };
    sweep_all(listing.flatten().map(|entry| entry.path()).collect());
}

fn sweep_all(folders: Vec<std::path::PathBuf>) {
    for folder in folders {
        // What stays costs room only, and the next start tries again.
        let _ = slipway_sandbox::remove_folder(&folder);
    }
}
