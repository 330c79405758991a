//! Listening sockets and the connections of clients.
//!
//! In: a listening socket made elsewhere. Out: connections served until they end, one task each with
//! one timer. Never binds a socket, and never drops a request at shut-down before the deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;

use crate::clock::{Clock, Phase, Stages, watched};
use crate::http1::{self, End};
use crate::http2;
use crate::limits::Limits;
use crate::proxy::Shared;
use crate::wire::{Buffer, Socket, Wire};

/// After an error of `accept` (no descriptors left, for one): it must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Behind a refusal, so much of the rest of a request is read away, for so long: closing with
/// unread bytes would reset the connection, and the client might never see why.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READ_BYTES: usize = 8 * 1024;
/// For tasks to end after they were told to at once.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(1);
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
pub(crate) fn listen(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    binding: Binding,
    tls: Option<TlsAcceptor>,
) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    shared.lanes()?;
    let address = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    let (stage, watched) = watch::channel(Stage::Serving);
    let state = Arc::new(ListenerState::default());
    let acceptor = Acceptor { tls, shared, binding, state: Arc::clone(&state), stage: watched };
    tokio::spawn(acceptor.run(listener));
    Ok(Listener { stage, state, address })
}

struct Acceptor {
    tls: Option<TlsAcceptor>,
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
        let tls = self.tls.clone();
        let stage = self.stage.clone();
        let counted = Counted { client: Arc::clone(&client), _permit: permit };
        self.state.connections.fetch_add(1, Relaxed);
        let work = move |stream| async move {
            serve(&client, stream, tls, stage).await;
            drop(counted);
        };
        match self.shared.lanes() {
            Ok(lanes) => lanes.serve(stream, work),
            // They were started before the first connection was accepted.
            Err(_) => drop(tokio::spawn(work(stream))),
        }
    }
}

/// A connection that counts for as long as this lives.
struct Counted {
    client: Arc<Client>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.client.listener.connections.fetch_sub(1, Relaxed);
    }
}

/// What is the same for every request of one client connection.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) binding: Binding,
    pub(crate) peer: IpAddr,
    pub(crate) peer_text: String,
    /// The peer's word on who asks is believed.
    pub(crate) trusted: bool,
    /// It speaks TLS.
    pub(crate) secure: bool,
    listener: Arc<ListenerState>,
}

impl Client {
    fn new(acceptor: &Acceptor, peer: IpAddr) -> Self {
        let trusted = &acceptor.shared.limits.trusted_proxies;
        Client {
            shared: Arc::clone(&acceptor.shared),
            binding: acceptor.binding,
            peer,
            peer_text: peer.to_string(),
            trusted: trusted.iter().any(|network| network.contains(peer)),
            secure: acceptor.tls.is_some(),
            listener: Arc::clone(&acceptor.state),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.listener.finishing.load(Relaxed)
    }
}

/// Speaks with a client until one of the two, a deadline or the listener's owner ends it.
async fn serve(client: &Arc<Client>, stream: TcpStream, tls: Option<TlsAcceptor>, stage: watch::Receiver<Stage>) {
    let clock = Clock::new(if tls.is_some() { Phase::Head } else { Phase::Idle });
    let told = Told { stage: stage.clone(), finishing: false };
    let work = pin!(async {
        match tls {
            None => speak(client, &clock, Wire::new(stream, Buffer::default()), stage).await,
            // In a place of its own: what one connection of many needs, the others do not pay for.
            Some(tls) => Box::pin(speak_tls(client, &clock, stream, tls, stage)).await,
        }
    });
    // Without an end it is dropped here.
    let _ = watched(&clock, client.limits(), told, work).await;
}

/// HTTP as client and proxy agree on in the handshake.
async fn speak_tls(
    client: &Arc<Client>,
    clock: &Clock,
    stream: TcpStream,
    tls: TlsAcceptor,
    stage: watch::Receiver<Stage>,
) {
    let Ok(stream) = tls.accept(stream).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let told = Told { stage, finishing: false };
        return http2::serve(client, clock, stream, Buffer::default(), told).await;
    }
    clock.enter(Phase::Idle);
    speak(client, clock, Wire::new(stream, Buffer::default()), stage).await;
}

/// HTTP/1, or HTTP/2 if that is what the client begins with.
async fn speak<S: Socket + 'static>(
    client: &Arc<Client>,
    clock: &Clock,
    mut wire: Wire<S>,
    stage: watch::Receiver<Stage>,
) {
    match http1::serve(client, clock, &mut wire).await {
        End::Close => {
            let (mut io, _) = wire.into_parts();
            // TLS says goodbye, so that the client knows that nothing was cut off.
            let _ = tokio::time::timeout(LINGER, io.shutdown()).await;
        }
        End::Linger => {
            let (io, _) = wire.into_parts();
            let _ = tokio::time::timeout(LINGER, linger(io)).await;
        }
        End::Http2 => {
            let (io, read) = wire.into_parts();
            Box::pin(http2::serve(client, clock, io, read, Told { stage, finishing: false })).await;
        }
    }
}

/// What a connection hears of its listener.
struct Told {
    stage: watch::Receiver<Stage>,
    finishing: bool,
}

impl Stages for Told {
    async fn changed(&mut self) -> bool {
        loop {
            // After the handle was dropped nothing comes any more.
            if self.stage.changed().await.is_err() {
                if self.finishing {
                    std::future::pending::<()>().await;
                }
                self.finishing = true;
                return false;
            }
            match *self.stage.borrow_and_update() {
                Stage::Serving => {}
                Stage::Finishing => {
                    self.finishing = true;
                    return false;
                }
                Stage::CutOff => return true,
            }
        }
    }

    fn finishing(&self) -> bool {
        self.finishing
    }
}

/// Says that nothing more comes, and reads away what the client still sends.
async fn linger<S: Socket>(mut io: S) -> io::Result<()> {
    io.shutdown().await?;
    let mut buffer = vec![0_u8; LINGER_READ_BYTES];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match io.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
