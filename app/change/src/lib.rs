//! The road, driven: facts in, orders out, each order to its stage.
//!
//! In: the journal, what nodes and the proxy report, commands. Out: calls of stages. Never: a decision that belongs
//! to a stage; an effect that no stage recorded.
//!
//! Read [`road`] first: it is the picture of the whole product on one screen.

mod begun;
pub mod command;
pub mod drive;
mod keep;
mod node;
mod orders;
mod queue;
pub mod rights;
pub mod road;
mod timers;

pub use drive::{Road, Stages};
pub use road::{Order, next};
