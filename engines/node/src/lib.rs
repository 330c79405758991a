//! The node: runs instances, routes to them, and says how they are.
//!
//! In: wishes of the control plane ([`NodeClient`] states them over a link). Out: instances in sandboxes that are
//! as the wish says, a proxy that reaches the ready ones, and what is seen of both ([`NodeEvent`]).
//! Never: decides what shall run; gives traffic to what is not ready; stops anything because the control plane, or
//! the node itself, went away; keeps a secret in clear on disk.
//!
//! The road of a wish through the files: `uplink` takes it from the link, `state` makes it durable, `supervisor`
//! owns all lanes and asks `decide` what follows, `life` carries one instance from start to stop with `start`,
//! `probe`, `explain` and `stop`, and `table` gives the proxy what is ready. `client` is the control plane's side,
//! `fd_store` the part of `up` that keeps the listening sockets while the node is gone.

mod adopt;
mod client;
mod client_logs;
mod decide;
mod explain;
pub mod fd_store;
mod files;
mod http;
mod images;
mod inside;
mod lane;
mod life;
mod listeners;
mod logs;
mod memory;
mod meta;
mod node;
mod options;
mod probe;
mod protocol;
mod runs;
mod seal;
mod smoke;
mod start;
mod state;
mod stop;
mod stuck;
mod supervisor;
mod table;
mod traffic;
mod uplink;
mod wake;

pub use client::NodeClient;
pub use client_logs::LogStream;
pub use node::Node;
pub use options::{Ending, Leave, NodeError, NodeOptions, Say, Unpack, Unpacked};
pub use protocol::{LogLine, LogsWanted};
pub use slipway_ports::NodeEvent;
pub use slipway_proxy::{CertificateFiles, Certificates, Network};
