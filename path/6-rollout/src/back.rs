//! The machine on its way back: traffic first, then evidence, then capacity.
//!
//! In and out as in `decide`. Nothing that failed is removed before its evidence is kept.

use crate::decide::{Event, Intent, Now, Step, count, enter, is_late};
use crate::forward::ready_wait;
use crate::record::State;
use slipway_model::At;
use slipway_model::rollout::{Phase, Purpose};

/// How long keeping the evidence may take before going on without the rest of it.
const CAPTURE_MS: u64 = 15_000;

/// Stops going forward. `recognised` is the moment of the request or exit that decided.
pub fn give_up(mut state: State, reason: String, recognised: Option<At>, now: Now) -> Step {
    state.failure = Some(reason.clone());
    state.incident.recognised = Some(recognised.unwrap_or(now.wall));
    state.incident.reported = Some(now.wall);
    let (old, wanted) = (state.old_serving + state.old_retiring, state.policy.desired_old);
    if !state.has_old() {
        // Nothing to go back to: no traffic, a page that says so.
        state.weights = (0, 0);
        state.new_retiring = state.new_serving;
        state.new_serving = 0;
    } else if old > 0 {
        // Everything of the old release that lives serves again; missing ones are started beside.
        state.old_serving = old.max(wanted);
        state.old_retiring = 0;
        state.weights = (0, 1);
        state.new_retiring = state.new_serving;
        state.new_serving = 0;
    } else {
        // Nothing of the old release lives: start it first, the new one serves until it is ready.
        state.old_serving = wanted;
        state.old_retiring = 0;
    }
    let wait = ready_wait(&state);
    Step { state: enter(state, Phase::Returning, reason, Some(wait), now), intents: vec![Intent::Wish] }
}

/// Waits until traffic has really gone back.
pub fn returning(mut state: State, event: &Event, now: Now) -> Step {
    let Event::Seen { lane, wish_epoch, .. } = event else {
        return if is_late(&state, now) {
            stuck(state, "traffic could not be returned in time", now)
        } else {
            Step::stay(state)
        };
    };
    if lane.epoch < *wish_epoch || !lane.routed {
        return if is_late(&state, now) {
            stuck(state, "traffic could not be returned in time", now)
        } else {
            Step::stay(state)
        };
    }
    if state.new_serving > 0 {
        // The old release had to be started first.
        let ready = state.head.from.as_ref().map_or(0, |from| count(lane, &from.id).serving);
        if ready == 0 {
            return if is_late(&state, now) {
                stuck(state, "the old release did not become ready", now)
            } else {
                Step::stay(state)
            };
        }
        state.weights = (0, 1);
        state.new_retiring = state.new_serving;
        state.new_serving = 0;
        return Step { state, intents: vec![Intent::Wish] };
    }
    state.incident.rolled_back = Some(now.wall);
    let state = enter(state, Phase::Capturing, "traffic is back; evidence is being kept", Some(CAPTURE_MS), now);
    Step { state, intents: vec![Intent::Capture] }
}

/// Waits until the evidence is kept.
pub fn capturing(mut state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Captured => {}
        _ if is_late(&state, now) => {
            let failure = state.failure.take().unwrap_or_default();
            state.failure = Some(format!("{failure} (evidence is incomplete: it took too long)"));
        }
        _ => return Step::stay(state),
    }
    state.new_retiring = 0;
    if !state.has_old() {
        let reason = state.failure.clone().unwrap_or_default();
        let state = enter(state, Phase::NeedsHuman, reason, None, now);
        return Step { state, intents: vec![Intent::Wish, Intent::Hold] };
    }
    state.old_serving = state.policy.desired_old;
    let wait = ready_wait(&state);
    let state = enter(state, Phase::Restoring, "the old release gets its capacity back", Some(wait), now);
    Step { state, intents: vec![Intent::Wish] }
}

/// Waits for the old release's full capacity, and verifies it like any other.
pub fn restoring(mut state: State, event: &Event, now: Now) -> Step {
    match event {
        Event::Seen { lane, wish_epoch, .. } if lane.epoch >= *wish_epoch => {
            let ready = state.head.from.as_ref().map_or(0, |from| count(lane, &from.id).serving);
            if ready >= state.policy.desired_old && !state.asked {
                state.asked = true;
                return Step { state, intents: vec![Intent::SmokeOld] };
            }
            if is_late(&state, now) {
                stuck(state, "the old release did not get its capacity back", now)
            } else {
                Step::stay(state)
            }
        }
        Event::OldSmoked(Ok(())) => {
            state.incident.recovered = Some(now.wall);
            let held = state.head.purpose == Purpose::Deploy;
            let reason = state.failure.clone().unwrap_or_default();
            let state = enter(state, Phase::RolledBack, reason, None, now);
            Step { state, intents: if held { vec![Intent::Hold] } else { Vec::new() } }
        }
        Event::OldSmoked(Err(failed)) => {
            stuck(state, &format!("the old release fails its smoke requests too: {failed}"), now)
        }
        _ if is_late(&state, now) => stuck(state, "the old release did not get its capacity back", now),
        _ => Step::stay(state),
    }
}

fn stuck(mut state: State, what: &str, now: Now) -> Step {
    let failure = state.failure.take().unwrap_or_default();
    let reason = format!("{failure}; going back: {what}");
    state.failure = Some(reason.clone());
    let mut state = enter(state, Phase::NeedsHuman, reason, None, now);
    state.deadline_ms = None;
    Step { state, intents: vec![Intent::Wish, Intent::Hold] }
}
