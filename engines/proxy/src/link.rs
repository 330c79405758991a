//! Connections to instances.
//!
//! In: an instance. Out: a [`Link`] on which one request goes and one response comes. Never retries and never chooses.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use rustix::net::RecvFlags;
use tokio::net::TcpStream;

use crate::answer::{Answer, parsed};
use crate::asked::Asked;
use crate::clock::now_ms;
use crate::connect::Connector;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::side::{Fault, Piece, Side};
use crate::stream::Stream;
use crate::transfer::Tunnelled;
use crate::wire::{Buffer, Framing, Wire};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("instance cannot be reached")]
    Refused(#[source] io::Error),
    #[error("instance did not accept a connection in time")]
    TimedOut,
    #[error("instance does not speak HTTP/2")]
    Handshake(#[source] h2::Error),
}

/// A connection that waits for a request.
pub(crate) struct Pooled {
    wire: Box<Wire<TcpStream>>,
    /// Since when, by [`now_ms`].
    since: u64,
}

impl Pooled {
    /// Whether it has waited for so long that the instance may be about to close it.
    pub(crate) fn is_stale(&self, idle: Duration) -> bool {
        u128::from(now_ms().saturating_sub(self.since)) >= idle.as_millis()
    }

    /// Whether the connection can take a request. Asks the kernel, because the runtime may not have been told yet
    /// that the other side closed it: a request that meets the closing cannot be told from one that was processed.
    pub(crate) fn is_usable(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let seen = rustix::net::recv(self.wire.io(), &mut [0_u8; 1], flags);
        matches!(seen, Err(rustix::io::Errno::AGAIN))
    }

    pub(crate) fn into_link(self) -> Link {
        Link::Http1(self.wire)
    }
}

/// A connection of HTTP/2 that takes many requests at once.
pub(crate) type Multiplexed = SendRequest<Bytes>;

/// The way to an instance, for one request.
pub(crate) enum Link {
    Http1(Box<Wire<TcpStream>>),
    Http2(Box<Call>),
}

/// A request on a connection of HTTP/2.
pub(crate) struct Call {
    response: ResponseFuture,
    stream: Stream,
}

/// A new connection.
async fn connect(instance: &Instance, connector: &dyn Connector, limits: &Limits) -> Result<TcpStream, ConnectFailure> {
    let connecting = connector.connect(&instance.id);
    let stream = tokio::time::timeout(limits.connect_timeout, connecting)
        .await
        .map_err(|_| ConnectFailure::TimedOut)?
        .map_err(ConnectFailure::Refused)?;
    stream.set_nodelay(true).map_err(ConnectFailure::Refused)?;
    Ok(stream)
}

/// A new connection of HTTP/1.1.
pub(crate) async fn open(
    instance: &Instance,
    connector: &dyn Connector,
    limits: &Limits,
) -> Result<Link, ConnectFailure> {
    let stream = connect(instance, connector, limits).await?;
    Ok(Link::Http1(Box::new(Wire::new(stream, Buffer::default()))))
}

/// A stream for this request on the instance's connection of HTTP/2, which is made if there is none.
pub(crate) async fn call(
    instance: &Arc<Instance>,
    connector: &dyn Connector,
    limits: &Limits,
    asked: &Asked,
) -> Result<Link, ConnectFailure> {
    loop {
        let (sender, fresh) = multiplexed(instance, connector, limits).await?;
        let started = tokio::time::timeout(limits.response_head_timeout, start(sender, asked)).await;
        let error = match started.map_err(|_| ConnectFailure::TimedOut)? {
            Ok(link) if !instance.is_draining() => return Ok(link),
            Ok(link) => {
                *instance.multiplexed.lock().await = None;
                return Ok(link);
            }
            Err(error) => error,
        };
        *instance.multiplexed.lock().await = None;
        // One that died while nobody used it says nothing about the instance.
        if fresh {
            return Err(ConnectFailure::Handshake(error));
        }
    }
}

/// The connection that is there, or a new one; whether it is new.
async fn multiplexed(
    instance: &Instance,
    connector: &dyn Connector,
    limits: &Limits,
) -> Result<(Multiplexed, bool), ConnectFailure> {
    let mut kept = instance.multiplexed.lock().await;
    if let Some(sender) = &*kept {
        return Ok((sender.clone(), false));
    }
    let opened = handshake(connect(instance, connector, limits).await?, limits).await?;
    *kept = Some(opened.clone());
    Ok((opened, true))
}

async fn handshake(stream: TcpStream, limits: &Limits) -> Result<Multiplexed, ConnectFailure> {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(crate::stream::WINDOW_BYTES)
        .initial_connection_window_size(crate::stream::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX));
    let opened = tokio::time::timeout(limits.connect_timeout, builder.handshake(stream)).await;
    let (sender, connection) = opened.map_err(|_| ConnectFailure::TimedOut)?.map_err(ConnectFailure::Handshake)?;
    // It ends when the last sender and the last stream are gone, or the instance closes it.
    tokio::spawn(connection);
    Ok(sender)
}

