//! The JSON shapes that are promised: what `--json` prints and the API answers.
//!
//! In: nothing. Out: plain data made by the feedback stage. Never decides.

use crate::fact::{ChangeState, Fact};
use crate::id::{
    ChangeId, CommitId, Digest, EnvironmentName, ItemId, Lane, ProjectName, ReleaseId, RolloutId, ServiceName,
};
use crate::instance::InstanceState;
use crate::job::{Artifact, TestCount, Usage};
use crate::rollout::{Incident, StepSeen};
use crate::time::At;
use crate::verdict::{Evidence, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `slipway status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The project.
    pub project: ProjectName,
    /// What waits for a person, most urgent first.
    pub needs_you: Vec<Need>,
    /// Changes that move or moved last, newest first.
    pub changes: Vec<ChangeView>,
    /// Environments in promotion order.
    pub environments: Vec<EnvironmentView>,
}

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The thing: `production api r41`.
    pub what: String,
    /// Why it waits.
    #[serde(rename = "for")]
    pub why: String,
    /// The command that answers.
    pub command: String,
    /// Since when.
    pub since: At,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentView {
    /// Its name.
    pub name: EnvironmentName,
    /// Whether nothing new comes in.
    pub frozen: bool,
    /// Who froze it, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub frozen_by: String,
    /// Its services.
    pub services: Vec<LaneView>,
}

/// One service in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneView {
    /// The service.
    pub name: ServiceName,
    /// The address for people.
    pub url: String,
    /// All addresses.
    pub addresses: Vec<String>,
    /// The release that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseView>,
    /// Where its newest rollout is.
    pub phase: String,
    /// What it waits for, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// Shares of traffic.
    pub traffic: Vec<TrafficView>,
    /// Commits that are held here.
    #[serde(default)]
    pub held: Vec<CommitId>,
    /// Secrets that were set or removed after its instances began, and that it has by its configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale_secrets: Vec<String>,
    /// The rollout that is under way: its step, who started it and when. A finished one is in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
}

/// A release in a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its id.
    pub id: ReleaseId,
    /// Its number.
    pub number: u64,
    /// The image.
    pub image: Digest,
    /// The image's tag.
    #[serde(default)]
    pub tag: String,
    /// The commit it was made from.
    pub commit: CommitId,
}

/// An instance in a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// The release it runs.
    pub release: ReleaseId,
    /// How it is.
    pub state: InstanceState,
    /// Where it can be reached inside.
    pub address: String,
    /// Since when it is so.
    pub since: At,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// From start to ready, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A release's share of traffic, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    /// The release.
    pub release: ReleaseId,
    /// Its share in percent.
    pub weight: u32,
    /// Instances ready for it.
    #[serde(default)]
    pub ready: u32,
    /// Requests so far.
    #[serde(default)]
    pub requests: u64,
    /// Failed ones.
    #[serde(default)]
    pub errors: u64,
    /// 95th percentile of latency.
    #[serde(default)]
    pub p95_us: u64,
}

/// A wait and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For what.
    #[serde(rename = "for")]
    pub what: String,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Since when.
    pub since: At,
    /// Until when at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<At>,
    /// The command that ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Its id.
    pub id: ChangeId,
    /// The commit.
    pub commit: CommitId,
    /// The commit's first line.
    pub subject: String,
    /// The branch.
    pub branch: String,
    /// `push`, `manual`.
    pub event: String,
    /// Who wrote it.
    pub author: String,
    /// How it stands.
    pub state: ChangeState,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it came.
    pub received: At,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Its plan.
    pub plan: PlanView,
    /// Its jobs.
    pub jobs: Vec<JobView>,
    /// Its images.
    pub images: Vec<crate::fact::ImageBuilt>,
    /// Its releases.
    pub releases: Vec<ReleaseView>,
    /// How ready its releases are: what each environment asks for, passed, open or failed.
    #[serde(default)]
    pub gates: Vec<GateView>,
    /// Its rollouts.
    pub rollouts: Vec<RolloutView>,
    /// Durations in milliseconds: `to_plan`, `to_first_job`, `to_live` …
    pub timings: BTreeMap<String, u64>,
    /// Where its time went, beside its jobs and rollouts (R075).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<SpanView>,
}

/// A stretch of a change's time (R075).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanView {
    /// `plan`, `image`, `release`, or `gate` before an environment.
    pub station: String,
    /// The service, unless it is about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The environment, for a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// What was waited for; absent while something was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// When it began.
    pub from: At,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<At>,
}

/// How a release stands before an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateView {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The release: `r41`.
    pub release: String,
    /// `passed`, `open` (it waits) or `failed` (refused).
    pub state: String,
    /// What was asked, or what is missing.
    pub reasons: Vec<String>,
    /// The command that answers, when a person can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Since when.
    pub at: At,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PlanView {
    /// Its items.
    pub items: Vec<PlanItemView>,
    /// Sentences worth saying.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Time that reuse and skipping save.
    #[serde(default)]
    pub saved_ms: u64,
}

/// An item of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItemView {
    /// Its id.
    pub id: ItemId,
    /// `job`, `image`, `release`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// `run`, `reused`, `not-affected`, `failed-before`.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// What it needs.
    pub needs: Vec<ItemId>,
}

/// A job of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id (the run).
    pub id: String,
    /// Its name.
    pub name: String,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// `unit`, `lint`, `package` …
    pub kind: String,
    /// `queued`, `running`, a job result, `reused`, `not-affected`, `blocked`.
    pub result: String,
    /// Why.
    pub reason: String,
    /// From 1.
    pub attempt: u32,
    /// Waited for what it needs and for a place.
    pub queued_ms: u64,
    /// From start to the first command.
    pub set_up_ms: u64,
    /// From the first command to the end.
    pub run_ms: u64,
    /// When its newest attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<At>,
    /// When that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<At>,
    /// Exit code of the step that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The step that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The first lines that look like the error.
    pub first_error: Vec<String>,
    /// What it used.
    pub usage: Usage,
    /// Kept artifacts.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Test counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCount>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its id.
    pub id: RolloutId,
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The release it moves to.
    pub to: String,
    /// `rolling`.
    pub strategy: String,
    /// Where it is.
    pub phase: String,
    /// Why.
    pub reason: String,
    /// Whether its commit is held here.
    pub held: bool,
    /// Who started it.
    pub by: String,
    /// When.
    pub started: At,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<At>,
    /// Its steps.
    pub steps: Vec<StepSeen>,
    /// Times of the incident.
    #[serde(default)]
    pub incident: Incident,
    /// The newest judgement, with its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Evidence, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// A line of history (R384).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// When.
    pub at: At,
    /// Where.
    pub lane: Lane,
    /// `r41`.
    pub release: String,
    /// Its id.
    pub release_id: ReleaseId,
    /// The commit.
    pub commit: CommitId,
    /// Who.
    pub by: String,
    /// What came of it.
    pub result: String,
    /// Why.
    pub reason: String,
    /// How long it took.
    pub took_ms: u64,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number.
    pub n: u64,
    /// Version of its shape.
    pub v: u16,
    /// When.
    pub at: At,
    /// Its kind.
    pub kind: String,
    /// The project.
    pub project: ProjectName,
    /// The change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Who.
    pub actor: String,
    /// On what.
    pub subject: String,
    /// The rest.
    pub data: serde_json::Value,
}

impl From<&Fact> for Event {
    fn from(fact: &Fact) -> Event {
        let body = serde_json::to_value(&fact.body).unwrap_or_default();
        let kind = body.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        Event {
            n: fact.n,
            v: fact.v,
            at: fact.at,
            kind,
            project: fact.project.clone(),
            change: fact.change.clone(),
            actor: fact.actor.to_string(),
            subject: fact.body.subject(),
            data: body.get("data").cloned().unwrap_or_default(),
        }
    }
}
