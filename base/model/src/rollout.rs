//! Rollouts: the phases of moving one lane from a release to another.
//!
//! In: nothing. Out: plain data. The machine itself is `path/6-rollout`.

use crate::id::{ChangeId, CommitId, Lane, ReleaseId, RolloutId};
use crate::time::At;
use crate::verdict::VerdictKind;
use serde::{Deserialize, Serialize};

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits its turn in the lane.
    Queued,
    /// Its gates were passed.
    Gated,
    /// What it needs (image, secrets, room) is there.
    Prepared,
    /// The schema is expanded; passes at once for services without one.
    Expanded,
    /// New instances of this step are being started.
    Provisioning,
    /// New instances are asked whether they are ready, and get the smoke requests.
    Probing,
    /// Traffic has moved for this step and the verdict is awaited.
    Stepping,
    /// All traffic is being moved to the new release.
    Promoting,
    /// Everything is on the new release; it is watched.
    Baking,
    /// What only the old release needed is removed.
    Contracting,
    /// Done.
    Succeeded,
    /// Traffic goes back to the old release.
    Returning,
    /// Evidence is being kept, before anything failed is removed.
    Capturing,
    /// The old release gets its full capacity back.
    Restoring,
    /// Done: the old release serves.
    RolledBack,
    /// Nothing to go back to, or going back failed: a person must act.
    NeedsHuman,
    /// Ended before it began: superseded or cancelled.
    Dropped,
}

impl Phase {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped)
    }

    /// Whether it is going back.
    #[must_use]
    pub fn is_return(self) -> bool {
        matches!(self, Phase::Returning | Phase::Capturing | Phase::Restoring)
    }

    /// The word for people, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Gated => "gated",
            Phase::Prepared => "prepared",
            Phase::Expanded => "expanded",
            Phase::Provisioning => "provisioning",
            Phase::Probing => "probing",
            Phase::Stepping => "stepping",
            Phase::Promoting => "promoting",
            Phase::Baking => "baking",
            Phase::Contracting => "contracting",
            Phase::Succeeded => "succeeded",
            Phase::Returning => "returning",
            Phase::Capturing => "capturing",
            Phase::Restoring => "restoring",
            Phase::RolledBack => "rolled-back",
            Phase::NeedsHuman => "needs-human",
            Phase::Dropped => "dropped",
        }
    }
}

/// Why a rollout is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A new release enters.
    Deploy,
    /// A person goes back (or on) to a release that succeeded here.
    Rollback,
    /// The same release once more, with newer secrets or a changed specification.
    Refresh,
}

/// What a rollout is about; fixed when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHead {
    /// Its id.
    pub id: RolloutId,
    /// Where.
    pub lane: Lane,
    /// The release that served when it began, and its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ReleaseRef>,
    /// The release it moves to.
    pub to: ReleaseRef,
    /// Why.
    pub purpose: Purpose,
    /// The commit and change that asked for it.
    pub commit: CommitId,
    /// The change, absent when a person asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Who asked.
    pub by: String,
}

/// A release as people name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Its id.
    pub id: ReleaseId,
    /// Its number.
    pub number: u64,
}

/// One step as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSeen {
    /// `1 of 3`.
    pub name: String,
    /// The new release's share of traffic, in percent.
    pub weight: u32,
    /// How it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictKind>,
    /// When traffic had moved.
    pub started: At,
    /// When it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<At>,
}

/// The times of an incident (R318).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Incident {
    /// The request (or exit) that tipped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognised: Option<At>,
    /// Recorded and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<At>,
    /// All traffic back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<At>,
    /// Full capacity back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<At>,
}
