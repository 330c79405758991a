//! A worker: slots, and the runs that wait for them, are in them, or have ended.
//!
//! In: questions ([`Ask`]). Out: answers. Never: runs a run id twice, not even after it was killed itself; more jobs at once than slots.

use crate::attend::attend;
use crate::conclude::{End, Places, conclude, unstarted};
use crate::error::WorkerError;
use crate::folder::{self, Ending, Folder, State};
use crate::handover::hand_over;
use crate::job::{Job, Phase};
use crate::judge::Judged;
use crate::logs::{self, About};
use crate::options::{Unpacked, WorkerOptions};
use crate::prepare::{Ground, Prepared, prepare};
use crate::readable::Readable;
use crate::recover::{go_on, job_of};
use crate::wire::{Answer, Ask, LogPage, RunningJob};
use slipway_model::job::{JobImage, JobOutcome, JobResult};
use slipway_model::{ProjectName, RunId};
use slipway_ports::RunRequest;
use slipway_sandbox::{Follow, Launcher, Shim, read_log_from, read_record};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, watch};

/// Bytes of log in one answer.
const PAGE_BYTES: usize = 64 * 1024;
/// After so many ends, what is kept of old runs is looked through.
const TIDY_EVERY: u64 = 64;

/// A worker in this process. Cheap to clone; clones are the same worker. Dropping it leaves its jobs running.
#[derive(Clone)]
pub struct Worker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub options: WorkerOptions,
    pub launcher: Launcher,
    pub jobs: Mutex<HashMap<RunId, Arc<Job>>>,
    /// First come, first served.
    pub slots: Arc<Semaphore>,
    ends: AtomicU64,
    /// Becomes true when this worker leaves its jobs to the next.
    abandoned: watch::Sender<bool>,
    /// Held while this worker lives.
    _lock: File,
}

impl Inner {
    pub fn new(options: WorkerOptions, lock: File) -> Inner {
        Inner {
            launcher: Launcher::new(&options.shim).keeping_one_ready(),
            slots: Arc::new(Semaphore::new(options.slots.get())),
            jobs: Mutex::default(),
            ends: AtomicU64::new(0),
            abandoned: watch::Sender::new(false),
            options,
            _lock: lock,
        }
    }

    pub fn jobs(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Job>>> {
        // Whole after every statement: a panic elsewhere does not spoil it.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the jobs are left to the next worker.
    pub async fn abandoned(&self) {
        let mut abandoned = self.abandoned.subscribe();
        // The sender is `self`: this ends by the value only.
        let _ = abandoned.wait_for(|abandoned| *abandoned).await;
    }

    /// Attends a run beside, until it ends or is left to the next worker.
    pub fn beside(self: &Arc<Self>, life: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = inner.abandoned() => {}
                () = life => {}
            }
        });
    }

    fn places(&self) -> Places<'_> {
        let options = &self.options;
        Places { work: &options.work, logs: &options.logs, blobs: &options.blobs, limits: &options.limits }
    }
}

