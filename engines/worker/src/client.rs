//! The control plane's side: the runner port over a line to a worker.
//!
//! In: requests of the jobs stage. Out: their outcomes; log lines. Never: a second start of a run that the worker knows; a
//! folder given back while a job may still use it.

use crate::conclude::unstarted;
use crate::folder::Ending;
use crate::judge::Judged;
use crate::trees::{TreeLease, Trees};
use crate::wire::{Answer, Ask, Line, LineError, LogPage, RunningJob};
use slipway_model::job::JobOutcome;
use slipway_model::{ProjectName, RunId};
use slipway_ports::{Fut, RunRequest, Runner, RunnerError};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a lost worker is waited for before its jobs count as lost.
const WORKER_LIMIT: Duration = Duration::from_secs(30 * 60);
/// One wait; then it is asked again, so that a silent worker is noticed.
const WAIT_MS: u64 = 60_000;
/// Answers that need no waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Carries out jobs on a worker. Cheap to clone.
#[derive(Clone)]
pub struct WorkerClient {
    shared: Arc<Shared>,
}

struct Shared {
    line: Arc<dyn Line>,
    trees: Arc<dyn Trees>,
    /// Folders that jobs of a former life may use.
    in_use: Vec<PathBuf>,
    taken_over: OnceCell<()>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By run: the folder that it uses.
    trees: HashMap<RunId, Arc<TreeLease>>,
    /// Runs that shall end, also those that the worker does not know yet.
    cancelled: HashSet<RunId>,
}

impl WorkerClient {
    /// A client. `in_use` is what [`crate::trees_in_use`] said when this process started, and what `trees` was told.
    pub fn new(line: Arc<dyn Line>, trees: Arc<dyn Trees>, in_use: Vec<PathBuf>) -> WorkerClient {
        let shared = Shared { line, trees, in_use, taken_over: OnceCell::new(), held: Mutex::default() };
        WorkerClient { shared: Arc::new(shared) }
    }

    /// Some lines of a run's log from a position on (0: the beginning). Waits up to `wait` where there are none yet.
    ///
    /// # Errors
    /// When no worker is connected, or it cannot read the log.
    pub async fn log(
        &self,
        project: &ProjectName,
        run: &RunId,
        from: u64,
        wait: Duration,
    ) -> Result<LogPage, RunnerError> {
        let limit_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Log { project: project.clone(), run: run.clone(), from, limit_ms };
        match self.ask_within(ask, wait + ANSWER_LIMIT, wait + ANSWER_LIMIT).await {
            Ok(Answer::Log(page)) => Ok(page),
            Ok(answer) => Err(unexpected(answer)),
            Err(error) => Err(RunnerError { what: format!("the log of `{run}` cannot be read now: {error}") }),
        }
    }

    /// The lines of a run's log from a position on, to the end of the run.
    #[must_use]
    pub fn follow(&self, project: &ProjectName, run: &RunId, from: u64) -> LogStream {
        LogStream { client: self.clone(), project: project.clone(), run: run.clone(), next: from, ended: false }
    }

    /// Takes over what jobs of a former life use. Happens by itself before the first run; calling it at the start, when a
    /// worker is connected, gives unused folders back early.
    pub async fn take_over(&self) {
        self.shared.taken_over.get_or_init(|| self.adopt_all()).await;
    }

    async fn adopt_all(&self) {
        if self.shared.in_use.is_empty() {
            return;
        }
        let jobs = match self.ask(Ask::Running).await {
            Ok(Answer::Running { jobs }) => jobs,
            // No worker in all that time: nothing of it can be running.
            Ok(_) | Err(_) => Vec::new(),
        };
        for path in &self.shared.in_use {
            let users: Vec<&RunningJob> = jobs.iter().filter(|job| job.tree == *path).collect();
            match self.shared.trees.adopt(path) {
                Ok(lease) => self.hold_for(&Arc::new(lease), &users),
                Err(why) => self.lose(&users, &why).await,
            }
        }
    }

    fn hold_for(&self, lease: &Arc<TreeLease>, users: &[&RunningJob]) {
        for job in users {
            self.held().trees.insert(job.run.clone(), Arc::clone(lease));
            // Nobody may ever ask for it again; the folder must come back all the same.
            let (client, run) = (self.clone(), job.run.clone());
            tokio::spawn(async move {
                let _ = client.outcome(&run).await;
                client.let_go(&run);
            });
        }
    }

    async fn lose(&self, users: &[&RunningJob], why: &str) {
        for job in users {
            let reason = format!("its files may have changed under it: {why}");
            // A worker that is gone again has nothing to lose.
            let _ = self.ask(Ask::Lose { run: job.run.clone(), reason }).await;
        }
    }

    async fn carry_out(&self, request: RunRequest) -> Result<JobOutcome, RunnerError> {
        self.take_over().await;
        let run = request.run.clone();
        // A worker that knows the run says how it stands instead of starting it again: no need to ask that first.
        if self.is_cancelled(&run) {
            let stands = self.ask(Ask::Wait { run: run.clone(), limit_ms: 0 }).await?;
            if matches!(stands, Answer::Unknown) {
                return Ok(unstarted(Judged::unstarted(&Ending::Cancelled)));
            }
        } else {
            self.start(&request).await?;
        }
        loop {
            if self.is_cancelled(&run) {
                self.ask(Ask::Cancel { run: run.clone() }).await?;
            }
            match self.outcome(&run).await? {
                Some(outcome) => return Ok(outcome),
                // The worker was killed while the run waited for a slot: nothing of it was started.
                None => self.start(&request).await?,
            }
        }
    }

