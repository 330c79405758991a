//! A caller's side of a shim. In: requests. Out: answers within a deadline. Any number of threads may use one handle at once:
//! each request takes a connection of its own from a small pool.

use crate::error::SandboxError;
use crate::launch::ended_record;
use crate::log_read::{LogChunk, READ_BYTES, read_log_from};
use crate::mounts::descriptor_path;
use crate::record::{Executed, ExitRecord, Status};
use crate::shim::{SOCKET_FILE, Setup};
use crate::wire::{self, Answer, Ask, Command, Reply, Request, WIRE_VERSION};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A shim that lives answers small questions at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Connections kept for the next request.
const IDLE_MAX: usize = 4;

/// A living shim. Dropping the handle leaves the run alone.
#[derive(Debug)]
pub struct Shim {
    id: String,
    dir: PathBuf,
    setup: Option<Setup>,
    idle: Mutex<Vec<OwnedFd>>,
    last_request: AtomicU64,
}

impl Shim {
    pub(crate) fn new(dir: &Path, id: &str, setup: Setup) -> Result<Self, SandboxError> {
        Ok(Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            setup: Some(setup),
            idle: Mutex::new(Vec::new()),
            last_request: AtomicU64::new(0),
        })
    }

    pub(crate) fn connect_to(dir: &Path) -> Result<Self, SandboxError> {
        let id = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut shim = Self {
            id,
            dir: dir.to_owned(),
            setup: None,
            idle: Mutex::new(Vec::new()),
            last_request: AtomicU64::new(0),
        };
        shim.id = shim.status()?.id;
        Ok(shim)
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run's state folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How the sandbox was set up; unknown after [`crate::attach`].
    pub fn setup(&self) -> Option<&Setup> {
        self.setup.as_ref()
    }

    /// Opens a connection to a TCP port inside (its loopback; IPv4 first). About 40 µs; longer only when the listener's queue is full.
    pub fn connect(&self, port: u16, limit: Duration) -> Result<TcpStream, SandboxError> {
        let ask = Ask::Connect { port, limit_ms: millis(limit) };
        match self.ask(ask, limit + ANSWER_LIMIT)? {
            (Answer::Connected, Some(socket)) => usable(socket),
            (Answer::NothingListens, _) => Err(SandboxError::NothingListens { port }),
            (answer, _) => Err(self.unexpected(answer)),
        }
    }

    /// A connection for callers that must never block; see [`Connector`].
    pub fn connector(&self) -> Result<Connector, SandboxError> {
        Ok(Connector { id: self.id.clone(), socket: self.open()? })
    }

    /// What listens inside.
    pub fn listening_ports(&self) -> Result<Vec<SocketAddr>, SandboxError> {
        match self.ask(Ask::Listening, ANSWER_LIMIT)? {
            (Answer::Listening(found), _) => Ok(found),
            (answer, _) => Err(self.unexpected(answer)),
        }
    }

    /// Runs a command beside the steps, as the same user; waits for its end.
    pub fn exec(&self, command: Command) -> Result<Executed, SandboxError> {
        let limit = Duration::from_millis(command.timeout_ms) + ANSWER_LIMIT;
        match self.ask(Ask::Exec(command), limit)? {
            (Answer::Executed(executed), _) => Ok(executed),
            (answer, _) => Err(self.unexpected(answer)),
        }
    }

    /// Sends a signal to the running step: its main process (instance) or its process group (job).
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        self.done(Ask::Signal { signal })
    }

    /// Asks it to stop: SIGTERM now, SIGKILL to everything after the grace. Returns at once; see [`Shim::wait`].
    pub fn stop(&self, grace: Duration) -> Result<(), SandboxError> {
        self.done(Ask::Stop { grace_ms: millis(grace) })
    }

    /// SIGKILL to everything. Returns at once; see [`Shim::wait`].
    pub fn kill(&self) -> Result<(), SandboxError> {
        self.done(Ask::Kill)
    }

    /// How it stands.
    pub fn status(&self) -> Result<Status, SandboxError> {
        match self.ask(Ask::Status, ANSWER_LIMIT)? {
            (Answer::Status(status), _) => Ok(status),
            (answer, _) => Err(self.unexpected(answer)),
        }
    }

    /// Waits for the end, without polling. `None`: the limit passed first. [`SandboxError::Gone`]: its shim was killed.
    pub fn wait(&self, limit: Duration) -> Result<Option<ExitRecord>, SandboxError> {
        match self.ended_fd() {
            Ok(fd) => match wire::readable_within(&fd, limit) {
                Ok(true) => self.record().map(Some),
                Ok(false) => Ok(None),
                Err(e) => Err(SandboxError::io(format!("wait for `{}`", self.id), e)),
            },
            Err(SandboxError::Gone { .. }) => self.record().map(Some),
            Err(e) => Err(e),
        }
    }

    /// A descriptor that becomes readable when the run has ended, for use with a reactor. Then call [`Shim::record`].
    pub fn ended_fd(&self) -> Result<OwnedFd, SandboxError> {
        let socket = self.open()?;
        self.send(&socket, 0, Ask::Wait)?;
        Ok(socket)
    }

    /// The exit record of a run whose end was announced.
    pub fn record(&self) -> Result<ExitRecord, SandboxError> {
        ended_record(&self.dir)?.ok_or_else(|| SandboxError::Gone { id: self.id.clone() })
    }

    /// Follows the log from a position on (0: from the start).
    pub fn follow(&self, position: u64) -> Follow {
        Follow { dir: self.dir.clone(), position, socket: self.open().ok(), armed: false }
    }

    /// Removes the state folder once the run has ended and its record was read.
    pub fn release(self) -> Result<(), SandboxError> {
        crate::launch::release(&self.dir)
    }

    fn done(&self, ask: Ask) -> Result<(), SandboxError> {
        match self.ask(ask, ANSWER_LIMIT)? {
            (Answer::Done, _) => Ok(()),
            (answer, _) => Err(self.unexpected(answer)),
        }
    }

    fn unexpected(&self, answer: Answer) -> SandboxError {
        match answer {
            Answer::Failed(failure) => failure.into(),
            _ => SandboxError::io(format!("answer of the shim of `{}`", self.id), io::ErrorKind::InvalidData.into()),
        }
    }

    fn open(&self) -> Result<OwnedFd, SandboxError> {
        open_socket(&self.dir).map_err(|e| match e {
            Errno::NOENT | Errno::CONNREFUSED => SandboxError::Gone { id: self.id.clone() },
            e => SandboxError::io(format!("connection to the shim of `{}`", self.id), e.into()),
        })
    }

    fn send(&self, socket: &OwnedFd, n: u64, ask: Ask) -> Result<(), SandboxError> {
        let request = Request { v: WIRE_VERSION, n, ask };
        wire::send(socket.as_fd(), &request, None).map_err(|e| match e.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => SandboxError::Gone { id: self.id.clone() },
            _ => SandboxError::io(format!("request to the shim of `{}`", self.id), e),
        })
    }

    fn ask(&self, ask: Ask, limit: Duration) -> Result<(Answer, Option<OwnedFd>), SandboxError> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let socket = match kept {
            Some(socket) => socket,
            None => self.open()?,
        };
        let n = self.last_request.fetch_add(1, Ordering::Relaxed) + 1;
        self.send(&socket, n, ask)?;
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let failed = |e| SandboxError::io(format!("answer of the shim of `{}`", self.id), e);
            if !wire::readable_within(&socket, left).map_err(failed)? {
                let what = format!("an answer of the shim of `{}`", self.id);
                return Err(SandboxError::Timeout { what, limit_ms: millis(limit) });
            }
            match wire::receive::<Reply>(socket.as_fd(), false) {
                Ok(Some((reply, fd))) if reply.n == n => {
                    if let Ok(mut idle) = self.idle.lock()
                        && idle.len() < IDLE_MAX
                    {
                        idle.push(socket);
                    }
                    return Ok((reply.answer, fd));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(SandboxError::Gone { id: self.id.clone() }),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(SandboxError::Gone { id: self.id.clone() });
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// The shim made it non-blocking; a std stream is expected to block.
fn usable(socket: OwnedFd) -> Result<TcpStream, SandboxError> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).map_err(|e| SandboxError::io("connection into the sandbox", e))?;
    Ok(stream)
}

