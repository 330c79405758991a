//! Waiting on a descriptor that is not a socket of the runtime.
//!
//! In: a descriptor. Out: the same, known to the reactor. The one place of this package with unsafe code.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor known to the reactor. Must be called within a tokio runtime.
pub(crate) fn on(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is valid, always gives the same number, and is moved in, so that nobody else closes it.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register(descriptor) };
    registered.map_err(Into::into)
}
