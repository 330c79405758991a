//! A client's connection of HTTP/2: many requests at once.
//!
//! In: a socket. Out: answers as they come. What a client can make the proxy hold or do is limited by the library
//! (header lists and their continuations, acknowledgements of settings and pings, resets) with the numbers below.
//! Never offers push, or WebSocket over HTTP/2: browsers then open a connection of HTTP/1.1 for it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::answer::Answer;
use crate::asked::{Asked, Spoken};
use crate::clock::{Clock, Phase, Stages, Unstaged, watched};
use crate::forward::{self, ClientSide};
use crate::headers::push;
use crate::listener::Client;
use crate::pages;
use crate::side::{Fault, Piece, ROOM_BYTES, Side};
use crate::stream::{CONNECTION_WINDOW_BYTES, Stream, WINDOW_BYTES};
use crate::transfer::{self, Tunnelled};
use crate::wire::{Buffer, Framing, Socket};

/// Serves streams until the client, its clock or the listener ends the connection.
pub(crate) async fn serve<S: Socket + 'static>(
    client: &Arc<Client>,
    clock: &Clock,
    io: S,
    read: Buffer,
    mut stage: impl Stages,
) {
    clock.enter(Phase::Head);
    let Ok(mut connection) = builder(client).handshake(Rewound { io, read }).await else {
        return;
    };
    let mut streams = FuturesUnordered::new();
    let mut leaving = false;
    // Requests that were taken back, less those that were answered.
    let mut taken_back: usize = 0;
    loop {
        clock.waits(if streams.is_empty() { Phase::Idle } else { Phase::Busy }, false);
        tokio::select! {
            biased;
            Some(answered) = streams.next(), if !streams.is_empty() => {
                taken_back = if answered { taken_back.saturating_sub(1) } else { taken_back + 1 };
                if taken_back > client.limits().resets_max && !leaving {
                    leaving = true;
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
                if streams.is_empty() {
                    clock.enter(Phase::Idle);
                }
            }
            accepted = next(&mut connection, clock, leaving) => match accepted {
                Next::Stream(accepted) => streams.push(stream(Arc::clone(client), accepted.0, accepted.1)),
                Next::Late => {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                Next::Closed => break,
            },
            // Whoever has asked is answered; whatever comes later goes to another connection.
            _ = stage.changed(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
    // The socket is gone or said goodbye to; what runs finds its stream closed.
    drop(streams);
}

fn builder(client: &Client) -> h2::server::Builder {
    let limits = client.limits();
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(ROOM_BYTES)
        // CVE-2023-44487: each stream that is opened and taken back at once costs a request to an instance.
        .max_pending_accept_reset_streams(limits.resets_max)
        .max_concurrent_reset_streams(limits.resets_max)
        .max_local_error_reset_streams(Some(limits.resets_max));
    builder
}

type Connection<S> = h2::server::Connection<Rewound<S>, Bytes>;

enum Next {
    Stream(Box<(http::Request<RecvStream>, SendResponse<Bytes>)>),
    /// Nobody has asked for too long.
    Late,
    Closed,
}

async fn next<S: Socket + 'static>(connection: &mut Connection<S>, clock: &Clock, leaving: bool) -> Next {
    std::future::poll_fn(|cx| match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok(accepted))) => Poll::Ready(Next::Stream(Box::new(accepted))),
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Next::Closed),
        Poll::Pending if clock.expired() && !leaving => Poll::Ready(Next::Late),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// One request, under a clock of its own; whether it was answered.
async fn stream(client: Arc<Client>, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> bool {
    let clock = Clock::new(Phase::Answer);
    let work = pin!(one(&client, &clock, request, respond));
    // Without an end it is dropped, which resets the stream.
    watched(&clock, client.limits(), Unstaged, work).await.unwrap_or(true)
}

async fn one(
    client: &Arc<Client>,
    clock: &Clock,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> bool {
    let (parts, body) = request.into_parts();
    let framing = if body.is_end_stream() { Framing::None } else { Framing::Chunked };
    let ended = body.is_end_stream();
    let mut side = Http2 { respond, stream: Stream::new((!ended).then_some(body), None, false) };
    let Some(head) = head_of(&parts) else {
        side.respond.send_reset(Reason::PROTOCOL_ERROR);
        return true;
    };
    match Asked::read(client, &head, Spoken::Http2(framing)) {
        Ok(asked) => {
            forward::answer(client, clock, &mut side, &asked).await;
        }
        Err(refused) => {
            client.log_refusal(&refused.method, &refused.path, refused.refusal.status(), Instant::now());
            let page = pages::refuse(refused.refusal, &refused.method);
            side.begin(&page.answer, false, false);
            if side.put(page.text.as_bytes()).and_then(|()| side.end(&[])).is_ok() {
                transfer::sent(&mut side, clock).await;
            }
        }
    }
    side.stream.is_answered()
}

/// The head as HTTP/1.1 would have it, so that there is one way in which requests are judged and passed on.
fn head_of(parts: &request::Parts) -> Option<Vec<u8>> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(parts.method.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = parts.uri.authority() {
        push(&mut head, b"host", authority.as_str().as_bytes());
    }
    let cookies: Vec<&[u8]> =
        parts.headers.get_all(http::header::COOKIE).iter().map(|cookie| cookie.as_bytes()).collect();
    if !cookies.is_empty() {
        // RFC 9113 section 8.2.3: they come in crumbs.
        push(&mut head, b"cookie", &cookies.join(&b"; "[..]));
    }
    for (name, value) in &parts.headers {
        let replaced = *name == http::header::HOST && parts.uri.authority().is_some();
        if !replaced && *name != http::header::COOKIE {
            push(&mut head, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}

/// A stream and its answer.
struct Http2 {
    respond: SendResponse<Bytes>,
    stream: Stream,
}

impl ClientSide for Http2 {
    fn begin(&mut self, answer: &Answer, _: bool, _: bool) -> bool {
        let mut response = http::Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.fields();
        let ended = matches!(answer.framing, Framing::None | Framing::Length(0));
        // It fails when the client has taken the request back; then the next write does, too.
        if let Ok(send) = self.respond.send_response(response, ended) {
            self.stream.send(send, ended);
        }
        true
    }

    fn inform(&mut self, answer: &Answer) {
        let mut response = http::Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.fields();
        // It fails when the client has taken the request back; that is seen elsewhere.
        let _ = self.respond.send_informational(response);
    }

    fn skip_body(&mut self) -> bool {
        true
    }

    fn abort(&mut self) {
        self.stream.reset();
    }
}

impl Tunnelled for Http2 {
    fn open(&mut self) {}

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }
}

impl Side for Http2 {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        self.stream.poll_piece(cx)
    }

    fn piece(&self) -> &[u8] {
        self.stream.piece()
    }

    fn consume(&mut self) {
        self.stream.consume();
    }

    fn trailers(&self) -> &[u8] {
        self.stream.trailers()
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.stream.poll_room(cx)
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.stream.put(data)
    }

    fn end(&mut self, trailers: &[u8]) -> Result<(), Fault> {
        self.stream.end(trailers)
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.stream.poll_sent(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.is_answered() { self.stream.poll_gone(cx) } else { self.respond.poll_reset(cx).map(|_| ()) }
    }
}

/// A socket of which something has been read already.
struct Rewound<S> {
    io: S,
    read: Buffer,
}

impl<S: Socket> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = self.read.data().len().min(buffer.remaining());
        buffer.put_slice(self.read.data().get(..count).unwrap_or_default());
        self.read.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
