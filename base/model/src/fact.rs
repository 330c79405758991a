//! Facts: everything that happened, in order, never changed.
//!
//! In: nothing. Out: the shapes that the journal keeps and the event stream shows. Never: logs or samples of
//! traffic, which are too many for a journal.

use crate::id::{ChangeId, CommitId, Digest, ItemId, Lane, ProjectName, ReleaseId, RolloutId, RunId, ServiceName};
use crate::instance::InstanceSeen;
use crate::job::JobOutcome;
use crate::plan::Plan;
use crate::release::{Origin, Release};
use crate::rollout::{Incident, Phase, RolloutHead, StepSeen};
use crate::time::At;
use crate::verdict::{Evidence, Verdict};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the shapes in this file; every released one keeps an upcaster and a golden file.
pub const FACT_VERSION: u16 = 1;

/// How the refusal of a release begins that a newer one overtook; its change did nothing wrong.
pub const SUPERSEDED: &str = "superseded by";

/// How an answer begins that comes from another service of the same change, which has to go first.
pub const NEEDS: &str = "needs";

/// Who made something happen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl Actor {
    /// Slipway itself.
    #[must_use]
    pub fn slipway() -> Actor {
        Actor("slipway".into())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fact as the journal holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Its number; no gaps, never given twice.
    pub n: u64,
    /// Version of its shape.
    pub v: u16,
    /// When it was recorded.
    pub at: At,
    /// The project.
    pub project: ProjectName,
    /// The stream it belongs to, e.g. `change/1f3c…` or `lane/production/api`.
    pub stream: String,
    /// Its place in that stream, from 1.
    pub version: u64,
    /// The change it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Who made it happen.
    pub actor: Actor,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// A fact that is not yet recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFact {
    /// The change it belongs to.
    pub change: Option<ChangeId>,
    /// Who made it happen.
    pub actor: Actor,
    /// What happened.
    pub body: Body,
}

impl NewFact {
    /// A fact that Slipway itself states.
    #[must_use]
    pub fn new(change: Option<ChangeId>, body: Body) -> NewFact {
        NewFact { change, actor: Actor::slipway(), body }
    }

