//! What a release waits for because its service needs others (`needs` of a service).
//!
//! In: the plan of its change, the lanes of the services it needs. Out: how each of them stands. Only services count
//! that the same change deploys. Pure. Never: waits for what another change does on its own.

use crate::record::LaneRecord;
use slipway_model::fact::{Candidate, Gate};
use slipway_model::plan::{Decision, ItemSpec, Plan};
use slipway_model::rollout::{Phase, Purpose};
use slipway_model::{ItemId, ServiceName};

/// How a service that is needed stands in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Its release serves.
    Met,
    /// Its release is on its way.
    Open {
        /// The release's number, once it has asked.
        number: Option<u64>,
    },
    /// Its release will not serve.
    Broken {
        /// The release's number.
        number: u64,
        /// Why.
        reason: String,
    },
}

/// The services that this one needs and that this change deploys.
#[must_use]
pub fn deployed(plan: &Plan, service: &ServiceName) -> Vec<ServiceName> {
    let Some(ItemSpec::Release(def)) = plan.item(&ItemId::release(service)).map(|item| &item.spec) else {
        return Vec::new();
    };
    let is_deployed =
        |need: &&ServiceName| plan.item(&ItemId::release(need)).is_some_and(|item| item.decision == Decision::Run);
    def.needs.iter().filter(is_deployed).cloned().collect()
}

/// How a needed service stands in its lane, for a candidate of another service.
#[must_use]
pub fn standing(lane: &LaneRecord, asking: &Candidate) -> Need {
    let ours = |candidate: &&Candidate| candidate.change == asking.change;
    let Some(mine) = lane.asked.iter().rev().find(ours).or(lane.superseded.iter().rev().find(ours)) else {
        return Need::Open { number: None };
    };
    match &lane.candidate {
        Some(newest) if newest == mine => newest_of(lane, newest),
        // Where another release went in its place, that one has to be good; unless it is an old one that came back.
        Some(newest) if lane.superseded.contains(mine) => match newest.purpose {
            Purpose::Deploy | Purpose::Refresh => newest_of(lane, newest),
            Purpose::Rollback => {
                let reason = format!("{} went back to r{}", newest.by, newest.number);
                Need::Broken { number: mine.number, reason }
            }
        },
        // It was let in; others asked after it.
        Some(_) | None => by_phase(lane, mine).unwrap_or(Need::Met),
    }
}

fn newest_of(lane: &LaneRecord, newest: &Candidate) -> Need {
    let open = Need::Open { number: Some(newest.number) };
    match &lane.gate {
        None | Some(Gate::Wait { .. }) => open,
        Some(Gate::Refused { reason, .. }) => Need::Broken { number: newest.number, reason: reason.clone() },
        Some(Gate::Identical { .. }) => Need::Met,
        Some(Gate::Open { .. }) if lane.opened.as_ref() == Some(newest) => open,
        Some(Gate::Open { .. }) => by_phase(lane, newest).unwrap_or(open),
    }
}

/// What its newest rollout says; nothing when there was none.
fn by_phase(lane: &LaneRecord, candidate: &Candidate) -> Option<Need> {
    let (phase, why) = lane.phases.get(&candidate.release)?;
    let number = candidate.number;
    Some(match phase {
        Phase::Succeeded => Need::Met,
        Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped => {
            Need::Broken { number, reason: format!("{}: {why}", phase.word()) }
        }
        Phase::Queued
        | Phase::Gated
        | Phase::Prepared
        | Phase::Expanded
        | Phase::Provisioning
        | Phase::Probing
        | Phase::Stepping
        | Phase::Promoting
        | Phase::Baking
        | Phase::Contracting
        | Phase::Returning
        | Phase::Capturing
        | Phase::Restoring => Need::Open { number: Some(number) },
    })
}
