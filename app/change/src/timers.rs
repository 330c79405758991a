//! The one timer heap: lanes that want to be woken.
//!
//! In: a lane, which clockwork of it, a monotonic time. Out: the lanes whose time has come. Never: two timers for one
//! purpose of a lane; the newest wins.

use slipway_model::Lane;
use slipway_ports::Clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What a lane is woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A deadline of its rollout.
    Rollout,
    /// The judge looks again.
    Judge,
}

/// Timers by lane and purpose.
pub struct Timers {
    clock: Arc<dyn Clock>,
    due: Mutex<BTreeMap<(Lane, Purpose), u64>>,
    changed: Notify,
}

impl Timers {
    /// No timers yet.
    pub fn new(clock: Arc<dyn Clock>) -> Timers {
        Timers { clock, due: Mutex::default(), changed: Notify::new() }
    }

    /// Sets, moves or removes a timer.
    pub fn set(&self, lane: &Lane, purpose: Purpose, at_ms: Option<u64>) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (lane.clone(), purpose);
        let before = match at_ms {
            Some(at_ms) => due.insert(key, at_ms),
            None => due.remove(&key),
        };
        if before != at_ms {
            self.changed.notify_one();
        }
    }

    /// Waits until timers are due and takes them.
    pub async fn next(&self) -> Vec<(Lane, Purpose)> {
        loop {
            let now = self.clock.monotonic_ms();
            let (taken, soonest) = self.take(now);
            if !taken.is_empty() {
                return taken;
            }
            match soonest {
                None => self.changed.notified().await,
                Some(at) => {
                    let sleep = self.clock.sleep(at.saturating_sub(now).max(1));
                    tokio::select! {
                        biased;
                        () = self.changed.notified() => {}
                        () = sleep => {}
                    }
                }
            }
        }
    }

    fn take(&self, now: u64) -> (Vec<(Lane, Purpose)>, Option<u64>) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<(Lane, Purpose)> =
            due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in &taken {
            due.remove(key);
        }
        (taken, due.values().min().copied())
    }
}
