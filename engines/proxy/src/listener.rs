//! Listening sockets and the connections of clients.
//!
//! In: a listening socket made elsewhere. Out: connections served until they end, one task each with
//! one timer. Never binds a socket, and never drops a request at shut-down before the deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::client_io::ClientIo;
use crate::clock::{ClientClock, Watch};
use crate::forward;
use crate::limits::Limits;
use crate::proxy::Shared;

/// What hyper allows when it is not told otherwise; being told costs an allocation per request.
pub(crate) const HYPER_HEADERS_MAX: usize = 100;
/// hyper refuses smaller buffers.
const BUFFER_BYTES_MIN: usize = 8 * 1024;
/// After an error of `accept` (no descriptors left, for one): it must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Behind a refusal, so much of the rest of a request is read away, for so long: closing with
/// unread bytes would reset the connection, and the client might never see why.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);
/// For tasks to end after they were told to at once.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(1);
/// Written to a client that owes the rest of its request.
const TIMEOUT_PAGE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n\r\n\
    the request did not arrive in time";

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Every service that has host names, by the `Host` of each request.
    Hosts,
    /// The one service to which the table gives this port, whatever the host name is. The number
    /// is the table's; the socket may listen elsewhere.
    Port(u16),
}

/// How a shut-down went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Connections that still had a request at the deadline and were cut off.
    pub cut_off: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Nothing new; `Connection: close` with every answer.
    Finishing,
    CutOff,
}

/// A listener that serves. Dropping it stops accepting and lets its connections finish.
#[derive(Debug)]
pub struct Listener {
    stage: watch::Sender<Stage>,
    state: Arc<ListenerState>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct ListenerState {
    finishing: AtomicBool,
    connections: AtomicUsize,
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Relaxed)
    }

    /// Stops accepting, closes this process's copy of the socket, lets requests finish with
    /// `Connection: close`, and cuts off what is left after `within`.
    pub async fn shutdown(self, within: Duration) -> Shutdown {
        self.finish();
        if tokio::time::timeout(within, self.stage.closed()).await.is_ok() {
            return Shutdown { cut_off: 0 };
        }
        let cut_off = self.connections();
        self.stage.send_replace(Stage::CutOff);
        // They end as soon as they are polled; when the runtime is too busy, they end later.
        let _ = tokio::time::timeout(CUT_OFF_WITHIN, self.stage.closed()).await;
        Shutdown { cut_off }
    }

    fn finish(&self) {
        self.state.finishing.store(true, Relaxed);
        self.stage.send_replace(Stage::Finishing);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.state.finishing.store(true, Relaxed);
    }
}

/// Starts to serve a socket.
pub(crate) fn listen(shared: Arc<Shared>, listener: std::net::TcpListener, binding: Binding) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    let (stage, watched) = watch::channel(Stage::Serving);
    let state = Arc::new(ListenerState::default());
    let acceptor =
        Acceptor { builder: builder(&shared.limits), shared, binding, state: Arc::clone(&state), stage: watched };
    tokio::spawn(acceptor.run(listener));
    Ok(Listener { stage, state, address })
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES_MIN))
        // Every deadline of a connection is watched by one timer of its own.
        .header_read_timeout(None);
    if limits.header_count_max != HYPER_HEADERS_MAX {
        builder.max_headers(limits.header_count_max);
    }
    builder
}

struct Acceptor {
    builder: Builder,
    shared: Arc<Shared>,
    binding: Binding,
    state: Arc<ListenerState>,
    stage: watch::Receiver<Stage>,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        let mut stage = self.stage.clone();
        loop {
            tokio::select! {
                biased;
                _ = stage.changed() => return,
                accepted = self.accept(&listener) => match accepted {
                    Some((stream, peer, permit)) => self.start(stream, peer, permit),
                    None => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let (stream, peer) = listener.accept().await.ok()?;
        // A connection that is gone already fails here; serving it ends at once.
        let _ = stream.set_nodelay(true);
        // At the limit this one waits, and those behind it in the kernel's backlog.
        let permits = Arc::clone(&self.shared.connections);
        let permit = permits.acquire_owned().await.ok()?;
        Some((stream, peer, permit))
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let client = Arc::new(Client::new(self, peer.ip().to_canonical()));
        let builder = self.builder.clone();
        let stage = self.stage.clone();
        self.state.connections.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            serve(&client, builder, stream, stage).await;
            client.listener.connections.fetch_sub(1, Relaxed);
            drop(permit);
        });
    }
}

