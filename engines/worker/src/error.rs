//! What can go wrong in a worker apart from the jobs themselves.
//!
//! In: causes. Out: errors that name the thing. Never: a failure of a job's own commands; that is an outcome.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the worker or of its machine.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A file or folder of the worker.
    #[error("cannot {action} `{}`", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A second worker on the same folder.
    #[error("another worker uses `{}`; stop it first", .0.display())]
    InUse(PathBuf),
    /// The content store.
    #[error("{what}")]
    Blob {
        /// What was being done, for which job.
        what: String,
        /// Why it failed.
        #[source]
        source: slipway_blobs::BlobError,
    },
    /// The sandbox.
    #[error("{what}")]
    Sandbox {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: slipway_sandbox::SandboxError,
    },
    /// Something about the request or its surroundings makes it impossible here.
    #[error("{0}")]
    Unable(String),
    /// A record of this worker cannot be read.
    #[error("record `{}` cannot be read", .path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl WorkerError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkerError {
        let path = path.to_owned();
        move |source| WorkerError::File { action, path, source }
    }

    /// The error with its causes, for a reason that people read.
    pub(crate) fn whole(&self) -> String {
        whole(self)
    }
}

/// An error with its causes in one line.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
