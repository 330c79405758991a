//! What the proxy counted, in the shapes of the model, pushed as it changes.
//!
//! In: [`Stats`] of the proxy. Out: [`LaneTraffic`], at most every 10 ms per lane; a nudge for instances whose
//! requests fail. Never samples: counts are cumulative, so that a lost push loses nothing.

use crate::supervisor::Message;
use crate::table::key_of;
use serde::Deserialize;
use slipway_model::traffic::{Counts, LATENCY_BUCKETS, LaneTraffic, ReleaseTraffic};
use slipway_model::verdict::Sample;
use slipway_model::{At, EnvironmentName, Lane, ProjectName, ReleaseId, ServiceName};
use slipway_ports::NodeEvent;
use slipway_proxy::{FailureKind, Latencies, Proxy, ReleaseStats, ServiceKey, Stats};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two pushes, beside the 5 ms that the proxy itself leaves.
const PUSH_GAP: Duration = Duration::from_millis(5);

/// Pushes until the outbox is gone.
pub(crate) async fn push(proxy: Proxy, outbox: mpsc::Sender<NodeEvent>, supervisor: mpsc::Sender<Message>) {
    let mut changes = proxy.changes();
    let mut failures: HashMap<(Lane, ReleaseId), u64> = HashMap::new();
    loop {
        for key in changes.next().await {
            let (Some(lane), Some(stats)) = (lane_of(&key), proxy.snapshot(&key)) else { continue };
            for release in failing(&lane, &stats, &mut failures) {
                // A full queue means that something is being done already.
                let _ = supervisor.try_send(Message::Doubt(lane.clone(), release));
            }
            if outbox.send(NodeEvent::Traffic(traffic(&proxy, lane, &stats))).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PUSH_GAP).await;
    }
}

/// Releases of which a request failed since the last look.
fn failing(lane: &Lane, stats: &Stats, known: &mut HashMap<(Lane, ReleaseId), u64>) -> Vec<ReleaseId> {
    let mut failing = Vec::new();
    for release in &stats.releases {
        let Ok(id) = ReleaseId::parse(&release.release) else { continue };
        let count = release.total.errors + release.connect_failures;
        let before = known.insert((lane.clone(), id.clone()), count).unwrap_or(0);
        if count > before {
            failing.push(id);
        }
    }
    failing
}

fn lane_of(key: &ServiceKey) -> Option<Lane> {
    Some(Lane {
        project: ProjectName::parse(&key.project).ok()?,
        environment: EnvironmentName::parse(&key.environment).ok()?,
        service: ServiceName::parse(&key.service).ok()?,
    })
}

/// The counts of a lane now.
pub(crate) fn counts(proxy: &Proxy, lane: &Lane) -> Option<LaneTraffic> {
    let stats = proxy.snapshot(&key_of(lane))?;
    Some(traffic(proxy, lane.clone(), &stats))
}

fn traffic(proxy: &Proxy, lane: Lane, stats: &Stats) -> LaneTraffic {
    let mut releases = BTreeMap::new();
    for release in &stats.releases {
        let Ok(id) = ReleaseId::parse(&release.release) else { continue };
        let samples = proxy.samples(&stats.key, &release.release);
        releases.insert(id, one(release, stats, samples));
    }
    LaneTraffic { lane, at: now(), releases }
}

fn one(release: &ReleaseStats, stats: &Stats, samples: Vec<slipway_proxy::Sample>) -> ReleaseTraffic {
    let patterns = release.paths.iter().map(|path| {
        let counts = Counts { requests: path.count.requests, errors: path.count.errors };
        (format!("{} {}", path.method, with_braces(&path.pattern)), counts)
    });
    let suspects = stats.suspects.iter().filter_map(|suspect| {
        let ours = suspect.releases.iter().find(|r| r.release == release.release)?;
        let counts = Counts { requests: ours.ok + ours.failed, errors: ours.failed };
        Some((format!("{} {}", suspect.method, suspect.path), counts))
    });
    ReleaseTraffic {
        all: Counts { requests: release.total.requests, errors: release.total.errors },
        latency: buckets(&release.total.latencies),
        patterns: patterns.collect(),
        suspects: suspects.collect(),
        samples: samples.into_iter().map(sample).collect(),
    }
}

/// `/items/:id` → `/items/{id}`.
fn with_braces(pattern: &str) -> String {
    let part = |part: &str| match part.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => part.to_owned(),
    };
    pattern.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn sample(sample: slipway_proxy::Sample) -> Sample {
    let broken = match sample.failure {
        FailureKind::Broken | FailureKind::Unreachable => true,
        FailureKind::Status | FailureKind::TimedOut => false,
    };
    Sample {
        at: At(sample.at_unix_ms),
        request: format!("{} {}", sample.method, sample.path),
        status: if broken { 0 } else { sample.status },
        latency_us: sample.latency_micros,
        instance: sample.instance,
        body: sample.body,
    }
}

/// The proxy's buckets as JSON has them; it shows them nowhere else.
#[derive(Deserialize)]
struct Shown {
    buckets: Vec<(usize, u64)>,
}

/// The proxy has four even steps per power of two from 64 µs on, the model four geometric ones. The middle of each
/// even step lies in the geometric one of the same number, so counts move over one to one; what lies above the
/// model's last bucket is counted there.
fn buckets(latencies: &Latencies) -> Vec<u64> {
    let mut buckets = vec![0; LATENCY_BUCKETS];
    let shown = serde_json::to_vec(latencies).and_then(|bytes| serde_json::from_slice::<Shown>(&bytes));
    for (number, count) in shown.map(|shown| shown.buckets).unwrap_or_default() {
        buckets[number.min(LATENCY_BUCKETS - 1)] += count;
    }
    buckets
}

/// The wall clock.
pub(crate) fn now() -> At {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    At(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_their_bucket() {
        // Where the proxy's bucket `n` begins and ends (see its histogram).
        let edge = |n: u64| if n == 0 { 0 } else { (4 + (n - 1) % 4) << ((n - 1) / 4 + 4) };
        for n in 1..(LATENCY_BUCKETS as u64 - 1) {
            let middle = (edge(n) + edge(n + 1)) as f64 / 2.0;
            let bound = |bucket: u64| 64.0 * 2f64.powf(bucket as f64 / 4.0);
            assert!(middle <= bound(n) && middle > bound(n - 1), "{n}: {middle} in {} to {}", bound(n - 1), bound(n));
        }
        let read: Latencies = serde_json::from_str(r#"{"buckets":[[0,2],[5,3],[85,1]],"sum_micros":9}"#).unwrap();
        let buckets = buckets(&read);
        assert_eq!((buckets[0], buckets[5], buckets[LATENCY_BUCKETS - 1]), (2, 3, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 6);
    }

    #[test]
    fn patterns_read_as_the_model_writes_them() {
        assert_eq!(with_braces("/items/:id/parts/:id"), "/items/{id}/parts/{id}");
        assert_eq!(with_braces("*"), "*");
    }
}
