//! The listening side: the control plane's socket.
//!
//! In: a path. Out: greeted connections. Never: a connection of another user, a socket that somebody else serves.

use crate::error::LinkError;
use crate::greeting::{refuse, welcome};
use crate::peer::{Inbox, Peer};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Greetings that go on at once; more wait in the kernel's queue.
const GREETINGS_MAX: usize = 64;
/// After a failed `accept` (no descriptors left, for one): it must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket. Dropping it removes the socket's file; connections go on.
#[derive(Debug)]
pub struct Links {
    listener: UnixListener,
    path: PathBuf,
    greetings: JoinSet<Result<(Peer, Inbox), LinkError>>,
}

impl Links {
    /// Binds the socket, for this user alone. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When another process serves it, or the operating system refuses.
    pub fn bind(path: &Path) -> Result<Links, LinkError> {
        let failed = |e| LinkError::io(format!("binding of socket `{}`", path.display()), e);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let reached = reach(path).map_err(failed)?;
        if std::os::unix::net::UnixStream::connect(&reached.path).is_ok() {
            return Err(LinkError::InUse { path: path.to_owned() });
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&reached.path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Links { listener, path: path.to_owned(), greetings: JoinSet::new() })
    }

    /// The next greeted connection. One that greets badly is refused and does not show here. Cancel safe.
    pub async fn accept(&mut self) -> (Peer, Inbox) {
        loop {
            tokio::select! {
                greeted = self.greetings.join_next(), if !self.greetings.is_empty() => {
                    if let Some(Ok(Ok(connection))) = greeted {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if self.greetings.len() < GREETINGS_MAX => match accepted {
                    Ok((stream, _)) => { self.greetings.spawn(take(stream)); }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // It may have been taken over meanwhile; a living successor has bound anew only after removing ours.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn take(mut stream: UnixStream) -> Result<(Peer, Inbox), LinkError> {
    let peer = stream.peer_cred().map_err(|e| LinkError::io("credentials of a new link", e))?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own && peer.uid() != 0 {
        let reason = format!("user {} is not user {own}, who runs the control plane", peer.uid());
        refuse(&mut stream, &reason).await?;
        return Err(LinkError::Refused { reason });
    }
    let (hello, version) = welcome(&mut stream).await?;
    Ok(Peer::start(stream, hello, version))
}

/// A socket's path that fits into an address, whatever its length.
pub(crate) struct Reached {
    pub(crate) path: PathBuf,
    _folder: std::fs::File,
}

/// By the folder's descriptor: a data folder's path may be longer than the 107 bytes that an address holds.
pub(crate) fn reach(path: &Path) -> std::io::Result<Reached> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::File::open(folder)?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let number = folder.as_fd().as_raw_fd();
    Ok(Reached { path: Path::new("/proc/self/fd").join(number.to_string()).join(name), _folder: folder })
}
