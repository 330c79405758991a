//! Wiring: engines put behind the ports that stages know.
//!
//! In: engines. Out: ports. Never: a decision.

pub mod caches;
pub mod clock;
pub mod images;
pub mod logs;
pub mod repository;
pub mod run_steps;
pub mod serve;
pub mod trees;
pub mod unpack;
