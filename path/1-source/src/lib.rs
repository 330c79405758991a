//! Stage 1, source: judges a push before its refs move, and turns what arrived into changes.
//!
//! In: refs that a push moves (from the hooks), refs as they are (at start). Out: a refusal with reasons, or
//! `change.received` once per delivery. Never: runs anything, moves a ref itself.

pub mod decide;
pub mod drive;

pub use decide::{RefMove, Refusal};
pub use drive::{Ports, Source};

#[cfg(test)]
mod tests;
