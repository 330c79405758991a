//! One queue per aggregate, and the cursor that follows them.
//!
//! In: orders with the number of the fact they come from. Out: carried out one after the other within an aggregate,
//! aggregates beside each other; the number up to which everything is carried out. Never: drops an order.

use crate::road::Aggregate;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Queues of work by aggregate. An aggregate is `busy` while somebody works on it.
#[derive(Debug)]
pub struct Queues<W> {
    queues: Mutex<BTreeMap<Aggregate, VecDeque<W>>>,
}

impl<W> Default for Queues<W> {
    fn default() -> Queues<W> {
        Queues { queues: Mutex::default() }
    }
}

impl<W> Queues<W> {
    /// Adds work. Returns true when the caller must begin to work the aggregate off, because nobody does.
    pub fn push(&self, aggregate: &Aggregate, work: W) -> bool {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queues.get_mut(aggregate) {
            Some(queue) => {
                queue.push_back(work);
                false
            }
            None => {
                queues.insert(aggregate.clone(), VecDeque::from([work]));
                true
            }
        }
    }

    /// The next work of an aggregate; when there is none, nobody works on it any more.
    pub fn pop(&self, aggregate: &Aggregate) -> Option<W> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let work = queues.get_mut(aggregate)?.pop_front();
        if work.is_none() {
            queues.remove(aggregate);
        }
        work
    }
}

/// Which facts are wholly carried out, and which are seen by readers.
#[derive(Debug, Default)]
pub struct Progress {
    open: Mutex<BTreeMap<u64, usize>>,
    /// Up to here facts were handed out and are seen.
    shown: AtomicU64,
    changed: Notify,
}

impl Progress {
    /// A fact's orders were handed out.
    pub fn begin(&self, n: u64, orders: usize) {
        if orders > 0 {
            self.lock().insert(n, orders);
        }
    }

    /// One order of a fact was carried out.
    pub fn end(&self, n: u64) {
        let mut open = self.lock();
        if let Some(left) = open.get_mut(&n) {
            *left -= 1;
            if *left == 0 {
                open.remove(&n);
                self.changed.notify_waiters();
            }
        }
    }

    /// A fact was handed out, and everybody who looks sees it.
    pub fn shown(&self, n: u64) {
        self.shown.fetch_max(n, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// The number up to which everything is carried out, when facts up to `read` were read.
    pub fn done(&self, read: u64) -> u64 {
        self.lock().keys().next().map_or(read, |first| first - 1)
    }

    /// Returns when everybody who looks sees a fact.
    pub async fn read(&self, n: u64) {
        self.until(|| self.shown.load(Ordering::Acquire) >= n).await;
    }

    /// Returns when the orders of a fact were carried out.
    pub async fn carried_out(&self, n: u64) {
        self.until(|| self.shown.load(Ordering::Acquire) >= n && !self.lock().contains_key(&n)).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            // Registered before looking, so that no change between the two is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_before_the_first_fact_that_is_not_carried_out() {
        let progress = Progress::default();
        progress.begin(3, 2);
        progress.begin(5, 1);
        assert_eq!(progress.done(7), 2);
        progress.end(5);
        progress.end(3);
        assert_eq!(progress.done(7), 2, "one order of fact 3 is open");
        progress.end(3);
        assert_eq!(progress.done(7), 7);
    }

    #[tokio::test]
    async fn a_fact_is_followed_when_its_orders_are_carried_out_and_it_is_seen() {
        let progress = Progress::default();
        progress.begin(3, 1);
        let mut waiting = Box::pin(progress.carried_out(3));
        assert!(futures::poll!(&mut waiting).is_pending());
        progress.shown(3);
        assert!(futures::poll!(&mut waiting).is_pending(), "its order is open");
        progress.end(3);
        waiting.await;
        assert!(futures::poll!(Box::pin(progress.read(4))).is_pending(), "nobody has seen it");
    }
}
