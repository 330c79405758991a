//! Verdicts: what was observed of a rollout, with evidence.
//!
//! In: nothing. Out: plain data. Never decides.

use crate::id::{CommitId, ReleaseId};
use crate::time::At;
use serde::{Deserialize, Serialize};

/// What an observation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// Enough was seen, and it is good.
    Pass,
    /// Too little was seen; policy may go on after passing smoke requests.
    Insufficient,
    /// Enough was seen, and it speaks neither way.
    Inconclusive,
    /// The observation itself failed.
    Unavailable,
    /// It is worse.
    Fail,
}

/// One verdict on one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it says.
    pub kind: VerdictKind,
    /// Why, in one sentence with the figures.
    pub sentence: String,
    /// The figures.
    pub figures: Figures,
    /// Time of the request that tipped it, when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tipped_at: Option<At>,
}

/// Figures of both releases over the same time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The new release.
    pub new: Observed,
    /// The old release.
    pub old: Observed,
    /// The method and path (or pattern) that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What was observed of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Requests.
    pub requests: u64,
    /// Of them 5xx answers and broken connections.
    pub errors: u64,
    /// 95th percentile of latency.
    pub p95_us: u64,
}

/// What is kept of a failed rollout (R299).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The sentence of the verdict.
    pub sentence: String,
    /// The figures that decided.
    pub figures: Figures,
    /// Addresses that fail, as a user would call them.
    pub urls: Vec<String>,
    /// Samples of failing requests and their answers.
    pub samples: Vec<Sample>,
    /// The last lines of the failing instances.
    pub log: Vec<String>,
    /// The image as it was built.
    pub image: String,
    /// The release that is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// The commits between the good and the bad release, newest first: id and subject.
    pub commits: Vec<(CommitId, String)>,
    /// Files that changed between them.
    pub files: Vec<String>,
    /// Lines of changed files that the log names (`src/main.rs:41`).
    pub code_lines: Vec<String>,
}

/// One failing request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: At,
    /// Method and path.
    pub request: String,
    /// Status, or 0 when the connection broke.
    pub status: u16,
    /// How long it took.
    pub latency_us: u64,
    /// Which instance answered.
    pub instance: String,
    /// The beginning of the answer.
    pub body: String,
}
