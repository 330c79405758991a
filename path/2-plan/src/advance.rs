//! What is ready next, what is blocked, whether it is over.
//!
//! In: a plan and the state of its items. Out: lists with reasons. Never: I/O.

use crate::record::{ChangeRecord, ItemState};
use slipway_model::ItemId;
use slipway_model::fact::ChangeState;
use slipway_model::plan::{Decision, ItemSpec};
use std::collections::BTreeMap;

/// What follows from the results so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advance {
    /// Items to start now.
    pub ready: Vec<ItemId>,
    /// Items that cannot start, with the reason.
    pub blocked: BTreeMap<ItemId, String>,
    /// Whether every item is decided.
    pub done: bool,
    /// The first item that failed, with the reason.
    pub failed: Option<(ItemId, String)>,
    /// The first item whose content failed in an earlier change already. It blocks its service, not the others.
    pub failed_before: Option<(ItemId, String)>,
}

/// Looks at every item once, in the plan's order (needs come first there).
#[must_use]
pub fn advance(record: &ChangeRecord) -> Advance {
    let mut advance = Advance { done: true, ..Advance::default() };
    let Some(plan) = &record.plan else { return Advance::default() };
    for item in &plan.items {
        let state = record.state(&item.id);
        match state {
            ItemState::Satisfied => {}
            ItemState::Running => advance.done = false,
            ItemState::Failed(reason) => {
                let counts = item.decision != Decision::FailedBefore || record.is_touched(item);
                let place = if counts { &mut advance.failed } else { &mut advance.failed_before };
                place.get_or_insert((item.id.clone(), reason));
            }
            ItemState::Waiting => match needs(record, item, &advance) {
                Needs::Met => {
                    advance.done = false;
                    advance.ready.push(item.id.clone());
                }
                Needs::Open => advance.done = false,
                Needs::Broken(reason) => drop(advance.blocked.insert(item.id.clone(), reason)),
            },
        }
    }
    advance
}

enum Needs {
    Met,
    Open,
    Broken(String),
}

fn needs(record: &ChangeRecord, item: &slipway_model::plan::Item, so_far: &Advance) -> Needs {
    let mut open = false;
    // Services that it needs are released first; what is deployed first, the gates see to.
    let services = match &item.spec {
        ItemSpec::Release(def) => def.needs.iter().map(ItemId::release).collect(),
        ItemSpec::Job(_) | ItemSpec::Image(_) => Vec::new(),
    };
    let planned = services.iter().filter(|id| record.plan.as_ref().is_some_and(|plan| plan.item(id).is_some()));
    for need in item.needs.iter().chain(planned) {
        if so_far.blocked.contains_key(need) {
            return Needs::Broken(format!("{need} is blocked"));
        }
        match record.state(need) {
            ItemState::Satisfied => {}
            ItemState::Running | ItemState::Waiting => open = true,
            ItemState::Failed(reason) => return Needs::Broken(format!("{need} did not pass: {reason}")),
        }
    }
    if open { Needs::Open } else { Needs::Met }
}

/// How a change stands once nothing of its plan runs any more; `None` while rollouts decide.
#[must_use]
pub fn ended(record: &ChangeRecord, advance: &Advance) -> Option<(ChangeState, String)> {
    if !advance.done {
        return None;
    }
    let lanes: Vec<_> = record.lanes.values().collect();
    if lanes.iter().any(|lane| lane.is_open()) {
        return None;
    }
    if let Some((item, reason)) = &advance.failed {
        return Some((ChangeState::Failed, format!("{item}: {reason}")));
    }
    if let Some(bad) = lanes.iter().find(|lane| lane.was_taken_back()) {
        return Some((ChangeState::RolledBack, bad.reason.clone()));
    }
    if let Some(refused) = lanes.iter().find(|lane| lane.was_refused() && !lane.was_overtaken()) {
        return Some((ChangeState::Failed, refused.reason.clone()));
    }
    // Where other services went on, an old failure is theirs to show; where nothing did, the change did not pass.
    if let Some((item, reason)) = advance.failed_before.as_ref().filter(|_| lanes.is_empty()) {
        return Some((ChangeState::Failed, format!("{item}: {reason}")));
    }
    if !all_queued(record) {
        // A release was made; its candidates are about to be queued.
        return None;
    }
    // All its checks passed; where a newer release went in its place, it has nowhere to go any more.
    let overtaken = lanes.iter().find(|lane| lane.was_overtaken());
    let state = if lanes.is_empty() || overtaken.is_some() { ChangeState::Passed } else { ChangeState::Live };
    Some((state, overtaken.map(|lane| lane.reason.clone()).unwrap_or_default()))
}

/// Whether every release of this change has asked every environment that it has a configuration for.
fn all_queued(record: &ChangeRecord) -> bool {
    let environments = record.plan.iter().flat_map(|plan| &plan.environments);
    let mut wanted =
        environments.flat_map(|policy| record.releases.values().map(move |(release, _)| (policy, release)));
    wanted.all(|(policy, release)| {
        let asked =
            record.lanes.keys().any(|lane| lane.environment == policy.name && lane.service == release.bundle.service);
        asked || release.bundle.environment(&policy.name).is_none()
    })
}
