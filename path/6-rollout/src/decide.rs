//! The rollout machine: `step(state, event, now) → (state, intents)`.
//!
//! In: a state, what happened, what time it is. Out: the next state and what is to be done about it. Never: I/O,
//! a clock, chance; never goes backwards in epochs; never stops an old instance before the verdict of its step.
//!
//! Wishes are level-triggered, so the state *is* the wish; intents only name what else is to be done in a phase.

use crate::back;
use crate::forward;
use crate::record::State;
use slipway_model::At;
use slipway_model::instance::{InstanceState, LaneSeen};
use slipway_model::rollout::Phase;
use slipway_model::verdict::VerdictKind;

/// The two times a decision needs: one for records, one for waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock.
    pub wall: At,
    /// Monotonic milliseconds of this process.
    pub mono_ms: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its turn has come, or the phase before is through: go on if nothing has to be waited for.
    Continue,
    /// The process was started anew: repeat what was asked, begin waits again.
    Resumed,
    /// The node reports the lane; the epoch says which wish it has taken.
    Seen {
        /// The lane as seen.
        lane: LaneSeen,
        /// The epoch of this state's wish.
        wish_epoch: u64,
        /// Whether image, configuration and place are what was intended; else what is not (R310).
        proof: Result<(), String>,
    },
    /// What is needed is there, or not.
    Prepared(Result<(), String>),
    /// The smoke requests to the new instances were answered.
    Smoked(Result<(), String>),
    /// The smoke requests to the old instances were answered, after going back (R323).
    OldSmoked(Result<(), String>),
    /// A verdict on a step.
    Verdict {
        /// The step it is about.
        step: u32,
        /// What it says.
        kind: VerdictKind,
        /// Why.
        sentence: String,
        /// The request that tipped it.
        tipped_at: Option<At>,
    },
    /// Evidence is kept.
    Captured,
    /// A deadline may have passed.
    Timer,
    /// A person (or a rollback) wants the traffic back.
    Abort {
        /// Who and why.
        reason: String,
    },
    /// A newer release waits for this lane.
    Superseded,
}

/// What is to be done besides stating the wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// State the wish of the new state to the node.
    Wish,
    /// Find out whether image and secrets are there.
    Prepare,
    /// Send the smoke requests to the new release's instances.
    Smoke,
    /// Send the smoke requests to the old release's instances.
    SmokeOld,
    /// Have this step judged.
    Judge,
    /// Keep the evidence.
    Capture,
    /// Hold the commit in this lane.
    Hold,
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What to do, in this order.
    pub intents: Vec<Intent>,
}

impl Step {
    /// Nothing changes.
    #[must_use]
    pub fn stay(state: State) -> Step {
        Step { state, intents: Vec::new() }
    }
}

/// The machine's one function.
#[must_use]
pub fn step(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Resumed => resume(state, now),
        Event::Abort { reason } => abort(state, reason, now),
        Event::Continue
        | Event::Seen { .. }
        | Event::Prepared(_)
        | Event::Smoked(_)
        | Event::OldSmoked(_)
        | Event::Verdict { .. }
        | Event::Captured
        | Event::Timer
        | Event::Superseded => match state.phase {
            Phase::Queued => forward::queued(state, now),
            Phase::Gated => forward::gated(state, event, now),
            Phase::Prepared => forward::prepared(state),
            Phase::Expanded => forward::next_step(state, now),
            Phase::Provisioning => forward::provisioning(state, event, now),
            Phase::Probing => forward::probing(state, event, now),
            Phase::Stepping => forward::stepping(state, event, now),
            Phase::Promoting => forward::promoting(state, event, now),
            Phase::Baking => forward::baking(state, event, now),
            Phase::Contracting => forward::contracting(state),
            Phase::Returning => back::returning(state, event, now),
            Phase::Capturing => back::capturing(state, event, now),
            Phase::Restoring => back::restoring(state, event, now),
            Phase::Succeeded | Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped => Step::stay(state),
        },
    }
}

