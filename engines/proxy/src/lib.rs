//! The HTTP proxy of a node, as a library.
//!
//! In: listening sockets, a [`Table`] that says which release serves which host or port, and a
//! [`Connector`] that reaches instances. Out: proxied requests, exact in-flight counts, and
//! [`Stats`] per release, path pattern and suspect path.
//! Never: starts or stops instances, decides weights, keeps anything on disk, gives a request to an
//! instance that the table does not call serving, or repeats a request of which a byte was sent.
//!
//! The road of a request, in the order of the modules: `listener` accepts, `http1` or `http2` speaks with the client, `asked`
//! refuses what is malformed or too large and makes one text of the rest, `routes` chooses release and instance,
//! `forward` tries until one instance has taken the request, `transfer` gives bodies on in both directions, `answer`
//! makes one text of the response's head, `stats` counts it. `wire` is HTTP/1.1 on a socket, `stream` a stream of
//! HTTP/2; both are a `side` of an exchange.
//!
//! HTTP/1.1 is own code: a proxy must be stricter than a server about what it passes on, hand interim answers,
//! trailers and upgrades through, and needs one read and one write per side for a small exchange.

mod access;
mod answer;
mod asked;
mod clock;
mod connect;
mod deck;
mod der;
mod exchange;
mod forward;
mod headers;
mod http1;
mod http2;
mod instance;
mod lanes;
mod limits;
mod link;
mod listener;
mod pages;
mod proxy;
mod routes;
mod side;
mod stats;
mod stream;
mod table;
mod tls;
mod transfer;
mod trusted;
mod unavailable;
mod wire;

#[cfg(test)]
mod tests;

pub use access::{AccessHook, AccessRecord, WarningHook};
pub use connect::{Connector, TcpConnector};
pub use limits::Limits;
pub use listener::{Binding, Listener, Shutdown};
pub use proxy::{Gauges, Proxy, StillInFlight};
pub use stats::change::Changes;
pub use stats::histogram::Latencies;
pub use stats::samples::{FailureKind, Sample};
pub use stats::snapshot::{Count, PathCount, ReleaseStats, Stats, Suspect, SuspectRelease};
pub use table::{Affinity, Backend, BackendState, Notice, Protocol, Service, ServiceKey, Table, TableError, Upstreams};
pub use tls::{CertificateError, CertificateFiles, Certificates};
pub use trusted::{BadNetwork, Network};
