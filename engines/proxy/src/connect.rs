//! How the proxy reaches an instance.
//!
//! In: an instance's id. Out: a connected socket. Never chooses an instance or keeps a connection;
//! the deadline is the caller's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};

use futures::future::BoxFuture;
use tokio::net::TcpStream;

/// Reaches instances. A node's connector asks the instance's shim, which connects inside the
/// instance's network namespace and hands the socket over; so it is always a TCP socket.
pub trait Connector: Send + Sync {
    /// A new connection to the instance. Dropping the future gives up.
    fn connect<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, io::Result<TcpStream>>;
}

/// Reaches instances by address.
#[derive(Debug, Default)]
pub struct TcpConnector {
    addresses: RwLock<HashMap<String, SocketAddr>>,
}

impl TcpConnector {
    /// A connector that knows no instance yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an instance known, or changes where it is.
    pub fn set(&self, instance: impl Into<String>, address: SocketAddr) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).insert(instance.into(), address);
    }

    /// Forgets an instance.
    pub fn remove(&self, instance: &str) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).remove(instance);
    }

    fn address(&self, instance: &str) -> io::Result<SocketAddr> {
        self.addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(instance)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "instance has no address"))
    }
}

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(async move { TcpStream::connect(self.address(instance)?).await })
    }
}
