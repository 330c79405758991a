//! The road over fake engines: one seed is one whole history, with faults and crashes, and every invariant of
//! a rollout is checked while it happens.
//!
//! In: a seed, and the rollout machine's function (the real one, or a broken one that must be caught). Out: the
//! facts, what was violated, which points were passed. Never: the machine's clock, chance, network or disk.

pub mod broken;
pub mod coverage;
pub mod history;
pub mod people;
pub mod run;
pub mod show;
pub mod watch;
pub mod world;

pub use run::{Outcome, Step, run, run_many};
pub use watch::{Invariant, Violation};

#[cfg(test)]
mod begun;
#[cfg(test)]
mod tests;
