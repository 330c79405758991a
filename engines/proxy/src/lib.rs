//! The HTTP proxy of a node, as a library.
//!
//! In: listening sockets, a [`Table`] that says which release serves which host or port, and a
//! [`Connector`] that reaches instances. Out: proxied requests, exact in-flight counts, and
//! [`Stats`] per release, path pattern and suspect path.
//! Never: starts or stops instances, decides weights, keeps anything on disk, gives a request to an
//! instance that the table does not call serving, or repeats a request of which a byte was sent.
//!
//! The road of a request, in the order of the modules: `listener` accepts, `admit` refuses what is
//! malformed or too large, `routes` chooses release and instance, `forward` tries until one instance
//! has taken the request, `body` carries the answer back, `stats` counts it.
//!
//! HTTP/1.1 only. Requests that ask for an upgrade (WebSocket) are refused with 501; an offer of
//! `h2c` is ignored, as RFC 9110 section 7.8 allows, because some clients make it with every request.

mod access;
mod admit;
mod body;
mod client_io;
mod clock;
mod connect;
mod deck;
mod exchange;
mod forward;
mod head_scan;
mod headers;
mod instance;
mod limits;
mod listener;
mod pages;
mod proxy;
mod routes;
mod stats;
mod table;
mod trusted;
mod unavailable;
mod upstream;

#[cfg(test)]
mod tests;

pub use access::{AccessHook, AccessRecord};
pub use connect::{Connector, TcpConnector};
pub use limits::Limits;
pub use listener::{Binding, Listener, Shutdown};
pub use proxy::{Gauges, Proxy, StillInFlight};
pub use stats::change::Changes;
pub use stats::histogram::Latencies;
pub use stats::samples::{FailureKind, Sample};
pub use stats::snapshot::{Count, PathCount, ReleaseStats, Stats, Suspect, SuspectRelease};
pub use table::{Affinity, Backend, BackendState, Notice, Service, ServiceKey, Table, TableError, Upstreams};
pub use trusted::{BadNetwork, Network};
