//! The sandbox from outside: real runs by a real shim. Needs root.
#![allow(clippy::unwrap_used)] // tests

mod escapes;
mod life;
mod logs;
mod network;
mod support;
mod tools;
