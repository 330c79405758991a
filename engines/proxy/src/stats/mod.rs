//! The counters of services and releases.
//!
//! In: finished requests, from any thread. Out: [`Stats`]. Recording is a few atomic additions; a
//! lock is taken only for a failure, and never across an await.

pub(crate) mod change;
pub(crate) mod histogram;
pub(crate) mod pattern;
pub(crate) mod samples;
pub(crate) mod snapshot;
pub(crate) mod suspects;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proxy::Shared;
use crate::routes::fnv;
use crate::table::{RELEASES_MAX, ServiceKey};
use change::Recorded;
use histogram::Histogram;
use http::{Method, StatusCode};
use pattern::{PATTERNS_MAX, Patterns};
use samples::{FailureKind, Sample, Samples};
use snapshot::{Count, PathCount, ReleaseStats, Stats};
use suspects::Suspects;

/// What is counted for one service, across tables.
pub(crate) struct ServiceCounters {
    pub(crate) key: ServiceKey,
    seed: u64,
    version: AtomicU64,
    tickets: AtomicU64,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) held: AtomicUsize,
    unavailable: AtomicU64,
    overloaded: AtomicU64,
    patterns: Patterns,
    suspects: Suspects,
    releases: Mutex<Vec<Arc<ReleaseCounters>>>,
    recorded: Arc<Recorded>,
    warned: AtomicBool,
}

/// What is counted for one release of a service.
pub(crate) struct ReleaseCounters {
    pub(crate) id: Arc<str>,
    since_unix_ms: u64,
    total: Counter,
    statuses: [AtomicU64; 5],
    broken: AtomicU64,
    timed_out: AtomicU64,
    unreachable: AtomicU64,
    connect_failures: AtomicU64,
    client_aborts: AtomicU64,
    paths: Box<[OnceLock<Box<Counter>>]>,
    pub(crate) samples: Samples,
}

#[derive(Default)]
struct Counter {
    requests: AtomicU64,
    errors: AtomicU64,
    latencies: Histogram,
}

/// One request that a release answered, or failed to.
pub(crate) struct Finished<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    /// Of the instance; 0 when there was none.
    pub(crate) status: u16,
    pub(crate) latency: Duration,
    pub(crate) failure: Option<FailureKind>,
}

impl Counter {
    fn add(&self, latency: Duration, failed: bool) {
        self.requests.fetch_add(1, Relaxed);
        if failed {
            self.errors.fetch_add(1, Relaxed);
        }
        self.latencies.record(latency);
    }

    fn read(&self) -> Count {
        Count {
            // Errors first, so that there are never more of them than requests.
            errors: self.errors.load(Relaxed),
            requests: self.requests.load(Relaxed),
            latencies: self.latencies.read(),
        }
    }
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

impl ReleaseCounters {
    fn new(id: &str) -> Self {
        ReleaseCounters {
            id: id.into(),
            since_unix_ms: unix_ms(),
            total: Counter::default(),
            statuses: Default::default(),
            broken: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            client_aborts: AtomicU64::new(0),
            paths: (0..=PATTERNS_MAX).map(|_| OnceLock::new()).collect(),
            samples: Samples::default(),
        }
    }

    fn record(&self, place: usize, finished: &Finished<'_>) {
        let failed = finished.failure.is_some();
        self.total.add(finished.latency, failed);
        if let Some(path) = self.paths.get(place) {
            path.get_or_init(Box::default).add(finished.latency, failed);
        }
        let class = usize::from(finished.status / 100);
        if let Some(status) = class.checked_sub(1).and_then(|c| self.statuses.get(c)) {
            status.fetch_add(1, Relaxed);
        }
        let kind = match finished.failure {
            None | Some(FailureKind::Status) => return,
            Some(FailureKind::Broken) => &self.broken,
            Some(FailureKind::TimedOut) => &self.timed_out,
            Some(FailureKind::Unreachable) => &self.unreachable,
        };
        kind.fetch_add(1, Relaxed);
    }

