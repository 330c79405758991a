//! The files of a commit as a folder that does not change: a port of this package, since an engine does not know Git.
//!
//! In: a project and a commit. Out: a folder and the right to it. Never: the files themselves.

use slipway_model::{CommitId, ProjectName};
use slipway_ports::Fut;
use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

/// A folder with the files of a commit; it stays as it is while this lives.
pub struct TreeLease {
    /// The folder.
    pub path: PathBuf,
    /// What holds it.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for TreeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeLease").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes such folders.
pub trait Trees: Send + Sync {
    /// The files of a commit. Waits while all folders are in use; the error says what to do.
    fn lease(&self, project: &ProjectName, commit: &CommitId) -> Fut<'_, Result<TreeLease, String>>;
    /// Takes over a folder that a job of a former life of this process uses. Called once per folder.
    ///
    /// # Errors
    /// When its files may have changed since.
    fn adopt(&self, path: &Path) -> Result<TreeLease, String>;
}
