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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lanes::{self, LANES_MAX};
use crate::link::{Multiplexed, Pooled};

/// For upgraded connections to end after they were told to.
const CUT_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Instance {
    pub(crate) id: Arc<str>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    /// Set by `drain`: no later table can undo it.
    for_good: AtomicBool,
    /// One for each lane of the proxy, and one for whatever is none.
    idle: Box<[Mutex<Idle>]>,
    /// The connection of HTTP/2, for all requests that need it.
    pub(crate) multiplexed: tokio::sync::Mutex<Option<Multiplexed>>,
    zero: Notify,
    tunnels: AtomicUsize,
    cut: Notify,
}

/// Connections that wait for a request, the one that was used last at the end.
#[derive(Default)]
struct Idle {
    pooled: Vec<Pooled>,
    /// A task closes those that wait too long.
    swept: bool,
}

/// A request that an instance has. Dropping it is the end of the request.
pub(crate) struct InFlight(Arc<Instance>);

impl Instance {
    pub(crate) fn new(id: &str, lanes: usize) -> Self {
        Instance {
            id: id.into(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            for_good: AtomicBool::new(false),
            idle: (0..=lanes.min(LANES_MAX)).map(|_| Mutex::default()).collect(),
            multiplexed: tokio::sync::Mutex::new(None),
            zero: Notify::new(),
            tunnels: AtomicUsize::new(0),
            cut: Notify::new(),
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
        for pool in &self.idle {
            let closed = std::mem::take(&mut lock(pool).pooled);
            drop(closed);
        }
        // Who opens one at this moment finds the instance draining when it is done.
        if let Ok(mut multiplexed) = self.multiplexed.try_lock() {
            *multiplexed = None;
        }
    }

    /// Waits for the end of the last request. `Err` holds how many are left at the deadline.
    /// Upgraded connections, which end by themselves late or never, are closed at the deadline.
    pub(crate) async fn drained(&self, within: Duration) -> Result<(), usize> {
        let ended = self.ended(within).await;
        if ended.is_ok() || self.tunnels.load(SeqCst) == 0 {
            return ended;
        }
        self.cut.notify_waiters();
        self.ended(CUT_WITHIN).await
    }

    async fn ended(&self, within: Duration) -> Result<(), usize> {
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
        self.pool(lanes::current())?.pooled.pop()
    }

    /// Keeps a connection for the next request, for at most `idle`.
    pub(crate) fn put_idle(self: &Arc<Self>, pooled: Pooled, connections_max: usize, idle: Duration) {
        let lane = lanes::current();
        let Some(mut pool) = self.pool(lane) else { return };
        if self.is_draining() || pool.pooled.len() >= connections_max {
            return;
        }
        pool.pooled.push(pooled);
        if !std::mem::replace(&mut pool.swept, true) {
            drop(pool);
            tokio::spawn(sweep(Arc::downgrade(self), lane, idle));
        }
    }

    /// Closes what has waited for too long, or was closed by the instance; whether any is left.
    fn close_idle(&self, lane: usize, idle: Duration) -> bool {
        let Some(mut pool) = self.pool(lane) else { return false };
        pool.pooled.retain(|pooled| !pooled.is_stale(idle) && pooled.is_usable());
        pool.swept = !pool.pooled.is_empty();
        pool.swept
    }

    /// An upgraded connection begins.
    pub(crate) fn tunnel(&self) -> Tunnel<'_> {
        self.tunnels.fetch_add(1, SeqCst);
        Tunnel(self)
    }

    fn pool(&self, lane: usize) -> Option<MutexGuard<'_, Idle>> {
        self.idle.get(lane).map(lock)
    }
}

fn lock(pool: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after idle connections for as long as there are any.
async fn sweep(instance: Weak<Instance>, lane: usize, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 4).await;
        match instance.upgrade() {
            Some(instance) if instance.close_idle(lane, idle) => {}
            Some(_) | None => return,
        }
    }
}

/// An upgraded connection to an instance.
pub(crate) struct Tunnel<'a>(&'a Instance);

impl Tunnel<'_> {
    /// Waits until it has to end. Must have been asked before the drain is over, which it is: it is asked at once.
    pub(crate) fn cut(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.cut.notified()
    }
}

impl Drop for Tunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, SeqCst);
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
