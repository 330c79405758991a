//! Reading a repository: commits, trees, files, differences.
//!
//! In: ids and paths. Out: values. Objects are read within this process (`odb.rs`), off the threads that serve;
//! questions over the history (ancestors, ranges of commits, differences as text) are one short git process each
//! (1 to 10 ms) with a limit of time and size.
//! Never: writes, follows a name that a repository's content chose, keeps a process alive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Asked, Program, ReadLimit, failed};
use crate::error::GitError;
use crate::names::{Oid, is_ref_name};
use crate::odb::{self, Odbs, Reader};
use crate::parse::{CommitInfo, RefEntry, TreeEntry};
use crate::path::RepoPath;

/// What a listing (ancestors, ranges, differences) may take.
const LISTING: ReadLimit = ReadLimit { wait: Duration::from_secs(60), bytes: 256 << 20 };

/// Reads the objects of one repository, and, while a push is judged, also the objects that the
/// push brings and that are not part of the repository yet.
#[derive(Clone)]
pub struct ObjectView {
    pub(crate) program: Arc<Program>,
    pub(crate) odbs: Arc<Odbs>,
    pub(crate) git_dir: PathBuf,
    /// The folder below `objects/` where receive-pack keeps what it has not accepted yet.
    pub(crate) quarantine: Option<PathBuf>,
}

/// A difference as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Unified text as `git diff` shows it; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The text was cut at the limit.
    pub cut: bool,
}

impl ObjectView {
    /// Whether it reads what a push brings before that is accepted.
    pub fn is_quarantine(&self) -> bool {
        self.quarantine.is_some()
    }

