//! Carries out jobs in sandboxes: the worker's side, the control plane's side, and what they say to each other.
//!
//! In: complete requests, and folders with the files of a commit. Out: outcomes, log lines, artifacts and outputs in the content store.
//! Never: decides whether a job is needed; runs a run id twice; writes a secret to a disk; fetches a commit (its files come as a folder).
//!
//! What a worker keeps in its folder:
//!
//! ```text
//! WORK/jobs/RUN/state.json     the request without its secrets; written before the sandbox starts
//! WORK/jobs/RUN/ending         why it is being ended, when it is
//! WORK/jobs/RUN/outcome.json   what came of it, synced; what is asked for again is answered from here
//! WORK/jobs/RUN/sandbox/       the shim's folder: log, exit record, writable layers; gone after the end
//! WORK/jobs/RUN/shared/        what the steps see as `$SLIPWAY_OUTPUTS` and its like; gone after the end
//! WORK/trash/                  on its way out
//! LOGS/PROJECT/RUN/            the log of an ended run, in the sandbox's format
//! ```

mod archive;
mod attend;
mod client;
mod collect;
mod conclude;
mod counts;
mod error;
mod first_error;
mod folder;
mod handover;
mod here;
mod job;
mod judge;
mod link;
mod logs;
mod options;
mod prepare;
mod readable;
mod recover;
mod select;
mod trees;
mod wire;
mod worker;

pub use archive::unpack;
pub use client::{LogStream, WorkerClient};
pub use counts::{CountReader, count_tests};
pub use error::WorkerError;
pub use first_error::first_error;
pub use folder::trees_in_use;
pub use here::run_here;
pub use link::{LinkLine, Shutdown};
pub use options::{JobLimits, Unpack, Unpacked, WorkerOptions};
pub use prepare::WORKSPACE;
pub use trees::{TreeLease, Trees};
pub use wire::{Answer, Ask, Line, LineError, LocalLine, LogPage, RunningJob};
pub use worker::Worker;
