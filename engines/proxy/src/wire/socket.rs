//! A socket with its two buffers, and the framing of the message that comes and of the one that goes.
//!
//! In: a socket. Out: a [`Side`]. One read and one write for a small message. Never reads ahead of what is wanted by
//! more than its buffer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::chunk::{Chunks, Step};
use super::head::{BadHead, HeadEnd};
use crate::side::{Fault, Piece, ROOM_BYTES, Side};
use crate::transfer::Tunnelled;

/// What HTTP can be spoken over.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// How a body says where it ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// By a last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The body that comes.
#[derive(Debug)]
enum Incoming {
    Done,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    io: S,
    input: Buffer,
    /// Bytes of `input` that are a piece of the body.
    piece: usize,
    incoming: Incoming,
    head_end: HeadEnd,
    trailers: Vec<u8>,
    closed: bool,
    output: Vec<u8>,
    sent: usize,
    outgoing: Framing,
    unflushed: bool,
}

impl<S: Socket> Wire<S> {
    pub(crate) fn new(io: S, input: Buffer) -> Wire<S> {
        Wire {
            io,
            input,
            piece: 0,
            incoming: Incoming::Done,
            head_end: HeadEnd::default(),
            trailers: Vec::new(),
            closed: false,
            output: Vec::new(),
            sent: 0,
            outgoing: Framing::None,
            unflushed: false,
        }
    }

    pub(crate) fn io(&self) -> &S {
        &self.io
    }

    /// What has been read and not used, and the socket.
    pub(crate) fn into_parts(self) -> (S, Buffer) {
        (self.io, self.input)
    }

    /// What has been read and not used.
    pub(crate) fn unread(&self) -> &[u8] {
        self.input.data()
    }

    pub(crate) fn used(&mut self, count: usize) {
        self.input.consume(count);
    }

    /// Whether a part of what was written has not reached the kernel.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Whether the socket took a byte of what waits since the last was sent whole.
    pub(crate) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Reads once; 0 is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        if self.closed {
            return Poll::Ready(Ok(0));
        }
        let mut room = ReadBuf::new(self.input.room());
        let outcome = Pin::new(&mut self.io).poll_read(cx, &mut room);
        let count = room.filled().len();
        match ready!(outcome) {
            Ok(()) => {
                self.input.filled(count);
                self.closed = count == 0;
                Poll::Ready(Ok(count))
            }
            Err(_) => Poll::Ready(Err(Fault::Gone)),
        }
    }

    /// Waits for a whole head and says how long it is; `None` when the connection ended before its first byte.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Option<usize>, HeadFault>> {
        loop {
            if !self.input.is_empty() {
                let found = self.head_end.find(self.input.data(), most).map_err(HeadFault::Bad)?;
                if let Some(length) = found {
                    self.head_end = HeadEnd::default();
                    return Poll::Ready(Ok(Some(length)));
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.input.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) | Err(_) => return Poll::Ready(Err(HeadFault::Gone)),
                Ok(_) => {}
            }
        }
    }

    /// The head has been used: a body with this framing follows.
    pub(crate) fn expect_body(&mut self, framing: Framing) {
        self.piece = 0;
        self.trailers.clear();
        self.incoming = match framing {
            Framing::None | Framing::Length(0) => Incoming::Done,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked(Chunks::new()),
            Framing::UntilClose => Incoming::UntilClose,
        };
    }

    /// Where a head is written; what follows is framed like this.
    pub(crate) fn frame(&mut self, framing: Framing) -> &mut Vec<u8> {
        self.outgoing = framing;
        &mut self.output
    }

    /// Whether all of the body that comes has been used.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.incoming, Incoming::Done)
    }

    /// Uses up what is left of the body as far as it has been read already; whether that was all of it.
    pub(crate) fn skip_read(&mut self) -> bool {
        while let Ok(Some(Piece::Data)) = self.next_piece() {
            self.consume();
        }
        self.is_over()
    }

    /// Gives back what large messages needed.
    pub(crate) fn rest(&mut self) {
        self.input.shrink();
        if self.output.is_empty() && self.output.capacity() > ROOM_BYTES {
            self.output = Vec::new();
        }
    }

    /// What comes next, from what has been read.
    fn next_piece(&mut self) -> Result<Option<Piece>, Fault> {
        loop {
            match &mut self.incoming {
                Incoming::Done => return Ok(Some(Piece::End)),
                Incoming::Length(_) | Incoming::UntilClose if self.input.is_empty() => return Ok(None),
                Incoming::Length(left) => {
                    let here = self.input.data().len();
                    self.piece = usize::try_from(*left).map_or(here, |left| left.min(here));
                    return Ok(Some(Piece::Data));
                }
                Incoming::UntilClose => {
                    self.piece = self.input.data().len();
                    return Ok(Some(Piece::Data));
                }
                Incoming::Chunked(chunks) => {
                    let step = chunks.step(self.input.data()).map_err(|_| Fault::Malformed)?;
                    match step {
                        Step::More => return Ok(None),
                        Step::Done => self.incoming = Incoming::Done,
                        Step::Data(count) => {
                            self.piece = count;
                            return Ok(Some(Piece::Data));
                        }
                        Step::Skip(count) | Step::Trailers(count) => {
                            let bytes = self.input.data().get(..count).unwrap_or_default();
                            chunks.used(step, bytes).map_err(|_| Fault::Malformed)?;
                            if matches!(step, Step::Trailers(_)) {
                                self.trailers = crate::headers::trailers(bytes).ok_or(Fault::Malformed)?;
                            }
                            self.input.consume(count);
                        }
                    }
                }
            }
        }
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(count) if count > 0 => {
                    self.sent += count;
                    self.unflushed = true;
                }
                Ok(_) | Err(_) => return Poll::Ready(Err(Fault::Gone)),
            }
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what waits and says whether a byte of it was taken, also when the rest failed.
    pub(crate) fn poll_first_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.poll_write_some(cx) {
            Poll::Ready(Err(_)) | Poll::Pending if self.has_sent() => Poll::Ready(Ok(())),
            outcome => outcome,
        }
    }
}

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// The connection ended within it.
    Gone,
    /// It is not one.
    Bad(BadHead),
}

