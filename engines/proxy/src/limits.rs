//! Every limit of the proxy, with its reason.
//!
//! In: nothing, or what an operator configured. Out: numbers that never change while a proxy runs.

use std::time::Duration;

use crate::trusted::Network;

/// The limits of one proxy. `Limits::default()` is meant for production.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that serve connections, each on its own; 0: the runtime in which the proxy listens does. At most 64.
    pub threads: usize,
    /// Client connections open at once; above it, new ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Requests in flight per service; above it, 503.
    pub in_flight_per_service_max: usize,
    /// Bytes of a request head or of a response head; above it, 431 or 502.
    pub head_bytes_max: usize,
    /// Header fields of one head; above it, 431. At most 256.
    pub header_count_max: usize,
    /// Bytes of path and query; above it, 414.
    pub uri_bytes_max: usize,
    /// Bytes of a request body; above it, 413.
    pub body_bytes_max: u64,
    /// From the first byte of a request head to its last; then 408 and close (slow loris).
    pub head_read_timeout: Duration,
    /// A client connection without a request; then it is closed.
    pub keep_alive_idle: Duration,
    /// Without a byte of a request body that the client owes; then 408 and close.
    pub body_read_idle: Duration,
    /// Without taking a byte of a response; then close.
    pub write_idle: Duration,
    /// For the connector to reach an instance.
    pub connect_timeout: Duration,
    /// From the last byte of a request to the head of the response; then 504.
    pub response_head_timeout: Duration,
    /// Without a byte of a response body; then the response breaks off. Long, for event streams.
    pub response_body_idle: Duration,
    /// Without a byte in either direction of an upgraded connection (WebSocket); then it is closed.
    pub tunnel_idle: Duration,
    /// Requests at once on one connection of HTTP/2; above it, the client waits or is refused.
    pub streams_max: u32,
    /// Requests that a client took back before they were answered, on one connection of HTTP/2; above it, the
    /// connection is closed (CVE-2023-44487).
    pub resets_max: usize,
    /// A pooled connection to an instance. Below what servers close at (Node: 5 s), because a
    /// request that meets the closing cannot be told from one that was processed.
    pub pool_idle: Duration,
    /// Pooled connections per instance and thread; above it, a returned one is closed.
    pub pool_connections_max: usize,
    /// The longest that `Service::hold_ms` can ask for.
    pub hold_max: Duration,
    /// Requests held per service at once; above it, 503.
    pub held_per_service_max: usize,
    /// After a listener began to shut down, how long idle keep-alive connections stay open, so that
    /// a request already on its way is answered, with `Connection: close`.
    pub shutdown_idle_grace: Duration,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed and appended to.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            threads: 0,
            connections_max: 20_000,
            in_flight_per_service_max: 10_000,
            head_bytes_max: 32 * 1024,
            header_count_max: 100,
            uri_bytes_max: 8 * 1024,
            body_bytes_max: 1024 * 1024 * 1024,
            head_read_timeout: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            body_read_idle: Duration::from_secs(30),
            write_idle: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            response_head_timeout: Duration::from_secs(60),
            response_body_idle: Duration::from_secs(300),
            tunnel_idle: Duration::from_secs(3600),
            streams_max: 128,
            resets_max: 100,
            pool_idle: Duration::from_secs(4),
            pool_connections_max: 256,
            hold_max: Duration::from_secs(10),
            held_per_service_max: 1_000,
            shutdown_idle_grace: Duration::from_millis(500),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Limits {
    /// How often a connection is looked at: no deadline of it is missed by more.
    pub(crate) fn watch(&self) -> Duration {
        let client = self.head_read_timeout.min(self.keep_alive_idle).min(self.body_read_idle).min(self.write_idle);
        client.min(self.response_head_timeout).min(self.response_body_idle).min(self.tunnel_idle)
    }
}
