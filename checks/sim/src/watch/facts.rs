//! What facts alone must say.

use super::{Invariant, Kind, LaneWatch, Watch, kind, waits};
use slipway_model::fact::{Body, Fact};
use slipway_model::rollout::{Phase, Purpose};
use slipway_rollout::State;
use slipway_rollout::explain::notice;

type Found = Vec<(Invariant, String)>;

pub(super) fn take(all: &Watch, watch: &mut LaneWatch, fact: &Fact, found: &mut Found) {
    if let Some(owed) = watch.owed.take()
        && !matches!(&fact.body, Body::HoldSet { commit, .. } if *commit == owed)
    {
        found.push((Invariant::Hold, format!("{} was taken back and is not held", owed.short())));
    }
    match &fact.body {
        Body::RolloutPhase(moved) => match serde_json::from_value::<State>(moved.record.clone()) {
            Ok(state) => moved_on(all, watch, state, found),
            Err(error) => found.push((Invariant::Settles, format!("fact {} has no state: {error}", fact.n))),
        },
        Body::VerdictGiven { rollout, step, verdict, .. } => {
            watch.verdicts.entry((rollout.clone(), *step)).or_default().insert(kind(verdict.kind));
        }
        Body::EvidenceKept { rollout, .. } => drop(watch.evidence.insert(rollout.clone())),
        Body::HoldSet { commit, .. } => drop(watch.holds.insert(commit.clone())),
        Body::HoldReleased { commit, .. } => drop(watch.holds.remove(commit)),
        _ => {}
    }
}

fn moved_on(all: &Watch, watch: &mut LaneWatch, state: State, found: &mut Found) {
    begins(all, watch, &state, found);
    if !state.phase.is_final() {
        if state.reason.trim().is_empty() || notice(&state).trim().is_empty() {
            found.push((Invariant::Waits, format!("{} waits without a reason", state.phase.word())));
        }
        if waits(state.phase) && state.deadline_ms.is_none() {
            found.push((Invariant::Waits, format!("{} waits without a deadline", state.phase.word())));
        }
    }
    judged(watch, &state, found);
    if matches!(state.phase, Phase::RolledBack | Phase::NeedsHuman) && state.head.purpose == Purpose::Deploy {
        watch.owed = Some(state.head.commit.clone());
    }
    watch.commits.insert(state.head.to.id.clone(), state.head.commit.clone());
    watch.state = Some(state);
}

fn begins(all: &Watch, watch: &LaneWatch, state: &State, found: &mut Found) {
    let Some(before) = &watch.state else { return };
    if before.wish_epoch > state.wish_epoch {
        found.push((Invariant::Epochs, format!("epoch {} after {}", state.wish_epoch, before.wish_epoch)));
    }
    if before.head.id == state.head.id {
        return;
    }
    if !before.phase.is_final() {
        let what = format!("{} begins while {} is {}", state.head.id, before.head.id, before.phase.word());
        found.push((Invariant::OneOwner, what));
    }
    let held = watch.holds.iter().find(|held| **held == state.head.commit || all.is_older(held, &state.head.commit));
    if let (Some(held), Purpose::Deploy) = (held, state.head.purpose) {
        found.push((Invariant::Hold, format!("{} begins and contains {}, which is held", state.head.id, held.short())));
    }
}

fn judged(watch: &LaneWatch, state: &State, found: &mut Found) {
    for (index, step) in state.steps.iter().enumerate() {
        let Some(recorded) = step.verdict else { continue };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let given = watch.verdicts.get(&(state.head.id.clone(), number));
        if !given.is_some_and(|given| given.contains(&kind(recorded))) {
            let what = format!("step {number} counts as {recorded:?}, the judge said {given:?}");
            found.push((Invariant::NeverPass, what));
        }
    }
    if matches!(state.phase, Phase::Promoting | Phase::Baking | Phase::Contracting | Phase::Succeeded) {
        let kinds: Vec<Kind> = state.steps.iter().filter_map(|step| step.verdict).map(kind).collect();
        let smoke_only = kinds.iter().all(|kind| *kind == Kind::Insufficient);
        if smoke_only != state.smoke_only {
            found.push((Invariant::NeverPass, format!("smoke only is {}, steps say {kinds:?}", state.smoke_only)));
        }
    }
}
