//! The repository port: commits and files of a project, read only.

use crate::Fut;
use slipway_model::{At, CommitId, ProjectName};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// Its author's name.
    pub author: String,
    /// When it was committed.
    pub at: At,
    /// The first line of its message.
    pub subject: String,
    /// The whole message.
    pub message: String,
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeFile {
    /// Path from the root, `/` between folders.
    pub path: String,
    /// Git's mode: 100644, 100755, 120000 (symlink), 160000 (submodule).
    pub mode: u32,
    /// Git's object id: equal ids are equal bytes.
    pub id: String,
}

/// The largest file that [`Repository::read`] gives: plans and checks read whole files, and hold many at once.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Why something could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct RepoError {
    /// What failed, on which thing.
    pub what: String,
    /// Whether what was pushed is at fault: asking again gives the same.
    pub of_content: bool,
}

impl RepoError {
    /// A file that is larger than [`FILE_BYTES_MAX`].
    #[must_use]
    pub fn too_large(path: &str) -> RepoError {
        let what = format!("`{path}` has more than {} MiB, the most that is read of one file", FILE_BYTES_MAX >> 20);
        RepoError { what, of_content: true }
    }

    /// A failure of the machine, or of who asked.
    #[must_use]
    pub fn new(what: String) -> RepoError {
        RepoError { what, of_content: false }
    }
}

/// Reads a project's repository.
pub trait Repository: Send + Sync {
    /// The commit.
    fn commit(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<CommitInfo, RepoError>>;
    /// All files of a commit.
    fn files(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<Vec<TreeFile>, RepoError>>;
    /// The bytes of a file of at most [`FILE_BYTES_MAX`]; `None` when the commit has none at that path.
    fn read(&self, project: &ProjectName, id: &CommitId, path: &str) -> Fut<'_, Result<Option<Vec<u8>>, RepoError>>;
    /// Paths that differ; from nothing, all.
    fn changed(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
    ) -> Fut<'_, Result<Vec<String>, RepoError>>;
    /// Whether `ancestor` is reachable from `commit` (or is it).
    fn contains(
        &self,
        project: &ProjectName,
        commit: &CommitId,
        ancestor: &CommitId,
    ) -> Fut<'_, Result<bool, RepoError>>;
    /// Commits reachable from `to` and not from `from`, newest first.
    fn between(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: usize,
    ) -> Fut<'_, Result<Vec<CommitInfo>, RepoError>>;
    /// The commit that a branch, tag or (short) id names.
    fn resolve(&self, project: &ProjectName, name: &str) -> Fut<'_, Result<Option<CommitId>, RepoError>>;
}