/// Moves to a phase with a reason, a fresh deadline and the wish stated.
#[must_use]
pub fn enter(mut state: State, phase: Phase, reason: impl Into<String>, wait_ms: Option<u64>, now: Now) -> State {
    state.phase = phase;
    state.reason = reason.into();
    state.asked = false;
    state.deadline_ms = wait_ms.map(|wait| now.mono_ms.saturating_add(wait));
    state
}

/// Whether the phase's deadline has passed.
#[must_use]
pub fn is_late(state: &State, now: Now) -> bool {
    state.deadline_ms.is_some_and(|deadline| now.mono_ms >= deadline)
}

// Deadlines were in the old process's time. A wait begins again in full: a restart may lengthen it, never shorten.
fn resume(mut state: State, now: Now) -> Step {
    if state.phase.is_final() {
        return Step { state, intents: vec![Intent::Wish] };
    }
    state.asked = false;
    if state.deadline_ms.is_some() {
        state.deadline_ms = Some(now.mono_ms.saturating_add(wait_of(&state)));
    }
    let intents = match state.phase {
        Phase::Gated => vec![Intent::Prepare],
        Phase::Capturing => vec![Intent::Wish, Intent::Capture],
        _ => vec![Intent::Wish],
    };
    Step { state, intents }
}

/// How long the state's phase may take at most.
#[must_use]
pub fn wait_of(state: &State) -> u64 {
    match state.phase {
        Phase::Provisioning | Phase::Probing => forward::ready_wait(state),
        Phase::Stepping => forward::judge_wait(state),
        Phase::Baking => state.policy.verify.bake_ms,
        Phase::Restoring | Phase::Returning => forward::ready_wait(state),
        Phase::Queued
        | Phase::Gated
        | Phase::Prepared
        | Phase::Expanded
        | Phase::Promoting
        | Phase::Contracting
        | Phase::Capturing
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::NeedsHuman
        | Phase::Dropped => forward::SETTLE_MS,
    }
}

fn abort(state: State, reason: &str, now: Now) -> Step {
    match state.phase {
        Phase::Queued | Phase::Gated | Phase::Prepared | Phase::Expanded => {
            let state = enter(state, Phase::Dropped, reason, None, now);
            Step { state, intents: vec![Intent::Wish] }
        }
        Phase::Provisioning | Phase::Probing | Phase::Stepping | Phase::Promoting | Phase::Baking => {
            back::give_up(state, reason.to_owned(), None, now)
        }
        // The old release is being stopped and it ends at once: going back from here is a rollout of its own.
        Phase::Contracting
        | Phase::Returning
        | Phase::Capturing
        | Phase::Restoring
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::NeedsHuman
        | Phase::Dropped => Step::stay(state),
    }
}

/// What a lane shows of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Ready for traffic, or ready and withdrawn.
    pub ready: u32,
    /// Ready and in routing.
    pub serving: u32,
    /// Not gone.
    pub alive: u32,
    /// Most restarts of one instance.
    pub restarts: u32,
    /// One of them will not become ready by waiting longer.
    pub stuck: bool,
}

/// Counts the instances of a release.
#[must_use]
pub fn count(lane: &LaneSeen, release: &slipway_model::ReleaseId) -> Count {
    let mut seen = Count::default();
    for instance in lane.instances.iter().filter(|instance| &instance.release == release) {
        let (ready, serving, alive) = match instance.state {
            InstanceState::Ready => (1, 1, 1),
            InstanceState::Retiring => (1, 0, 1),
            InstanceState::Starting | InstanceState::Unready | InstanceState::BackingOff => (0, 0, 1),
            InstanceState::Draining | InstanceState::Stopping | InstanceState::Stopped => (0, 0, 0),
        };
        seen.ready += ready;
        seen.serving += serving;
        seen.alive += alive;
        seen.restarts = seen.restarts.max(instance.restarts);
        seen.stuck |= instance.stuck;
    }
    seen
}

/// The first reason that an instance of the release gives for not being ready; one that is stuck is heard before.
#[must_use]
pub fn first_reason(lane: &LaneSeen, release: &slipway_model::ReleaseId) -> Option<String> {
    lane.instances
        .iter()
        .filter(|instance| &instance.release == release && !instance.reason.is_empty())
        .min_by_key(|instance| !instance.stuck)
        .map(|instance| instance.reason.clone())
}
