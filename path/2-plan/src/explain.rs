//! Words for people about plans.

use slipway_model::plan::{Decision, ItemSpec, Plan};
use std::collections::BTreeSet;

/// `api changed, web not affected`.
#[must_use]
pub fn headline(plan: &Plan) -> String {
    let mut changed = BTreeSet::new();
    let mut rest = BTreeSet::new();
    for item in &plan.items {
        let name = item.service.as_ref().map_or_else(|| "the repository".to_owned(), ToString::to_string);
        if item.decision == Decision::Run {
            changed.insert(name);
        } else {
            rest.insert(name);
        }
    }
    rest.retain(|name| !changed.contains(name));
    let list = |names: &BTreeSet<String>, word: &str| match names.len() {
        0 => None,
        1..=4 => Some(format!("{} {word}", names.iter().cloned().collect::<Vec<_>>().join(", "))),
        count => Some(format!("{count} services {word}")),
    };
    let parts: Vec<String> = [list(&changed, "changed"), list(&rest, "not affected")].into_iter().flatten().collect();
    if parts.is_empty() { "nothing to do".into() } else { parts.join(", ") }
}

/// A plan as a table for the terminal, one line per item.
#[must_use]
pub fn table(plan: &Plan) -> Vec<String> {
    plan.items
        .iter()
        .map(|item| {
            let kind = match &item.spec {
                ItemSpec::Job(_) => "job",
                ItemSpec::Image(_) => "image",
                ItemSpec::Release(_) => "release",
            };
            let name = crate::decide::name_of(item);
            format!("{kind:<8} {name:<24} {:<13} {}", item.decision.word(), item.reason)
        })
        .collect()
}
