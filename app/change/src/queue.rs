//! One queue per aggregate, and the cursor that follows them.
//!
//! In: orders with the number of the fact they come from. Out: carried out one after the other within an aggregate,
//! aggregates beside each other; the number up to which everything is carried out. Never: drops an order.

use crate::road::Aggregate;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

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

/// Which facts are wholly carried out.
#[derive(Debug, Default)]
pub struct Progress {
    open: Mutex<BTreeMap<u64, usize>>,
}

impl Progress {
    /// A fact's orders were handed out.
    pub fn begin(&self, n: u64, orders: usize) {
        if orders > 0 {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(n, orders);
        }
    }

    /// One order of a fact was carried out.
    pub fn end(&self, n: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = open.get_mut(&n) {
            *left -= 1;
            if *left == 0 {
                open.remove(&n);
            }
        }
    }

    /// The number up to which everything is carried out, when facts up to `read` were read.
    pub fn done(&self, read: u64) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.keys().next().map_or(read, |first| first - 1)
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
}
