//! One request to stop, seen by everybody who waits.
//!
//! In: SIGTERM, SIGINT or a call of [`Stop::ask`]. Out: every [`Stop::wait`]
//! returns. Never: a wait without a deadline, work inside the signal handler.
//!
//! The trick is a pipe into which one byte is written and from which nobody
//! reads: it stays readable, so it wakes all threads that `poll` it, now and later.

#![allow(unsafe_code)] // the only three calls that the standard library lacks

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
    fn poll(fds: *mut PollFd, count: std::ffi::c_ulong, timeout_ms: i32) -> i32;
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGNAL_FAILED: usize = usize::MAX;
const POLLIN: i16 = 1;

/// The pipe that the signal handler writes to; -1 when there is none, or when
/// it has written already.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// The socket has bytes, a connection, or its end.
    Socket,
    /// It is time to stop, and the socket is silent.
    Stop,
    /// Neither, until the deadline.
    Nothing,
}

/// Tells all threads of a server to finish.
#[derive(Debug)]
pub struct Stop {
    asked: PipeReader,
    ask: PipeWriter,
}

impl Stop {
    /// A stop that only [`Stop::ask`] triggers.
    pub fn new() -> io::Result<Arc<Stop>> {
        let (asked, ask) = io::pipe()?;
        Ok(Arc::new(Stop { asked, ask }))
    }

    /// A stop that SIGTERM and SIGINT trigger. One per process: the last one counts.
    pub fn on_signals() -> io::Result<Arc<Stop>> {
        let stop = Stop::new()?;
        // A copy that is never closed, so that the handler cannot hit another file.
        let pipe = stop.ask.try_clone()?.into_raw_fd();
        SIGNAL_PIPE.store(pipe, Ordering::SeqCst);
        for number in [SIGTERM, SIGINT] {
            // SAFETY: `on_signal` only swaps an atomic and calls `write`, both of
            // which signal-safety(7) allows.
            if unsafe { signal(number, on_signal) } == SIGNAL_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(stop)
    }

    /// Asks everybody to stop. Asking again does nothing.
    pub fn ask(&self) -> io::Result<()> {
        if self.is_asked()? { Ok(()) } else { (&self.ask).write_all(&[1]) }
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> io::Result<bool> {
        let mut fds = [watched(&self.asked)];
        poll_until(&mut fds, Some(Instant::now()))?;
        Ok(fds[0].revents != 0)
    }

    /// Waits for the socket or the stop, for ever when `at_most` is none. When
    /// both are there the socket wins: what has arrived is still served.
    pub(crate) fn wait(&self, socket: &impl AsRawFd, at_most: Option<Duration>) -> io::Result<Seen> {
        let mut fds = [watched(socket), watched(&self.asked)];
        poll_until(&mut fds, at_most.map(|time| Instant::now() + time))?;
        Ok(match (fds[0].revents != 0, fds[1].revents != 0) {
            (true, _) => Seen::Socket,
            (false, true) => Seen::Stop,
            (false, false) => Seen::Nothing,
        })
    }
}

extern "C" fn on_signal(_number: i32) {
    let pipe = SIGNAL_PIPE.swap(-1, Ordering::SeqCst);
    if pipe >= 0 {
        // SAFETY: the pipe is never closed, and one byte always fits into it.
        unsafe { write(pipe, [1].as_ptr(), 1) };
    }
}

fn watched(file: &impl AsRawFd) -> PollFd {
    PollFd { fd: file.as_raw_fd(), events: POLLIN, revents: 0 }
}

fn poll_until(fds: &mut [PollFd], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout_ms = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: 0.4 ms must not become a busy loop.
            i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: pointer and count describe the slice, which outlives the call.
        let found = unsafe { poll(fds.as_mut_ptr(), fds.len() as _, timeout_ms) };
        if found >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn sigterm_asks_for_the_stop_and_the_question_stays() {
        let stop = Stop::on_signals().unwrap();
        let (silent, _writer) = io::pipe().unwrap();
        assert!(!stop.is_asked().unwrap());
        let shell = Command::new("sh").args(["-c", r#"kill -TERM "$PPID""#]).status().unwrap();
        assert!(shell.success());
        for _ in 0..2 {
            assert_eq!(stop.wait(&silent, Some(Duration::from_secs(10))).unwrap(), Seen::Stop);
        }
    }

    #[test]
    fn what_has_arrived_goes_before_the_stop() {
        let stop = Stop::new().unwrap();
        let (socket, mut peer) = io::pipe().unwrap();
        assert_eq!(stop.wait(&socket, Some(Duration::ZERO)).unwrap(), Seen::Nothing);
        peer.write_all(b"x").unwrap();
        stop.ask().unwrap();
        stop.ask().unwrap();
        assert_eq!(stop.wait(&socket, None).unwrap(), Seen::Socket);
    }
}
