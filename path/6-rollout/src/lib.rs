//! Stage 6, rollout: moves one lane from one release to another, and back when it was wrong.
//!
//! In: candidates whose gates are open, observations of the node, verdicts, commands. Out: wishes to the fleet and
//! facts (`rollout.phase`, `hold.set`). Never: starts an instance itself, judges, or asks the repository.

mod back;
pub mod decide;
pub mod drive;
pub mod explain;
mod forward;
pub mod record;
mod wish;

pub use decide::{Event, Intent, Now, Step, step};
pub use record::{Policy, State};

#[cfg(test)]
mod tests;
