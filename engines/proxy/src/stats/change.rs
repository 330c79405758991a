//! Telling a watcher which services' counters have moved, without polling.
//!
//! In: recorded requests. Out: lists of services, at once after a quiet time and then at most every
//! 5 ms. Any number of watchers; one that is slow misses nothing, because it compares versions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::proxy::Shared;
use crate::table::ServiceKey;

/// The shortest time between two answers to one watcher.
const GAP: Duration = Duration::from_millis(5);

/// Wakes watchers. Without one that waits, telling costs a load.
#[derive(Default)]
pub(crate) struct Recorded {
    waiting: AtomicBool,
    notify: Notify,
}

impl Recorded {
    pub(crate) fn tell(&self) {
        if self.waiting.load(SeqCst) && self.waiting.swap(false, SeqCst) {
            self.notify.notify_waiters();
        }
    }

    /// What wakes after the next change. Counters that moved before were seen by whoever looks after this.
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        let notified = self.notify.notified();
        self.waiting.store(true, SeqCst);
        notified
    }
}

/// A watcher of counters, made by [`crate::Proxy::changes`].
pub struct Changes {
    shared: Arc<Shared>,
    seen: HashMap<ServiceKey, u64>,
    answered: Option<Instant>,
}

impl Changes {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut changes = Changes { shared, seen: HashMap::new(), answered: None };
        changes.moved();
        changes
    }

    /// Waits until counters have moved since the last answer and says whose. Cancel safe.
    pub async fn next(&mut self) -> Vec<ServiceKey> {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut recorded = std::pin::pin!(shared.recorded.notified());
            recorded.as_mut().enable();
            if self.has_moved() {
                if let Some(answered) = self.answered {
                    tokio::time::sleep_until(answered + GAP).await;
                }
                self.answered = Some(Instant::now());
                return self.moved();
            }
            recorded.await;
        }
    }

    fn has_moved(&self) -> bool {
        let services = self.shared.services();
        (services.iter()).any(|s| self.seen.get(&s.key) != Some(&s.version()))
    }

    fn moved(&mut self) -> Vec<ServiceKey> {
        let services = self.shared.services();
        let mut moved = Vec::new();
        for service in &services {
            let version = service.version();
            if self.seen.get(&service.key) != Some(&version) {
                self.seen.insert(service.key.clone(), version);
                moved.push(service.key.clone());
            }
        }
        if self.seen.len() > services.len() {
            self.seen.retain(|k, _| services.iter().any(|s| s.key == *k));
        }
        moved
    }
}
