//! The machine on its way forward: from its turn to success.
//!
//! In and out as in `decide`. Each function is one phase.

use crate::back::give_up;
use crate::decide::{Event, Intent, Now, Step, count, enter, first_reason, is_late};
use crate::record::State;
use slipway_model::rollout::{Phase, Purpose, StepSeen};
use slipway_model::verdict::VerdictKind;

/// How long a phase that should take no time may take before it is called stuck.
pub const SETTLE_MS: u64 = 60_000;

/// An instance that ended so often before it was ready will not become ready by waiting.
const RESTARTS_MAX: u32 = 2;

/// The node has time to unpack and start before an instance's own `ready` time is over.
pub fn ready_wait(state: &State) -> u64 {
    state.policy.ready_ms.saturating_add(5_000)
}

/// A verdict comes within the policy's wait; if the judge itself is gone, this ends the wait.
pub fn judge_wait(state: &State) -> u64 {
    state.policy.verify.wait_ms.saturating_add(SETTLE_MS)
}

/// Its turn has come.
pub fn queued(state: State, now: Now) -> Step {
    let state = enter(state, Phase::Gated, "its gates are passed", Some(SETTLE_MS), now);
    Step { state, intents: vec![Intent::Prepare] }
}

/// Waits until image and secrets are known to be there.
pub fn gated(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Prepared(Ok(())) => Step::stay(enter(state, Phase::Prepared, "image and secrets are there", None, now)),
        Event::Prepared(Err(missing)) => {
            let state = enter(state, Phase::Dropped, missing.clone(), None, now);
            Step { state, intents: vec![Intent::Wish] }
        }
        _ if is_late(&state, now) => {
            let reason = "nobody could say in time whether its image is there";
            Step { state: enter(state, Phase::Dropped, reason, None, now), intents: vec![Intent::Wish] }
        }
        _ => Step::stay(state),
    }
}

/// Services without a schema have nothing to expand.
pub fn prepared(mut state: State) -> Step {
    state.phase = Phase::Expanded;
    state.reason = "no schema to expand".into();
    Step::stay(state)
}

/// Begins the next step: makes room, then asks for new instances.
pub fn next_step(mut state: State, now: Now) -> Step {
    let desired = state.policy.desired;
    let surge = if state.head.purpose == Purpose::Deploy { state.policy.surge } else { desired };
    let serving = state.old_serving + state.new_serving;
    let missing = desired - state.new_serving.min(desired);
    let mut room = (desired + surge).saturating_sub(serving);
    if room == 0 {
        // No room left: withdraw old ones down to what must serve. They stay alive until the verdict.
        let least = desired.saturating_sub(state.policy.unavailable);
        let withdrawn = serving.saturating_sub(least).max(1).min(state.old_serving);
        state.old_serving -= withdrawn;
        state.old_retiring += withdrawn;
        room = (desired + surge).saturating_sub(serving - withdrawn);
    }
    let added = if state.has_old() { missing.min(room) } else { missing };
    state.step += 1;
    state.new_serving += added;
    let reason = format!("starts {added} of {desired}");
    let wait = ready_wait(&state);
    Step { state: enter(state, Phase::Provisioning, reason, Some(wait), now), intents: vec![Intent::Wish] }
}

/// Waits until the node has taken the wish.
pub fn provisioning(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Seen { lane, wish_epoch, .. } if lane.epoch >= *wish_epoch => {
            let deadline = state.deadline_ms;
            let mut state = enter(state, Phase::Probing, "waits until the new instances are ready", None, now);
            state.deadline_ms = deadline;
            Step::stay(state)
        }
        // What an earlier step brought is still watched.
        Event::Verdict { kind: VerdictKind::Fail, sentence, tipped_at, .. } => {
            give_up(state, sentence.clone(), *tipped_at, now)
        }
        _ if is_late(&state, now) => give_up(state, "the node did not take the work in time".into(), None, now),
        _ => Step::stay(state),
    }
}

/// Waits for readiness, then for the smoke requests.
pub fn probing(mut state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Seen { lane, wish_epoch, .. } if lane.epoch >= *wish_epoch => {
            let seen = count(lane, &state.head.to.id);
            if seen.serving >= state.new_serving {
                if state.asked {
                    return Step::stay(state);
                }
                state.asked = true;
                state.reason = format!("{} of {} ready; smoke requests", seen.serving, state.new_serving);
                return Step { state, intents: vec![Intent::Smoke] };
            }
            let why = first_reason(lane, &state.head.to.id);
            if seen.restarts >= RESTARTS_MAX || seen.stuck || is_late(&state, now) {
                let why =
                    why.unwrap_or_else(|| format!("{} of {} became ready in time", seen.serving, state.new_serving));
                return give_up(state, why, None, now);
            }
            if let Some(why) = why {
                state.reason = why;
            }
            Step::stay(state)
        }
        Event::Verdict { kind: VerdictKind::Fail, sentence, tipped_at, .. } => {
            give_up(state, sentence.clone(), *tipped_at, now)
        }
        Event::Smoked(Ok(())) if state.asked => shift(state, now),
        Event::Smoked(Err(failed)) if state.asked => give_up(state, failed.clone(), Some(now.wall), now),
        _ if is_late(&state, now) => {
            let reason = format!("not ready in time: {}", state.reason);
            give_up(state, reason, None, now)
        }
        _ => Step::stay(state),
    }
}

