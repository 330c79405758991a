//! What a node is told at its start.
//!
//! In: paths, addresses, the function that unpacks images. Out: the same, with defaults. Never changes while it runs.

use slipway_link::LinkError;
use slipway_model::Digest;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// An image that lies ready on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Folders of its layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program when there is no entry point.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`; empty is root (of the sandbox).
    pub user: String,
    /// Where the program starts; empty is `/`.
    pub workdir: String,
    /// The signal that asks it to end (`SIGQUIT`); empty is SIGTERM.
    pub stop_signal: String,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
}

/// Unpacks images. Called on a thread that may block; several calls may go on at once.
pub trait Unpack: Send + Sync {
    /// Lays the image's layers ready in a folder of their own.
    ///
    /// # Errors
    /// A sentence that says why it cannot be: lower case, no full stop.
    fn unpack(&self, image: &Digest, into: &Path) -> Result<Unpacked, String>;
}

/// What happens to the instances when the node process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// They go on; the next node adopts them.
    LeaveRunning,
    /// They are drained and stopped; the next node starts them again.
    StopInstances,
}

/// Resolves when the node shall end.
pub type Leave = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// Where a line for the people who run the node goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What a node needs to know.
pub struct NodeOptions {
    /// Its name among the nodes (`local`).
    pub name: String,
    /// Its folder (`DATA/node`), made if missing.
    pub data: PathBuf,
    /// Where the control plane listens.
    pub serve_socket: PathBuf,
    /// Where `up` keeps listening sockets, when there is an `up`.
    pub fd_store_socket: Option<PathBuf>,
    /// Where the proxy serves host names; port 0 picks a free one, which stays.
    pub proxy_addresses: Vec<SocketAddr>,
    /// Where the proxy serves host names over TLS; needs certificates.
    pub tls_addresses: Vec<SocketAddr>,
    /// Certificates of the proxy, by the names in them.
    pub certificates: Vec<slipway_proxy::CertificateFiles>,
    /// What is told of things that the people who run the node should know.
    pub say: Say,
    /// The program that becomes a shim when its first argument is `shim`.
    pub shim_exe: PathBuf,
    /// Unpacks images.
    pub unpack: Arc<dyn Unpack>,
    /// Limits of the proxy.
    pub proxy_limits: slipway_proxy::Limits,
    /// Log kept on disk of each process of an instance; above it the middle is dropped (R320).
    pub log_bytes: u64,
    /// Memory of an instance whose service names no limit; none: no limit, for a machine without a memory controller.
    pub memory_bytes: Option<u64>,
    /// Ended instances of a lane whose logs are kept; above it the oldest go.
    pub ended_kept: usize,
    /// How long open requests may take when the node process ends.
    pub leave_within: Duration,
}

impl NodeOptions {
    /// Usual limits; no descriptor store.
    #[must_use]
    pub fn new(data: PathBuf, serve_socket: PathBuf, shim_exe: PathBuf, unpack: Arc<dyn Unpack>) -> NodeOptions {
        NodeOptions {
            name: "local".into(),
            data,
            serve_socket,
            fd_store_socket: None,
            proxy_addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            tls_addresses: Vec::new(),
            certificates: Vec::new(),
            say: Arc::new(|_| {}),
            shim_exe,
            unpack,
            proxy_limits: slipway_proxy::Limits { threads: threads(), ..slipway_proxy::Limits::default() },
            log_bytes: 8 * 1024 * 1024,
            memory_bytes: crate::memory::default_limit(),
            ended_kept: 10,
            leave_within: Duration::from_secs(10),
        }
    }
}

/// One for each core: the proxy is what a node works for.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file or folder.
    #[error("{what}")]
    Io {
        /// What was tried, on which thing.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A stored document is not what this version understands.
    #[error("`{}` is not readable by this version: {reason}", .path.display())]
    Stored {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No address could be bound.
    #[error("the proxy cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A certificate or key.
    #[error("a certificate of the proxy cannot be used")]
    Certificate(#[from] slipway_proxy::CertificateError),
    /// Another node runs on this folder.
    #[error("another node runs on `{}`", .data.display())]
    InUse {
        /// The folder.
        data: PathBuf,
    },
    /// The link.
    #[error("the link to the control plane failed")]
    Link(#[from] LinkError),
}

impl NodeError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> NodeError {
        NodeError::Io { what: what.into(), source }
    }
}
