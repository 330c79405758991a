//! One connection: bytes in, bytes out, each within its time.
//!
//! In: a TCP stream and limits. Out: whole requests, one after the other, also
//! when several arrive in one packet. Never: more memory than the limits say.

use super::Limits;
use crate::http::{Refusal, Request, Response, body_length, parse_head};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How much is read at a time.
const CHUNK_BYTES: usize = 8 * 1024;
/// How long, and how many chunks, we listen to a client after we are done with it.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_CHUNKS: usize = 64;

/// What `receive` ended with.
pub(super) enum Arrived {
    Request(Request),
    /// Answer this, then close.
    Refused(Refusal),
    /// The client has closed the connection.
    Nothing,
}

pub(super) struct Wire<'a> {
    stream: TcpStream,
    limits: &'a Limits,
    /// Bytes that have arrived and belong to no request yet.
    pending: Vec<u8>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(stream: TcpStream, limits: &'a Limits) -> io::Result<Wire<'a>> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(limits.transfer))?;
        Ok(Wire { stream, limits, pending: Vec::new() })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn has_bytes(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the client sends anything in that time.
    pub(super) fn has_bytes_within(&self, time: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(time))?;
        match self.stream.peek(&mut [0]) {
            Ok(count) => Ok(count > 0),
            Err(error) if is_late(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the next request off the wire. An error means that the connection is broken.
    pub(super) fn receive(&mut self) -> io::Result<Arrived> {
        let deadline = Instant::now() + self.limits.transfer;
        match self.receive_until(deadline) {
            Ok(arrived) => Ok(arrived),
            // An empty line is no request yet: nothing to be late with.
            Err(error) if is_late(&error) && self.pending.is_empty() => Ok(Arrived::Nothing),
            Err(error) if is_late(&error) => Ok(Arrived::Refused(Refusal(408, "the request took too long to arrive"))),
            Err(error) => Err(error),
        }
    }

    fn receive_until(&mut self, deadline: Instant) -> io::Result<Arrived> {
        let head_end = loop {
            // Empty lines before a request are allowed (section 2.2).
            while self.pending.starts_with(b"\r\n") {
                self.pending.drain(..2);
            }
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                break at;
            }
            if self.pending.len() > self.limits.head_bytes {
                return Ok(Arrived::Refused(Refusal(431, "the head is too large")));
            }
            if !self.read_more(deadline)? {
                return Ok(Arrived::Nothing);
            }
        };
        if head_end > self.limits.head_bytes {
            return Ok(Arrived::Refused(Refusal(431, "the head is too large")));
        }
        let head = parse_head(&self.pending[..head_end]);
        let sized = head.and_then(|request| {
            let length = body_length(&request, self.limits.body_bytes)?;
            Ok((request, length))
        });
        let (mut request, length) = match sized {
            Ok(sized) => sized,
            Err(refusal) => return Ok(Arrived::Refused(refusal)),
        };
        let body_start = head_end + 4;
        let end = body_start + length;
        if self.pending.len() < end && request.header("expect") == Some("100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while self.pending.len() < end {
            if !self.read_more(deadline)? {
                return Ok(Arrived::Nothing);
            }
        }
        request.body = self.pending[body_start..end].to_vec();
        self.pending.drain(..end);
        Ok(Arrived::Request(request))
    }

    /// False at the end of the stream.
    fn read_more(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; CHUNK_BYTES];
        let count = self.stream.read(&mut chunk)?;
        self.pending.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    pub(super) fn send(&mut self, answer: &Response, keep_alive: bool, head_only: bool) -> io::Result<()> {
        self.stream.write_all(&answer.to_bytes(keep_alive, head_only))
    }

    /// Closes so that the client still gets the answer: closing a socket with
    /// unread bytes would send a reset that may overtake it (section 9.6).
    pub(super) fn close(mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + FAREWELL;
        for _ in 0..FAREWELL_CHUNKS {
            self.pending.clear();
            if !self.read_more(deadline)? {
                break;
            }
        }
        Ok(())
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
