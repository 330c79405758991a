//! The access log: one record per request, handed to whoever asked for it.
//!
//! In: the facts of a finished request. Out: a borrowed record. Never formats or stores anything.

use std::time::Duration;

use http::Method;

/// One finished request. Empty texts where the request never got so far.
#[derive(Debug)]
pub struct AccessRecord<'a> {
    /// The project.
    pub project: &'a str,
    /// The environment.
    pub environment: &'a str,
    /// The service.
    pub service: &'a str,
    /// The release that answered, or was last tried.
    pub release: &'a str,
    /// The instance that answered, or was last tried.
    pub instance: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path without its query, which may hold secrets.
    pub path: &'a str,
    /// The status that the client got; 0 when the client went away before there was one.
    pub status: u16,
    /// From the request's head to the response's head.
    pub latency: Duration,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// The value of `X-Request-Id`.
    pub request_id: &'a str,
}

/// What is called with every record, on the request's own task: it must not block.
pub type AccessHook = Box<dyn Fn(&AccessRecord<'_>) + Send + Sync>;

/// What is called with a line of text that the people who run the node should see, on a request's own task.
pub type WarningHook = Box<dyn Fn(&str) + Send + Sync>;
