//! What the file says of one environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Given, Millis, Percent, Position, SecretUse, Spanned};

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub at: Position,
    /// Patterns of branches that may deploy here.
    pub from: Given<Vec<String>>,
    /// Whether a change comes here by itself.
    pub deploy: Given<Deploy>,
    /// Environments that a release must have succeeded in before.
    pub after: Given<Vec<Spanned<String>>>,
    /// Who must agree.
    pub approve: Given<Approve>,
    /// How the new release replaces the old one.
    pub strategy: Given<Strategy>,
    /// How the new release is judged.
    pub verify: Verify,
    /// How many instances of each service.
    pub replicas: Given<u32>,
    /// Configuration for all services here; it wins over a service's default
    /// and loses against what a service says of this environment.
    pub env: BTreeMap<String, Spanned<String>>,
    /// Secrets for all services here.
    pub secrets: Vec<Spanned<SecretUse>>,
    /// How many releases stay as rollback targets.
    pub retain: Given<u32>,
}

/// Whether a change comes to an environment by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deploy {
    /// As soon as its gates are green.
    Auto,
    /// When a person says so.
    Manual,
}

/// Who must agree before a release comes to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Approve {
    /// People or teams; anyone with the right when not given.
    pub by: Given<Vec<String>>,
    /// How many of them.
    pub count: Given<u32>,
    /// Whether the author of the change counts.
    pub author: Given<bool>,
    /// How long a release waits for it.
    pub expires: Given<Millis>,
}

/// How the new release replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Some instances after the others.
    Rolling(Rolling),
}

/// The numbers of a rolling update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rolling {
    /// How many instances there may be beyond the wanted number.
    pub max_surge: Given<Quantity>,
    /// How many of the wanted number may be missing.
    pub max_unavailable: Given<Quantity>,
}

/// A count, or a part of the wanted number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// This many.
    Count(u32),
    /// This many of a hundred.
    Percent(u32),
}

impl Quantity {
    /// Whether it is nothing of anything.
    pub fn is_zero(self) -> bool {
        match self {
            Quantity::Count(amount) | Quantity::Percent(amount) => amount == 0,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantity::Count(count) => write!(f, "{count}"),
            Quantity::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How a new release is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verify {
    /// How long to wait for a first request before the smoke requests decide.
    pub hold: Given<Millis>,
    /// How many requests end a step.
    pub requests: Given<u32>,
    /// How long to wait for them at most.
    pub wait: Given<Millis>,
    /// How many of the requests may fail beyond those of the old release.
    pub errors: Given<Percent>,
    /// How much slower the slowest twentieth may be than in the old release.
    pub p95: Given<Percent>,
    /// Requests that are made when nobody makes one.
    pub smoke: Given<Vec<Smoke>>,
    /// How long to watch after all traffic has moved.
    pub bake: Given<Millis>,
}

/// A request without effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smoke {
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// The path, with a leading `/`.
    pub path: String,
}

impl fmt::Display for Smoke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
