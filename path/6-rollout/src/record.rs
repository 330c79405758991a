//! What the rollout stage keeps of a rollout: the machine's private state, versioned.
//!
//! In: facts of a lane. Out: the state to decide on. Never: anything that can be read off the node instead.

use serde::{Deserialize, Serialize};
use slipway_model::fact::{Body, Candidate, Fact, Gate};
use slipway_model::policy::VerifyPolicy;
use slipway_model::rollout::{Incident, Phase, ReleaseRef, RolloutHead, StepSeen};

/// The version of [`State`] as stored in facts.
pub const RECORD_VERSION: u16 = 1;

/// Numbers that are fixed when a rollout begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Wanted instances of the new release.
    pub desired: u32,
    /// Wanted instances of the old release; 0 when there is none.
    pub desired_old: u32,
    /// Serving instances above `desired`.
    pub surge: u32,
    /// Serving instances below `desired`.
    pub unavailable: u32,
    /// How steps are judged.
    pub verify: VerifyPolicy,
    /// How long an instance may take to become ready.
    pub ready_ms: u64,
}

/// The machine's state. Counts are wishes; what is real comes with each observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this shape.
    pub v: u16,
    /// What it is about.
    pub head: RolloutHead,
    /// Fixed numbers.
    pub policy: Policy,
    /// Where it is.
    pub phase: Phase,
    /// Why it is there, for a person.
    pub reason: String,
    /// New instances that serve once they are ready.
    pub new_serving: u32,
    /// New instances kept alive for evidence, without traffic.
    pub new_retiring: u32,
    /// Old instances that serve.
    pub old_serving: u32,
    /// Old instances kept alive until the verdict, without traffic.
    pub old_retiring: u32,
    /// Shares of traffic: new, old.
    pub weights: (u32, u32),
    /// Whether the wish of this phase was seen to be routed, so that its next intent was given.
    pub asked: bool,
    /// Which step, from 1.
    pub step: u32,
    /// Steps as they went.
    pub steps: Vec<StepSeen>,
    /// Judged by smoke requests alone so far.
    pub smoke_only: bool,
    /// What went wrong, once something did.
    pub failure: Option<String>,
    /// Times of the incident.
    pub incident: Incident,
    /// Monotonic deadline of this phase, in this process's time; set anew after a restart.
    pub deadline_ms: Option<u64>,
    /// The number of the gate fact that let this release in.
    pub gate_n: u64,
    /// The epoch of the wish that follows from counts and weights: the lane's version when they last changed.
    pub wish_epoch: u64,
}

impl State {
    /// A rollout that waits to begin.
    #[must_use]
    pub fn new(head: RolloutHead, policy: Policy) -> State {
        let old = if head.from.is_some() { policy.desired_old } else { 0 };
        State {
            v: RECORD_VERSION,
            head,
            phase: Phase::Queued,
            reason: "waits for its turn".into(),
            new_serving: 0,
            new_retiring: 0,
            old_serving: old,
            old_retiring: 0,
            weights: (0, u32::from(old > 0)),
            asked: false,
            step: 0,
            steps: Vec::new(),
            smoke_only: true,
            failure: None,
            incident: Incident::default(),
            deadline_ms: None,
            gate_n: 0,
            wish_epoch: 0,
            policy,
        }
    }

    /// The release that serves when nothing moves (any more).
    #[must_use]
    pub fn settled_on(&self) -> Option<&ReleaseRef> {
        match self.phase {
            Phase::Succeeded | Phase::Contracting | Phase::Baking => Some(&self.head.to),
            Phase::NeedsHuman | Phase::Dropped if self.old_serving == 0 && self.new_serving > 0 => Some(&self.head.to),
            _ => self.head.from.as_ref(),
        }
    }

    /// Whether two states ask the node for the same.
    #[must_use]
    pub fn same_wish(&self, other: &State) -> bool {
        let of = |state: &State| {
            (state.new_serving, state.new_retiring, state.old_serving, state.old_retiring, state.weights)
        };
        of(self) == of(other) && self.head == other.head
    }

    /// Whether the difference to `other` is worth a record: everything but sentences and this process's waits.
    #[must_use]
    pub fn same_record(&self, other: &State) -> bool {
        let bare = |state: &State| State { reason: String::new(), asked: false, deadline_ms: None, ..state.clone() };
        bare(self) == bare(other)
    }

    /// Whether there is a release to go back to.
    #[must_use]
    pub fn has_old(&self) -> bool {
        self.head.from.is_some()
    }
}

/// What the stage knows of one lane, folded from the lane's stream (gates) and its own (rollouts).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneRecord {
    /// The version of the stage's own stream: the fencing epoch.
    pub version: u64,
    /// The version of the lane's stream.
    pub lane_version: u64,
    /// The newest rollout.
    pub state: Option<State>,
    /// The newest candidate whose gates are open, and the number of the fact that opened them.
    pub open: Option<(Candidate, u64)>,
    /// The number of the fact that ended the rollout before.
    pub ended_n: u64,
}

impl LaneRecord {
    /// Takes one fact of either stream.
    pub fn apply(&mut self, fact: &Fact) {
        match &fact.body {
            Body::RolloutPhase(moved) => {
                if let Ok(state) = serde_json::from_value::<State>(moved.record.clone()) {
                    self.state = Some(state);
                }
                if moved.phase.is_final() {
                    self.ended_n = fact.n;
                }
            }
            Body::ReleaseGated { candidate, gate } => match gate {
                Gate::Open { .. } => self.open = Some((candidate.clone(), fact.n)),
                // Before it began a newer release went by, or what it contains was taken back.
                Gate::Wait { .. } | Gate::Refused { .. } | Gate::Identical { .. } => {
                    if self.open.as_ref().is_some_and(|(open, _)| open == candidate) {
                        self.open = None;
                    }
                }
            },
            _ => {}
        }
        let version = if fact.stream.starts_with("rollout/") { &mut self.version } else { &mut self.lane_version };
        *version = fact.version;
    }

    /// The candidate that has no rollout yet. Who was let in before another rollout ended is asked again first: what
    /// serves, or what is held, is another now.
    #[must_use]
    pub fn pending(&self) -> Option<&(Candidate, u64)> {
        let begun = self.state.as_ref().map_or(0, |state| state.gate_n);
        self.open.as_ref().filter(|(_, n)| *n > begun && *n > self.ended_n)
    }

    /// The release that serves, or served last.
    #[must_use]
    pub fn current(&self) -> Option<&ReleaseRef> {
        self.state.as_ref().and_then(State::settled_on)
    }
}
