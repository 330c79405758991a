//! Stage 2, plan: what must happen for a change, what not, and why; then what is ready next.
//!
//! In: a commit's files and configuration, results by content. Out: `plan.made`, ready items, `change.ended`.
//! Never: runs anything, reads the working machine, asks twice for the same content.

pub mod advance;
pub mod cargo;
pub mod convert;
pub mod decide;
pub mod detect;
pub mod drive;
pub mod record;

pub use advance::{Advance, advance};
pub use decide::{Draft, PlanInput, decide, draft};
pub use drive::{AskedTree, PlanError, Plans, Ports};
pub use record::{ChangeRecord, ItemState};

#[cfg(test)]
mod tests;
