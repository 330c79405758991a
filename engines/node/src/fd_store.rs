//! The descriptor store: keeps listening sockets while no node runs.
//!
//! In: descriptors with names, from nodes of this user. Out: the same, to the next node; connections that come in
//! between wait in the kernel's queue of the socket. The server ([`FdStore`]) is for `up` and needs no runtime: one
//! thread that sleeps in `accept`. Never accepts a connection on what it keeps.
//!
//! A caller connects, sends one packet, gets its answer and closes; `watch` alone stays open, so that a node notices
//! when `up` is a new one and puts everything again.

use crate::wake;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg,
    shutdown, socket_with,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Descriptors that are kept; above it, new ones are not.
const KEPT_MAX: usize = 1_000;
/// A packet holds one name.
const PACKET_BYTES_MAX: usize = 4_096;
/// For one packet of a caller: they are all on this machine, and one that stalls must not hold up the others.
const PACKET_LIMIT: Duration = Duration::from_secs(2);
/// Between two tries of a node to find `up` again.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
const WATCH_PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ask {
    Put { name: String },
    Remove { name: String },
    TakeAll,
    Watch,
}

/// An answer; with `Kept` comes the descriptor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Kept { name: String },
    Done,
    Full,
}

type Descriptors = Arc<Mutex<BTreeMap<String, OwnedFd>>>;

/// The store. Dropping it closes what it keeps.
#[derive(Debug)]
pub struct FdStore {
    socket: Arc<OwnedFd>,
    path: PathBuf,
    kept: Descriptors,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FdStore {
    /// Serves a socket, for this user alone.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn serve(path: &Path) -> io::Result<FdStore> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (address, _folder) = address_of(path)?;
        bind(&socket, &address)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listen(&socket, 64)?;
        let (socket, kept, ends) = (Arc::new(socket), Descriptors::default(), Arc::new(AtomicBool::new(false)));
        let (listening, keeping, ending) = (Arc::clone(&socket), Arc::clone(&kept), Arc::clone(&ends));
        let thread = std::thread::Builder::new()
            .name("fd-store".into())
            .stack_size(128 * 1024)
            .spawn(move || serve_all(&listening, &keeping, &ending))?;
        Ok(FdStore { socket, path: path.to_owned(), kept, ends, thread: Some(thread) })
    }

