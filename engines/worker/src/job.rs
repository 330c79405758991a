//! One run in memory: where it is in its life, and whether someone wants it ended.
//!
//! In: transitions. Out: the same, to everybody who waits. Never: goes back.

use crate::folder::{Ending, Folder};
use slipway_model::RunId;
use slipway_model::job::JobOutcome;
use slipway_ports::RunRequest;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Where a run is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// For a slot, or for its sandbox.
    Waiting,
    /// Its commands run.
    Running,
    /// It is over.
    Ended(Arc<JobOutcome>),
}

/// One run.
pub(crate) struct Job {
    pub run: RunId,
    pub folder: Folder,
    pub tree: PathBuf,
    /// Names of the steps, by their number in the log.
    pub steps: Vec<String>,
    phase: watch::Sender<Phase>,
    ending: watch::Sender<Option<Ending>>,
}

impl Job {
    pub fn new(work: &Path, request: &RunRequest, tree: &Path) -> Job {
        Job {
            run: request.run.clone(),
            folder: Folder::of(work, &request.run),
            tree: tree.to_owned(),
            steps: request.job.steps.iter().map(|step| step.name.clone()).collect(),
            phase: watch::Sender::new(Phase::Waiting),
            ending: watch::Sender::new(None),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn runs(&self) {
        self.phase.send_replace(Phase::Running);
    }

    pub fn ended(&self, outcome: JobOutcome) {
        self.phase.send_replace(Phase::Ended(Arc::new(outcome)));
    }

    /// Wants it ended; who asked first says why.
    pub fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|wanted| {
            let first = wanted.is_none();
            wanted.get_or_insert(ending);
            first
        });
    }

    /// Why it is wanted to end, if it is.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// Returns when someone wants it ended.
    pub async fn wanted_ended(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        loop {
            if let Some(ending) = ending.borrow_and_update().clone() {
                return ending;
            }
            if ending.changed().await.is_err() {
                // The sender is `self`; it lives as long as this future.
                std::future::pending::<()>().await;
            }
        }
    }
}
