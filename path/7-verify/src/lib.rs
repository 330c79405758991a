//! Stage 7, verify: judges a rollout's steps by what users got, and keeps the evidence when one fails.
//!
//! In: `verdict.wanted`, counts of the proxy, time. Out: `verdict.given`, `evidence.kept`. Never: moves traffic,
//! compares with another time than now, calls too little seen a pass.

pub mod decide;
pub mod drive;
pub mod odds;

pub use decide::{Decision, Watched, judge};
pub use drive::{Ports, Verify};

#[cfg(test)]
mod tests;