/// Moves traffic for this step: the new ones take their share, as many old ones are withdrawn.
fn shift(mut state: State, now: Now) -> Step {
    // As many old ones serve beside as there is room for, so that both are judged over the same time, a single
    // instance included. Going back to a release that is known to be good is done at once.
    let surge = if state.head.purpose == Purpose::Deploy { state.policy.surge } else { 0 };
    let kept = (state.policy.desired + surge).saturating_sub(state.new_serving).min(state.old_serving);
    state.old_retiring += state.old_serving - kept;
    state.old_serving = kept;
    state.weights = (state.new_serving, kept);
    let weight = state.new_serving * 100 / (state.new_serving + kept).max(1);
    state.steps.push(StepSeen {
        name: format!("{} of {}", state.new_serving, state.policy.desired),
        weight,
        verdict: None,
        started: now.wall,
        ended: None,
    });
    let reason = format!("{weight} % of traffic on {} of {}", state.new_serving, state.policy.desired);
    let wait = judge_wait(&state);
    Step { state: enter(state, Phase::Stepping, reason, Some(wait), now), intents: vec![Intent::Wish] }
}

/// Traffic has moved; the verdict decides.
pub fn stepping(mut state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Seen { lane, wish_epoch, .. } if lane.epoch >= *wish_epoch && lane.routed && !state.asked => {
            state.asked = true;
            Step { state, intents: vec![Intent::Judge] }
        }
        Event::Verdict { step, kind, sentence, tipped_at } if *step == state.step => {
            if let Some(seen) = state.steps.last_mut() {
                seen.verdict = Some(*kind);
                seen.ended = Some(now.wall);
            }
            match kind {
                VerdictKind::Fail => give_up(state, sentence.clone(), *tipped_at, now),
                // The judge could not look: that says nothing about the release, so it is asked again (R322).
                VerdictKind::Unavailable => judge_again(state, sentence),
                VerdictKind::Pass | VerdictKind::Inconclusive => passed(state, false, now),
                VerdictKind::Insufficient => passed(state, true, now),
            }
        }
        _ if is_late(&state, now) => {
            let reason = format!("no verdict in time: {}", state.reason);
            give_up(state, reason, None, now)
        }
        _ => Step::stay(state),
    }
}

fn judge_again(mut state: State, sentence: &str) -> Step {
    state.reason = format!("could not be judged ({sentence}); asked again");
    Step { state, intents: vec![Intent::Judge] }
}

fn passed(mut state: State, smoke_only: bool, now: Now) -> Step {
    state.smoke_only &= smoke_only;
    if state.policy.surge == 0 {
        // Without room for more, what this step withdrew goes now, after its verdict.
        state.old_retiring = 0;
    }
    if state.new_serving >= state.policy.desired {
        state.old_retiring += state.old_serving;
        state.old_serving = 0;
        state.weights = (1, 0);
        let state = enter(state, Phase::Promoting, "all traffic moves to the new release", Some(SETTLE_MS), now);
        return Step { state, intents: vec![Intent::Wish] };
    }
    next_step(state, now)
}

/// Proves that what runs is what was intended, then watches it.
pub fn promoting(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Seen { lane, wish_epoch, proof, .. } if lane.epoch >= *wish_epoch && lane.routed => {
            let seen = count(lane, &state.head.to.id);
            match proof {
                Ok(()) if seen.serving >= state.policy.desired => {
                    let bake = state.policy.verify.bake_ms;
                    let reason = format!("serves everything; watched for {}", slipway_model::time::words(bake));
                    let mut state = enter(state, Phase::Baking, reason, Some(bake), now);
                    state.asked = true;
                    Step { state, intents: vec![Intent::Judge] }
                }
                Ok(()) => late(state, now, "instances were lost while traffic moved"),
                Err(what) => give_up(state, format!("what runs is not what was intended: {what}"), None, now),
            }
        }
        Event::Verdict { kind: VerdictKind::Fail, sentence, tipped_at, .. } => {
            give_up(state, sentence.clone(), *tipped_at, now)
        }
        _ => late(state, now, "routing was not confirmed"),
    }
}

fn late(state: State, now: Now, what: &str) -> Step {
    if is_late(&state, now) { give_up(state, format!("{what} in time"), None, now) } else { Step::stay(state) }
}

/// Everything is on the new release; it is still watched, and the old instances are kept to go back at once.
pub fn baking(state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Verdict { kind: VerdictKind::Fail, sentence, tipped_at, .. } => {
            give_up(state, sentence.clone(), *tipped_at, now)
        }
        Event::Superseded => contract(state, "a newer release waits; watching was cut short", now),
        _ if is_late(&state, now) => contract(state, "was watched to the end", now),
        // After a restart the judge has to be asked again.
        Event::Seen { lane, wish_epoch, .. } if lane.epoch >= *wish_epoch && !state.asked => {
            let mut state = state;
            state.asked = true;
            Step { state, intents: vec![Intent::Judge] }
        }
        _ => Step::stay(state),
    }
}

fn contract(mut state: State, reason: &str, now: Now) -> Step {
    state.old_retiring = 0;
    state.old_serving = 0;
    Step { state: enter(state, Phase::Contracting, reason, None, now), intents: vec![Intent::Wish] }
}

/// Services without a schema have nothing to contract.
pub fn contracting(mut state: State) -> Step {
    state.phase = Phase::Succeeded;
    state.deadline_ms = None;
    Step::stay(state)
}
