//! A clock over tokio's time, which tests pause.
//!
//! In: tokio's time; jumps of the wall clock. Out: the Clock port. Never: a wait that a jump shortens.

use crate::{Clock, Fut};
use slipway_model::At;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When every fake world begins: 2026-03-01T12:00:00Z.
const EPOCH_MS: u64 = 1_772_366_400_000;

/// A clock of one process.
#[derive(Debug, Clone)]
pub struct FakeClock {
    began: Instant,
    born: Instant,
    jumped_ms: Arc<AtomicI64>,
}

impl Default for FakeClock {
    fn default() -> FakeClock {
        let now = Instant::now();
        FakeClock { began: now, born: now, jumped_ms: Arc::default() }
    }
}

impl FakeClock {
    /// The same world's clock for a process that starts now: its monotonic time begins at 0.
    #[must_use]
    pub fn reborn(&self) -> FakeClock {
        FakeClock { born: Instant::now(), ..self.clone() }
    }

    /// Moves the wall clock; waits do not notice.
    pub fn jump(&self, ms: i64) {
        self.jumped_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Milliseconds since the world began, whatever the wall clock says.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        millis(self.began)
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Clock for FakeClock {
    fn now(&self) -> At {
        let true_ms = EPOCH_MS + self.elapsed_ms();
        At(true_ms.saturating_add_signed(self.jumped_ms.load(Ordering::Relaxed)))
    }

    fn sleep(&self, ms: u64) -> Fut<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }

    fn monotonic_ms(&self) -> u64 {
        millis(self.born)
    }
}
