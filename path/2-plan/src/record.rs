//! What the journal says of one change, folded.
//!
//! In: the facts of a change, of whatever stream. Out: the state of its items and lanes. Never: anything not in facts.

use slipway_model::fact::{Body, Candidate, ChangeInfo, ChangeState, Fact, Gate, ImageBuilt, SUPERSEDED};
use slipway_model::job::{Artifact, JobOutcome};
use slipway_model::plan::{Decision, Item, Plan};
use slipway_model::release::{Origin, Release};
use slipway_model::rollout::Phase;
use slipway_model::{Digest, ItemId, JobKey, Lane, RunId};
use std::collections::BTreeMap;

/// How an item stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemState {
    /// Not started.
    Waiting,
    /// Started, not ended.
    Running,
    /// What needs it may go on.
    Satisfied,
    /// What needs it may not, and why.
    Failed(String),
}

/// A release of the change on its way through one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneProgress {
    /// Who asks.
    pub candidate: Candidate,
    /// The newest answer of the gates.
    pub gate: Option<Gate>,
    /// Where its rollout is.
    pub phase: Option<Phase>,
    /// Why it is where it is.
    pub reason: String,
}

impl LaneProgress {
    /// Whether something may still happen by itself or by a person.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match (&self.gate, self.phase) {
            (_, Some(phase)) => !(phase.is_final() || phase == Phase::Baking || phase == Phase::Contracting),
            (Some(Gate::Refused { .. } | Gate::Identical { .. }), None) => false,
            (Some(Gate::Open { .. } | Gate::Wait { .. }) | None, None) => true,
        }
    }

    /// Whether the release was deployed and taken back.
    #[must_use]
    pub fn was_taken_back(&self) -> bool {
        matches!(self.phase, Some(Phase::RolledBack | Phase::NeedsHuman))
    }

    /// Whether a newer release went in its place.
    #[must_use]
    pub fn was_overtaken(&self) -> bool {
        matches!((&self.gate, self.phase), (Some(Gate::Refused { reason, .. }), None) if reason.starts_with(SUPERSEDED))
    }

    /// Whether it was not let in.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        matches!((&self.gate, self.phase), (Some(Gate::Refused { .. }), None)) || self.phase == Some(Phase::Dropped)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeRecord {
    /// The change itself.
    pub info: Option<ChangeInfo>,
    /// Its plan.
    pub plan: Option<Plan>,
    /// Attempts per item: the newest run and how it ended.
    pub runs: BTreeMap<ItemId, (RunId, u32, Option<JobOutcome>)>,
    /// Builds: the number of attempts, and the newest failure.
    pub builds: BTreeMap<ItemId, (u32, Option<String>)>,
    /// Images.
    pub images: BTreeMap<ItemId, ImageBuilt>,
    /// Releases.
    pub releases: BTreeMap<ItemId, (Release, Origin)>,
    /// Lanes that its releases entered or want to enter.
    pub lanes: BTreeMap<Lane, LaneProgress>,
    /// How it ended.
    pub ended: Option<(ChangeState, String)>,
    /// Items that a person wants once more, with the attempt they ended in.
    pub retried: BTreeMap<ItemId, u32>,
    /// A person ended it.
    pub cancelled: bool,
}

impl ChangeRecord {
    /// Folds the facts of a change.
    #[must_use]
    pub fn of(facts: &[Fact]) -> ChangeRecord {
        let mut record = ChangeRecord::default();
        for fact in facts {
            record.apply(&fact.body);
        }
        record
    }

    /// Takes one fact.
    pub fn apply(&mut self, body: &Body) {
        match body {
            Body::ChangeReceived(info) => self.info = Some(info.clone()),
            Body::PlanMade { plan } => self.plan = Some((**plan).clone()),
            Body::ChangeEnded { state, reason } => self.ended = Some((*state, reason.clone())),
            Body::JobStarted { item, run, attempt } if self.is_newest(item, *attempt) => {
                drop(self.runs.insert(item.clone(), (run.clone(), *attempt, None)))
            }
            Body::JobEnded { item, run, attempt, outcome } if self.is_newest(item, *attempt) => {
                self.runs.insert(item.clone(), (run.clone(), *attempt, Some((**outcome).clone())));
            }
            // An attempt that ends late says nothing about the one that followed it.
            Body::JobStarted { .. } | Body::JobEnded { .. } => {}
            Body::ImageStarted { item, .. } => {
                let attempts = self.builds.get(item).map_or(0, |(attempts, _)| *attempts);
                self.builds.insert(item.clone(), (attempts + 1, None));
            }
            Body::ImageFailed { item, reason, .. } => {
                let attempts = self.builds.get(item).map_or(1, |(attempts, _)| *attempts);
                self.builds.insert(item.clone(), (attempts, Some(reason.clone())));
            }
            Body::ImageBuilt(image) => drop(self.images.insert(image.item.clone(), image.clone())),
            Body::ReleaseMade { item, release, origin, .. } => {
                self.releases.insert(item.clone(), ((**release).clone(), origin.clone()));
            }
            Body::ReleaseQueued(candidate) => {
                let progress =
                    LaneProgress { candidate: candidate.clone(), gate: None, phase: None, reason: String::new() };
                self.lanes.insert(candidate.lane.clone(), progress);
                self.ended = None;
            }
            Body::ReleaseGated { candidate, gate } => self.gated(candidate, gate),
            Body::RolloutPhase(moved) => {
                if let Some(lane) = self.lanes.get_mut(&moved.head.lane) {
                    lane.phase = Some(moved.phase);
                    lane.reason =
                        format!("{} {}: {}", moved.head.lane.environment, moved.head.lane.service, moved.reason);
                }
            }
            Body::CommandGiven(command) => self.command(&command.verb, command.item.as_ref()),
            Body::VerdictWanted { .. }
            | Body::VerdictGiven { .. }
            | Body::EvidenceKept { .. }
            | Body::InstanceState { .. }
            | Body::HoldSet { .. }
            | Body::HoldReleased { .. }
            | Body::NoticeSent { .. } => {}
        }
    }

