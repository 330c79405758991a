//! A runner by script.
//!
//! In: what shall come of each run, and after how long. Out: the Runner port. Never: a process; two outcomes of one run.

use crate::{Fut, RunRequest, Runner, RunnerError};
use slipway_model::RunId;
use slipway_model::job::{JobOutcome, JobResult, Usage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a run takes in milliseconds, and what comes of it.
pub type Ended = (u64, Result<JobOutcome, RunnerError>);
type Script = Box<dyn Fn(&RunRequest) -> Ended + Send + Sync>;

#[derive(Clone)]
struct Run {
    ends: Instant,
    outcome: Result<JobOutcome, RunnerError>,
    changed: Arc<Notify>,
}

/// A runner by script.
pub struct FakeRunner {
    script: Script,
    runs: Mutex<BTreeMap<RunId, Run>>,
}

impl FakeRunner {
    /// A runner whose runs go as the script says, asked once per run.
    #[must_use]
    pub fn new(script: impl Fn(&RunRequest) -> Ended + Send + Sync + 'static) -> FakeRunner {
        FakeRunner { script: Box::new(script), runs: Mutex::default() }
    }

    fn begin(&self, request: &RunRequest) -> Run {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let (ms, outcome) = (self.script)(request);
            Run { ends: Instant::now() + Duration::from_millis(ms), outcome, changed: Arc::default() }
        };
        runs.entry(request.run.clone()).or_insert_with(fresh).clone()
    }

    fn look(&self, run: &RunId) -> Option<Run> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }
}

impl Runner for FakeRunner {
    fn run(&self, request: RunRequest) -> Fut<'_, Result<JobOutcome, RunnerError>> {
        Box::pin(async move {
            let mut run = self.begin(&request);
            while Instant::now() < run.ends {
                tokio::select! {
                    biased;
                    () = run.changed.notified() => {}
                    () = tokio::time::sleep_until(run.ends) => {}
                }
                run = self.look(&request.run).unwrap_or(run);
            }
            run.outcome
        })
    }

    fn cancel(&self, run: &RunId) -> Fut<'_, ()> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = runs.get_mut(run).filter(|known| known.ends > Instant::now()) {
            known.ends = Instant::now();
            known.outcome = Ok(outcome(JobResult::Cancelled, "cancelled by command", None));
            known.changed.notify_waiters();
        }
        Box::pin(std::future::ready(()))
    }
}

/// An outcome with nothing but its result.
#[must_use]
pub fn outcome(result: JobResult, reason: &str, exit_code: Option<i32>) -> JobOutcome {
    JobOutcome {
        result,
        reason: reason.to_owned(),
        step: None,
        command: None,
        exit_code,
        first_error: Vec::new(),
        artifacts: Vec::new(),
        outputs: BTreeMap::new(),
        usage: Usage::default(),
        set_up_ms: 0,
        run_ms: 0,
        tests: None,
    }
}