    /// The same, made to happen by somebody.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> NewFact {
        self.actor = actor;
        self
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Body {
    /// A commit arrived.
    #[serde(rename = "change.received")]
    ChangeReceived(ChangeInfo),
    /// It was decided what must happen.
    #[serde(rename = "plan.made")]
    PlanMade {
        /// The plan.
        plan: Box<Plan>,
    },
    /// The change is over.
    #[serde(rename = "change.ended")]
    ChangeEnded {
        /// How.
        state: ChangeState,
        /// Why, for a person.
        reason: String,
    },
    /// A job began.
    #[serde(rename = "job.started")]
    JobStarted {
        /// The plan's item.
        item: ItemId,
        /// This execution.
        run: RunId,
        /// From 1.
        attempt: u32,
    },
    /// A job ended.
    #[serde(rename = "job.ended")]
    JobEnded {
        /// The plan's item.
        item: ItemId,
        /// This execution.
        run: RunId,
        /// From 1.
        attempt: u32,
        /// What came of it.
        outcome: Box<JobOutcome>,
    },
    /// An image is being built.
    #[serde(rename = "image.started")]
    ImageStarted {
        /// The plan's item.
        item: ItemId,
        /// The build's number within the project.
        build: u64,
    },
    /// An image is there.
    #[serde(rename = "image.built")]
    ImageBuilt(ImageBuilt),
    /// An image could not be built.
    #[serde(rename = "image.failed")]
    ImageFailed {
        /// The plan's item.
        item: ItemId,
        /// Why, with line and column where the Dockerfile is to blame.
        reason: String,
        /// Whether it was the machine and not the change.
        infrastructure: bool,
    },
    /// A release exists (or an equal one existed already).
    #[serde(rename = "release.made")]
    ReleaseMade {
        /// The plan's item.
        item: ItemId,
        /// The release.
        release: Box<Release>,
        /// What it was made from this time.
        origin: Origin,
        /// Whether an equal release existed before.
        again: bool,
    },
    /// A release asks to enter an environment.
    #[serde(rename = "release.queued")]
    ReleaseQueued(Candidate),
    /// Whether it may.
    #[serde(rename = "release.gated")]
    ReleaseGated {
        /// Who asks.
        candidate: Candidate,
        /// The answer.
        gate: Gate,
    },
    /// A rollout moved on.
    #[serde(rename = "rollout.phase")]
    RolloutPhase(Box<RolloutMoved>),
    /// A judgement is wanted.
    #[serde(rename = "verdict.wanted")]
    VerdictWanted {
        /// The rollout.
        rollout: RolloutId,
        /// The lane.
        lane: Lane,
        /// Which step, from 1; baking is one more.
        step: u32,
    },
    /// A judgement was given.
    #[serde(rename = "verdict.given")]
    VerdictGiven {
        /// The rollout.
        rollout: RolloutId,
        /// The lane.
        lane: Lane,
        /// Which step.
        step: u32,
        /// The judgement.
        verdict: Box<Verdict>,
    },
    /// Evidence of a failure is kept.
    #[serde(rename = "evidence.kept")]
    EvidenceKept {
        /// The rollout.
        rollout: RolloutId,
        /// The lane.
        lane: Lane,
        /// The evidence.
        evidence: Box<Evidence>,
    },
    /// An instance changed its state in a way worth remembering.
    #[serde(rename = "instance.state")]
    InstanceState {
        /// The lane.
        lane: Lane,
        /// The instance as seen.
        instance: Box<InstanceSeen>,
    },
    /// A commit is held in a lane.
    #[serde(rename = "hold.set")]
    HoldSet {
        /// The lane.
        lane: Lane,
        /// The commit.
        commit: CommitId,
        /// Why.
        reason: String,
    },
    /// A hold ended.
    #[serde(rename = "hold.released")]
    HoldReleased {
        /// The lane.
        lane: Lane,
        /// The commit.
        commit: CommitId,
        /// By what.
        reason: String,
    },
    /// Somebody gave a command.
    #[serde(rename = "command.given")]
    CommandGiven(Command),
    /// Somebody was told something.
    #[serde(rename = "notice.sent")]
    NoticeSent {
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
}

/// A commit that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeInfo {
    /// Derived from project, event, ref, old and new commit.
    pub id: ChangeId,
    /// `push`, `manual`.
    pub event: String,
    /// The full ref.
    pub reference: String,
    /// The branch's (or tag's) short name.
    pub branch: String,
    /// Whether it is the production branch.
    pub production: bool,
    /// The ref's commit before, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<CommitId>,
    /// The commit.
    pub commit: CommitId,
    /// The commit's author.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
    /// Who pushed.
    pub pusher: String,
    /// Why nothing shall run, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// Bad commits that this one says it fixes (full or short ids).
    #[serde(default)]
    pub fixes: Vec<String>,
    /// Commits that this one reverts, by Git's own message.
    #[serde(default)]
    pub reverts: Vec<String>,
}

/// How a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeState {
    /// Recorded, not yet planned.
    Queued,
    /// Something of it runs.
    Running,
    /// It waits for a person or a clock.
    Waiting,
    /// It serves everywhere it was to go.
    Live,
    /// All its checks passed and it has nowhere to go.
    Passed,
    /// A check, image or configuration failed.
    Failed,
    /// It was deployed and taken back.
    RolledBack,
    /// A person ended it.
    Cancelled,
    /// It asked not to be run; counts as not passed (R012).
    Skipped,
}

impl ChangeState {
    /// Whether nothing follows by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, ChangeState::Queued | ChangeState::Running | ChangeState::Waiting)
    }

    /// The word for people, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ChangeState::Queued => "queued",
            ChangeState::Running => "running",
            ChangeState::Waiting => "waiting",
            ChangeState::Live => "live",
            ChangeState::Passed => "passed",
            ChangeState::Failed => "failed",
            ChangeState::RolledBack => "rolled-back",
            ChangeState::Cancelled => "cancelled",
            ChangeState::Skipped => "skipped",
        }
    }
}

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuilt {
    /// The plan's item.
    pub item: ItemId,
    /// The service.
    pub service: ServiceName,
    /// The manifest's digest.
    pub digest: Digest,
    /// The full reference, `guestbook/api:1f3c9ab-482`.
    pub reference: String,
    /// The build's number within the project.
    pub build: u64,
    /// Sum of its layers as stored.
    pub size_bytes: u64,
    /// The difference to the service's image before, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grew_bytes: Option<i64>,
    /// Whether the digest existed before, so that no tag was made.
    pub reused: bool,
    /// Ports it exposes.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// What looks wrong about it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// A release that asks to enter an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Where.
    pub lane: Lane,
    /// Which release.
    pub release: ReleaseId,
    /// Its number.
    pub number: u64,
    /// The commit it comes from this time.
    pub commit: CommitId,
    /// The change; absent when a person asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Why.
    pub purpose: crate::rollout::Purpose,
    /// Who asks.
    pub by: String,
    /// A person asked for exactly this, which stands in for `deploy: auto`.
    pub by_hand: bool,
}

