//! Reading a repository: commits, trees, files, differences.
//!
//! In: ids and paths. Out: values. Each question is one short git process (1 to 10 ms) with a
//! limit of time and size; many files of one commit are read by one process.
//! Never: writes, follows a name that a repository's content chose, keeps a process alive.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use crate::command::{Asked, Program, ReadLimit, Running, failed};
use crate::error::GitError;
use crate::names::{Oid, is_ref_name};
use crate::parse::{self, CommitInfo, RefEntry, TreeEntry};
use crate::path::RepoPath;

/// What a listing (tree, refs, changed paths) may take: a million paths fit.
const LISTING: ReadLimit = ReadLimit { wait: Duration::from_secs(60), bytes: 256 << 20 };

/// What a question with a short answer may take.
const SHORT: ReadLimit = ReadLimit { wait: Duration::from_secs(30), bytes: 8 << 20 };

/// Reads the objects of one repository, and, while a push is judged, also the objects that the
/// push brings and that are not part of the repository yet.
#[derive(Clone)]
pub struct ObjectView {
    pub(crate) program: Arc<Program>,
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
    /// When git fails, is too slow, or answers too much.
    pub async fn refs(&self) -> Result<Vec<RefEntry>, GitError> {
        self.refs_below("refs/").await
    }

    /// Where a ref is; nothing when it does not exist.
    ///
    /// # Errors
    /// [`GitError::RefName`], or when git fails.
    pub async fn ref_target(&self, name: &str) -> Result<Option<Oid>, GitError> {
        if !is_ref_name(name) {
            return Err(GitError::RefName(name.to_owned()));
        }
        let found = self.refs_below(name).await?;
        Ok(found.iter().find(|one| one.name == name).map(|one| one.id))
    }

    async fn refs_below(&self, pattern: &str) -> Result<Vec<RefEntry>, GitError> {
        let asked = self.ask("for-each-ref").args([parse::REF_FORMAT, "--", pattern]);
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        parse::refs(&answer).ok_or_else(|| self.unexpected("for-each-ref", &answer))
    }

    /// What a commit says about itself.
    ///
    /// # Errors
    /// [`GitError::Failed`] when there is no such commit; or when git is too slow.
    pub async fn commit(&self, id: Oid) -> Result<CommitInfo, GitError> {
        let asked = self.log().args(["--no-walk".to_owned(), id.to_string()]);
        let answer = self.program.read_all(asked, Vec::new(), SHORT).await?;
        parse::commits(&answer).and_then(|mut all| all.pop()).ok_or_else(|| self.unexpected("log", &answer))
    }

    /// The commits of `to` that are not in `from`, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`GitError::Failed`] when one of the commits is missing; or when git is too slow.
    pub async fn commits(&self, from: Option<Oid>, to: Oid, limit: u32) -> Result<Vec<CommitInfo>, GitError> {
        let mut asked = self.log().arg(format!("--max-count={limit}"));
        asked = asked.arg(to.to_string());
        if let Some(from) = from {
            asked = asked.arg(format!("^{from}"));
        }
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        parse::commits(&answer).ok_or_else(|| self.unexpected("log", &answer))
    }

    fn log(&self) -> Asked {
        self.ask("log").args([
            "-z",
            "--no-show-signature",
            "--no-notes",
            "--no-color",
            "--no-decorate",
            "--no-mailmap",
            "--encoding=UTF-8",
            parse::COMMIT_FORMAT,
        ])
    }

    /// Every path of a commit, sorted by its bytes.
    ///
    /// # Errors
    /// [`GitError::Failed`] when there is no such commit; or when git is too slow.
    pub async fn tree(&self, commit: Oid) -> Result<Vec<TreeEntry>, GitError> {
        let asked = self.ask("ls-tree").args(["-r", "-z", "--full-tree"]).arg(commit.to_string());
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        parse::tree(&answer).ok_or_else(|| self.unexpected("ls-tree", &answer))
    }