    /// The names of what it keeps.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Closes what it keeps: nobody shall wait for a node any more.
    pub fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for FdStore {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = std::fs::remove_file(&self.path);
        // Wakes the thread out of `accept`.
        let _ = shutdown(&*self.socket, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve_all(socket: &OwnedFd, kept: &Descriptors, ends: &AtomicBool) {
    let mut watchers: Vec<OwnedFd> = Vec::new();
    while !ends.load(Ordering::SeqCst) {
        let caller = match accept_with(socket, SocketFlags::CLOEXEC) {
            Ok(caller) => caller,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(_) if ends.load(Ordering::SeqCst) => return,
            Err(_) => {
                // No descriptors left, for one: it must not spin.
                std::thread::park_timeout(Duration::from_millis(100));
                continue;
            }
        };
        if !is_own_user(&caller) {
            continue;
        }
        // A caller that breaks off has what it has.
        if let Ok(true) = serve_one(&caller, kept) {
            watchers.retain(|watcher| !is_closed(watcher));
            watchers.push(caller);
        }
    }
}

fn is_own_user(caller: &OwnedFd) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(caller).is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

/// Whether the other side of a watching connection is gone; it never sends anything.
fn is_closed(watcher: &OwnedFd) -> bool {
    match receive(watcher.as_fd(), RecvFlags::DONTWAIT) {
        Ok(_) => true,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Says whether the caller watches.
fn serve_one(caller: &OwnedFd, kept: &Descriptors) -> io::Result<bool> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    set_socket_timeout(caller, Timeout::Recv, Some(PACKET_LIMIT))?;
    set_socket_timeout(caller, Timeout::Send, Some(PACKET_LIMIT))?;
    let Some((bytes, fd)) = receive(caller.as_fd(), RecvFlags::empty())? else { return Ok(false) };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    match serde_json::from_slice(&bytes)? {
        Ask::Put { name } => {
            let room = kept.len() < KEPT_MAX || kept.contains_key(&name);
            match fd.filter(|_| room) {
                Some(fd) => {
                    kept.insert(name, fd);
                    send(caller.as_fd(), &Answer::Done, None)?;
                }
                None => send(caller.as_fd(), &Answer::Full, None)?,
            }
        }
        Ask::Remove { name } => {
            kept.remove(&name);
            send(caller.as_fd(), &Answer::Done, None)?;
        }
        Ask::TakeAll => {
            for (name, fd) in &*kept {
                send(caller.as_fd(), &Answer::Kept { name: name.clone() }, Some(fd.as_fd()))?;
            }
            send(caller.as_fd(), &Answer::Done, None)?;
        }
        Ask::Watch => return Ok(true),
    }
    Ok(false)
}

/// A node's side of a store, when there is one.
#[derive(Debug, Clone)]
pub struct Keeper {
    path: Option<PathBuf>,
    /// What this node listens on, to be put again when `up` is a new one.
    put: Descriptors,
}

impl Keeper {
    /// Nothing is asked yet. Without a path nothing ever is.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Keeper {
        Keeper { path, put: Descriptors::default() }
    }

    /// Everything that waits in the store; nothing when there is no store.
    #[must_use]
    pub fn take_all(&self) -> Vec<(String, OwnedFd)> {
        self.ask_all().unwrap_or_default()
    }

    /// Keeps a listening socket in the store, now and whenever `up` is a new one.
    pub fn put(&self, name: &str, socket: &TcpListener) {
        let Ok(fd) = socket.as_fd().try_clone_to_owned() else { return };
        // Without `up` there is nobody to keep it; `watch` puts it when there is.
        let _ = self.put_one(name, fd.as_fd());
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), fd);
    }

    /// Gives a socket up.
    pub fn remove(&self, name: &str) {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let _ = self.exchange(&Ask::Remove { name: name.to_owned() }, None);
    }

    /// Puts everything again whenever `up` is a new one. Never returns when there is a path. Cancel safe.
    pub async fn watch(&self) {
        if self.path.is_none() {
            return std::future::pending().await;
        }
        let mut pause = WATCH_PAUSE;
        // The first connection is to the `up` that has everything already; to put it twice changes nothing.
        loop {
            if let Some(connection) = self.open_watch() {
                pause = WATCH_PAUSE;
                let _ = connection.readable().await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(WATCH_PAUSE_MAX);
        }
    }

    fn open_watch(&self) -> Option<AsyncFd<OwnedFd>> {
        let connection = self.connect().ok()?;
        send(connection.as_fd(), &Ask::Watch, None).ok()?;
        let connection = wake::on(connection).ok()?;
        let put: Vec<(String, OwnedFd)> = {
            let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
            put.iter().filter_map(|(name, fd)| Some((name.clone(), fd.try_clone().ok()?))).collect()
        };
        for (name, fd) in put {
            let _ = self.put_one(&name, fd.as_fd());
        }
        Some(connection)
    }

    fn put_one(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.exchange(&Ask::Put { name: name.to_owned() }, Some(fd))
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        let path = self.path.as_deref().ok_or(io::ErrorKind::NotFound)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PACKET_LIMIT))?;
        set_socket_timeout(&socket, Timeout::Send, Some(PACKET_LIMIT))?;
        let (address, _folder) = address_of(path)?;
        connect(&socket, &address)?;
        Ok(socket)
    }

    fn exchange(&self, ask: &Ask, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let socket = self.connect()?;
        send(socket.as_fd(), ask, fd)?;
        match receive(socket.as_fd(), RecvFlags::empty())? {
            Some((bytes, _)) => match serde_json::from_slice(&bytes)? {
                Answer::Done | Answer::Kept { .. } => Ok(()),
                Answer::Full => Err(io::ErrorKind::StorageFull.into()),
            },
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn ask_all(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let socket = self.connect()?;
        send(socket.as_fd(), &Ask::TakeAll, None)?;
        let mut all = Vec::new();
        while let Some((bytes, fd)) = receive(socket.as_fd(), RecvFlags::empty())? {
            match (serde_json::from_slice(&bytes)?, fd) {
                (Answer::Kept { name }, Some(fd)) => all.push((name, fd)),
                (Answer::Kept { .. }, None) => {}
                (Answer::Done | Answer::Full, _) => break,
            }
        }
        Ok(all)
    }
}

/// By the folder's descriptor: a data folder's path may be longer than an address holds.
fn address_of(path: &Path) -> io::Result<(SocketAddrUnix, File)> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((SocketAddrUnix::new(short)?, folder))
}

fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A packet and the descriptor that came with it; nothing when the other side is gone.
fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0_u8; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(got.bytes);
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((bytes, fd)))
}
