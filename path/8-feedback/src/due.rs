//! Which releases of a change are still to come.
//!
//! In: its plan, what began, failed and was made. Out: whether any is due. Never: waits for one whose job or image has
//! failed for good; that would be for ever.

use slipway_model::ItemId;
use slipway_model::plan::{Decision, Item, ItemSpec, Plan};
use std::collections::{BTreeMap, BTreeSet};

/// Releases that are due.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    items: Vec<Item>,
    tries: BTreeMap<ItemId, u32>,
    failed: BTreeSet<ItemId>,
    made: BTreeSet<ItemId>,
}

impl Due {
    /// Those that a plan makes.
    pub(crate) fn of(plan: &Plan) -> Due {
        let before = plan.items.iter().filter(|item| item.decision == Decision::FailedBefore);
        let failed = before.map(|item| item.id.clone()).collect();
        Due { items: plan.items.clone(), failed, ..Due::default() }
    }

    /// A job or image is being tried (again).
    pub(crate) fn began(&mut self, item: &ItemId) {
        *self.tries.entry(item.clone()).or_default() += 1;
        self.failed.remove(item);
    }

    /// It failed; with attempts left it is tried once more by itself.
    pub(crate) fn failed(&mut self, item: &ItemId) {
        let further = self.items.iter().find(|known| &known.id == item).map_or(0, |item| match &item.spec {
            ItemSpec::Job(job) => job.retry.max,
            ItemSpec::Image(_) | ItemSpec::Release(_) => 0,
        });
        if self.tries.get(item).copied().unwrap_or(0) > further {
            self.failed.insert(item.clone());
        }
    }

    pub(crate) fn made(&mut self, release: &ItemId) {
        self.made.insert(release.clone());
    }

    /// Whether no release is to come any more.
    pub(crate) fn is_empty(&self) -> bool {
        let mut broken = self.failed.clone();
        // Needs come first in a plan, services that others need as well.
        for item in &self.items {
            let services = match &item.spec {
                ItemSpec::Release(def) => def.needs.iter().map(ItemId::release).collect(),
                ItemSpec::Job(_) | ItemSpec::Image(_) => Vec::new(),
            };
            if item.needs.iter().chain(&services).any(|need| broken.contains(need)) {
                broken.insert(item.id.clone());
            }
        }
        let is_due = |item: &Item| {
            let release = matches!(item.spec, ItemSpec::Release(_)) && item.decision == Decision::Run;
            release && !self.made.contains(&item.id) && !broken.contains(&item.id)
        };
        !self.items.iter().any(is_due)
    }
}