    /// The paths that differ between two commits; every path of `to` when there is no `from`.
    /// A renamed file is two paths.
    ///
    /// # Errors
    /// [`GitError::Failed`] when one of the commits is missing; or when git is too slow.
    pub async fn changed(&self, from: Option<Oid>, to: Oid) -> Result<Vec<RepoPath>, GitError> {
        let asked = match from {
            Some(from) => self
                .ask("diff-tree")
                .args(["-r", "-z", "--no-renames", "--name-only"])
                .args([from.to_string(), to.to_string()]),
            None => self.ask("ls-tree").args(["-r", "-z", "--full-tree", "--name-only"]).arg(to.to_string()),
        };
        let answer = self.program.read_all(asked, Vec::new(), LISTING).await?;
        Ok(parse::paths(&answer))
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
    /// [`GitError::TooLarge`] without having read it; [`GitError::Path`]; or when git fails.
    pub async fn read(&self, commit: Oid, path: impl AsRef<[u8]>, bytes_max: u64) -> Result<Option<Vec<u8>>, GitError> {
        let path = RepoPath::new(path.as_ref())?;
        let mut all = self.read_many(commit, &[path], bytes_max).await?;
        Ok(all.pop().flatten())
    }

    /// The content of several files by one git process, in the order asked.
    ///
    /// # Errors
    /// As [`ObjectView::read`]; `bytes_max` holds for each file.
    pub async fn read_many(
        &self,
        commit: Oid,
        paths: &[RepoPath],
        bytes_max: u64,
    ) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let names: Vec<Vec<u8>> =
            paths.iter().map(|path| [commit.to_string().as_bytes(), b":", path.as_bytes()].concat()).collect();
        let work = self.cat(&names, bytes_max);
        match tokio::time::timeout(LISTING.wait, work).await {
            Ok(files) => files,
            Err(_) => Err(GitError::TooSlow {
                command: "cat-file",
                subject: self.subject(),
                limit_seconds: LISTING.wait.as_secs(),
            }),
        }
    }

    async fn cat(&self, names: &[Vec<u8>], bytes_max: u64) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let _turn = self.program.reader_turn().await;
        let mut asked = self.ask("cat-file").args(["--batch", "-z"]);
        asked.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::spawn(asked.command)?;
        let (stdin, stdout, _) = running.take_pipes();
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(self.unexpected("cat-file", b"no pipes"));
        };
        // Questions and answers flow at the same time: neither pipe can hold all of them.
        let (_, files) = tokio::join!(ask_for(stdin, names), self.take_files(BufReader::new(stdout), names, bytes_max));
        let files = files?;
        running.wait().await.map_err(|error| self.unexpected("cat-file", error.to_string().as_bytes()))?;
        Ok(files)
    }

    async fn take_files(
        &self,
        mut from: BufReader<ChildStdout>,
        names: &[Vec<u8>],
        bytes_max: u64,
    ) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let file = take_file(&mut from, name, bytes_max).await;
            files.push(file.map_err(|trouble| match trouble {
                Trouble::TooLarge => {
                    GitError::TooLarge { what: format!("`{}`", String::from_utf8_lossy(name)), limit_bytes: bytes_max }
                }
                Trouble::Unexpected(detail) => self.unexpected("cat-file", detail.as_bytes()),
            })?);
        }
        Ok(files)
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

async fn ask_for(mut stdin: ChildStdin, names: &[Vec<u8>]) {
    for name in names {
        let asked = stdin.write_all(&[name.as_slice(), b"\0"].concat()).await;
        if asked.is_err() {
            // The answers will be missing; whoever reads them says so.
            return;
        }
    }
}

enum Trouble {
    TooLarge,
    Unexpected(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Unexpected(error.to_string())
    }
}

async fn take_file(from: &mut BufReader<ChildStdout>, name: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, Trouble> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    let Some((_, kind, size)) = parse::object_head(&line) else {
        // The name is repeated as it is, with its newlines.
        for _ in name.iter().filter(|byte| **byte == b'\n') {
            from.read_until(b'\n', &mut line).await?;
        }
        if line == [name, b" missing\n"].concat() {
            return Ok(None);
        }
        return Err(Trouble::Unexpected(String::from_utf8_lossy(&line).into_owned()));
    };
    if size > bytes_max {
        return Err(Trouble::TooLarge);
    }
    let mut content = Vec::new();
    let taken = (&mut *from).take(size).read_to_end(&mut content).await?;
    let end = from.read_u8().await?;
    if taken as u64 != size || end != b'\n' {
        return Err(Trouble::Unexpected("an object that ends early".to_owned()));
    }
    Ok((kind == "blob").then_some(content))
}
