//! The pushes that are open, so that a lost pusher can be told to the hooks of that push.
//!
//! In: begin and end of each git process that serves a client; which push lost its client.
//! Out: the state of a push by its id; how many are open.
//! Never: touches a process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// All open requests of clients.
pub(crate) struct Pushes {
    open: Mutex<HashMap<String, Arc<PushState>>>,
    running: watch::Sender<usize>,
}

/// One open push.
pub(crate) struct PushState {
    /// The client is gone.
    lost: watch::Sender<bool>,
    /// Pre-receive said yes: git is storing it or has stored it.
    admitted: AtomicBool,
}

/// Holds a push in the list for as long as its process lives.
pub(crate) struct OpenPush {
    pushes: Arc<Pushes>,
    pub(crate) id: String,
    pub(crate) state: Arc<PushState>,
}

impl Pushes {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()), running: watch::Sender::new(0) }
    }

    pub(crate) fn begin(self: &Arc<Self>) -> OpenPush {
        // One number per process, and the process id keeps apart hooks that a former serve left.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{n}", std::process::id());
        let state = Arc::new(PushState { lost: watch::Sender::new(false), admitted: AtomicBool::new(false) });
        self.list().insert(id.clone(), Arc::clone(&state));
        self.running.send_modify(|count| *count += 1);
        OpenPush { pushes: Arc::clone(self), id, state }
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<PushState>> {
        self.list().get(id).cloned()
    }

    /// How many clients are served.
    pub(crate) fn served(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    /// Resolves when no client is served.
    pub(crate) async fn drained(&self) {
        let mut running = self.running.subscribe();
        // The sender lives as long as `self`.
        let _ = running.wait_for(|count| *count == 0).await;
    }

    fn list(&self) -> MutexGuard<'_, HashMap<String, Arc<PushState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PushState {
    /// The client is gone: hooks of this push end now.
    pub(crate) fn lose(&self) {
        self.lost.send_replace(true);
    }

    pub(crate) fn watch_loss(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }
}

impl Drop for OpenPush {
    fn drop(&mut self) {
        self.pushes.list().remove(&self.id);
        self.pushes.running.send_modify(|count| *count -= 1);
    }
}
