//! Connections to instances.
//!
//! In: an instance. Out: a connection that is ready for one request. Each connection has a task that
//! drives it and one timer that enforces every deadline of it. Never retries and never chooses.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::clock::{Phase, UpstreamClock, Watch};
use crate::connect::Connector;
use crate::instance::Instance;
use crate::limits::Limits;

/// How long a pooled connection may take to finish its former exchange. It is done with it when it
/// comes into the pool, except for being polled once more.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("instance cannot be reached")]
    Refused(#[source] io::Error),
    #[error("instance did not accept a connection in time")]
    TimedOut,
    #[error("connection failed before it was used")]
    Handshake(#[source] hyper::Error),
}

/// A connection that serves one request at a time.
pub(crate) struct Pooled {
    sender: SendRequest<RequestBody>,
    clock: Arc<UpstreamClock>,
    socket: Arc<TcpStream>,
}

impl Pooled {
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn clock(&self) -> &Arc<UpstreamClock> {
        &self.clock
    }

    /// Whether the connection can take a request now. Asks the kernel, because the task that drives
    /// the connection may not have been told yet that the other side closed it.
    pub(crate) async fn is_usable(&mut self) -> bool {
        if !self.sender.is_ready() {
            let ready = tokio::time::timeout(READY_WITHIN, self.sender.ready()).await;
            if !matches!(ready, Ok(Ok(()))) {
                return false;
            }
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let seen = rustix::net::recv(&*self.socket, &mut [0_u8; 1], flags);
        matches!(seen, Err(rustix::io::Errno::AGAIN))
    }

    /// Sends a request. An error that holds the request means that no byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.clock.enter(Phase::AwaitingHead);
        self.sender.try_send_request(request).await
    }
}

/// Opens a connection and starts the task that drives it.
pub(crate) async fn open(
    instance: &Arc<Instance>,
    connector: &dyn Connector,
    limits: &Arc<Limits>,
) -> Result<Pooled, ConnectFailure> {
    let connecting = connector.connect(&instance.id);
    let stream = tokio::time::timeout(limits.connect_timeout, connecting)
        .await
        .map_err(|_| ConnectFailure::TimedOut)?
        .map_err(ConnectFailure::Refused)?;
    stream.set_nodelay(true).map_err(ConnectFailure::Refused)?;
    let socket = Arc::new(stream);
    let clock = Arc::new(UpstreamClock::new());
    let io = UpstreamIo { socket: Arc::clone(&socket), clock: Arc::clone(&clock) };
    let (sender, connection) = builder(limits).handshake(TokioIo::new(io)).await.map_err(ConnectFailure::Handshake)?;
    tokio::spawn(drive(connection, Arc::clone(&clock), Arc::clone(limits), Arc::downgrade(instance)));
    Ok(Pooled { sender, clock, socket })
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder.max_header_size(limits.head_bytes_max);
    if limits.header_count_max != crate::listener::HYPER_HEADERS_MAX {
        builder.max_headers(limits.header_count_max);
    }
    builder
}

async fn drive(
    mut connection: hyper::client::conn::http1::Connection<TokioIo<UpstreamIo>, RequestBody>,
    clock: Arc<UpstreamClock>,
    limits: Arc<Limits>,
    instance: Weak<Instance>,
) {
    let mut timer = pin!(tokio::time::sleep(limits.upstream_watch()));
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => break,
            () = &mut timer => match clock.watch(&limits) {
                Watch::Again(after) => timer.as_mut().reset(Instant::now() + after),
                Watch::Idle | Watch::Close | Watch::RequestStalled => break,
            },
        }
    }
    // First the connection, so that its sender is seen as closed.
    drop(connection);
    if let Some(instance) = instance.upgrade() {
        instance.forget_closed();
    }
}

/// A socket that tells the clock of its progress and leaves a handle for [`Pooled::is_usable`].
struct UpstreamIo {
    socket: Arc<TcpStream>,
    clock: Arc<UpstreamClock>,
}

impl UpstreamIo {
    /// Reads what is there. A read that does not fill the buffer has emptied the socket: saying so
    /// to the runtime spares the system call that would find that out.
    fn read_some(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut partial = None;
        let outcome = self.socket.try_io(Interest::READABLE, || {
            let room = buffer.remaining_mut();
            let read = self.socket.try_read_buf(buffer)?;
            if read > 0 && read < room {
                partial = Some(read);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        partial.map_or(outcome, Ok)
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.read_some(buffer) {
                Ok(_) => {
                    self.clock.progress();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.clock.progress();
                    return Poll::Ready(outcome);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Write);
        Poll::Ready(outcome.map_err(io::Error::from))
    }
}