    fn is_newest(&self, item: &ItemId, attempt: u32) -> bool {
        self.runs.get(item).is_none_or(|(_, newest, _)| attempt >= *newest)
    }

    fn is_running(&self, item: &ItemId) -> bool {
        self.runs.get(item).is_some_and(|(_, _, outcome)| outcome.is_none())
            || (self.builds.get(item).is_some_and(|(_, failed)| failed.is_none()) && !self.images.contains_key(item))
    }

    fn gated(&mut self, candidate: &Candidate, gate: &Gate) {
        // A release that a newer one passed by is answered without having been queued.
        let fresh = || LaneProgress { candidate: candidate.clone(), gate: None, phase: None, reason: String::new() };
        let lane = self.lanes.entry(candidate.lane.clone()).or_insert_with(fresh);
        lane.reason = match gate {
            Gate::Open { .. } => String::new(),
            Gate::Wait { reason, .. } | Gate::Refused { reason, .. } | Gate::Identical { reason } => {
                format!("{} {}: {reason}", candidate.lane.environment, candidate.lane.service)
            }
        };
        lane.gate = Some(gate.clone());
    }

    fn command(&mut self, verb: &str, item: Option<&ItemId>) {
        match (verb, item) {
            // What runs already is not run beside itself.
            ("retry", Some(item)) if self.is_running(item) => {}
            ("retry", Some(item)) => {
                let attempt = self.runs.get(item).map_or(0, |(_, attempt, _)| *attempt);
                let built = self.builds.get(item).map_or(0, |(attempts, _)| *attempts);
                self.retried.insert(item.clone(), attempt.max(built));
                (self.ended, self.cancelled) = (None, false);
            }
            ("cancel", None) => self.cancelled = true,
            _ => {}
        }
    }

    /// How an item stands.
    #[must_use]
    pub fn state(&self, id: &ItemId) -> ItemState {
        let Some(item) = self.plan.as_ref().and_then(|plan| plan.item(id)) else {
            return ItemState::Failed("it is not in the plan".into());
        };
        if self.images.contains_key(id) || self.releases.contains_key(id) {
            return ItemState::Satisfied;
        }
        let again = self.retried.get(id);
        if let Some((_, attempt, outcome)) = self.runs.get(id)
            && again.is_none_or(|after| attempt > after)
        {
            return match outcome {
                None => ItemState::Running,
                Some(outcome) if outcome.result.satisfies() => ItemState::Satisfied,
                Some(outcome) => ItemState::Failed(failure(outcome)),
            };
        }
        if let Some((attempts, failed)) = self.builds.get(id)
            && again.is_none_or(|after| attempts > after)
        {
            return failed.as_ref().map_or(ItemState::Running, |reason| ItemState::Failed(reason.clone()));
        }
        match item.decision {
            Decision::Reused | Decision::NotAffected => ItemState::Satisfied,
            Decision::FailedBefore if again.is_none() => ItemState::Failed(item.reason.clone()),
            Decision::Run | Decision::FailedBefore if self.cancelled => ItemState::Failed("cancelled".into()),
            Decision::Run | Decision::FailedBefore => ItemState::Waiting,
        }
    }

    /// Whether this change's own files made an item necessary.
    #[must_use]
    pub fn is_touched(&self, item: &Item) -> bool {
        // A key that failed before and is in this plan with the same inputs belongs to this change only when the
        // change is the one that brought them; the plan says so in the previous result's change.
        item.previous
            .as_ref()
            .is_none_or(|previous| self.info.as_ref().is_some_and(|info| info.commit == previous.commit))
    }

    /// Artifacts of a job, from this change or the one its result is reused from.
    #[must_use]
    pub fn artifacts(&self, key: &JobKey) -> Vec<Artifact> {
        self.outcome(key).map(|outcome| outcome.artifacts.clone()).unwrap_or_default()
    }

    /// Outputs of a job.
    #[must_use]
    pub fn outputs(&self, key: &JobKey) -> BTreeMap<String, Digest> {
        self.outcome(key).map(|outcome| outcome.outputs.clone()).unwrap_or_default()
    }

    fn outcome(&self, key: &JobKey) -> Option<&JobOutcome> {
        let id = ItemId::job(key);
        let own = self.runs.get(&id).and_then(|(_, _, outcome)| outcome.as_ref());
        own.or_else(|| self.plan.as_ref()?.item(&id)?.previous.as_ref()?.outcome.as_deref())
    }

    /// The image of a service, built now or reused.
    #[must_use]
    pub fn image(&self, id: &ItemId) -> Option<&ImageBuilt> {
        self.images.get(id).or_else(|| self.plan.as_ref()?.item(id)?.previous.as_ref()?.image.as_deref())
    }
}

fn failure(outcome: &JobOutcome) -> String {
    if !outcome.reason.is_empty() {
        return outcome.reason.clone();
    }
    match outcome.exit_code {
        Some(code) => format!("{} with exit code {code}", outcome.result.word()),
        None => outcome.result.word().to_owned(),
    }
}
