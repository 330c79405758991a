//! The nouns of the road: ids, states and facts that every package speaks of.
//!
//! In: nothing. Out: plain data with serde shapes. Never: I/O, a clock, chance.

pub mod fact;
pub mod id;
pub mod instance;
pub mod job;
pub mod plan;
pub mod policy;
pub mod release;
pub mod rollout;
pub mod text;
pub mod time;
pub mod traffic;
pub mod verdict;
pub mod view;

pub use fact::{Actor, Body, Fact, NewFact};
pub use id::*;
pub use time::At;