    fn read(&self, names: &[(String, String)]) -> ReleaseStats {
        let paths = self.paths.iter().zip(names).filter_map(|(counter, name)| {
            Some(PathCount { method: name.0.clone(), pattern: name.1.clone(), count: counter.get()?.read() })
        });
        ReleaseStats {
            release: self.id.to_string(),
            since_unix_ms: self.since_unix_ms,
            total: self.total.read(),
            statuses: std::array::from_fn(|i| self.statuses.get(i).map_or(0, |status| status.load(Relaxed))),
            broken: self.broken.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            unreachable: self.unreachable.load(Relaxed),
            connect_failures: self.connect_failures.load(Relaxed),
            client_aborts: self.client_aborts.load(Relaxed),
            paths: paths.collect(),
        }
    }
}

impl ServiceCounters {
    /// `recorded` is told of every change.
    pub(crate) fn new(key: ServiceKey, recorded: Arc<Recorded>) -> Self {
        ServiceCounters {
            seed: fnv(key.to_string().as_bytes()),
            key,
            version: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            unavailable: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            patterns: Patterns::default(),
            suspects: Suspects::default(),
            releases: Mutex::default(),
            recorded,
            warned: AtomicBool::new(false),
        }
    }

    /// Makes cohorts differ between services, so that it is not always the same users' turn.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The number of the next request.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Relaxed)
    }

    /// The counters of a release, which begin when it first appears. `routed` says which releases
    /// must not give way to it.
    pub(crate) fn release(&self, id: &str, routed: &[&str]) -> Arc<ReleaseCounters> {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = releases.iter().find(|release| *release.id == *id) {
            return Arc::clone(release);
        }
        if releases.len() >= RELEASES_MAX {
            let mut all = releases.iter();
            if let Some(old) = all.position(|release| !routed.contains(&&*release.id)) {
                releases.remove(old);
            }
        }
        let release = Arc::new(ReleaseCounters::new(id));
        releases.push(Arc::clone(&release));
        release
    }

    pub(crate) fn record(&self, release: &ReleaseCounters, finished: &Finished<'_>) {
        // Paths that do not exist are made up by clients: they must not use the table up.
        let real = finished.status != StatusCode::NOT_FOUND.as_u16();
        let place = self.patterns.place(finished.method, finished.path, real);
        release.record(place, finished);
        self.suspects.record(finished.method, finished.path, &release.id, finished.failure.is_some());
        self.moved();
    }

    pub(crate) fn record_unavailable(&self) {
        self.unavailable.fetch_add(1, Relaxed);
        self.moved();
    }

    pub(crate) fn record_overloaded(&self) {
        self.overloaded.fetch_add(1, Relaxed);
        self.moved();
    }

    pub(crate) fn record_abort(&self, release: &ReleaseCounters) {
        release.client_aborts.fetch_add(1, Relaxed);
        self.moved();
    }

    pub(crate) fn record_connect_failure(&self, release: &ReleaseCounters) {
        release.connect_failures.fetch_add(1, Relaxed);
        self.moved();
    }

    /// The service tries to set the control plane's session. Said once: it may try with every answer.
    pub(crate) fn set_own_cookie(&self, shared: &Shared) {
        if !self.warned.swap(true, Relaxed) {
            shared.warn(&format!(
                "{} sets a cookie named `slipway`, which is the control plane's session: it is dropped from its answers",
                self.key
            ));
        }
    }

    fn moved(&self) {
        // Who reads this version also reads what was counted before it; and of this and a watcher that begins to
        // wait, one sees the other.
        self.version.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.recorded.tell();
    }

    pub(crate) fn read(&self) -> Stats {
        let version = self.version.load(std::sync::atomic::Ordering::Acquire);
        let names = self.patterns.names();
        let releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            key: self.key.clone(),
            version,
            in_flight: self.in_flight.load(Relaxed) as u64,
            unavailable: self.unavailable.load(Relaxed),
            overloaded: self.overloaded.load(Relaxed),
            releases: releases.iter().map(|release| release.read(&names)).collect(),
            suspects: self.suspects.read(),
        }
    }

    pub(crate) fn samples(&self, release: &str) -> Vec<Sample> {
        let releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let release = releases.iter().find(|r| *r.id == *release);
        release.map_or_else(Vec::new, |release| release.samples.read())
    }
}
