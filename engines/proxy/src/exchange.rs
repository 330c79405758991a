//! One request that belongs to a service, from its admission to its one entry in the books.
//!
//! In: what becomes known on its way. Out: exactly one record in the counters and the access log,
//! also when the client goes away. Never touches a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::access::AccessRecord;
use crate::asked::Asked;
use crate::listener::Client;
use crate::stats::samples::{FailureKind, SAMPLE_BODY_BYTES_MAX, Sample, cut, shown};
use crate::stats::{Finished, ReleaseCounters, ServiceCounters, unix_ms};

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The instance answered; 500 and above is its error.
    Answered,
    /// The release failed, and the client got a page of the proxy or half a response.
    Failed(FailureKind),
    /// No instance could even be tried.
    Unavailable,
    /// A limit of the proxy.
    Overloaded,
    /// The client's own fault.
    Refused,
    /// The client went away before there was a response.
    Aborted,
}

pub(crate) struct Exchange<'a> {
    client: &'a Client,
    pub(crate) asked: &'a Asked,
    service: Arc<ServiceCounters>,
    release: Option<Arc<ReleaseCounters>>,
    instance: Option<Arc<str>>,
    started: Instant,
    latency: Option<Duration>,
    status: u16,
    bytes: u64,
    body: Vec<u8>,
    recorded: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(client: &'a Client, asked: &'a Asked, service: &Arc<ServiceCounters>, started: Instant) -> Self {
        service.in_flight.fetch_add(1, Relaxed);
        Exchange {
            client,
            asked,
            service: Arc::clone(service),
            release: None,
            instance: None,
            started,
            latency: None,
            status: 0,
            bytes: 0,
            body: Vec::new(),
            recorded: false,
        }
    }

    pub(crate) fn service(&self) -> &Arc<ServiceCounters> {
        &self.service
    }

    /// Whether the failure of this exchange has a release to be counted against.
    pub(crate) fn was_tried(&self) -> bool {
        self.release.is_some()
    }

    /// The request is given to an instance.
    pub(crate) fn tries(&mut self, release: &Arc<ReleaseCounters>, instance: &Arc<str>) {
        self.release = Some(Arc::clone(release));
        self.instance = Some(Arc::clone(instance));
    }

    /// The head of the response is there.
    pub(crate) fn answers(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.latency = Some(self.started.elapsed());
    }

    /// The connection changes to another protocol. That is the answer, and counted at once: it may last for days.
    pub(crate) fn upgraded(&mut self) {
        self.record(Outcome::Answered);
    }

    /// A part of the response's body passes by.
    pub(crate) fn body_passes(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if self.status >= 500 {
            let room = SAMPLE_BODY_BYTES_MAX.saturating_sub(self.body.len());
            self.body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        }
    }

    /// A page of the proxy is the answer.
    pub(crate) fn answered_by_proxy(&mut self, status: StatusCode, bytes: usize) {
        self.answers(status);
        self.bytes = bytes as u64;
    }

    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if self.recorded {
            return;
        }
        self.recorded = true;
        self.service.in_flight.fetch_sub(1, Relaxed);
        let failure = match outcome {
            Outcome::Failed(kind) => Some(kind),
            Outcome::Answered => (self.status >= 500).then_some(FailureKind::Status),
            Outcome::Unavailable => {
                self.service.record_unavailable();
                return self.log();
            }
            Outcome::Overloaded => {
                self.service.record_overloaded();
                return self.log();
            }
            Outcome::Aborted => {
                if let Some(release) = &self.release {
                    self.service.record_abort(release);
                }
                return self.log();
            }
            Outcome::Refused => return self.log(),
        };
        if let Some(release) = &self.release {
            if let Some(kind) = failure {
                release.samples.add(self.sample(kind));
            }
            let finished = Finished {
                method: &self.asked.method,
                path: self.asked.path(),
                status: self.status,
                latency: self.latency(),
                failure,
            };
            self.service.record(release, &finished);
        }
        self.log();
    }

    fn latency(&self) -> Duration {
        self.latency.unwrap_or_else(|| self.started.elapsed())
    }

    fn sample(&self, failure: FailureKind) -> Sample {
        Sample {
            at_unix_ms: unix_ms(),
            method: self.asked.method.to_string(),
            path: cut(self.asked.path()),
            status: self.status,
            latency_micros: u64::try_from(self.latency().as_micros()).unwrap_or(u64::MAX),
            instance: self.instance.as_deref().unwrap_or_default().to_owned(),
            failure,
            request_id: self.asked.request_id().to_owned(),
            request_headers: shown(self.asked.text()),
            body: String::from_utf8_lossy(&self.body).into_owned(),
        }
    }

    fn log(&self) {
        let Some(hook) = self.client.shared.access.get() else {
            return;
        };
        hook(&AccessRecord {
            project: &self.service.key.project,
            environment: &self.service.key.environment,
            service: &self.service.key.service,
            release: self.release.as_ref().map_or("", |release| &release.id),
            instance: self.instance.as_deref().unwrap_or_default(),
            method: &self.asked.method,
            path: self.asked.path(),
            status: self.status,
            latency: self.latency(),
            bytes: self.bytes,
            request_id: self.asked.request_id(),
        });
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.record(Outcome::Aborted);
    }
}
