//! What control plane and worker say to each other: questions and answers, nothing unasked.
//!
//! In/out: serde values that fit any transport with concurrent requests. Every question may be repeated after a lost connection:
//! none does anything twice. The link agrees on a version; fields are only added, each with a default.
//! What takes long is asked for with a limit and asked for again.

use crate::worker::Worker;
use serde::{Deserialize, Serialize};
use slipway_model::job::JobOutcome;
use slipway_model::{ProjectName, RunId};
use slipway_ports::{Fut, LogLine, RunRequest};
use std::path::PathBuf;
use std::time::Duration;

/// What the control plane asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// What waits and runs.
    Running,
    /// Have this run, once. Answered at once, by its state.
    Start {
        /// What.
        request: Box<RunRequest>,
        /// The folder with the commit's files.
        tree: PathBuf,
    },
    /// The state of a run; answered when it has ended or the limit has passed.
    Wait {
        /// Which.
        run: RunId,
        /// How long at most.
        limit_ms: u64,
    },
    /// End it as cancelled.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// End it as lost.
    Lose {
        /// Which.
        run: RunId,
        /// Why it says nothing about the code.
        reason: String,
    },
    /// Log lines; answered when there are some, or the run has ended, or the limit has passed.
    Log {
        /// Whose run.
        project: ProjectName,
        /// Which.
        run: RunId,
        /// Where to read on; 0 is the beginning.
        from: u64,
        /// How long at most.
        limit_ms: u64,
    },
}

/// What the worker answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To `Running`.
    Running {
        /// Every run that has not ended.
        jobs: Vec<RunningJob>,
    },
    /// The run waits for a slot.
    Waiting,
    /// The run goes on.
    Runs,
    /// The run has ended.
    Ended {
        /// How.
        outcome: Box<JobOutcome>,
    },
    /// The worker knows no such run.
    Unknown,
    /// To `Log`.
    Log(LogPage),
    /// It could not be done.
    Failed {
        /// What, on which thing, why.
        what: String,
    },
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJob {
    /// Which.
    pub run: RunId,
    /// The folder that it uses.
    pub tree: PathBuf,
}

/// Some lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines; empty when the limit passed first.
    pub lines: Vec<LogLine>,
    /// Where to read on.
    pub next: u64,
    /// Whether nothing more will come.
    pub ended: bool,
}

/// Why no answer came.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LineError {
    /// No worker is connected, or the connection broke before the answer. The question may be repeated.
    #[error("no worker is connected")]
    Gone,
    /// The other side could not read it, or answered what cannot be read.
    #[error("{0}")]
    Broken(String),
}

/// A way to a worker. The link between processes is one; a worker in this process another.
pub trait Line: Send + Sync {
    /// Asks and waits for the answer. While no worker is connected it waits for one, `limit` at most.
    fn ask(&self, ask: Ask, limit: Duration) -> Fut<'_, Result<Answer, LineError>>;
}

/// A line to a worker in this process.
#[derive(Clone)]
pub struct LocalLine(
    /// The worker.
    pub Worker,
);

impl Line for LocalLine {
    fn ask(&self, ask: Ask, limit: Duration) -> Fut<'_, Result<Answer, LineError>> {
        Box::pin(async move { tokio::time::timeout(limit, self.0.answer(ask)).await.map_err(|_| LineError::Gone) })
    }
}
