//! Counters as they travel: plain values, to be sent as JSON and subtracted from each other.
//!
//! In: counters. Out: values. All counts are cumulative since the release first appeared in the
//! table of this process; `since_unix_ms` changes when a restarted node began to count anew.

use serde::{Deserialize, Serialize};

use super::histogram::Latencies;
use crate::table::ServiceKey;

/// The counters of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Which service.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Rises with every change; two reads with the same version are equal.
    pub version: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// Requests answered 503 because no instance was ready and none could be tried.
    pub unavailable: u64,
    /// Requests answered 503 because of a limit of the proxy.
    pub overloaded: u64,
    /// Each release that has been in the table, the oldest first, at most 16.
    pub releases: Vec<ReleaseStats>,
    /// Exact paths that have failed, those that failed most first, at most 50.
    pub suspects: Vec<Suspect>,
}

/// The counters of one release of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStats {
    /// The release's id.
    pub release: String,
    /// When it first appeared, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// All its requests.
    pub total: Count,
    /// Answers by the first digit of their status: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub statuses: [u64; 5],
    /// Errors in which a connection broke before the response was whole.
    pub broken: u64,
    /// Errors in which the instance did not answer in time.
    pub timed_out: u64,
    /// Errors in which no instance of it could be reached.
    pub unreachable: u64,
    /// Attempts to connect that failed; the request may have succeeded elsewhere.
    pub connect_failures: u64,
    /// Clients that went away before the response; they count neither as requests nor as errors.
    pub client_aborts: u64,
    /// The same by method and path pattern; patterns without a request are left out.
    pub paths: Vec<PathCount>,
}

/// Requests, errors and latencies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Those of them that failed: a status of 500 or above, a broken connection, a timeout.
    pub errors: u64,
    /// From the request's head to the response's head.
    pub latencies: Latencies,
}

/// The counters of one method and path pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCount {
    /// The method; `OTHER` for unusual ones, `*` for the rest above the limit.
    pub method: String,
    /// The pattern, ids as `:id`; `*` for the rest above the limit of 200 patterns.
    pub pattern: String,
    /// Its counters.
    #[serde(flatten)]
    pub count: Count,
}

/// An exact path that has failed at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// What it did in each release, from its first failure on, that included.
    pub releases: Vec<SuspectRelease>,
}

/// What a suspect path did in one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectRelease {
    /// The release's id.
    pub release: String,
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
}

impl Stats {
    /// The counters of one release.
    pub fn release(&self, release: &str) -> Option<&ReleaseStats> {
        self.releases.iter().find(|r| r.release == release)
    }
}

impl ReleaseStats {
    /// The counters of one method and pattern.
    pub fn path(&self, method: &str, pattern: &str) -> Option<&Count> {
        let mut paths = self.paths.iter();
        let path = paths.find(|p| p.method == method && p.pattern == pattern)?;
        Some(&path.count)
    }
}
