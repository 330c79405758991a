//! Stage 5, release: makes immutable releases and keeps the gates of environments.
//!
//! In: built images, plans, commands, what happened in lanes. Out: `release.made`, `release.queued`,
//! `release.gated`, `hold.released`. Never: builds, starts or stops anything; lets an older commit replace a newer one.

pub mod agree;
pub mod decide;
pub mod drive;
pub mod explain;
pub mod keep;
mod make;
pub mod needs;
pub mod record;

pub use decide::{GateInput, gate};
pub use drive::{Ports, Releases};

#[cfg(test)]
mod tests;
