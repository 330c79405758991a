//! Connections into instances, for the proxy, probes and smoke requests.
//!
//! In: an instance's id. Out: a connected socket that its shim opened inside. Never blocks a thread: one socket to
//! each shim, answers matched by number.

use crate::wake;
use futures::future::BoxFuture;
use slipway_sandbox::{SandboxError, Shim};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// For the shim to connect inside; longer only when the program's queue is full.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Every instance that can be reached.
#[derive(Default)]
pub(crate) struct Inside {
    doors: RwLock<HashMap<String, Arc<Door>>>,
}

impl Inside {
    /// Makes an instance's current process reachable.
    pub(crate) fn open(&self, id: &str, door: Arc<Door>) {
        self.doors.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), door);
    }

    /// Forgets an instance.
    pub(crate) fn close(&self, id: &str) {
        self.doors.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The way into an instance.
    pub(crate) fn door(&self, id: &str) -> Option<Arc<Door>> {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl slipway_proxy::Connector for Inside {
    fn connect<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, io::Result<TcpStream>> {
        let door = self.door(instance);
        Box::pin(async move {
            let door = door.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the instance does not run"))?;
            door.connect().await
        })
    }
}

type Answers = HashMap<u64, oneshot::Sender<Option<std::net::TcpStream>>>;

/// The way into one process of an instance.
pub(crate) struct Door {
    socket: Arc<Socket>,
    port: u16,
    numbers: AtomicU64,
    reader: JoinHandle<()>,
}

struct Socket {
    connector: slipway_sandbox::Connector,
    /// The same socket, for the reactor.
    ready: AsyncFd<OwnedFd>,
    waiting: Mutex<Option<Answers>>,
}

impl Door {
    /// Must be called within a tokio runtime.
    pub(crate) fn of(shim: &Shim, port: u16) -> Result<Arc<Door>, SandboxError> {
        let failed = |source| SandboxError::Io { what: format!("connection to the shim of `{}`", shim.id()), source };
        let connector = shim.connector()?;
        let ready = connector.as_fd().try_clone_to_owned().and_then(wake::on).map_err(failed)?;
        let socket = Arc::new(Socket { connector, ready, waiting: Mutex::new(Some(HashMap::new())) });
        let reader = tokio::spawn(read_answers(Arc::clone(&socket)));
        Ok(Arc::new(Door { socket, port, numbers: AtomicU64::new(1), reader }))
    }

    /// A connection to the port the instance should listen on. `ConnectionRefused`: nothing listens there.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.socket.waiting() {
            Some(waiting) => waiting.insert(number, answer),
            None => return Err(gone()),
        };
        self.request(number).await?;
        match answered.await {
            Ok(Some(stream)) => TcpStream::from_std(stream),
            Ok(None) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nothing listens on the port")),
            Err(_) => Err(gone()),
        }
    }

    /// Sends the request, waiting while the socket to the shim is full.
    async fn request(&self, number: u64) -> io::Result<()> {
        loop {
            match self.socket.connector.request(number, self.port, CONNECT_LIMIT) {
                Ok(()) => return Ok(()),
                Err(SandboxError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.ready.writable().await?.clear_ready();
                }
                Err(error) => {
                    if let Some(waiting) = &mut *self.socket.waiting() {
                        waiting.remove(&number);
                    }
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string()));
                }
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Socket {
    fn waiting(&self) -> MutexGuard<'_, Option<Answers>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the instance has ended")
}

async fn read_answers(socket: Arc<Socket>) {
    'shim: while let Ok(mut ready) = socket.ready.readable().await {
        loop {
            match socket.connector.try_answer() {
                Ok(Some((number, stream))) => {
                    let waiting = socket.waiting().as_mut().and_then(|waiting| waiting.remove(&number));
                    // Nobody waits any more: the stream is closed.
                    let _ = waiting.map(|waiting| waiting.send(stream));
                }
                Ok(None) => break,
                Err(_) => break 'shim,
            }
        }
        ready.clear_ready();
        // What came between the last look and the clearing would not be announced again.
        while let Ok(Some((number, stream))) = socket.connector.try_answer() {
            let waiting = socket.waiting().as_mut().and_then(|waiting| waiting.remove(&number));
            let _ = waiting.map(|waiting| waiting.send(stream));
        }
    }
    // Fails everybody who waits, and everybody who comes.
    socket.waiting().take();
}