    async fn start(&self, request: &RunRequest) -> Result<(), RunnerError> {
        let tree = match &request.tree {
            Some(path) => PathBuf::from(path),
            None => self.tree(request).await?,
        };
        let ask = Ask::Start { request: Box::new(request.clone()), tree };
        match self.ask(ask).await? {
            Answer::Waiting | Answer::Runs | Answer::Ended { .. } => Ok(()),
            answer @ (Answer::Running { .. } | Answer::Unknown | Answer::Log(_) | Answer::Failed { .. }) => {
                Err(unexpected(answer))
            }
        }
    }

    async fn tree(&self, request: &RunRequest) -> Result<PathBuf, RunnerError> {
        let held = self.held().trees.get(&request.run).map(|lease| lease.path.clone());
        if let Some(path) = held {
            return Ok(path);
        }
        let leased = self.shared.trees.lease(&request.project, &request.commit).await;
        let lease = leased.map_err(|what| RunnerError { what })?;
        // Someone else may have asked for the same run meanwhile: one folder for both.
        let mut held = self.held();
        let lease = held.trees.entry(request.run.clone()).or_insert_with(|| Arc::new(lease));
        Ok(lease.path.clone())
    }

    /// Waits for the end; `None` when the worker knows no such run.
    async fn outcome(&self, run: &RunId) -> Result<Option<JobOutcome>, RunnerError> {
        loop {
            match self.ask(Ask::Wait { run: run.clone(), limit_ms: WAIT_MS }).await? {
                Answer::Ended { outcome } => return Ok(Some(*outcome)),
                Answer::Unknown => return Ok(None),
                Answer::Waiting | Answer::Runs => {}
                answer @ (Answer::Running { .. } | Answer::Log(_) | Answer::Failed { .. }) => {
                    return Err(unexpected(answer));
                }
            }
        }
    }

    /// Asks until there is an answer, or no worker has been there for too long.
    async fn ask(&self, ask: Ask) -> Result<Answer, RunnerError> {
        let waits_ms = if let Ask::Wait { limit_ms, .. } = &ask { *limit_ms } else { 0 };
        let limit = ANSWER_LIMIT + Duration::from_millis(waits_ms);
        self.ask_within(ask, limit, WORKER_LIMIT).await.map_err(|error| match error {
            LineError::Gone => {
                let minutes = WORKER_LIMIT.as_secs() / 60;
                let what =
                    format!("no worker has been connected for {minutes} min; start one with `slipway worker start`");
                RunnerError { what }
            }
            LineError::Broken(what) => RunnerError { what },
        })
    }

    /// Asks again while connections break: `limit` for one answer, `patience` for all.
    async fn ask_within(&self, ask: Ask, limit: Duration, patience: Duration) -> Result<Answer, LineError> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            match self.shared.line.ask(ask.clone(), limit).await {
                Err(LineError::Gone) if tokio::time::Instant::now() < until => {
                    // The line waits by itself where nobody is connected; this is for one that breaks at once.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answer => return answer,
            }
        }
    }

    fn is_cancelled(&self, run: &RunId) -> bool {
        self.held().cancelled.contains(run)
    }

    fn let_go(&self, run: &RunId) {
        let mut held = self.held();
        held.trees.remove(run);
        held.cancelled.remove(run);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner for WorkerClient {
    fn run(&self, request: RunRequest) -> Fut<'_, Result<JobOutcome, RunnerError>> {
        Box::pin(async move {
            let run = request.run.clone();
            let outcome = self.carry_out(request).await;
            // Without an outcome a job may still be using its folder.
            if outcome.is_ok() {
                self.let_go(&run);
            }
            outcome
        })
    }

    fn cancel(&self, run: &RunId) -> Fut<'_, ()> {
        let run = run.clone();
        Box::pin(async move {
            // First remembered, then said: a run on its way to the worker must not be missed. Without a worker it is said
            // again by who waits for the run.
            self.held().cancelled.insert(run.clone());
            let answer = self.shared.line.ask(Ask::Cancel { run: run.clone() }, ANSWER_LIMIT).await;
            if matches!(answer, Ok(Answer::Ended { .. })) {
                self.held().cancelled.remove(&run);
            }
        })
    }
}

/// The lines of a run, as they come.
pub struct LogStream {
    client: WorkerClient,
    project: ProjectName,
    run: RunId,
    next: u64,
    ended: bool,
}

impl LogStream {
    /// Where to go on after what was given so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next lines; nothing once the run has ended and all were given. Cancel safe.
    ///
    /// # Errors
    /// When no worker is connected, or it cannot read the log. The same may be asked again.
    pub async fn next(&mut self) -> Result<Option<Vec<slipway_ports::LogLine>>, RunnerError> {
        while !self.ended {
            let page = self.client.log(&self.project, &self.run, self.next, Duration::from_millis(WAIT_MS)).await?;
            self.next = page.next;
            self.ended = page.ended;
            if !page.lines.is_empty() {
                return Ok(Some(page.lines));
            }
        }
        Ok(None)
    }
}

fn unexpected(answer: Answer) -> RunnerError {
    let what = match answer {
        Answer::Failed { what } => what,
        Answer::Unknown => "the worker knows no such run".to_owned(),
        Answer::Running { .. } | Answer::Waiting | Answer::Runs | Answer::Ended { .. } | Answer::Log(_) => {
            "the worker answered another question; are both of one version?".to_owned()
        }
    };
    RunnerError { what }
}
