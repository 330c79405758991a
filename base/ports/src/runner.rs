//! The runner port: carries out jobs in sandboxes.
//!
//! In: a complete request. Out: an outcome. Never: decides whether a job is needed.

use crate::Fut;
use serde::{Deserialize, Serialize};
use slipway_model::job::{Artifact, JobDef, JobOutcome};
use slipway_model::{CommitId, Digest, ProjectName, RunId, Secret};
use std::collections::BTreeMap;

/// Everything that one execution needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// This execution; asking again for the same one joins it.
    pub run: RunId,
    /// The project.
    pub project: ProjectName,
    /// The commit whose files it sees; absent for a working tree given by path.
    pub commit: CommitId,
    /// A working tree on this machine instead of the commit (`slipway run`).
    #[serde(default)]
    pub tree: Option<String>,
    /// The job.
    pub job: JobDef,
    /// `SLIPWAY_*`, `CI` and the job's environment.
    pub env: BTreeMap<String, String>,
    /// Secret files; masked in every log line.
    pub secrets: BTreeMap<String, Secret>,
    /// The root file system when the job names an image.
    pub image: Option<Digest>,
    /// Artifacts handed over, by job and artifact name.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
    /// Outputs handed over, by job.
    pub outputs: BTreeMap<String, BTreeMap<String, Digest>>,
}

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// The step's or instance's name.
    pub step: String,
    /// Whether it came from standard error.
    pub error: bool,
    /// The text, masked.
    pub text: String,
}

/// Why the machine could not carry it out; says nothing about the code.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct RunnerError {
    /// What failed, on which thing, and what to do.
    pub what: String,
}

/// Carries out jobs.
pub trait Runner: Send + Sync {
    /// Runs to the end. Idempotent by run id: after a crash the same request joins what still runs, or returns
    /// what it came to meanwhile.
    fn run(&self, request: RunRequest) -> Fut<'_, Result<JobOutcome, RunnerError>>;
    /// Ends it; its outcome becomes `cancelled`.
    fn cancel(&self, run: &RunId) -> Fut<'_, ()>;
}
