//! What the sandboxes of a machine cannot do.
//!
//! In: what the worker found when it started; a plan. Out: sentences for who looks at the plan. Never: the finding out.

use serde::{Deserialize, Serialize};
use slipway_model::plan::{Decision, ItemSpec, Plan};

/// File name in the folder of what runs.
pub const MACHINE_FILE: &str = "machine.json";

/// What is weaker than asked for on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Jobs with a network have the machine's own.
    pub shares_network: bool,
    /// Why limits of memory and CPU are not kept, where they are not.
    pub unlimited: Option<String>,
}

impl Machine {
    /// What of a plan will be done in a weaker way than it says.
    #[must_use]
    pub fn warnings(&self, plan: &Plan) -> Vec<String> {
        let wanted = || plan.items.iter().filter(|item| item.decision == Decision::Run);
        let mut warnings = Vec::new();
        let jobs: Vec<&str> = wanted()
            .filter(|item| matches!(&item.spec, ItemSpec::Job(job) if job.network))
            .map(|item| item.id.0.trim_start_matches("job:"))
            .collect();
        if self.shares_network && !jobs.is_empty() {
            warnings.push(format!(
                "{} will share this machine's network, without isolation; `slipway doctor` says why",
                jobs.join(", ")
            ));
        }
        for item in wanted() {
            let (ItemSpec::Release(release), Some(why)) = (&item.spec, &self.unlimited) else { continue };
            let resources = &release.spec.resources;
            let limits = [("memory", resources.memory_bytes.is_some()), ("cpu", resources.cpu_millis.is_some())];
            for (name, _) in limits.into_iter().filter(|(_, asked)| *asked) {
                warnings
                    .push(format!("`{}`: resources.{name} will not be kept on this machine: {why}", release.service));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_model::job::Retry;
    use slipway_model::plan::Item;
    use slipway_model::{ContentKey, ItemId, JobKey};

    fn job(name: &str, network: bool) -> Item {
        let key: JobKey = serde_json::from_value(serde_json::json!({ "service": "api", "name": name })).unwrap();
        let def = serde_json::json!({ "key": key, "kind": "unit", "steps": [], "needs": [], "image": "host", "env": {},
            "secrets": [], "inputs": [], "produces": [], "artifacts": {}, "retry": Retry::default(), "timeout_ms": 1,
            "network": network, "folder": "api" });
        Item {
            id: ItemId::job(&key),
            service: None,
            decision: Decision::Run,
            reason: String::new(),
            needs: Vec::new(),
            key: ContentKey::of([("name", name)]),
            inputs: Default::default(),
            spec: ItemSpec::Job(serde_json::from_value(def).unwrap()),
            previous: None,
        }
    }

    #[test]
    fn a_shared_network_is_said_of_the_jobs_that_have_one() {
        let plan = Plan { items: vec![job("far", true), job("near", false)], ..Plan::default() };
        let machine = Machine { shares_network: true, unlimited: None };
        let want = "api/far will share this machine's network, without isolation; `slipway doctor` says why";
        assert_eq!(machine.warnings(&plan), [want]);
        assert!(Machine::default().warnings(&plan).is_empty());
    }
}
