//! One instance as the proxy sees it: how many requests it has, whether it may get more, and the
//! connections that wait for the next one.
//!
//! In: requests that enter and leave, connections that are free again. Out: exact counts and an
//! awaitable zero. Lives on across tables. Never connects by itself.
//!
//! A request enters by counting itself first and looking at the draining flag second; draining sets
//! the flag first and looks at the count second. With sequential consistency one of the two sees
//! the other, so no request slips in after `drained` has answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::upstream::Pooled;

pub(crate) struct Instance {
    pub(crate) id: Arc<str>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    /// Set by `drain`: no later table can undo it.
    for_good: AtomicBool,
    idle: Mutex<Vec<Pooled>>,
    zero: Notify,
}

/// A request that an instance has. Dropping it is the end of the request.
pub(crate) struct InFlight(Arc<Instance>);

impl Instance {
    pub(crate) fn new(id: &str) -> Self {
        Instance {
            id: id.into(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            for_good: AtomicBool::new(false),
            idle: Mutex::new(Vec::new()),
            zero: Notify::new(),
        }
    }

    /// Gives a request to the instance, unless it is draining.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, SeqCst);
        let flight = InFlight(Arc::clone(self));
        (!self.is_draining()).then_some(flight)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// What the table says; `drain` was for good.
    pub(crate) fn allow(&self) {
        if !self.for_good.load(SeqCst) {
            self.draining.store(false, SeqCst);
        }
    }

    /// Nothing new from now on; idle connections are closed at once.
    pub(crate) fn refuse(&self, for_good: bool) {
        if for_good {
            self.for_good.store(true, SeqCst);
        }
        self.draining.store(true, SeqCst);
        let closed = std::mem::take(&mut *self.pool());
        drop(closed);
    }

    /// Waits for the end of the last request. `Err` holds how many are left at the deadline.
    pub(crate) async fn drained(&self, within: Duration) -> Result<(), usize> {
        let deadline = Instant::now() + within;
        loop {
            let mut zero = std::pin::pin!(self.zero.notified());
            zero.as_mut().enable();
            if self.in_flight() == 0 {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, zero).await.is_err() {
                return match self.in_flight() {
                    0 => Ok(()),
                    left => Err(left),
                };
            }
        }
    }

    /// The connection that was used last, which is the likeliest to be alive.
    pub(crate) fn take_idle(&self) -> Option<Pooled> {
        let mut idle = self.pool();
        while let Some(pooled) = idle.pop() {
            if !pooled.is_closed() {
                return Some(pooled);
            }
        }
        None
    }

    pub(crate) fn put_idle(&self, pooled: Pooled, connections_max: usize) {
        let mut idle = self.pool();
        if !self.is_draining() && idle.len() < connections_max {
            idle.push(pooled);
        }
    }

    /// Called when a connection has ended.
    pub(crate) fn forget_closed(&self) {
        self.pool().retain(|pooled| !pooled.is_closed());
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, SeqCst) == 1 {
            self.0.zero.notify_waiters();
        }
    }
}
