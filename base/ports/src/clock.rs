//! The clock port: what time it is and how to wait for it.

use crate::Fut;
use slipway_model::At;

/// Time. `now` is for records and people and may jump; waits are monotonic and never shortened by a jump.
pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> At;
    /// Returns after `ms` milliseconds of monotonic time.
    fn sleep(&self, ms: u64) -> Fut<'static, ()>;
    /// Milliseconds of monotonic time since some fixed moment of this process.
    fn monotonic_ms(&self) -> u64;
}
