//! The last failed requests of a release, as evidence.
//!
//! In: failed requests. Out: at most 20 per release, the newest last. Never keeps a query, a
//! credential or a cookie, and only the first 512 bytes of what the instance said.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Samples of one release.
pub(crate) const SAMPLES_MAX: usize = 20;
/// Bytes of a response's body in a sample.
pub(crate) const SAMPLE_BODY_BYTES_MAX: usize = 512;
/// Bytes of one header value, and of the path, in a sample.
const TEXT_BYTES_MAX: usize = 512;

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The instance answered with a status of 500 or above.
    Status,
    /// No instance of the release could be reached.
    Unreachable,
    /// The connection broke before the response was whole.
    Broken,
    /// The instance did not answer in time.
    TimedOut,
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Its method.
    pub method: String,
    /// Its path without the query.
    pub path: String,
    /// What the client got.
    pub status: u16,
    /// From the request's head to the response's head, or to the failure.
    pub latency_micros: u64,
    /// Which instance had it.
    pub instance: String,
    /// How it failed.
    pub failure: FailureKind,
    /// The value of `X-Request-Id`.
    pub request_id: String,
    /// Some of its header fields; `****` stands for credentials.
    pub request_headers: Vec<(String, String)>,
    /// The first 512 bytes of the body of a response of 500 or above.
    pub body: String,
}

const SHOWN: [&str; 6] = ["host", "user-agent", "accept", "content-type", "content-length", "referer"];
const SECRETS: [&str; 2] = ["authorization", "cookie"];

/// The fields of a request's head that a sample shows.
pub(crate) fn shown(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    let fields: Vec<(&str, &str)> = text.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    let first = |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let values = SHOWN.iter().filter_map(|name| {
        let (_, value) = first(name)?;
        // Where the user came from may hold a secret in its query.
        let value = if *name == "referer" { value.split(['?', '#']).next().unwrap_or_default() } else { value };
        Some(((*name).to_owned(), cut(value)))
    });
    let secrets = SECRETS.iter().filter(|name| first(name).is_some());
    values.chain(secrets.map(|name| ((*name).to_owned(), "****".to_owned()))).collect()
}

/// At most so many bytes, ending at a character.
pub(crate) fn cut(text: &str) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// The samples of one release.
#[derive(Default)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

impl Samples {
    pub(crate) fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(crate) fn read(&self) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().cloned().collect()
    }
}
