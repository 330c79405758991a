//! Log streams on the control plane's side.
//!
//! In: pages of lines from the link. Out: a [`LogStream`] per reader. A reader that is too slow loses its stream, not
//! the link.

use crate::protocol::{Ask, LogLine};
use slipway_link::Peer;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pages that wait for a reader. A whole log of the usual limit has fewer pages than that.
const PAGES_WAITING: usize = 2_048;
/// For the node to hear that nobody reads any more.
const END_LIMIT: Duration = Duration::from_secs(5);

type Open = Mutex<HashMap<u64, mpsc::Sender<Vec<LogLine>>>>;

/// The streams that are open.
#[derive(Default)]
pub(crate) struct Streams {
    open: Arc<Open>,
    numbers: AtomicU64,
}

/// Lines as they come.
pub struct LogStream {
    number: u64,
    pages: mpsc::Receiver<Vec<LogLine>>,
    open: Arc<Open>,
    peer: Peer,
}

impl LogStream {
    /// The next lines, in the order of time as far as they were there; nothing at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<LogLine>> {
        self.pages.recv().await
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if lock(&self.open).remove(&self.number).is_none() {
            return;
        }
        let (peer, stream) = (self.peer.clone(), self.number);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A node that is gone needs not be told.
                let _ = peer.call::<_, ()>(&Ask::LogsEnd { stream }, END_LIMIT).await;
            });
        }
    }
}

impl Streams {
    pub(crate) fn open(&self, peer: Peer) -> LogStream {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, pages) = mpsc::channel(PAGES_WAITING);
        lock(&self.open).insert(number, sender);
        LogStream { number, pages, open: Arc::clone(&self.open), peer }
    }

    pub(crate) async fn hear(&self, stream: u64, lines: Vec<LogLine>, end: bool) {
        let mut open = lock(&self.open);
        let Some(sender) = open.get(&stream) else { return };
        let slow = !lines.is_empty() && sender.try_send(lines).is_err();
        if end || slow {
            open.remove(&stream);
        }
    }

    pub(crate) fn end_all(&self) {
        lock(&self.open).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
