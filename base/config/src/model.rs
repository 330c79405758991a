//! In: nothing but what the file says. Out: plain data, every value with its
//! place, so that `explain` can tell where it comes from. A key that was not
//! given is `None` or empty here; defaults are put in by `effective`.

mod environment;
mod job;
mod service;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::problem::Position;
pub use crate::units::{Bytes, Millis, Percent};
pub use environment::{Approve, Deploy, Environment, Quantity, Rolling, Smoke, Strategy, Verify};
pub use job::{Artifact, Job, JobImage, Retry, RetryOn, Step, Trigger, Work};
pub use service::{
    Build, Health, HealthCheck, Resources, SecretPlace, SecretUse, Service, Signal, Stop, StopBefore, TagForm,
};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands in the file.
    pub at: Position,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, at: Position) -> Spanned<T> {
        Spanned { value, at }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), at: self.at }
    }
}

/// A value of the file, if it gives one.
pub type Given<T> = Option<Spanned<T>>;

/// A value for all environments, and what single ones override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerEnvironment<T> {
    /// For every environment that is not named below.
    pub default: Given<T>,
    /// By the environment's name.
    pub overrides: BTreeMap<String, Spanned<T>>,
}

impl<T> PerEnvironment<T> {
    /// What the file says for this environment.
    pub fn of(&self, environment: &str) -> Option<&Spanned<T>> {
        self.overrides.get(environment).or(self.default.as_ref())
    }
}

#[allow(clippy::derivable_impls, reason = "a derive would ask for `T: Default`")]
impl<T> Default for PerEnvironment<T> {
    fn default() -> Self {
        PerEnvironment { default: None, overrides: BTreeMap::new() }
    }
}

/// One `slipway.yaml`. Every path in it is from the repository's root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The file as the caller named it.
    pub file: String,
    /// `project`.
    pub project: Given<String>,
    /// `branches`.
    pub branches: Branches,
    /// `services`, by name.
    pub services: BTreeMap<String, Service>,
    /// `jobs` of the whole project, by name.
    pub jobs: BTreeMap<String, Job>,
    /// `environments` in promotion order: none stands before what it is
    /// `after`; otherwise as in the file.
    pub environments: Vec<Environment>,
}

impl Config {
    /// The environment of this name, if the file has it.
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|one| one.name == name)
    }

    /// A job by its id: `test` of the project, `api/test` of a service.
    pub fn job(&self, id: &str) -> Option<&Job> {
        match id.split_once('/') {
            Some((service, job)) => self.services.get(service)?.jobs.get(job),
            None => self.jobs.get(id),
        }
    }

    /// All jobs with their ids.
    pub fn all_jobs(&self) -> Vec<(String, &Job)> {
        let own = self.jobs.iter().map(|(name, job)| (name.clone(), job));
        let scoped = self.services.iter().flat_map(|(service, entry)| {
            let id = move |name: &String| format!("{service}/{name}");
            entry.jobs.iter().map(move |(name, job)| (id(name), job))
        });
        own.chain(scoped).collect()
    }
}

/// Which branches count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Branches {
    /// The branch that goes to production.
    pub production: Given<String>,
    /// Patterns of branches that are built; all when not given.
    pub include: Given<Vec<String>>,
    /// Patterns of branches that are not built, even when included.
    pub exclude: Given<Vec<String>>,
}
