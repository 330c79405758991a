//! The tests, by what they are about.

mod bad_input;
mod bad_release;
mod commands;
mod disk;
mod kills;
mod local;
mod lost;
mod push;
mod registry;
mod rollout;
mod secrets;
