//! A client's connection of HTTP/1: one request after the other.
//!
//! In: a socket. Out: answers in the order of the requests. Never reads a request before the one before it was
//! answered, beyond what one read brings.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::answer::Answer;
use crate::asked::{Asked, Refused, Spoken};
use crate::clock::{Clock, Phase};
use crate::forward::{self, After, ClientSide};
use crate::listener::Client;
use crate::pages::{self, Page, Refusal};
use crate::side::Side;
use crate::transfer;
use crate::wire::head::leading_lines;
use crate::wire::{Framing, HeadFault, Socket, Wire};

/// What a client of HTTP/2 says first (RFC 9113 section 3.4), as far as it looks like a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Empty lines before one request.
const LEADING_BYTES_MAX: usize = 64;

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is left to be said.
    Close,
    /// What the client still sends is to be read away.
    Linger,
    /// The client speaks HTTP/2; nothing has been used yet.
    Http2,
}

/// Serves requests until one is the last.
pub(crate) async fn serve<S: Socket>(client: &Arc<Client>, clock: &Clock, wire: &mut Wire<S>) -> End {
    loop {
        wire.rest();
        let length = match poll_fn(|cx| poll_head(client, clock, wire, cx)).await {
            Head::Whole(length) => length,
            Head::Closed => return End::Close,
            Head::Refused(refusal) => {
                let refused = Refused { refusal, method: http::Method::GET, path: String::new(), old: false };
                return refuse(client, clock, wire, refused).await;
            }
        };
        let head = wire.unread().get(..length).unwrap_or_default();
        if head == PREFACE {
            return End::Http2;
        }
        let asked = match Asked::read(client, head, Spoken::Http1) {
            Ok(asked) => asked,
            Err(refused) => return refuse(client, clock, wire, refused).await,
        };
        wire.used(length);
        wire.expect_body(asked.framing);
        match forward::answer(client, clock, wire, &asked).await {
            After::Again => clock.enter(Phase::Idle),
            After::Close => return End::Close,
            After::Linger => return End::Linger,
        }
    }
}

enum Head {
    Whole(usize),
    Closed,
    Refused(Refusal),
}

fn poll_head<S: Socket>(client: &Client, clock: &Clock, wire: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<Head> {
    if clock.expired() {
        let silent = wire.unread().is_empty();
        return Poll::Ready(if silent { Head::Closed } else { Head::Refused(Refusal::HeadLate) });
    }
    loop {
        let head = match wire.poll_head(cx, client.limits().head_bytes_max) {
            Poll::Ready(Ok(Some(2))) => {
                let lines = leading_lines(wire.unread());
                if lines > LEADING_BYTES_MAX {
                    return Poll::Ready(Head::Refused(Refusal::Malformed("nothing but empty lines")));
                }
                wire.used(lines);
                continue;
            }
            Poll::Ready(Ok(Some(length))) => Head::Whole(length),
            Poll::Ready(Ok(None) | Err(HeadFault::Gone)) => Head::Closed,
            Poll::Ready(Err(HeadFault::Bad(bad))) => Head::Refused(bad.into()),
            Poll::Pending => {
                clock.waits(if wire.unread().is_empty() { Phase::Idle } else { Phase::Head }, false);
                return Poll::Pending;
            }
        };
        return Poll::Ready(head);
    }
}

/// Answers what is no request, and ends the connection: nothing behind it can be understood.
async fn refuse<S: Socket>(client: &Client, clock: &Clock, wire: &mut Wire<S>, refused: Refused) -> End {
    let Refused { refusal, method, path, old } = refused;
    client.log_refusal(&method, &path, refusal.status(), Instant::now());
    clock.goes_on(Phase::Writing);
    let Page { answer, text, .. } = pages::refuse(refusal, &method);
    wire.begin(&answer, old, false);
    let put = wire.put(text.as_bytes()).and_then(|()| wire.end(&[]));
    if put.is_ok() && transfer::sent(wire, clock).await { End::Linger } else { End::Close }
}

impl<S: Socket> ClientSide for Wire<S> {
    fn begin(&mut self, answer: &Answer, old: bool, keep: bool) -> bool {
        let framing = answer.framing_for(old);
        let keep = keep && framing != Framing::UntilClose;
        answer.write(self.frame(framing), framing, old, keep);
        keep
    }

    fn inform(&mut self, answer: &Answer) {
        answer.write(self.frame(Framing::None), Framing::None, false, true);
    }

    fn skip_body(&mut self) -> bool {
        self.skip_read()
    }

    fn abort(&mut self) {}
}
