//! What can go wrong, in words. In: causes from the kernel or from the shim. Out: errors that name the thing.
//! Never carries a secret's value, an argument list or an environment.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::io;

/// Why a call of this package failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spec cannot be run as it stands; nothing was started.
    #[error("the sandbox spec is not usable: {0}")]
    Spec(String),
    /// The sandbox could not be set up, or a command in it could not be started.
    #[error("{what}")]
    Failed {
        /// What failed, on which thing.
        what: String,
        /// Why, as the shim reported it.
        #[source]
        source: Cause,
    },
    /// An operation outside the sandbox failed.
    #[error("{what}")]
    Io {
        /// What failed, on which thing.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The deadline passed first.
    #[error("{what} took longer than {limit_ms} ms")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        limit_ms: u64,
    },
    /// The shim is gone; an exit record may or may not exist.
    #[error("the shim of `{id}` is gone")]
    Gone {
        /// The run's id.
        id: String,
    },
    /// Nothing in the sandbox listens on the port.
    #[error("nothing listens on port {port}")]
    NothingListens {
        /// The port asked for.
        port: u16,
    },
}

impl SandboxError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// A cause that crossed a process boundary and is text now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(pub String);

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// A failure inside the shim or the sandbox: what and why, apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, on which thing.
    pub what: String,
    /// Why.
    pub cause: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, cause: impl Display) -> Self {
        Self { what: what.into(), cause: cause.to_string() }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        Self::Failed { what: failure.what, source: Cause(failure.cause) }
    }
}

/// Names the thing that an operation failed on.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, Failure>;
    fn doing_on(self, what: &str, thing: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(what, errno_text(&e.into())))
    }
    fn doing_on(self, what: &str, thing: impl Display) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(format!("{what} `{thing}`"), errno_text(&e.into())))
    }
}

/// `No such file or directory (os error 2)` → `no such file or directory`.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