fn open_socket(dir: &Path) -> Result<OwnedFd, Errno> {
    // By descriptor: the path of a state folder may be longer than a socket address.
    let folder = crate::mounts::open_folder(dir).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let address = SocketAddrUnix::new(format!("{}/{SOCKET_FILE}", descriptor_path(folder.as_fd())))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Connections into a sandbox without ever blocking: send a request, wait for readability with any reactor, take the answer.
/// Answers may come in another order than the requests; the number tells.
#[derive(Debug)]
pub struct Connector {
    id: String,
    socket: OwnedFd,
}

impl Connector {
    /// Asks for a connection. `number` comes back with the answer.
    pub fn request(&self, number: u64, port: u16, limit: Duration) -> Result<(), SandboxError> {
        let request = Request { v: WIRE_VERSION, n: number, ask: Ask::Connect { port, limit_ms: millis(limit) } };
        wire::send(self.socket.as_fd(), &request, None)
            .map_err(|e| SandboxError::io(format!("request to the shim of `{}`", self.id), e))
    }

    /// Takes one answer, if one is there: the number and a non-blocking stream, or nothing where nothing listens.
    pub fn try_answer(&self) -> Result<Option<(u64, Option<TcpStream>)>, SandboxError> {
        match wire::receive::<Reply>(self.socket.as_fd(), false) {
            Ok(Some((reply, Some(socket)))) => Ok(Some((reply.n, Some(TcpStream::from(socket))))),
            Ok(Some((reply, None))) => Ok(Some((reply.n, None))),
            Ok(None) => Err(SandboxError::Gone { id: self.id.clone() }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(SandboxError::io(format!("answer of the shim of `{}`", self.id), e)),
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Connector {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// Follows a log: what is on disk, then what comes, woken by the shim.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    position: u64,
    socket: Option<OwnedFd>,
    armed: bool,
}

impl Follow {
    /// Follows the log of a run that may have ended.
    pub fn of(dir: &Path, position: u64) -> Self {
        Self { dir: dir.to_owned(), position, socket: open_socket(dir).ok(), armed: false }
    }

    /// Where it has read up to.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the shim is gone: when [`Follow::take`] then returns nothing, the log is complete.
    pub fn is_ended(&self) -> bool {
        self.socket.is_none()
    }

    /// A descriptor to wait on for readability before [`Follow::take`] is called again; none when the log is complete.
    pub fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// New lines, if there are any, without waiting. If there are none, the shim will make [`Follow::wake_fd`] readable.
    pub fn take(&mut self) -> Result<LogChunk, SandboxError> {
        self.hear();
        let ended = self.is_ended();
        let mut chunk = self.read()?;
        if chunk.lines.is_empty() && !ended {
            self.arm();
            // Between the read and the request more may have come.
            chunk = self.read()?;
        }
        Ok(chunk)
    }

    /// Waits for new lines. `None`: the run has ended and everything was read. An empty chunk: the limit passed.
    pub fn next(&mut self, limit: Duration) -> Result<Option<LogChunk>, SandboxError> {
        let until = Instant::now() + limit;
        loop {
            let ended = self.is_ended();
            let chunk = self.take()?;
            if !chunk.lines.is_empty() {
                return Ok(Some(chunk));
            }
            if ended {
                return Ok(None);
            }
            let Some(socket) = &self.socket else { continue };
            let left = until.saturating_duration_since(Instant::now());
            let readable = wire::readable_within(socket, left).map_err(|e| SandboxError::io("wait for the log", e))?;
            if !readable {
                return Ok(Some(chunk));
            }
        }
    }

    fn read(&mut self) -> Result<LogChunk, SandboxError> {
        let chunk = read_log_from(&self.dir, self.position, READ_BYTES)?;
        self.position = chunk.next;
        Ok(chunk)
    }

    /// Takes notices that came.
    fn hear(&mut self) {
        while let Some(socket) = &self.socket {
            match wire::receive::<Reply>(socket.as_fd(), false) {
                Ok(Some(_)) => self.armed = false,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Ok(None) | Err(_) => self.socket = None,
            }
        }
    }

    fn arm(&mut self) {
        if self.armed {
            return;
        }
        let request = Request { v: WIRE_VERSION, n: 0, ask: Ask::Logged { beyond: self.position } };
        match self.socket.as_ref().map(|socket| wire::send(socket.as_fd(), &request, None)) {
            Some(Ok(())) => self.armed = true,
            Some(Err(_)) => self.socket = None,
            None => {}
        }
    }
}
