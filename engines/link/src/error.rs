//! What can go wrong on a link, in words.
//!
//! In: causes. Out: errors that name the thing. Never carries a message's body.

use std::io;
use std::path::PathBuf;

/// Why a link could not be made or a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection ended; whether the other side has done what was asked is unknown.
    #[error("the connection to `{peer}` has ended")]
    Closed {
        /// Who was at the other end.
        peer: String,
    },
    /// No answer in time; whether the other side has done what was asked is unknown.
    #[error("`{peer}` did not answer within {limit_ms} ms")]
    Timeout {
        /// Who was asked.
        peer: String,
        /// The limit.
        limit_ms: u64,
    },
    /// The other side says that it cannot.
    #[error("`{peer}` could not do it: {text}")]
    Failed {
        /// Who was asked.
        peer: String,
        /// Its words.
        text: String,
    },
    /// The other side does not want this connection.
    #[error("the connection was refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// Somebody serves this socket already.
    #[error("socket `{}` is served by another process", .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// What came is not what this side understands.
    #[error("a message is not understood")]
    Malformed(#[source] serde_json::Error),
    /// A message is larger than a frame may be.
    #[error("a message of {bytes} bytes is larger than the limit of {} bytes", crate::FRAME_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried, on which thing.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LinkError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> LinkError {
        LinkError::Io { what: what.into(), source }
    }

    /// Whether the other side took part in this failure, so that repeating it elsewhere or later may help.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            LinkError::Closed { .. } | LinkError::Timeout { .. } | LinkError::Io { .. } => true,
            LinkError::Failed { .. }
            | LinkError::Refused { .. }
            | LinkError::InUse { .. }
            | LinkError::Malformed(_)
            | LinkError::TooLarge { .. } => false,
        }
    }
}