impl Worker {
    /// Answers a question; one that waits does so for its own limit.
    pub async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Running => self.running(),
            Ask::Start { request, tree } => self.start(*request, tree).unwrap_or_else(failed),
            Ask::Wait { run, limit_ms } => {
                self.wait(&run, Duration::from_millis(limit_ms)).await.unwrap_or_else(failed)
            }
            Ask::Cancel { run } => self.end(&run, Ending::Cancelled).unwrap_or_else(failed),
            Ask::Lose { run, reason } => self.end(&run, Ending::Lost { reason }).unwrap_or_else(failed),
            Ask::Log { project, run, from, limit_ms } => {
                let page = self.log(&project, &run, from, Duration::from_millis(limit_ms)).await;
                page.map_or_else(failed, Answer::Log)
            }
        }
    }

    /// Ends every run that has not ended, as lost: the machine goes, the code is not to blame.
    pub fn lose_all(&self, reason: &str) {
        for job in self.inner.jobs().values() {
            job.end(Ending::Lost { reason: reason.to_owned() });
        }
    }

    /// Attends no run any more; all go on, and the next worker on this folder attends them.
    pub fn abandon(&self) {
        self.inner.abandoned.send_replace(true);
    }

    /// Returns when every run that is here now has ended.
    pub async fn idle(&self) {
        let jobs: Vec<Arc<Job>> = self.inner.jobs().values().cloned().collect();
        for job in jobs {
            // The sender lives in `job`.
            let _ = job.phases().wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
        }
    }

    fn running(&self) -> Answer {
        let jobs = self.inner.jobs();
        let mut jobs: Vec<RunningJob> =
            jobs.values().map(|job| RunningJob { run: job.run.clone(), tree: job.tree.clone() }).collect();
        jobs.sort_by(|a, b| a.run.cmp(&b.run));
        Answer::Running { jobs }
    }

    fn start(&self, request: RunRequest, tree: PathBuf) -> Result<Answer, WorkerError> {
        let mut jobs = self.inner.jobs();
        if let Some(job) = jobs.get(&request.run) {
            return Ok(state_of(job));
        }
        // Looked for under the lock: an end takes its run from the table only after the outcome is on disk.
        if let Some(outcome) = self.remembered(&request.run)? {
            return Ok(outcome);
        }
        // It was started, but the disk did not take its outcome.
        if let Some(state) = Folder::of(&self.inner.options.work, &request.run).state()? {
            let job = job_of(&self.inner, &state)?;
            jobs.insert(request.run.clone(), Arc::clone(&job));
            self.inner.beside(go_on(Arc::clone(&self.inner), job, state));
            return Ok(Answer::Waiting);
        }
        let job = Arc::new(Job::new(&self.inner.options.work, &request, &tree));
        jobs.insert(request.run.clone(), Arc::clone(&job));
        self.inner.beside(Arc::clone(&self.inner).drive(job, request));
        Ok(Answer::Waiting)
    }

    fn remembered(&self, run: &RunId) -> Result<Option<Answer>, WorkerError> {
        let outcome = Folder::of(&self.inner.options.work, run).outcome()?;
        Ok(outcome.map(|outcome| Answer::Ended { outcome: Box::new(outcome) }))
    }

    async fn wait(&self, run: &RunId, limit: Duration) -> Result<Answer, WorkerError> {
        let Some(job) = self.inner.jobs().get(run).cloned() else {
            return Ok(self.remembered(run)?.unwrap_or(Answer::Unknown));
        };
        let mut phases = job.phases();
        // Past the limit the answer is what it is then.
        let _ = tokio::time::timeout(limit, phases.wait_for(|phase| matches!(phase, Phase::Ended(_)))).await;
        Ok(state_of(&job))
    }

    fn end(&self, run: &RunId, ending: Ending) -> Result<Answer, WorkerError> {
        if let Some(job) = self.inner.jobs().get(run) {
            job.end(ending);
            return Ok(state_of(job));
        }
        Ok(self.remembered(run)?.unwrap_or(Answer::Unknown))
    }

    async fn log(
        &self,
        project: &ProjectName,
        run: &RunId,
        from: u64,
        limit: Duration,
    ) -> Result<LogPage, WorkerError> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let Some(job) = self.inner.jobs().get(run).cloned() else {
                return self.kept_log(project, run, from);
            };
            let mut phases = job.phases();
            let next = match job.phase() {
                // Then the log is where it is kept.
                Phase::Ended(_) => return self.kept_log(project, run, from),
                Phase::Waiting => None,
                Phase::Running => {
                    let page = live_page(&job, from)?;
                    if !page.lines.is_empty() {
                        return Ok(page);
                    }
                    Some(job.folder.sandbox())
                }
            };
            phases.mark_unchanged();
            if !matches!((&*phases.borrow(), &next), (Phase::Waiting, None) | (Phase::Running, Some(_))) {
                continue;
            }
            let news = async {
                match &next {
                    Some(sandbox) => more_logged(sandbox, from).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = phases.changed() => {}
                () = news => {}
                () = tokio::time::sleep_until(until) => return Ok(LogPage { next: from, ..LogPage::default() }),
            }
        }
    }

    fn kept_log(&self, project: &ProjectName, run: &RunId, from: u64) -> Result<LogPage, WorkerError> {
        let folder = logs::folder(&self.inner.options.logs, project, run);
        if !folder.is_dir() {
            return Ok(LogPage { next: from, ended: true, ..LogPage::default() });
        }
        let about = logs::about(&folder);
        page(&folder, &about, from, true)
    }
}

fn live_page(job: &Job, from: u64) -> Result<LogPage, WorkerError> {
    let notes = job.folder.state()?.map(|state| state.notes).unwrap_or_default();
    let sandbox = job.folder.sandbox();
    let page = page(&sandbox, &About { steps: job.steps.clone(), notes }, from, false);
    // It may just have ended and been moved away.
    if sandbox.exists() { page } else { Ok(LogPage { next: from, ..LogPage::default() }) }
}

