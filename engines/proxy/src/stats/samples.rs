//! The last failed requests of a release, as evidence.
//!
//! In: failed requests. Out: at most 20 per release, the newest last. Never keeps a query, a
//! credential or a cookie, and only the first 512 bytes of what the instance said.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, REFERER, USER_AGENT,
};
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

/// The header fields of a request that a sample would show; references into its head.
pub(crate) struct Shown {
    values: [Option<HeaderValue>; 6],
    secrets: [bool; 2],
}

const NAMES: [http::HeaderName; 6] = [HOST, USER_AGENT, ACCEPT, CONTENT_TYPE, CONTENT_LENGTH, REFERER];
const SECRETS: [http::HeaderName; 2] = [AUTHORIZATION, COOKIE];

impl Shown {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        Shown {
            values: NAMES.map(|name| headers.get(name).cloned()),
            secrets: SECRETS.map(|name| headers.contains_key(name)),
        }
    }

    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let values = NAMES.iter().zip(&self.values).filter_map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_ref()?.as_bytes()).into_owned();
            // Where the user came from may hold a secret in its query.
            let text = match name {
                &REFERER => text.split(['?', '#']).next().unwrap_or("").to_owned(),
                _ => text,
            };
            Some((name.to_string(), cut(&text)))
        });
        let secrets = SECRETS.iter().zip(self.secrets).filter(|(_, there)| *there);
        let secrets = secrets.map(|(name, _)| (name.to_string(), "****".to_owned()));
        values.chain(secrets).collect()
    }
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
