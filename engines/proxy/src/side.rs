//! One side of an exchange: a client or an instance, over HTTP/1.1 or one stream of HTTP/2.
//!
//! In: pieces of a body that come from it. Out: pieces of the other body that go to it. Each piece is given on before
//! the next is asked for, so that a slow receiver slows the sender down. Never holds more than [`ROOM_BYTES`] and one
//! piece.

use std::task::{Context, Poll};

/// What may wait to be sent before the sender has to wait.
pub(crate) const ROOM_BYTES: usize = 64 * 1024;

/// Why a side can go no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("connection is gone")]
    Gone,
    #[error("framing is broken")]
    Malformed,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// [`Side::piece`] has it.
    Data,
    /// The body is over; [`Side::trailers`] has its trailers.
    End,
}

/// See the module.
pub(crate) trait Side: Send {
    /// What comes next from this side. `End` is said again and again.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>>;

    /// The bytes of the piece; not empty after `Data`.
    fn piece(&self) -> &[u8];

    /// The piece was given on.
    fn consume(&mut self);

    /// Lines of text behind the body, each with its end; empty if there are none.
    fn trailers(&self) -> &[u8];

    /// Waits until something may be put.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Puts a part of the body that goes to this side.
    fn put(&mut self, data: &[u8]) -> Result<(), Fault>;

    /// That was all of it.
    fn end(&mut self, trailers: &[u8]) -> Result<(), Fault>;

    /// Waits until all that was put is sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Waits until the side has gone away. Meant for times in which nothing is wanted from it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
