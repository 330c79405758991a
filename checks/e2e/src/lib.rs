//! End-to-end tests: the real binary, real pushes, real sandboxes, real load, real kills.
//!
//! In: `cargo test -p slipway-e2e`, as root, with `git`, `cc` and `skopeo`; `cargo xtask e2e --as LEVEL` as an ordinary
//! user. Out: passed or failed tests. Never: a fake, a fixed port, a process or mount left behind.
//!
//! Every test has a world of its own: a scratch folder, free ports, a project of its own name. The services are one
//! small static server (`fixtures/server.c`), whose behaviour stands in a file of its image.

#[cfg(test)]
mod http;
#[cfg(test)]
mod load;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
