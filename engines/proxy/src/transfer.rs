//! What goes between a client and an instance once the instance has the request: the rest of the request's body, the
//! response's head and body, both directions at once.
//!
//! In: the two sides. Out: the end, or who is to blame that there is none. Never buffers more than a side does.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::answer::Answer;
use crate::asked::Asked;
use crate::clock::{Clock, Phase};
use crate::limits::Limits;
use crate::link::Link;
use crate::side::{Fault, Piece, Side};

/// Why an exchange could not be brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The client went away, or does not take what is sent.
    ClientGone,
    /// The client owes a part of the body for too long.
    ClientLate,
    /// The request's body is not framed as it says.
    ClientMalformed,
    /// The request's body is larger than allowed.
    TooLarge,
    /// The instance broke off.
    Broken,
    /// The instance owes an answer for too long.
    Late,
}

/// How far the request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    /// The instance has all of it.
    Done,
    /// The client owes a part.
    ClientOwes,
    /// The instance does not take it.
    InstanceBlocks,
}

pub(crate) struct Transfer<'a, C> {
    pub(crate) client: &'a mut C,
    pub(crate) instance: Link,
    pub(crate) clock: &'a Clock,
    pub(crate) limits: &'a Limits,
    pub(crate) asked: &'a Asked,
    /// Bytes of the request's body that may still come.
    left: u64,
    /// All of the request's body has been put.
    put: bool,
    /// All of it has been sent.
    done: bool,
    /// The instance does not take it any more.
    broken: bool,
    moved: bool,
}

impl<'a, C: Side> Transfer<'a, C> {
    /// `taken` bytes of the body have been sent already.
    pub(crate) fn new(
        client: &'a mut C,
        instance: Link,
        clock: &'a Clock,
        limits: &'a Limits,
        asked: &'a Asked,
        taken: usize,
    ) -> Self {
        let left = limits.body_bytes_max.saturating_sub(taken as u64);
        let (put, done, broken, moved) = (false, false, false, true);
        Transfer { client, instance, clock, limits, asked, left, put, done, broken, moved }
    }

    /// The instance has all of the request.
    pub(crate) fn is_uploaded(&self) -> bool {
        self.done && !self.broken
    }

    /// Waits for the next head of a response.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Stop> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Stop>> {
        if self.clock.expired() {
            let late = if self.clock.phase() == Phase::Upload { Stop::ClientLate } else { Stop::Late };
            return Poll::Ready(Err(late));
        }
        let up = self.poll_up(cx)?;
        if let Poll::Ready(answer) = self.instance.poll_answer(cx, self.asked, self.limits) {
            return Poll::Ready(answer.map_err(|_| Stop::Broken));
        }
        if up == Up::Done && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::ClientGone));
        }
        // Also a client that waits for leave to send the body owes it: it must not wait for ever (RFC 9110 10.1.1).
        let phase = if up == Up::ClientOwes { Phase::Upload } else { Phase::Answer };
        self.clock.waits(phase, std::mem::take(&mut self.moved));
        Poll::Pending
    }

    /// Gives the response's body to the client, up to its end, which may still have to be sent.
    pub(crate) async fn body(&mut self, mut seen: impl FnMut(&[u8])) -> Result<(), Stop> {
        poll_fn(|cx| self.poll_body(cx, &mut seen)).await
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, seen: &mut impl FnMut(&[u8])) -> Poll<Result<(), Stop>> {
        if self.clock.expired() {
            let late = if self.clock.phase() == Phase::Writing { Stop::ClientGone } else { Stop::Late };
            return Poll::Ready(Err(late));
        }
        let up = self.poll_up(cx)?;
        match self.poll_down(cx, seen)? {
            Poll::Ready(()) => return Poll::Ready(Ok(())),
            Poll::Pending => {}
        }
        if up == Up::Done && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::ClientGone));
        }
        Poll::Pending
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, seen: &mut impl FnMut(&[u8])) -> Result<Poll<()>, Stop> {
        loop {
            match self.client.poll_room(cx) {
                Poll::Ready(room) => room.map_err(|_| Stop::ClientGone)?,
                Poll::Pending => {
                    self.clock.waits(Phase::Writing, std::mem::take(&mut self.moved));
                    return Ok(Poll::Pending);
                }
            }
            match self.instance.poll_piece(cx) {
                Poll::Ready(Ok(Piece::Data)) => {
                    let data = self.instance.piece();
                    seen(data);
                    self.client.put(data).map_err(|_| Stop::Broken)?;
                    self.instance.consume();
                    self.moved = true;
                }
                Poll::Ready(Ok(Piece::End)) => {
                    self.client.end(self.instance.trailers()).map_err(|_| Stop::Broken)?;
                    return Ok(Poll::Ready(()));
                }
                Poll::Ready(Err(_)) => return Err(Stop::Broken),
                Poll::Pending => {
                    let phase = match self.client.poll_sent(cx) {
                        Poll::Ready(sent) => {
                            sent.map_err(|_| Stop::ClientGone)?;
                            Phase::Download
                        }
                        Poll::Pending => Phase::Writing,
                    };
                    self.clock.waits(phase, std::mem::take(&mut self.moved));
                    return Ok(Poll::Pending);
                }
            }
        }
    }

    /// Gives on what has come of the request's body.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<Up, Stop> {
        while !self.done {
            let room = match self.put {
                true => self.instance.poll_sent(cx),
                false => self.instance.poll_room(cx),
            };
            match room {
                Poll::Pending => return Ok(Up::InstanceBlocks),
                // It may have answered without wanting the rest; then the answer is there to be read.
                Poll::Ready(Err(_)) => (self.done, self.broken) = (true, true),
                Poll::Ready(Ok(())) if self.put => self.done = true,
                Poll::Ready(Ok(())) => match self.client.poll_piece(cx) {
                    Poll::Ready(piece) => self.give(piece)?,
                    Poll::Pending => {
                        return match self.instance.poll_sent(cx) {
                            Poll::Ready(Ok(())) => Ok(Up::ClientOwes),
                            Poll::Ready(Err(_)) => {
                                (self.done, self.broken) = (true, true);
                                Ok(Up::Done)
                            }
                            Poll::Pending => Ok(Up::InstanceBlocks),
                        };
                    }
                },
            }
        }
        Ok(Up::Done)
    }

    fn give(&mut self, piece: Result<Piece, Fault>) -> Result<(), Stop> {
        self.moved = true;
        match piece {
            Ok(Piece::Data) => {
                let data = self.client.piece();
                self.left = self.left.checked_sub(data.len() as u64).ok_or(Stop::TooLarge)?;
                self.instance.put(data).map_err(|_| Stop::ClientMalformed)?;
                self.client.consume();
            }
            Ok(Piece::End) => {
                self.instance.end(self.client.trailers()).map_err(|_| Stop::ClientMalformed)?;
                self.put = true;
            }
            Err(Fault::Gone) => return Err(Stop::ClientGone),
            Err(Fault::Malformed) => return Err(Stop::ClientMalformed),
        }
        Ok(())
    }
}

