//! Environments as they hold: gates, strategy, verification.

use serde::{Deserialize, Serialize};
use slipway_model::policy as rolling;

use super::{Effective, Facts, Origin, given, given_or_none, production_branch};
use crate::model::{Approve, Config, Deploy, Environment, Millis, Percent, Quantity, Rolling, Smoke, Strategy, Verify};
use crate::units::{DAY, SECOND};

/// One environment as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentPolicy {
    /// Its name, and whether the file names it.
    pub name: Effective<String>,
    /// Patterns of branches that may deploy here.
    pub from: Effective<Vec<String>>,
    /// Whether a change comes here by itself.
    pub deploy: Effective<Deploy>,
    /// Environments that come before.
    pub after: Effective<Vec<String>>,
    /// Who must agree, if anybody.
    pub approve: Option<ApprovePolicy>,
    /// How the new release replaces the old one.
    pub rolling: RollingPolicy,
    /// How it is judged.
    pub verify: VerifyPolicy,
    /// How many instances of each service, if the environment says so.
    pub replicas: Effective<Option<u32>>,
    /// How many releases stay as rollback targets; nothing: all of them.
    pub retain: Effective<Option<u32>>,
}

impl EnvironmentPolicy {
    /// Whether a commit of this branch may come here.
    pub fn takes(&self, branch: &str) -> bool {
        let mut patterns = self.from.value.iter();
        patterns.any(|pattern| crate::pattern::matches(pattern, branch))
    }
}

/// Who must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovePolicy {
    /// People or teams; empty: anyone with the right.
    pub by: Effective<Vec<String>>,
    /// How many.
    pub count: Effective<u32>,
    /// Whether the author of the change counts.
    pub author: Effective<bool>,
    /// How long a release waits.
    pub expires: Effective<Millis>,
}

/// The numbers of a rolling update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollingPolicy {
    /// How many instances beyond the wanted number.
    pub max_surge: Effective<Quantity>,
    /// How many of the wanted number may be missing.
    pub max_unavailable: Effective<Quantity>,
}

/// The numbers of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyPolicy {
    /// How long to wait for a first request before smoke requests decide.
    pub hold: Effective<Millis>,
    /// How many requests end a step.
    pub requests: Effective<u32>,
    /// How long to wait for them at most.
    pub wait: Effective<Millis>,
    /// How many of the requests may fail beyond those of the old release.
    pub errors: Effective<Percent>,
    /// How much slower the slowest twentieth may be.
    pub p95: Effective<Percent>,
    /// Requests that are made when nobody makes one.
    pub smoke: Effective<Vec<Smoke>>,
    /// How long to watch after all traffic has moved.
    pub bake: Effective<Millis>,
}

/// The environments in promotion order; `production` alone when the file has
/// none.
pub fn environment_names(config: &Config) -> Vec<String> {
    if config.environments.is_empty() {
        return vec!["production".to_owned()];
    }
    let names = config.environments.iter();
    names.map(|environment| environment.name.clone()).collect()
}

/// All environments as they hold, in promotion order.
pub fn environment_policies(config: &Config, facts: &Facts) -> Vec<EnvironmentPolicy> {
    if config.environments.is_empty() {
        let alone = Environment { name: "production".to_owned(), ..Environment::default() };
        return vec![policy(config, facts, &alone)];
    }
    let environments = config.environments.iter();
    environments.map(|environment| policy(config, facts, environment)).collect()
}

/// One environment as it holds; nothing when there is none of this name.
pub fn environment_policy(config: &Config, facts: &Facts, name: &str) -> Option<EnvironmentPolicy> {
    let policies = environment_policies(config, facts);
    policies.into_iter().find(|one| one.name.value == name)
}

impl RollingPolicy {
    /// The numbers as the rollout counts with them; it alone rounds them.
    pub fn rolling(&self) -> rolling::Rolling {
        rolling::Rolling { max_surge: self.max_surge.value.into(), max_unavailable: self.max_unavailable.value.into() }
    }
}

impl From<Quantity> for rolling::Amount {
    fn from(quantity: Quantity) -> rolling::Amount {
        match quantity {
            Quantity::Count(count) => rolling::Amount::Count(count),
            Quantity::Percent(percent) => rolling::Amount::Percent(percent),
        }
    }
}

fn policy(config: &Config, facts: &Facts, environment: &Environment) -> EnvironmentPolicy {
    let named = config.environment(&environment.name).is_some();
    let name = Effective {
        value: environment.name.clone(),
        origin: if named { Origin::at(environment.at) } else { Origin::BuiltIn },
    };
    let after = environment.after.as_ref().map(|after| Effective {
        value: after.value.iter().map(|one| one.value.clone()).collect(),
        origin: Origin::at(after.at),
    });
    EnvironmentPolicy {
        name,
        from: from(config, facts, environment),
        deploy: given(&environment.deploy, Deploy::Auto),
        after: after.unwrap_or_else(|| Effective::built_in(Vec::new())),
        approve: environment.approve.as_ref().map(|one| approve(&one.value)),
        rolling: rolling(environment),
        verify: verify(&environment.verify),
        replicas: given_or_none(&environment.replicas),
        retain: given_or_none(&environment.retain),
    }
}

/// An environment that says nothing takes the production branch alone.
fn from(config: &Config, facts: &Facts, environment: &Environment) -> Effective<Vec<String>> {
    if environment.from.is_some() {
        return given(&environment.from, Vec::new());
    }
    let branch = production_branch(config, facts);
    Effective { value: vec![branch.value], origin: branch.origin }
}

fn approve(approve: &Approve) -> ApprovePolicy {
    ApprovePolicy {
        by: given(&approve.by, Vec::new()),
        count: given(&approve.count, 1),
        author: given(&approve.author, false),
        expires: given(&approve.expires, Millis(DAY)),
    }
}

fn rolling(environment: &Environment) -> RollingPolicy {
    let numbers = match environment.strategy.as_ref().map(|one| &one.value) {
        Some(Strategy::Rolling(numbers)) => numbers.clone(),
        None => Rolling::default(),
    };
    RollingPolicy {
        max_surge: given(&numbers.max_surge, Quantity::Percent(25)),
        max_unavailable: given(&numbers.max_unavailable, Quantity::Percent(25)),
    }
}

fn verify(verify: &Verify) -> VerifyPolicy {
    let root = Smoke { method: "GET".to_owned(), path: "/".to_owned() };
    // Who sets one of the two is not caught by the default of the other.
    let hold_given = verify.hold.as_ref().map_or(0, |hold| hold.value.0);
    let wait_given = verify.wait.as_ref().map_or(u64::MAX, |wait| wait.value.0);
    VerifyPolicy {
        hold: given(&verify.hold, Millis(500_u64.min(wait_given))),
        requests: given(&verify.requests, 50),
        wait: given(&verify.wait, Millis((10 * SECOND).max(hold_given))),
        errors: given(&verify.errors, Percent(100)),
        p95: given(&verify.p95, Percent(2_000)),
        smoke: given(&verify.smoke, vec![root]),
        bake: given(&verify.bake, Millis(10 * SECOND)),
    }
}