fn page(folder: &Path, about: &About, from: u64, is_kept: bool) -> Result<LogPage, WorkerError> {
    let chunk = read_log_from(folder, from, PAGE_BYTES)
        .map_err(|source| WorkerError::Sandbox { what: "the log cannot be read".into(), source })?;
    let (next, is_empty) = (chunk.next, chunk.lines.is_empty());
    // Notes come with the first lines, so that they come once.
    let lines = if is_empty && !is_kept { Vec::new() } else { about.lines(chunk, from) };
    Ok(LogPage { lines, next, ended: is_kept && next == from })
}

/// Returns when the shim has logged more, or has ended.
async fn more_logged(sandbox: &Path, from: u64) {
    let mut follow = Follow::of(sandbox, from);
    // Reads what came meanwhile, or asks the shim to wake us.
    let has_more = follow.take().map_or(true, |chunk| !chunk.lines.is_empty());
    let Some(wake) = follow.wake_fd() else {
        // The shim has ended: its conclusion changes the phase.
        return std::future::pending().await;
    };
    if has_more {
        return;
    }
    if let Ok(wake) = Readable::like(wake) {
        let _ = wake.wait().await;
    }
}

fn state_of(job: &Job) -> Answer {
    match job.phase() {
        Phase::Waiting => Answer::Waiting,
        Phase::Running => Answer::Runs,
        Phase::Ended(outcome) => Answer::Ended { outcome: Box::new((*outcome).clone()) },
    }
}

fn failed(error: WorkerError) -> Answer {
    Answer::Failed { what: error.whole() }
}

impl Inner {
    /// The whole life of a run that is new here.
    async fn drive(self: Arc<Self>, job: Arc<Job>, request: RunRequest) {
        let slot = tokio::select! {
            biased;
            ending = job.wanted_ended() => Err(ending),
            slot = Arc::clone(&self.slots).acquire_owned() => Ok(slot),
        };
        match slot {
            Err(ending) => self.ends_without_sandbox(&job, Judged::unstarted(&ending)).await,
            // Closed never: it lives as long as we do.
            Ok(Err(_)) => {}
            Ok(Ok(slot)) => {
                self.execute(&job, request).await;
                drop(slot);
            }
        }
    }

    async fn execute(self: &Arc<Self>, job: &Arc<Job>, request: RunRequest) {
        let begun_ms = now_ms();
        let timeout = Duration::from_millis(request.job.timeout_ms);
        let image = match self.image(&request).await {
            Ok(image) => image,
            Err(judged) => return self.ends_without_sandbox(job, judged).await,
        };
        let (inner, starting) = (Arc::clone(self), Arc::clone(job));
        let started = blocking(move || inner.launch(&starting, request, image, begun_ms)).await;
        match started {
            Ok(Started { state, shim: Some(shim), image }) => {
                job.runs();
                self.attend_to_end(job, state, shim, timeout).await;
                drop(image);
            }
            Ok(Started { state, shim: None, .. }) => self.ends(job, state, End::Seen).await,
            Err(error) => self.ends_without_sandbox(job, Judged::lost(error.whole())).await,
        }
    }

    async fn image(&self, request: &RunRequest) -> Result<Option<Unpacked>, Judged> {
        let failed = |reason: String| Judged { result: JobResult::Failed, ..Judged::lost(reason) };
        match (&request.job.image, &request.image) {
            (JobImage::Host, _) => Ok(None),
            (JobImage::Image(reference), None) => Err(failed(format!("image `{reference}` is not in the registry"))),
            (JobImage::Image(reference), Some(digest)) => match &self.options.unpack {
                Some(unpack) => {
                    let unpacked = unpack.unpack(digest).await;
                    unpacked.map(Some).map_err(|why| Judged::lost(format!("image `{reference}` cannot be used: {why}")))
                }
                None => {
                    Err(failed(format!("image `{reference}` cannot be used: jobs run on the machine's tools here")))
                }
            },
        }
    }