/// Waits until all that was put has been sent to the client; false if it was not.
pub(crate) async fn sent<C: Side>(client: &mut C, clock: &Clock) -> bool {
    let sent = poll_fn(|cx| {
        if let Poll::Ready(sent) = client.poll_sent(cx) {
            return Poll::Ready(sent);
        }
        if clock.expired() {
            return Poll::Ready(Err(Fault::Gone));
        }
        clock.waits(Phase::Writing, false);
        Poll::Pending
    });
    sent.await.is_ok()
}

/// Gives bytes on in both directions until both have ended, one is gone, or it has been still for too long.
pub(crate) async fn tunnel<C: Tunnelled>(client: &mut C, instance: &mut Link, clock: &Clock) {
    let (mut up, mut down) = (false, false);
    poll_fn(|cx| {
        let mut moved = false;
        if clock.expired() {
            return Poll::Ready(Ok::<(), Fault>(()));
        }
        let sent = poll_pass(client, instance, &mut up, &mut moved, cx)?;
        let received = poll_pass(instance, client, &mut down, &mut moved, cx)?;
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // One that has said its last word gives the other as long as a slow reader.
        clock.waits(if up || down { Phase::Writing } else { Phase::Tunnel }, moved);
        Poll::Pending
    })
    .await
    .ok();
}

/// A side that can be changed to another protocol.
pub(crate) trait Tunnelled: Side {
    /// What comes and goes from now on has no end but the connection's.
    fn open(&mut self);
    /// Says that nothing more goes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
}

fn poll_pass<A: Tunnelled, B: Tunnelled>(
    from: &mut A,
    to: &mut B,
    ended: &mut bool,
    moved: &mut bool,
    cx: &mut Context<'_>,
) -> Result<Poll<()>, Fault> {
    while !*ended {
        if to.poll_room(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        match from.poll_piece(cx)? {
            Poll::Ready(Piece::Data) => {
                to.put(from.piece())?;
                from.consume();
                *moved = true;
            }
            Poll::Ready(Piece::End) => *ended = true,
            Poll::Pending => {
                let _ = to.poll_sent(cx)?;
                return Ok(Poll::Pending);
            }
        }
    }
    match to.poll_sent(cx)? {
        Poll::Ready(()) => Ok(to.poll_close(cx)?),
        Poll::Pending => Ok(Poll::Pending),
    }
}
