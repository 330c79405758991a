//! Services that need each other go in their order.
//!
//! In: facts. Out: a release that was let in before one that its service needs had succeeded there, of the same change.

use slipway_model::fact::{Body, Fact, Gate, SUPERSEDED};
use slipway_model::plan::{Decision, ItemSpec, Plan};
use slipway_model::rollout::{Phase, Purpose};
use slipway_model::{ChangeId, ItemId, Lane};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of changes.
#[derive(Default)]
pub(super) struct Needs {
    plans: BTreeMap<ChangeId, Plan>,
    /// Where a change's release serves, or gave way to a newer change's.
    done: BTreeSet<(Lane, ChangeId)>,
}

impl Needs {
    /// Takes one fact; what went out of order.
    pub(super) fn take(&mut self, fact: &Fact) -> Option<String> {
        match &fact.body {
            Body::PlanMade { plan } => {
                self.plans.insert(fact.change.clone()?, (**plan).clone());
                None
            }
            Body::RolloutPhase(moved) if moved.phase == Phase::Succeeded => {
                self.done.insert((moved.head.lane.clone(), moved.head.change.clone()?));
                None
            }
            Body::ReleaseGated { candidate, gate } => {
                let change = candidate.change.clone()?;
                match gate {
                    Gate::Identical { .. } => drop(self.done.insert((candidate.lane.clone(), change))),
                    Gate::Refused { reason, .. } if reason.starts_with(SUPERSEDED) => {
                        self.done.insert((candidate.lane.clone(), change));
                    }
                    Gate::Open { .. } if !candidate.by_hand && candidate.purpose == Purpose::Deploy => {
                        return self.out_of_order(&candidate.lane, &change);
                    }
                    Gate::Open { .. } | Gate::Refused { .. } | Gate::Wait { .. } => {}
                }
                None
            }
            _ => None,
        }
    }

    fn out_of_order(&self, lane: &Lane, change: &ChangeId) -> Option<String> {
        let plan = self.plans.get(change)?;
        let ItemSpec::Release(def) = &plan.item(&ItemId::release(&lane.service))?.spec else { return None };
        let runs = |service| plan.item(&ItemId::release(service)).is_some_and(|item| item.decision == Decision::Run);
        let first = def.needs.iter().filter(|service| runs(service)).find(|service| {
            let near = Lane { service: (*service).clone(), ..lane.clone() };
            !self.done.contains(&(near, change.clone()))
        })?;
        Some(format!("{lane} is let in before {first}, which it needs"))
    }
}
