//! The node over real sandboxes, real sockets and a real link.

// Helpers of tests are tests, too: they say what they expect by failing.
#![allow(clippy::unwrap_used)]

mod adopting;
mod explaining;
mod lasting;
mod rolling;
mod world;
