//! In: what the file says and what was found out about the repository. Out:
//! concrete policies, every value with its origin. Pure; the one place where
//! the defaults of the language stand.

mod behaviour;
mod delivery;
mod work;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use behaviour::{behaviour_tests, job_kind, runs_recognised_tests};
pub use delivery::{
    ApprovePolicy, EnvironmentPolicy, RollingPolicy, VerifyPolicy, environment_names, environment_policies,
    environment_policy,
};
pub use work::{JobPolicy, ServicePolicy, job_policy, service_names, service_policy};

use crate::model::{Config, Given, Position};
use crate::pattern;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The file says so.
    File {
        /// The line, from 1.
        line: u32,
        /// The column in characters, from 1.
        column: u32,
    },
    /// It was recognised; from what.
    Detected(String),
    /// The product's default.
    BuiltIn,
}

impl Origin {
    /// The origin of what stands at this place.
    pub fn at(at: Position) -> Origin {
        Origin::File { line: at.line, column: at.column }
    }
}

/// A value that holds, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Effective<T> {
    /// A default of the product.
    pub fn built_in(value: T) -> Effective<T> {
        Effective { value, origin: Origin::BuiltIn }
    }

    /// What was recognised, and from what.
    pub fn detected(value: T, from: &str) -> Effective<T> {
        Effective { value, origin: Origin::Detected(from.to_owned()) }
    }
}

/// What the caller found out about the repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The name of the folder.
    pub folder: String,
    /// The project's name in the `slipway` or `origin` remote.
    pub remote: Option<String>,
    /// The branches that there are.
    pub branches: Vec<String>,
    /// Services that were recognised, by name.
    pub services: BTreeMap<String, DetectedService>,
}

/// What was recognised of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DetectedService {
    /// Its folder from the root, `.` for the root.
    pub path: String,
    /// Its Dockerfile from the root.
    pub dockerfile: Option<String>,
    /// The port that it listens on.
    pub port: Option<u16>,
    /// The command of its tests.
    pub tests: Option<String>,
    /// What it was recognised from: `api/Cargo.toml`.
    pub evidence: String,
}

/// What the file gives, else the default.
pub(crate) fn given<T: Clone>(value: &Given<T>, default: T) -> Effective<T> {
    match value {
        Some(value) => Effective { value: value.value.clone(), origin: Origin::at(value.at) },
        None => Effective::built_in(default),
    }
}

/// What the file gives, else nothing.
pub(crate) fn given_or_none<T: Clone>(value: &Given<T>) -> Effective<Option<T>> {
    match value {
        Some(value) => Effective { value: Some(value.value.clone()), origin: Origin::at(value.at) },
        None => Effective::built_in(None),
    }
}

/// The project's name: file, remote, folder.
pub fn project(config: &Config, facts: &Facts) -> Effective<String> {
    if config.project.is_some() {
        return given(&config.project, String::new());
    }
    match &facts.remote {
        Some(name) => Effective::detected(name.clone(), "the remote"),
        None if facts.folder.is_empty() => Effective::built_in("project".to_owned()),
        None => Effective::detected(facts.folder.clone(), "the folder"),
    }
}

/// The branch that goes to production: the file's, else `main`, or `master`
/// where there is only that one.
pub fn production_branch(config: &Config, facts: &Facts) -> Effective<String> {
    if config.branches.production.is_some() {
        return given(&config.branches.production, String::new());
    }
    let exists = |name: &str| facts.branches.iter().any(|branch| branch == name);
    if !exists("main") && exists("master") {
        return Effective::detected("master".to_owned(), "the branches");
    }
    Effective::built_in("main".to_owned())
}

/// Whether pushes to this branch are built: it is included and not excluded.
pub fn branch_is_built(config: &Config, branch: &str) -> bool {
    let hit = |patterns: &[String]| patterns.iter().any(|one| pattern::matches(one, branch));
    let included = match &config.branches.include {
        Some(patterns) => hit(&patterns.value),
        None => true,
    };
    let excluded = match &config.branches.exclude {
        Some(patterns) => hit(&patterns.value),
        None => false,
    };
    included && !excluded
}
