//! Threads of the proxy, each with a runtime of its own.
//!
//! In: client connections. Out: each served on one thread from its begin to its end, with connections to instances
//! that this thread keeps. Threads that share their work wake each other for every event, which costs more than the
//! work itself. Never moves a connection from one to another.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// More threads than this would find nothing to do.
pub(crate) const LANES_MAX: usize = 64;

thread_local! {
    /// 0 is every thread that is no lane.
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Which lane this thread is; 0 if it is none.
pub(crate) fn current() -> usize {
    LANE.get()
}

/// Something that is to be begun on a lane.
type Job = Box<dyn FnOnce() + Send>;

/// See the module. The threads end when this is dropped.
pub(crate) struct Lanes {
    lanes: Vec<mpsc::UnboundedSender<Job>>,
    next: AtomicUsize,
}

impl Lanes {
    /// Starts so many threads; none means that connections are served by the runtime that accepts them.
    pub(crate) fn start(count: usize) -> io::Result<Lanes> {
        let lanes = (1..=count.min(LANES_MAX)).map(lane).collect::<io::Result<Vec<_>>>()?;
        Ok(Lanes { lanes, next: AtomicUsize::new(0) })
    }

    /// Serves a connection on the lane whose turn it is. Jobs that wait are limited by the connections there may be.
    pub(crate) fn serve<F>(&self, stream: TcpStream, work: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Relaxed);
        let Some(lane) = self.lanes.get(turn % self.lanes.len().max(1)) else {
            tokio::spawn(work(stream));
            return;
        };
        // Each runtime watches its own sockets. A connection that cannot be handed over is closed.
        let Ok(stream) = stream.into_std() else { return };
        let _ = lane.send(Box::new(move || {
            if let Ok(stream) = TcpStream::from_std(stream) {
                tokio::spawn(work(stream));
            }
        }));
    }
}

/// A thread that begins what it is sent, and ends with the sender.
fn lane(number: usize) -> io::Result<mpsc::UnboundedSender<Job>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        LANE.set(number);
        runtime.block_on(async {
            while let Some(job) = jobs.recv().await {
                job();
            }
        });
    })?;
    Ok(sender)
}
