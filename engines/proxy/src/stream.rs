//! One stream of HTTP/2 as a [`Side`] (RFC 9113), of a client or to an instance.
//!
//! In: the two halves of a stream. Out: pieces. Flow control passes through: a window grows only when its bytes were
//! given on. Never buffers more than [`ROOM_BYTES`] beyond the window.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};

use crate::answer::parsed;
use crate::headers;
use crate::side::{Fault, Piece, ROOM_BYTES, Side};

/// What one stream may send before it is taken.
pub(crate) const WINDOW_BYTES: u32 = 256 * 1024;
/// What all streams of a connection may.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

pub(crate) struct Stream {
    recv: Option<RecvStream>,
    piece: Bytes,
    trailers: Vec<u8>,
    received: bool,
    send: Option<SendStream<Bytes>>,
    output: BytesMut,
    /// What comes behind the output: the end, with these lines.
    end: Option<Vec<u8>>,
    /// The end has been sent.
    ended: bool,
}

impl Stream {
    pub(crate) fn new(recv: Option<RecvStream>, send: Option<SendStream<Bytes>>, ended: bool) -> Stream {
        Stream {
            recv,
            piece: Bytes::new(),
            trailers: Vec::new(),
            received: false,
            send,
            output: BytesMut::new(),
            end: None,
            ended,
        }
    }

    pub(crate) fn receive(&mut self, body: RecvStream) {
        self.recv = Some(body);
    }

    /// The head has been sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.send.is_some()
    }

    /// The head has been sent; `ended` with it.
    pub(crate) fn send(&mut self, send: SendStream<Bytes>, ended: bool) {
        self.send = Some(send);
        self.ended = ended;
    }

    /// Breaks the stream off, so that what was sent is not taken for all.
    pub(crate) fn reset(&mut self) {
        if let Some(send) = &mut self.send {
            send.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }

    /// Gives to the library what the receiver's window takes.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(if self.output.is_empty() { Ok(()) } else { Err(Fault::Gone) });
        };
        while !self.output.is_empty() {
            send.reserve_capacity(self.output.len());
            let mut capacity = send.capacity();
            if capacity == 0 {
                capacity = match ready!(send.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(_)) | None => return Poll::Ready(Err(Fault::Gone)),
                };
            }
            let count = capacity.min(self.output.len());
            let last = count == self.output.len() && self.end.as_ref().is_some_and(Vec::is_empty);
            let data = self.output.split_to(count).freeze();
            send.send_data(data, last).map_err(|_| Fault::Gone)?;
            self.ended |= last;
        }
        if let Some(trailers) = self.end.take().filter(|_| !self.ended) {
            self.ended = true;
            let sent = match trailers.is_empty() {
                true => send.send_data(Bytes::new(), true),
                false => send.send_trailers(parsed(&trailers)),
            };
            sent.map_err(|_| Fault::Gone)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Side for Stream {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        loop {
            if self.piece.has_remaining() {
                return Poll::Ready(Ok(Piece::Data));
            }
            let Some(recv) = self.recv.as_mut().filter(|_| !self.received) else {
                return Poll::Ready(Ok(Piece::End));
            };
            match ready!(recv.poll_data(cx)) {
                Some(Ok(data)) => self.piece = data,
                Some(Err(_)) => return Poll::Ready(Err(Fault::Gone)),
                None => {
                    let trailers = ready!(recv.poll_trailers(cx)).map_err(|_| Fault::Gone)?;
                    self.trailers = trailers.as_ref().map(headers::trailer_lines).unwrap_or_default();
                    self.received = true;
                }
            }
        }
    }

    fn piece(&self) -> &[u8] {
        &self.piece
    }

    fn consume(&mut self) {
        let count = std::mem::take(&mut self.piece).len();
        if let Some(recv) = &mut self.recv {
            // It fails only for a stream that is over.
            let _ = recv.flow_control().release_capacity(count);
        }
    }

    fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.output.len() < ROOM_BYTES { Poll::Ready(Ok(())) } else { self.poll_output(cx) }
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Fault> {
        if !self.ended {
            self.output.extend_from_slice(data);
        }
        Ok(())
    }

    fn end(&mut self, trailers: &[u8]) -> Result<(), Fault> {
        if !self.ended && self.end.is_none() {
            self.end = Some(trailers.to_vec());
        }
        Ok(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll_output(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) if !self.ended => send.poll_reset(cx).map(|_| ()),
            Some(_) | None => Poll::Pending,
        }
    }
}
