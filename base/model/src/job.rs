//! Jobs: what is to be run, and what came of it.
//!
//! In: nothing. Out: definitions (from the configuration) and outcomes (from a runner). Never runs anything.

use crate::id::{Digest, JobKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One job as the configuration of its commit defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDef {
    /// Service and name.
    pub key: JobKey,
    /// What kind of check it is: `unit`, `lint`, `package` …
    pub kind: String,
    /// Commands in order; the job ends at the first that fails.
    pub steps: Vec<StepDef>,
    /// Jobs whose outputs and artifacts are handed over.
    pub needs: Vec<JobKey>,
    /// Where its commands run.
    pub image: JobImage,
    /// Plain environment variables.
    pub env: BTreeMap<String, String>,
    /// Names of the secrets given as files.
    pub secrets: Vec<String>,
    /// Globs, from the repository's root, of the files that count.
    pub inputs: Vec<String>,
    /// Globs, from the working folder, that must match something afterwards.
    pub produces: Vec<String>,
    /// Named bundles of files to keep.
    pub artifacts: BTreeMap<String, ArtifactDef>,
    /// When to try again.
    pub retry: Retry,
    /// After this the job is killed and `timed-out`.
    pub timeout_ms: u64,
    /// Whether it may reach the network.
    pub network: bool,
    /// The working folder, from the repository's root; empty is the root.
    pub folder: String,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepDef {
    /// Its name in logs.
    pub name: String,
    /// The shell command, run by `sh -e -c`.
    pub run: String,
    /// Environment of this step alone.
    pub env: BTreeMap<String, String>,
    /// Its own limit, within the job's.
    pub timeout_ms: Option<u64>,
}

/// Where a job's commands come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobImage {
    /// Read-only tools of the machine.
    Host,
    /// An image of the own registry, by reference.
    Image(String),
}

/// A named bundle of files that a job leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactDef {
    /// Globs from the working folder.
    pub paths: Vec<String>,
    /// How long it is kept.
    pub keep_ms: u64,
}

/// When a job that did not pass is run again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first.
    pub max: u32,
    /// Causes that count: `infrastructure`, `network`, `memory`, `exit N`.
    pub on: Vec<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobResult {
    /// Every step exited 0 and everything promised is there.
    Passed,
    /// A step failed, or something promised is missing.
    Failed,
    /// It ran longer than it may.
    TimedOut,
    /// A person or a newer change ended it.
    Cancelled,
    /// Its worker or machine failed it; says nothing about the code.
    Lost,
    /// It exited 78: neither good nor bad.
    Neutral,
}

impl JobResult {
    /// Whether what needs this job may go on.
    #[must_use]
    pub fn satisfies(self) -> bool {
        match self {
            JobResult::Passed | JobResult::Neutral => true,
            JobResult::Failed | JobResult::TimedOut | JobResult::Cancelled | JobResult::Lost => false,
        }
    }

    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            JobResult::Passed => "passed",
            JobResult::Failed => "failed",
            JobResult::TimedOut => "timed-out",
            JobResult::Cancelled => "cancelled",
            JobResult::Lost => "lost",
            JobResult::Neutral => "neutral",
        }
    }
}

/// What came of one attempt at a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOutcome {
    /// How it ended.
    pub result: JobResult,
    /// Why, in words, when it did not pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The name of the step that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The command of that step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its exit code; 128 + signal when killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The first lines that look like the error.
    #[serde(default)]
    pub first_error: Vec<String>,
    /// Kept artifacts.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Outputs by name.
    #[serde(default)]
    pub outputs: BTreeMap<String, Digest>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
    /// From start to the first command.
    #[serde(default)]
    pub set_up_ms: u64,
    /// From the first command to the end.
    #[serde(default)]
    pub run_ms: u64,
    /// Test counts read from the log, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCount>,
}

/// A kept artifact: a deterministic tar in the content store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name in the configuration.
    pub name: String,
    /// The tar's digest.
    pub digest: Digest,
    /// The tar's size.
    pub size_bytes: u64,
}

/// What a job used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes.
    pub cpu_ms: u64,
    /// The most memory at one moment.
    pub memory_peak_bytes: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub written_bytes: u64,
}

/// Counts of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TestCount {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Skipped or ignored.
    pub skipped: u64,
}
