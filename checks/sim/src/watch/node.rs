//! What the node must be asked, and what must be seen on it.

use super::{Invariant, Kind, LaneWatch, Watch};
use slipway_model::ReleaseId;
use slipway_model::instance::LaneWish;
use slipway_model::rollout::{Phase, Purpose};
use slipway_ports::fakes::fleet::LaneModel;
use slipway_rollout::State;

type Found = Vec<(Invariant, String)>;

fn total(wish: &LaneWish, release: &ReleaseId) -> u32 {
    wish.slots.iter().filter(|slot| &slot.release == release).map(|slot| slot.serving + slot.retiring).sum()
}

fn weight(weights: &[(ReleaseId, u32)], release: &ReleaseId) -> u32 {
    weights.iter().filter(|(of, _)| of == release).map(|(_, weight)| *weight).sum()
}

pub(super) fn wished(watch: &mut LaneWatch, lane: &LaneModel, wish: &LaneWish, found: &mut Found) {
    if let Some(before) = &lane.wish
        && before.epoch == wish.epoch
        && (before.slots != wish.slots || before.weights != wish.weights)
    {
        found.push((Invariant::Epochs, format!("two wishes of epoch {}", wish.epoch)));
    }
    let Some(state) = watch.state.clone() else {
        found.push((Invariant::OneOwner, "a wish without a rollout".into()));
        return;
    };
    if state.wish_epoch != wish.epoch {
        return;
    }
    weights(lane, wish, found);
    numbers(&state, wish, found);
    if watch.wished.as_ref() == Some(&state.head.id)
        && let Some(before) = &lane.wish
    {
        shrinks(watch, &state, before, lane, wish, found);
    }
    watch.wished = Some(state.head.id.clone());
}

fn weights(lane: &LaneModel, wish: &LaneWish, found: &mut Found) {
    let before = lane.wish.as_ref().map(|wish| wish.weights.clone()).unwrap_or_default();
    for (release, share) in &wish.weights {
        let is_fresh = *share > 0 && weight(&before, release) == 0;
        let was_ready = lane.instances.iter().any(|one| &one.release == release && one.is_alive() && one.was_ready);
        if is_fresh && !was_ready {
            found.push((Invariant::ReadyTraffic, format!("{release} gets traffic and was never ready")));
        }
    }
}

fn surge(state: &State) -> u32 {
    let whole_set = state.policy.desired.max(state.policy.desired_old);
    match state.head.purpose {
        Purpose::Deploy if state.failure.is_none() => state.policy.surge,
        // Going back makes room for a whole set at once: time counts more than room then.
        Purpose::Deploy | Purpose::Rollback | Purpose::Refresh => state.policy.surge.max(whole_set),
    }
}

fn numbers(state: &State, wish: &LaneWish, found: &mut Found) {
    let desired = state.policy.desired.max(state.policy.desired_old);
    let serving: u32 = wish.slots.iter().map(|slot| slot.serving).sum();
    let retiring: u32 = wish.slots.iter().map(|slot| slot.retiring).sum();
    let allowed = desired + surge(state);
    if serving > allowed {
        found.push((Invariant::Total, format!("{serving} serve in {}, allowed are {allowed}", state.phase.word())));
    }
    if retiring > desired {
        found
            .push((Invariant::Retiring, format!("{retiring} retire in {}, allowed are {desired}", state.phase.word())));
    }
}

/// Within one rollout: who loses instances by this wish, and whether that is allowed now.
fn shrinks(watch: &LaneWatch, state: &State, before: &LaneWish, lane: &LaneModel, wish: &LaneWish, found: &mut Found) {
    let shrinks = |release: &ReleaseId| total(wish, release) < total(before, release);
    let to = &state.head.to.id;
    if let Some(failure) = &state.failure {
        if shrinks(to) && weight(&lane.weights, to) > 0 {
            found.push((Invariant::TrafficFirst, format!("{to} stops and still has traffic")));
        }
        let kept = watch.evidence.contains(&state.head.id) || failure.contains("evidence is incomplete");
        if shrinks(to) && !kept {
            found.push((Invariant::Evidence, format!("{to} stops before its evidence is kept")));
        }
        return;
    }
    let Some(from) = &state.head.from else { return };
    if shrinks(&from.id) {
        let number = u32::try_from(state.steps.len()).unwrap_or(u32::MAX);
        let good = watch.verdicts.get(&(state.head.id.clone(), number)).is_some_and(|given| {
            given.iter().any(|kind| matches!(kind, Kind::Pass | Kind::Insufficient | Kind::Inconclusive))
        });
        if !good {
            let what = format!("an old instance stops in {} before step {number} is judged", state.phase.word());
            found.push((Invariant::AfterVerdict, what));
        }
    }
}

pub(super) fn changed(all: &Watch, watch: &mut LaneWatch, lane: &LaneModel, found: &mut Found) {
    let (Some(state), Some(wish)) = (watch.state.clone(), &lane.wish) else { return };
    if lane.routing_ms.is_some() || state.wish_epoch != wish.epoch {
        return;
    }
    capacity(&state, lane, found);
    order(all, watch, &state, lane, found);
}

fn capacity(state: &State, lane: &LaneModel, found: &mut Found) {
    // On the way back what lives of the old release takes everything at once: traffic is more urgent than room.
    let applies = state.has_old() && !state.phase.is_return() && state.phase != Phase::NeedsHuman;
    if !applies {
        return;
    }
    // An instance that ended by itself counts: nobody took it away.
    let able = lane
        .instances
        .iter()
        .filter(|one| one.is_alive() && one.serves && one.was_ready && weight(&lane.weights, &one.release) > 0)
        .count();
    let desired = match state.phase {
        Phase::Succeeded => state.policy.desired,
        Phase::RolledBack | Phase::Dropped => state.policy.desired_old,
        _ => state.policy.desired.min(state.policy.desired_old),
    };
    let least = desired.saturating_sub(state.policy.unavailable) as usize;
    if able < least {
        found.push((Invariant::Capacity, format!("{able} can serve in {}, needed are {least}", state.phase.word())));
    }
}

fn order(all: &Watch, watch: &mut LaneWatch, state: &State, lane: &LaneModel, found: &mut Found) {
    let routed: Vec<&ReleaseId> = lane.weights.iter().filter(|(_, weight)| *weight > 0).map(|(id, _)| id).collect();
    let [top] = routed.as_slice() else { return };
    let before = watch.top.replace((*top).clone());
    let Some(before) = before.filter(|before| before != *top) else { return };
    let allowed = state.failure.is_some() || state.head.purpose == Purpose::Rollback;
    if let (Some(newer), Some(older)) = (watch.commits.get(&before), watch.commits.get(*top))
        && !allowed
        && all.is_older(older, newer)
    {
        found.push((Invariant::Order, format!("{} replaces {}, which contains it", older.short(), newer.short())));
    }
}
