//! Packets between caller, shim and the sandbox's first process. In/out: one JSON document per packet, at most one descriptor with it.
//! A packet is never split: the sockets are SOCK_SEQPACKET.

use crate::error::Failure;
use crate::record::Reaping;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Version of the protocol between a caller and a shim. A shim outlives an upgrade of its callers, so both sides keep
/// reading N and N-1: fields are only added, each with a default.
pub const WIRE_VERSION: u32 = 1;
/// The largest packet; the kernel's default send buffer holds it.
pub const PACKET_BYTES_MAX: usize = 128 * 1024;

/// A caller's packet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Version.
    pub v: u32,
    /// Number that the answer repeats.
    pub n: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What a caller can ask of a shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// How it stands.
    Status,
    /// A connection to a port inside; the answer carries it.
    Connect {
        /// Port.
        port: u16,
        /// Limit.
        limit_ms: u64,
    },
    /// What listens inside.
    Listening,
    /// Run a command beside the steps.
    Exec(Command),
    /// Send a signal to the running step.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// SIGTERM now, SIGKILL to everything after the grace.
    Stop {
        /// The grace.
        grace_ms: u64,
    },
    /// SIGKILL to everything.
    Kill,
    /// Answer when the run has ended.
    Wait,
    /// Answer when the log is longer than this.
    Logged {
        /// Position that the caller has read up to.
        beyond: u64,
    },
}

/// A command run beside the steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whole environment.
    pub env: Vec<(String, String)>,
    /// Working folder inside.
    pub cwd: std::path::PathBuf,
    /// Time limit; at it the command's process group is killed.
    pub timeout_ms: u64,
}

/// A shim's packet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Version.
    pub v: u32,
    /// Number of the request.
    pub n: u64,
    /// The answer.
    pub answer: Answer,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `Status`.
    Status(crate::record::Status),
    /// To `Connect`; the socket comes with it.
    Connected,
    /// To `Connect`: refused inside.
    NothingListens,
    /// To `Listening`.
    Listening(Vec<SocketAddr>),
    /// To `Exec`.
    Executed(crate::record::Executed),
    /// Understood and done.
    Done,
    /// To `Wait`: the exit record is on disk.
    Ended,
    /// To `Logged`: length of the log.
    Logged {
        /// Position of its end.
        end: u64,
    },
    /// It did not work.
    Failed(Failure),
}

/// From the shim to the sandbox's first process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The user namespace; it comes with the packet.
    Ids,
    /// Limits and network are in place: confine yourself and start the first step.
    Go {
        /// Whether processes must be limited by RLIMIT_NPROC, for want of a controller.
        limit_processes: bool,
    },
    /// Start a step; it is known from the spec.
    Start {
        /// Its index.
        step: usize,
    },
    /// Run a command; its output's pipe comes with the packet.
    Exec {
        /// Number for its messages.
        id: u64,
        /// What.
        command: Command,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        to: Who,
        /// To the process group rather than the process.
        group: bool,
        /// Number.
        signal: i32,
    },
}

/// A process that the sandbox's first process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The running step.
    Step(usize),
    /// A command beside it.
    Exec(u64),
}

/// From the sandbox's first process to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The sandbox stands; what had to be done in a weaker way.
    Ready(Vec<String>),
    /// It does not.
    Failed(Failure),
    /// The program was exec'ed.
    Started(Who),
    /// It could not be.
    NotStarted(Who, Failure),
    /// It ended.
    Ended(Who, Reaping),
}

/// Sends one packet, without waiting: a full buffer is an error.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is larger than 128 KiB"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags))?;
    Ok(())
}

/// A received packet and the descriptor that came with it.
pub type Received<T> = (T, Option<OwnedFd>);

/// Receives one packet. `None`: the other side is gone. `WouldBlock`: nothing there, if `wait` is false.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<Received<T>>> {
    let mut small = [0_u8; 4096];
    let mut large = Vec::new();
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    // Most packets are small; a longer one is seen before it is taken.
    let size = {
        let mut none = RecvAncillaryBuffer::default();
        let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
        retry(|| recvmsg(socket, &mut [IoSliceMut::new(&mut small)], &mut none, peek))?.bytes
    };
    let buffer = if size > small.len() {
        large.resize(size.min(PACKET_BYTES_MAX), 0);
        &mut large[..]
    } else {
        &mut small[..]
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = retry(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags))?;
    if message.bytes == 0 {
        return Ok(None);
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is larger than 128 KiB"));
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let bytes = message.bytes;
    Ok(Some((serde_json::from_slice(&buffer[..bytes])?, fd)))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Waits until the descriptor is readable or the limit has passed; says whether it is.
pub fn readable_within(fd: impl AsFd, limit: std::time::Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let until = std::time::Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let left = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
