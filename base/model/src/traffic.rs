//! Traffic figures: what the proxy counted, per release.
//!
//! In: nothing. Out: plain data. Never samples anything.

use crate::id::{Lane, ReleaseId};
use crate::time::At;
use crate::verdict::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Upper bounds of the latency buckets in microseconds are powers of 2^(1/4) from 64 µs on; the last is open.
pub const LATENCY_BUCKETS: usize = 80;

/// Cumulative counts of one lane since each release first appeared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneTraffic {
    /// The lane.
    pub lane: Lane,
    /// When this was read.
    pub at: At,
    /// Per release.
    pub releases: BTreeMap<ReleaseId, ReleaseTraffic>,
}

/// Cumulative counts of one release in a lane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReleaseTraffic {
    /// All requests.
    pub all: Counts,
    /// Latency histogram of all requests.
    pub latency: Vec<u64>,
    /// Per method and path pattern (`GET /items/{id}`).
    pub patterns: BTreeMap<String, Counts>,
    /// Per method and exact path, from its first failure on.
    pub suspects: BTreeMap<String, Counts>,
    /// The newest failing requests.
    pub samples: Vec<Sample>,
}

/// Requests and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests answered or broken.
    pub requests: u64,
    /// Of them 5xx answers and broken connections.
    pub errors: u64,
}

impl Counts {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Counts) -> Counts {
        Counts {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }
}

/// The upper bound of a latency bucket in microseconds.
#[must_use]
pub fn bucket_bound_us(bucket: usize) -> u64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bound = (64.0 * 2f64.powf(bucket.min(LATENCY_BUCKETS) as f64 / 4.0)) as u64;
    bound
}

/// A percentile of a latency histogram, as the upper bound of its bucket.
#[must_use]
pub fn percentile(latency: &[u64], percent: u64) -> u64 {
    let all: u64 = latency.iter().sum();
    let wanted = (all * percent).div_ceil(100);
    let mut seen = 0;
    for (bucket, count) in latency.iter().enumerate() {
        seen += count;
        if seen >= wanted && seen > 0 {
            return bucket_bound_us(bucket);
        }
    }
    0
}