/// What is the same for every request of one client connection.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) binding: Binding,
    pub(crate) clock: ClientClock,
    pub(crate) peer: IpAddr,
    pub(crate) peer_text: HeaderValue,
    /// The peer's `X-Forwarded-*` are believed.
    pub(crate) trusted: bool,
    listener: Arc<ListenerState>,
    requests: AtomicU64,
    /// The number of the request that gives its length twice; 0: none has.
    both_lengths: AtomicU64,
    lingers: AtomicBool,
}

impl Client {
    fn new(acceptor: &Acceptor, peer: IpAddr) -> Self {
        let trusted = &acceptor.shared.limits.trusted_proxies;
        let text = HeaderValue::from_str(&peer.to_string());
        Client {
            shared: Arc::clone(&acceptor.shared),
            binding: acceptor.binding,
            clock: ClientClock::new(),
            peer,
            peer_text: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trusted: trusted.iter().any(|network| network.contains(peer)),
            listener: Arc::clone(&acceptor.state),
            requests: AtomicU64::new(0),
            both_lengths: AtomicU64::new(0),
            lingers: AtomicBool::new(false),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Counts a request of this connection, from 1.
    pub(crate) fn request_begins(&self) -> u64 {
        self.clock.request_begins();
        self.requests.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.listener.finishing.load(Relaxed)
    }

    pub(crate) fn gives_both_lengths(&self, number: u64) {
        self.both_lengths.store(number, Relaxed);
    }

    pub(crate) fn had_both_lengths(&self, number: u64) -> bool {
        self.both_lengths.load(Relaxed) == number
    }

    /// The rest of the request is to be read away after the answer.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Relaxed);
    }
}

/// How a connection came to its end.
enum End {
    /// hyper is done with it.
    Served,
    /// The client owes the rest of a request that has not been answered.
    Stalled,
    /// Cut off.
    Dropped,
}

async fn serve(client: &Arc<Client>, builder: Builder, stream: TcpStream, mut stage: watch::Receiver<Stage>) {
    let io = TokioIo::new(ClientIo::new(stream, Arc::clone(client)));
    let service = service_fn(|request| forward::answer(Arc::clone(client), request));
    let mut connection = builder.serve_connection(io, service);
    let mut timer = pin!(tokio::time::sleep(client.limits().client_watch()));
    let mut finishing = false;
    let end = loop {
        tokio::select! {
            biased;
            _ = &mut connection => break End::Served,
            changed = stage.changed(), if !finishing || changeable(&stage) => {
                if changed.is_ok() && *stage.borrow_and_update() == Stage::CutOff {
                    break End::Dropped;
                }
                finishing = true;
                let grace = client.limits().shutdown_idle_grace;
                timer.as_mut().reset(Instant::now() + grace);
            },
            () = &mut timer => {
                if finishing {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
                match client.clock.watch(client.limits()) {
                    Watch::Again(after) => timer.as_mut().reset(Instant::now() + after),
                    Watch::Close => break End::Dropped,
                    Watch::Idle => {
                        std::pin::Pin::new(&mut connection).graceful_shutdown();
                        timer.as_mut().reset(Instant::now() + client.limits().write_idle);
                    }
                    Watch::RequestStalled => break End::Stalled,
                }
            },
        }
    };
    let page = match end {
        End::Dropped => return,
        End::Served if client.lingers.load(Relaxed) => None,
        End::Served => return,
        End::Stalled => Some(TIMEOUT_PAGE),
    };
    let stream = connection.into_parts().io.into_inner().into_stream();
    let _ = tokio::time::timeout(LINGER, linger(stream, page)).await;
}

/// Whether another stage can still come: not after the handle was dropped.
fn changeable(stage: &watch::Receiver<Stage>) -> bool {
    stage.has_changed().is_ok()
}

/// Says the last word and reads away what the client still sends.
async fn linger(mut stream: TcpStream, page: Option<&[u8]>) -> io::Result<()> {
    if let Some(page) = page {
        stream.write_all(page).await?;
        stream.shutdown().await?;
    }
    let mut buffer = vec![0_u8; BUFFER_BYTES_MIN];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
