//! Stage 8, feedback: everything that people get to see, made from facts and observations.
//!
//! In: every fact from number 1 on, what nodes see, what the proxy counts. Out: views (the shapes that are promised),
//! lines for the pusher's terminal, explanations. Never: a fact of its own, a decision, printing.

pub mod change;
mod due;
pub mod lane;
pub mod lines;
pub mod project;
pub mod road;
mod spans;
pub mod status;
pub mod ticker;
pub mod why;

pub use lines::{Follow, Said};
pub use project::Projection;

#[cfg(test)]
mod tests;
