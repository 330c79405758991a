//! Counts as the proxy keeps them.
//!
//! In: requests with their answers. Out: cumulative counts per release. Never: more than a few samples.

use slipway_model::At;
use slipway_model::traffic::{Counts, LATENCY_BUCKETS, ReleaseTraffic};
use slipway_model::verdict::Sample;

/// Failing requests that are kept.
const SAMPLES: usize = 5;

/// One answered request.
pub struct Answered<'a> {
    /// Method and path.
    pub request: &'a str,
    /// 500 or 200.
    pub failed: bool,
    /// How long it took.
    pub latency_us: u64,
    /// Who answered.
    pub instance: &'a str,
    /// When.
    pub at: At,
}

/// Counts one request.
pub fn count(traffic: &mut ReleaseTraffic, answered: &Answered<'_>) {
    let failed = u64::from(answered.failed);
    let add = |counts: &mut Counts| {
        counts.requests += 1;
        counts.errors += failed;
    };
    add(&mut traffic.all);
    add(traffic.patterns.entry(pattern(answered.request)).or_default());
    if answered.failed || traffic.suspects.contains_key(answered.request) {
        add(traffic.suspects.entry(answered.request.to_owned()).or_default());
    }
    traffic.latency.resize(LATENCY_BUCKETS, 0);
    if let Some(bucket) = traffic.latency.get_mut(bucket(answered.latency_us)) {
        *bucket += 1;
    }
    if answered.failed {
        if traffic.samples.len() == SAMPLES {
            traffic.samples.remove(0);
        }
        traffic.samples.push(Sample {
            at: answered.at,
            request: answered.request.to_owned(),
            status: 500,
            latency_us: answered.latency_us,
            instance: answered.instance.to_owned(),
            body: "internal error".into(),
        });
    }
}

/// `GET /items/17` is `GET /items/{id}`.
fn pattern(request: &str) -> String {
    let fold = |part: &str| {
        let is_id = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_id { "{id}".to_owned() } else { part.to_owned() }
    };
    request.split('/').map(fold).collect::<Vec<_>>().join("/")
}

fn bucket(latency_us: u64) -> usize {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bucket = ((latency_us.max(64) as f64 / 64.0).log2() * 4.0).ceil() as usize;
    bucket.min(LATENCY_BUCKETS - 1)
}
