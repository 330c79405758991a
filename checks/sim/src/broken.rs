//! Machines that are broken on purpose, one per invariant: each must be caught.
//!
//! In: an invariant. Out: the real machine with one deed changed. Never: used outside tests of the checks.

use crate::run::{Step as StepFn, real};
use crate::watch::Invariant;
use slipway_model::RolloutId;
use slipway_model::rollout::Phase;
use slipway_model::verdict::VerdictKind;
use slipway_rollout::{Event, Intent, Now, State, Step, step};
use std::sync::Arc;

/// A machine that violates this invariant sooner or later.
#[must_use]
pub fn broken(invariant: Invariant) -> StepFn {
    match invariant {
        // Gives the new release its share before anything of it is ready.
        Invariant::ReadyTraffic => on(Phase::Provisioning, |step| {
            step.state.weights = (step.state.new_serving, step.state.old_serving);
        }),
        // Withdraws all old instances to make room.
        Invariant::Capacity => on(Phase::Provisioning, |step| {
            step.state.old_retiring += step.state.old_serving;
            step.state.old_serving = 0;
        }),
        // Starts more than there is room for.
        Invariant::Total => on(Phase::Provisioning, |step| {
            step.state.new_serving += 2 * step.state.policy.desired + step.state.policy.surge;
        }),
        // Keeps more of the old ones than there ever were.
        Invariant::Retiring => on(Phase::Stepping, |step| {
            step.state.old_retiring += step.state.policy.desired + step.state.policy.desired_old + 1;
        }),
        // Stops the bad ones with the same wish that takes their traffic.
        Invariant::TrafficFirst => on(Phase::Returning, |step| step.state.new_retiring = 0),
        // Gives everything back to the old release although nothing failed.
        Invariant::Order => on(Phase::Baking, |step| {
            if step.state.has_old() {
                step.state.weights = (0, 1);
                step.state.old_serving += step.state.old_retiring;
                step.state.old_retiring = 0;
                step.intents.push(Intent::Wish);
            }
        }),
        // Removes the bad ones when evidence is only asked for.
        Invariant::Evidence => on(Phase::Capturing, |step| {
            step.state.new_retiring = 0;
            step.intents.insert(0, Intent::Wish);
        }),
        // Waits for a verdict for ever.
        Invariant::Waits => on(Phase::Stepping, |step| step.state.deadline_ms = None),
        // Becomes another rollout half-way.
        Invariant::OneOwner => on(Phase::Stepping, |step| {
            let name = format!("{}-other", step.state.head.id);
            step.state.head.id = RolloutId::parse(&name).unwrap_or_else(|_| unreachable!("a token"));
        }),
        // Speaks with an epoch of the past.
        Invariant::Epochs => on(Phase::Baking, |step| step.state.wish_epoch = 0),
        // Takes too little for enough.
        Invariant::NeverPass => Arc::new(too_little_is_enough),
        // Stops the old ones as soon as the new ones have their traffic.
        Invariant::AfterVerdict => on(Phase::Stepping, |step| step.state.old_retiring = 0),
        // Forgets to hold what it took back.
        Invariant::Hold => Arc::new(without_hold),
        // Watches for ever.
        Invariant::Settles => Arc::new(without_end),
    }
}

fn on(phase: Phase, spoil: fn(&mut Step)) -> StepFn {
    let real = real();
    Arc::new(move |state: State, event: &Event, now: Now| {
        let before = state.phase;
        let mut next = real(state, event, now);
        if next.state.phase == phase && before != phase {
            spoil(&mut next);
        }
        next
    })
}

fn too_little_is_enough(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Verdict { step: number, kind: VerdictKind::Insufficient, sentence, tipped_at } => {
            let (sentence, tipped_at) = (sentence.clone(), *tipped_at);
            step(state, &Event::Verdict { step: *number, kind: VerdictKind::Pass, sentence, tipped_at }, now)
        }
        _ => step(state, event, now),
    }
}

fn without_hold(state: State, event: &Event, now: Now) -> Step {
    let mut next = step(state, event, now);
    next.intents.retain(|intent| *intent != Intent::Hold);
    next
}

fn without_end(state: State, event: &Event, now: Now) -> Step {
    let mut next = step(state, event, now);
    if next.state.phase == Phase::Baking {
        next.state.deadline_ms = Some(u64::MAX);
    }
    next
}