async fn start(sender: Multiplexed, asked: &Asked) -> Result<Link, h2::Error> {
    let mut sender = sender.ready().await?;
    let ends = asked.framing == Framing::None;
    let (response, send) = sender.send_request(asked.as_http2(), ends)?;
    let stream = Stream::new(None, Some(send), ends);
    Ok(Link::Http2(Box::new(Call { response, stream })))
}

impl Asked {
    /// The head for an instance that speaks HTTP/2. What of it the library does not take was refused before, so that
    /// nothing is lost on the way.
    fn as_http2(&self) -> http::Request<()> {
        let lines = self.text().iter().position(|byte| *byte == b'\n').and_then(|end| self.text().get(end + 1..));
        let mut headers = parsed(lines.unwrap_or_default());
        let host = headers.remove(http::header::HOST);
        if let Framing::Length(length) = self.framing {
            headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        if self.takes_trailers {
            headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
        }
        let host = host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
        let mut request = http::Request::new(());
        let uri = http::Uri::builder().scheme("http").authority(host.unwrap_or("localhost"));
        *request.uri_mut() = uri.path_and_query(self.target()).build().unwrap_or_default();
        *request.method_mut() = self.method.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        request
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("instance broke the connection off, or did not answer in HTTP")]
pub(crate) struct NoAnswer;

impl Link {
    /// Writes the head and says whether a byte of it went out. `first` is the begin of the body, already there.
    pub(crate) fn begin(&mut self, asked: &Asked, first: &[u8]) -> Result<(), Fault> {
        if let Link::Http1(wire) = self {
            asked.write(wire.frame(asked.framing));
        }
        if first.is_empty() { Ok(()) } else { self.put(first) }
    }

    /// Waits until a byte of the request was sent; an error means that none was.
    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Link::Http1(wire) => wire.poll_first_write(cx),
            Link::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Waits for the next head of a response: interim ones, then the final one.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Asked,
        limits: &Limits,
    ) -> Poll<Result<Answer, NoAnswer>> {
        match self {
            Link::Http1(wire) => {
                let length = ready!(wire.poll_head(cx, limits.head_bytes_max)).ok().flatten().ok_or(NoAnswer)?;
                let head = wire.unread().get(..length).unwrap_or_default();
                let answer = Answer::read(head, asked, limits.header_count_max).map_err(|_| NoAnswer)?;
                wire.used(length);
                wire.expect_body(answer.framing);
                Poll::Ready(Ok(answer))
            }
            Link::Http2(call) => {
                let response = ready!(Pin::new(&mut call.response).poll(cx)).map_err(|_| NoAnswer)?;
                let (parts, body) = response.into_parts();
                let ended = body.is_end_stream();
                call.stream.receive(body);
                Poll::Ready(Ok(Answer::from_http2(parts.status, &parts.headers, ended, asked)))
            }
        }
    }

    /// Gives the connection back, if another request may follow on it.
    pub(crate) fn give_back(self, instance: &Arc<Instance>, limits: &Limits) {
        if let Link::Http1(mut wire) = self
            && wire.is_over()
            && wire.unread().is_empty()
            && !wire.has_unsent()
        {
            wire.rest();
            let pooled = Pooled { wire, since: now_ms() };
            instance.put_idle(pooled, limits.pool_connections_max, limits.pool_idle);
        }
    }
}

/// Calls the same of whichever it is.
macro_rules! either {
    ($link:expr, $side:ident => $call:expr) => {
        match $link {
            Link::Http1(wire) => {
                let $side = &mut **wire;
                $call
            }
            Link::Http2(call) => {
                let $side = &mut call.stream;
                $call
            }
        }
    };
}

impl Tunnelled for Link {
    fn open(&mut self) {
        if let Link::Http1(wire) = self {
            wire.open();
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Link::Http1(wire) => wire.poll_close(cx),
            Link::Http2(_) => Poll::Ready(Ok(())),
        }
    }
}

impl Side for Link {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        either!(self, side => side.poll_piece(cx))
    }

    fn piece(&self) -> &[u8] {
        match self {
            Link::Http1(wire) => wire.piece(),
            Link::Http2(call) => call.stream.piece(),
        }
    }

    fn consume(&mut self) {
        either!(self, side => side.consume());
    }

    fn trailers(&self) -> &[u8] {
        match self {
            Link::Http1(wire) => wire.trailers(),
            Link::Http2(call) => call.stream.trailers(),
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        either!(self, side => side.poll_room(cx))
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Fault> {
        either!(self, side => side.put(data))
    }

    fn end(&mut self, trailers: &[u8]) -> Result<(), Fault> {
        either!(self, side => side.end(trailers))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        either!(self, side => side.poll_sent(cx))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        either!(self, side => side.poll_gone(cx))
    }
}
