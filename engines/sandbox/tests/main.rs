//! The sandbox from outside: real runs by a real shim. Needs root, and runs itself again as ordinary users (`levels`).
#![allow(clippy::unwrap_used)] // tests

mod escapes;
mod levels;
mod life;
mod logs;
mod network;
mod support;
mod tools;
mod users;