    /// Prepares the folder and starts the sandbox. Its first program may be missing: then there is a record, but no shim.
    fn launch(
        &self,
        job: &Job,
        mut request: RunRequest,
        image: Option<Unpacked>,
        begun_ms: u64,
    ) -> Result<Started, WorkerError> {
        let options = &self.options;
        job.folder.create()?;
        hand_over(&job.folder.shared(), &request, &options.blobs)?;
        let (root, env) = match &image {
            Some(image) => (slipway_sandbox::Root::Layers { lower: image.layers.clone() }, image.env.clone()),
            None => (options.tools.root(), options.tools.env.clone()),
        };
        let ground = Ground { root, env, outbound: options.outbound, limits: options.limits };
        let Prepared { spec, notes } = prepare(&request, &job.tree, &job.folder, ground);
        for secret in request.secrets.values_mut() {
            secret.0 = Vec::new();
        }
        let memory_bytes = options.limits.memory_bytes;
        let mut state = State { v: 1, request, tree: job.tree.clone(), begun_ms, memory_bytes, notes };
        job.folder.write_state(&state)?;
        if let Some(ending) = job.ending() {
            // Wanted ended meanwhile; nothing was started.
            job.folder.write_ending(&ending)?;
            return Err(WorkerError::Unable("it was ended before it began".into()));
        }
        match self.launcher.launch(&spec) {
            Ok(shim) => {
                let noted = shim.setup().map(|setup| setup.notes.clone()).unwrap_or_default();
                if !noted.is_empty() {
                    state.notes.extend(noted);
                    job.folder.write_state(&state)?;
                }
                Ok(Started { state, shim: Some(shim), image })
            }
            Err(source) => match read_record(&job.folder.sandbox()) {
                Ok(Some(_)) => Ok(Started { state, shim: None, image }),
                Ok(None) | Err(_) => {
                    Err(WorkerError::Sandbox { what: "its sandbox could not be started".into(), source })
                }
            },
        }
    }

    /// Attends a living sandbox to its end and concludes it.
    pub async fn attend_to_end(self: &Arc<Self>, job: &Arc<Job>, state: State, shim: Shim, left: Duration) {
        let end = match attend(job, &Arc::new(shim), left).await {
            Ok(()) => End::Seen,
            Err(error) => End::Unattended(error.whole()),
        };
        self.ends(job, state, end).await;
    }

    /// Concludes a run that had a sandbox.
    pub async fn ends(self: &Arc<Self>, job: &Arc<Job>, state: State, end: End) {
        let (inner, ending) = (Arc::clone(self), Arc::clone(job));
        let concluded = blocking(move || {
            let concluded = conclude(&inner.places(), &ending.folder, &state, end);
            // A full disk: the outcome is told, but not remembered; a repetition finds what is there and concludes again.
            concluded.unwrap_or_else(|error| (unstarted(Judged::lost(error.whole())), Vec::new()))
        });
        let (outcome, removable) = concluded.await;
        self.is_over(job, outcome, removable);
    }

    async fn ends_without_sandbox(self: &Arc<Self>, job: &Arc<Job>, judged: Judged) {
        let judged = match job.ending() {
            Some(ending) => Judged::unstarted(&ending),
            None => judged,
        };
        let (inner, ending) = (Arc::clone(self), Arc::clone(job));
        let concluded = blocking(move || {
            let outcome = unstarted(judged);
            // As above: told, even where it cannot be remembered.
            let _ = ending.folder.write_outcome(&outcome);
            (outcome, ending.folder.discard_contents(&inner.options.work))
        });
        let (outcome, removable) = concluded.await;
        self.is_over(job, outcome, removable);
    }

    /// Tells who waits; removes what is left behind their backs.
    fn is_over(self: &Arc<Self>, job: &Arc<Job>, outcome: JobOutcome, removable: Vec<PathBuf>) {
        job.ended(outcome);
        self.jobs().remove(&job.run);
        let tidies = self.ends.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1;
        let inner = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            for folder in removable {
                // What stays is swept at the next start.
                let _ = slipway_sandbox::remove_folder(&folder);
            }
            if tidies {
                inner.tidy();
            }
        });
    }

    /// Removes what is kept beyond the limits.
    pub fn tidy(&self) {
        let _ = logs::trim(&self.options.logs, self.options.limits.logs_bytes);
        let Ok(folders) = folder::all(&self.options.work) else { return };
        let mut ended: Vec<(SystemTime, Folder)> =
            folders.into_iter().filter_map(|folder| Some((folder.outcome_at()?, folder))).collect();
        ended.sort_by_key(|(at, _)| *at);
        let beyond = ended.len().saturating_sub(self.options.limits.outcomes);
        for (_, folder) in ended.into_iter().take(beyond) {
            let _ = folder.remove();
        }
    }
}

struct Started {
    state: State,
    shim: Option<Shim>,
    image: Option<Unpacked>,
}

/// On a thread that may block. Ends with the runtime only, and then nobody is left to hear of it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
