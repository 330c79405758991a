//! What can go wrong in the store, each with the thing it happened to.
//!
//! In: what the operating system said. Out: [`BlobError`]. Never: a guess at the cause.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// A failure of the content store.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file system has no room. Nothing of the blob is left behind.
    #[error("no room for `{name}`: the disk of `{}` is full, {free_bytes} bytes are free", .root.display())]
    DiskFull {
        /// What was being stored, as its writer called it.
        name: String,
        /// The folder of the store.
        root: PathBuf,
        /// What the file system still has for us, in bytes.
        free_bytes: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store has no such blob.
    #[error("blob `{digest}` is not in the store")]
    Missing {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// The bytes on disk are not those that the name promises.
    #[error("blob `{digest}` is damaged on disk: its bytes hash to `{found}`")]
    Damaged {
        /// The name of the blob.
        digest: Digest,
        /// What its bytes hash to now.
        found: Digest,
    },
    /// The bytes that were written are not those that were announced.
    #[error("`{name}` was announced as `{expected}`, its bytes hash to `{found}`")]
    Mismatch {
        /// What was being stored.
        name: String,
        /// The digest that was announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Somebody is using the blob now, so that it cannot be removed.
    #[error("blob `{digest}` is in use")]
    InUse {
        /// The blob that stays.
        digest: Digest,
    },
    /// The blob is larger than its reader takes into memory.
    #[error("blob `{digest}` has {size_bytes} bytes, more than the {limit_bytes} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The reader's limit.
        limit_bytes: u64,
    },
    /// Anything else that the operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BlobError {
    /// The store's own error inside an `io::Error` that came out of a
    /// [`Writer`](crate::Writer) or [`Reader`](crate::Reader), if there is one.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// Wraps the error for code that speaks `std::io`.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::DiskFull { .. } => io::ErrorKind::StorageFull,
            Self::Missing { .. } => io::ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Mismatch { .. } => io::ErrorKind::InvalidData,
            Self::InUse { .. } => io::ErrorKind::ResourceBusy,
            Self::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Self::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, self)
    }

    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An error while `name` was being stored under `root`.
    pub(crate) fn storing(name: &str, root: &Path, action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { name: name.to_owned(), root: root.to_owned(), free_bytes: free_bytes(root), source }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}

/// Bytes that the file system of `folder` still has for us; 0 when it does not say.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