    /// All refs, sorted by name.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn refs(&self) -> Result<Vec<RefEntry>, GitError> {
        let git_dir = self.git_dir.clone();
        self.within(move |reader| odb::refs(&git_dir, reader, "refs/")).await
    }

    /// Where a ref is; nothing when it does not exist.
    ///
    /// # Errors
    /// [`GitError::RefName`], or when the repository cannot be read.
    pub async fn ref_target(&self, name: &str) -> Result<Option<Oid>, GitError> {
        if !is_ref_name(name) {
            return Err(GitError::RefName(name.to_owned()));
        }
        let (git_dir, wanted) = (self.git_dir.clone(), name.to_owned());
        let found = self.within(move |reader| odb::refs(&git_dir, reader, &wanted)).await?;
        Ok(found.iter().find(|one| one.name == name).map(|one| one.id))
    }

    /// What a commit says about itself.
    ///
    /// # Errors
    /// [`GitError::Missing`]; [`GitError::Object`] when it is no commit.
    pub async fn commit(&self, id: Oid) -> Result<CommitInfo, GitError> {
        self.within(move |reader| reader.commit(id)).await
    }

    /// The commits of `to` that are not in `from`, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`GitError::Failed`] or [`GitError::Missing`] when one of the commits is missing; or when git is too slow.
    pub async fn commits(&self, from: Option<Oid>, to: Oid, limit: u32) -> Result<Vec<CommitInfo>, GitError> {
        let newest = self.commit(to).await?;
        // What most pushes bring: one commit on the one before. Nothing else can lie between.
        if limit > 0 && from.is_some() && newest.parents.as_slice() == from.as_slice() {
            return Ok(vec![newest]);
        }
        let mut asked = self.ask("rev-list").arg(format!("--max-count={limit}")).arg(to.to_string());
        if let Some(from) = from {
            asked = asked.arg(format!("^{from}"));
        }
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        let ids: Option<Vec<Oid>> =
            answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Oid::from_hex).collect();
        let ids = ids.ok_or_else(|| self.unexpected("rev-list", &answer))?;
        self.within(move |reader| ids.into_iter().map(|id| reader.commit(id)).collect()).await
    }

    /// Every path of a commit, sorted by its bytes.
    ///
    /// # Errors
    /// [`GitError::Missing`]; [`GitError::TooLarge`].
    pub async fn tree(&self, commit: Oid) -> Result<Arc<Vec<TreeEntry>>, GitError> {
        self.within(move |reader| reader.tree(commit)).await
    }

    /// The paths that differ between two commits; every path of `to` when there is no `from`.
    /// A renamed file is two paths.
    ///
    /// # Errors
    /// [`GitError::Missing`] when one of the commits is missing; [`GitError::TooLarge`].
    pub async fn changed(&self, from: Option<Oid>, to: Oid) -> Result<Vec<RepoPath>, GitError> {
        self.within(move |reader| match from {
            Some(from) => Ok(reader.differences(from, to)?.into_iter().map(|one| one.path).collect()),
            None => Ok(reader.tree(to)?.iter().map(|entry| entry.path.clone()).collect()),
        })
        .await
    }

    /// Whether `older` is `newer` or one of its ancestors.
    ///
    /// # Errors
    /// [`GitError::Failed`] when one of the commits is missing; or when git is too slow.
    pub async fn is_ancestor(&self, older: Oid, newer: Oid) -> Result<bool, GitError> {
        let asked = self.ask("merge-base").arg("--is-ancestor").args([older.to_string(), newer.to_string()]);
        let subject = asked.subject.clone();
        let answer = self.program.read(asked, Vec::new(), LISTING).await?;
        match answer.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed("merge-base", subject, &answer)),
        }
    }

    /// The branches (full ref names) that contain a commit.
    ///
    /// # Errors
    /// [`GitError::Failed`] when there is no such commit; or when git is too slow.
    pub async fn branches_containing(&self, commit: Oid) -> Result<Vec<String>, GitError> {
        let asked = self
            .ask("for-each-ref")
            .args(["--format=%(refname)".to_owned(), format!("--contains={commit}")])
            .arg("refs/heads/");
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The difference between two commits as text, of some paths or of all when none is named.
    ///
    /// # Errors
    /// [`GitError::Failed`] when one of the commits is missing; or when git is too slow.
    pub async fn diff(&self, from: Oid, to: Oid, paths: &[RepoPath], bytes_max: u64) -> Result<Diff, GitError> {
        use std::os::unix::ffi::OsStrExt;

        let asked = self
            .ask("diff-tree")
            .args(["-r", "-p", "--no-ext-diff", "--no-textconv", "--no-color"])
            .args(["-M", "--full-index"])
            .args([from.to_string(), to.to_string()])
            .arg("--")
            .args(paths.iter().map(|path| std::ffi::OsStr::from_bytes(path.as_bytes())));
        let subject = asked.subject.clone();
        let limit = ReadLimit { wait: LISTING.wait, bytes: bytes_max };
        let answer = self.program.read(asked, Vec::new(), limit).await?;
        if !answer.cut && !answer.status.success() {
            return Err(failed("diff-tree", subject, &answer));
        }
        Ok(Diff { text: String::from_utf8_lossy(&answer.stdout).into_owned(), cut: answer.cut })
    }

    /// The content of a file (of a symbolic link: its target); nothing when the commit has no
    /// file at this path.
    ///
    /// # Errors
    /// [`GitError::TooLarge`] without having read it; [`GitError::Path`]; [`GitError::Missing`].
    pub async fn read(&self, commit: Oid, path: impl AsRef<[u8]>, bytes_max: u64) -> Result<Option<Vec<u8>>, GitError> {
        let path = RepoPath::new(path.as_ref())?;
        self.within(move |reader| reader.read(commit, &path, bytes_max)).await
    }

    /// Asks the objects on a thread that may wait for a disk.
    pub(crate) async fn within<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Reader<'_>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let view = self.clone();
        let answer =
            tokio::task::spawn_blocking(move || ask(&view.odbs.reader(&view.git_dir, view.quarantine.as_deref())?));
        answer.await.unwrap_or_else(|error| Err(GitError::file("read", &self.git_dir)(std::io::Error::other(error))))
    }

    /// A git command on this repository that sees the quarantine, if there is one.
    pub(crate) fn ask(&self, name: &'static str) -> Asked {
        let asked = self.program.ask(name, &self.git_dir);
        let Some(quarantine) = &self.quarantine else {
            return asked;
        };
        let objects = self.git_dir.join("objects");
        asked
            .env("GIT_OBJECT_DIRECTORY", quarantine)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(&objects))
            .env("GIT_QUARANTINE_PATH", quarantine)
    }

    pub(crate) fn subject(&self) -> String {
        let name = self.git_dir.file_name().unwrap_or(self.git_dir.as_os_str());
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn unexpected(&self, command: &'static str, answer: &[u8]) -> GitError {
        let beginning = &answer[..answer.len().min(200)];
        GitError::Unexpected {
            command,
            subject: self.subject(),
            detail: format!("{:?}", String::from_utf8_lossy(beginning)),
        }
    }
}

/// A path as git reads it in a list that `:` separates.
fn quoted(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    let bytes = path.as_os_str().as_bytes();
    if !bytes.contains(&b':') && !bytes.starts_with(b"\"") {
        return path.as_os_str().to_owned();
    }
    let mut quoted = vec![b'"'];
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    std::ffi::OsString::from_vec(quoted)
}
