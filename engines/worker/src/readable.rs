//! Waits until a shim's socket can be read.
//!
//! In: the socket. Out: a future. Never: reads from it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::net::UnixStream;

/// A socket to a shim in the reactor. Any Unix socket will do for readiness; tokio's own type owns its descriptor, so that no
/// other can take its number while it is watched.
pub(crate) struct Readable(UnixStream);

impl Readable {
    /// Watches this socket; it becomes non-blocking.
    pub fn of(socket: OwnedFd) -> io::Result<Readable> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Readable)
    }

    /// Watches a copy of this socket.
    pub fn like(socket: BorrowedFd<'_>) -> io::Result<Readable> {
        Readable::of(socket.try_clone_to_owned()?)
    }

    /// Returns when something is there, or the other side is gone. Cancel safe.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.readable().await
    }
}
