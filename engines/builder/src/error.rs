//! What a person has to mend in a Dockerfile, and what can go wrong around it.
//!
//! In: positions in the text. Out: [`Problem`] and [`BuildError`]. Never: a problem without a position.

use std::fmt;
use std::path::PathBuf;

use slipway_blobs::{BlobError, Digest};

/// A place in the Dockerfile; both count from 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Something in the Dockerfile that somebody has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile, or what it copies, has to be changed.
    #[error("{}", first_of(.0))]
    Refused(Vec<Problem>),
    /// The content store failed.
    #[error("the image could not be stored")]
    Store(#[from] BlobError),
    /// A file could not be read.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A base image in the store is not as it should be.
    #[error("base image `{manifest}` is not usable: {message}")]
    BadBase {
        /// Its manifest.
        manifest: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// Base images could not be looked up.
    #[error("cannot look up `{reference}`")]
    Resolve {
        /// The image.
        reference: String,
        /// Why.
        source: crate::ResolveError,
    },
    /// A file changed between the moment it was hashed and the moment it was packed.
    #[error("`{path}` changed while the image was built")]
    Changed {
        /// The file, relative to its context.
        path: String,
    },
    /// A number of the builder's limits was reached.
    #[error("{what} is more than the {limit} allowed")]
    Limit {
        /// What there is too much of.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A command of the Dockerfile failed.
    #[error("{}:{}: `{command}` {why}", .at.line, .at.column)]
    RunFailed {
        /// Where its RUN stands.
        at: Position,
        /// The instruction, continued lines joined.
        command: String,
        /// `exited with 2` …
        why: String,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
    /// A command could not be run, through no fault of its own.
    #[error("`{command}` could not be run")]
    Run {
        /// The instruction, continued lines joined.
        command: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A command left something that no layer can have.
    #[error("`{path}` cannot be part of an image: {message}")]
    BadResult {
        /// Where it is in the image.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The layers below a RUN could not be unpacked.
    #[error("the layers that a command needs could not be unpacked")]
    Unpack(#[from] crate::UnpackError),
    /// Whoever asked for the image does not want it any more.
    #[error("the build was stopped")]
    Stopped,
}

fn first_of(problems: &[Problem]) -> String {
    match problems {
        [] => "the Dockerfile was refused".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl From<Problem> for BuildError {
    fn from(problem: Problem) -> Self {
        Self::Refused(vec![problem])
    }
}