/// The answer of the gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Gate {
    /// It may enter.
    Open {
        /// The gates it passed, each with its reason (R344).
        passed: Vec<String>,
    },
    /// It waits for somebody or something.
    Wait {
        /// For what.
        reason: String,
        /// For whom, when it is a person.
        who: Option<String>,
        /// Until when at most.
        until: Option<At>,
        /// The command that ends the wait.
        next: Option<String>,
    },
    /// It may not.
    Refused {
        /// Why.
        reason: String,
        /// What to do instead.
        next: Option<String>,
    },
    /// It is what already runs (R309).
    Identical {
        /// In words.
        reason: String,
    },
}

/// A rollout that moved on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutMoved {
    /// What it is about.
    pub head: RolloutHead,
    /// Where it is now.
    pub phase: Phase,
    /// Why, for a person.
    pub reason: String,
    /// What it waits for and until when, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<At>,
    /// Steps so far.
    pub steps: Vec<StepSeen>,
    /// Shares of traffic it asked for.
    pub weights: Vec<(ReleaseId, u32)>,
    /// The times of the incident, when it goes back.
    #[serde(default)]
    pub incident: Incident,
    /// Whether it was judged by smoke requests alone.
    #[serde(default)]
    pub smoke_only: bool,
    /// The machine's private state.
    pub record: serde_json::Value,
}

/// A command that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The verb: `deploy`, `rollback`, `approve` …
    pub verb: String,
    /// On what.
    pub what: String,
    /// The environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<crate::id::EnvironmentName>,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The plan's item (a job to retry or cancel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
    /// The reason given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Body {
    /// What it is about, for the event stream's `subject`.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Body::ChangeReceived(change) => change.commit.to_string(),
            Body::PlanMade { .. } | Body::ChangeEnded { .. } => String::new(),
            Body::JobStarted { item, .. }
            | Body::JobEnded { item, .. }
            | Body::ImageStarted { item, .. }
            | Body::ImageFailed { item, .. } => item.to_string(),
            Body::ImageBuilt(built) => built.reference.clone(),
            Body::ReleaseMade { release, .. } => release.title(),
            Body::ReleaseQueued(candidate) | Body::ReleaseGated { candidate, .. } => candidate.lane.to_string(),
            Body::RolloutPhase(moved) => moved.head.lane.to_string(),
            Body::VerdictWanted { lane, .. }
            | Body::VerdictGiven { lane, .. }
            | Body::EvidenceKept { lane, .. }
            | Body::InstanceState { lane, .. }
            | Body::HoldSet { lane, .. }
            | Body::HoldReleased { lane, .. } => lane.to_string(),
            Body::CommandGiven(command) => command.what.clone(),
            Body::NoticeSent { to, .. } => to.clone(),
        }
    }
}

/// The streams facts are recorded in.
pub mod stream {
    use crate::id::{ChangeId, Lane, ServiceName};

    /// All that belongs to one change.
    #[must_use]
    pub fn change(id: &ChangeId) -> String {
        format!("change/{id}")
    }
    /// What asks to enter one service in one environment, its gates and holds; written by the release stage.
    #[must_use]
    pub fn lane(lane: &Lane) -> String {
        format!("lane/{}/{}", lane.environment, lane.service)
    }
    /// Rollouts of one service in one environment, one after the other; written by the rollout stage alone, so
    /// that its version can be the fencing epoch of wishes.
    #[must_use]
    pub fn rollout(lane: &Lane) -> String {
        format!("rollout/{}/{}", lane.environment, lane.service)
    }
    /// Judgements and evidence of one lane; written by the verify stage.
    #[must_use]
    pub fn verdict(lane: &Lane) -> String {
        format!("verdict/{}/{}", lane.environment, lane.service)
    }
    /// The numbering of one service's releases.
    #[must_use]
    pub fn service(service: &ServiceName) -> String {
        format!("service/{service}")
    }
    /// Commands people gave.
    pub const COMMANDS: &str = "commands";
}
