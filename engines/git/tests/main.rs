//! A real git client against the real package, over HTTP on a free port, with real hooks.
#![allow(clippy::unwrap_used)]

mod fetching;
mod interrupting;
mod leasing;
mod pushing;
mod reading;
mod support;
