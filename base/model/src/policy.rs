//! Policies: the effective numbers that decisions are made by, after defaults and the file.
//!
//! In: nothing. Out: plain data. Never: where a value came from (that is the configuration's).

use crate::id::EnvironmentName;
use serde::{Deserialize, Serialize};

/// A number of instances, or a share of the wanted number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// Percent of the wanted number.
    Percent(u32),
}

impl Amount {
    /// Of `desired`, a share rounded up (as Kubernetes does for maxSurge).
    #[must_use]
    pub fn rounded_up(self, desired: u32) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => share(desired, percent, |part| part.div_ceil(100)),
        }
    }

    /// Of `desired`, a share rounded down (as Kubernetes does for maxUnavailable).
    #[must_use]
    pub fn rounded_down(self, desired: u32) -> u32 {
        match self {
            Amount::Count(count) => count.min(desired),
            Amount::Percent(percent) => share(desired, percent, |part| part / 100).min(desired),
        }
    }
}

/// A share of a count, rounded by the caller; never more than fits.
fn share(desired: u32, percent: u32, round: impl FnOnce(u64) -> u64) -> u32 {
    u32::try_from(round(u64::from(desired) * u64::from(percent))).unwrap_or(u32::MAX)
}

/// The rolling update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Instances above the wanted number.
    pub max_surge: Amount,
    /// Instances below the wanted number.
    pub max_unavailable: Amount,
}

impl Default for Rolling {
    fn default() -> Rolling {
        Rolling { max_surge: Amount::Percent(25), max_unavailable: Amount::Percent(25) }
    }
}

impl Rolling {
    /// Surge and unavailable as counts. When both come out as 0, one may be missing, as nothing could move otherwise
    /// (Kubernetes, `ResolveFenceposts` of its deployment controller).
    #[must_use]
    pub fn counts(&self, desired: u32) -> (u32, u32) {
        let (surge, unavailable) = (self.max_surge.rounded_up(desired), self.max_unavailable.rounded_down(desired));
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }
}

/// How a step of a rollout is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyPolicy {
    /// When no request comes for so long, the smoke requests decide.
    pub hold_ms: u64,
    /// Requests of the new release that a verdict needs.
    pub requests: u64,
    /// The most a step waits for that many.
    pub wait_ms: u64,
    /// Error rate above the old release's that fails, in hundredths of a percent.
    pub errors_basis_points: u32,
    /// How much slower the p95 may be, in percent of the old one's.
    pub p95_percent: u32,
    /// Requests sent to each new instance before it gets traffic, in order.
    pub smoke: Vec<Smoke>,
    /// How long it is watched after all traffic has moved.
    pub bake_ms: u64,
}

impl Default for VerifyPolicy {
    fn default() -> VerifyPolicy {
        VerifyPolicy {
            hold_ms: 500,
            requests: 50,
            wait_ms: 10_000,
            errors_basis_points: 100,
            p95_percent: 20,
            smoke: vec![Smoke { method: "GET".into(), path: "/".into() }],
            bake_ms: 10_000,
        }
    }
}

/// A request to an instance; as a smoke request it must not answer 5xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smoke {
    /// `GET` or `HEAD`; before a stop also `POST`.
    pub method: String,
    /// Path with query.
    pub path: String,
}

/// Who must agree before a release enters an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Names of people or teams; empty means anybody who may deploy.
    pub by: Vec<String>,
    /// How many different people.
    pub count: u32,
    /// Whether the author may be one of them.
    pub author: bool,
    /// When an approval stops counting.
    pub expires_ms: u64,
}

/// What lets a release into an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentPolicy {
    /// Its name.
    pub name: EnvironmentName,
    /// Branch patterns that may deploy here; empty is the production branch alone.
    pub from: Vec<String>,
    /// Whether releases go in by themselves.
    pub auto: bool,
    /// Environments in which the release must have succeeded first.
    pub after: Vec<EnvironmentName>,
    /// Approval, when one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Approval>,
    /// How many releases stay available as rollback targets; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    // R219
    #[test]
    fn surge_is_rounded_up_and_unavailable_down_and_never_both_are_nothing() {
        let counts = |max_surge, max_unavailable, desired| Rolling { max_surge, max_unavailable }.counts(desired);
        let (quarter, none) = (Amount::Percent(25), Amount::Count(0));
        for (surge, unavailable, desired, expected) in [
            (quarter, quarter, 1, (1, 0)),
            (quarter, quarter, 4, (1, 1)),
            (quarter, quarter, 10, (3, 2)),
            (none, quarter, 1, (0, 1)),
            (none, Amount::Count(9), 3, (0, 3)),
            (none, Amount::Percent(400), 3, (0, 3)),
        ] {
            assert_eq!(counts(surge, unavailable, desired), expected, "{surge:?} {unavailable:?} of {desired}");
        }
    }
}