impl<S: Socket> Side for Wire<S> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        loop {
            if let Some(piece) = self.next_piece()? {
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if !matches!(self.incoming, Incoming::UntilClose) {
                    return Poll::Ready(Err(Fault::Gone));
                }
                self.incoming = Incoming::Done;
            }
        }
    }

    fn piece(&self) -> &[u8] {
        self.input.data().get(..self.piece).unwrap_or_default()
    }

    fn consume(&mut self) {
        let count = std::mem::take(&mut self.piece);
        match &mut self.incoming {
            Incoming::Length(left) => {
                *left = left.saturating_sub(count as u64);
                if *left == 0 {
                    self.incoming = Incoming::Done;
                }
            }
            // The count is at most what `step` offered, so it cannot fail.
            Incoming::Chunked(chunks) => drop(chunks.used(Step::Data(count), &[])),
            Incoming::Done | Incoming::UntilClose => {}
        }
        self.input.consume(count);
    }

    fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.output.len() < ROOM_BYTES { Poll::Ready(Ok(())) } else { self.poll_write_some(cx) }
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Fault> {
        match &mut self.outgoing {
            Framing::None => return Ok(()),
            Framing::Length(left) => *left = left.checked_sub(data.len() as u64).ok_or(Fault::Malformed)?,
            Framing::Chunked => {
                let mut digits = [0_u8; 16];
                self.output.extend_from_slice(hexadecimal(data.len(), &mut digits));
                self.output.extend_from_slice(b"\r\n");
            }
            Framing::UntilClose => {}
        }
        self.output.extend_from_slice(data);
        if self.outgoing == Framing::Chunked {
            self.output.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn end(&mut self, trailers: &[u8]) -> Result<(), Fault> {
        match self.outgoing {
            // The receiver would wait for the rest.
            Framing::Length(left) if left > 0 => return Err(Fault::Malformed),
            Framing::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                self.output.extend_from_slice(trailers);
                self.output.extend_from_slice(b"\r\n");
            }
            Framing::None | Framing::Length(_) | Framing::UntilClose => {}
        }
        self.outgoing = Framing::None;
        Ok(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.poll_write_some(cx))?;
        if self.unflushed {
            // TLS may hold a record back.
            ready!(Pin::new(&mut self.io).poll_flush(cx)).map_err(|_| Fault::Gone)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is there already is the next request; it can wait.
        if !self.input.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_fill(cx)) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }
}

impl<S: Socket> Tunnelled for Wire<S> {
    fn open(&mut self) {
        self.expect_body(Framing::UntilClose);
        self.frame(Framing::UntilClose);
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // It fails when the other side has gone, too: then nothing is owed to it.
        Pin::new(&mut self.io).poll_shutdown(cx).map(|_| Ok(()))
    }
}

fn hexadecimal(mut number: usize, digits: &mut [u8; 16]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number & 15];
        number >>= 4;
        if number == 0 {
            return &digits[at..];
        }
    }
}
