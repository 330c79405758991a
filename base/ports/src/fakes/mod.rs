//! Fakes of all ports, for tests and the simulator: in memory, deterministic, on tokio's paused clock.
//!
//! In: scripts of what the outside world shall do. Out: the ports. Never: the machine's clock, chance or disk.
//!
//! One world is shared by all processes that live in it one after the other: each holds it through [`Mortal`], and
//! whoever died waits for ever at its next call, as a killed process does.

pub mod chance;
pub mod clock;
pub mod fleet;
pub mod images;
pub mod life;
pub mod repository;
pub mod runner;
pub mod secrets;
pub mod store;
mod tally;

pub use chance::Chance;
pub use clock::FakeClock;
pub use fleet::{Behaviour, FakeFleet, Happening, Readiness, Running};
pub use images::FakeImages;
pub use life::{Life, Mortal};
pub use repository::FakeRepository;
pub use runner::{FakeRunner, outcome};
pub use secrets::FakeSecrets;
pub use store::{MemoryStore, StoreFault};

#[cfg(test)]
mod tests;
