//! Real jobs in real sandboxes. Needs root.
#![allow(clippy::unwrap_used)] // tests

mod client;
mod handed_over;
mod life;
mod results;
mod support;
