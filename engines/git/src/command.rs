//! Starting git and reading what it answers.
//!
//! In: a git command with its arguments. Out: its output within limits of time and size.
//! Never: lets git read configuration of the host or of a user, ask on a terminal, or outlive
//! the future that waits for it (the whole process group is killed).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::GitError;

/// How much of git's error output is kept for a message.
const SAID_BYTES_MAX: u64 = 4096;

/// How many reading git processes run at the same time; more wait. Each takes a core for
/// milliseconds, so more would only make all of them slower.
const READERS_MAX: usize = 16;

/// The git program and how many readers of it may run.
pub(crate) struct Program {
    exe: PathBuf,
    search_path: OsString,
    readers: Semaphore,
}

/// The limits of one answer.
#[derive(Clone, Copy)]
pub(crate) struct ReadLimit {
    pub(crate) wait: Duration,
    pub(crate) bytes: u64,
}

/// What a git process answered.
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) said: String,
    /// The output was cut at the limit, and git was stopped.
    pub(crate) cut: bool,
}

/// One git command on one repository, with what an error message needs.
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) name: &'static str,
    pub(crate) subject: String,
}

impl Program {
    pub(crate) fn new(exe: PathBuf) -> Self {
        let search_path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let exe = found(&exe, &search_path).unwrap_or(exe);
        Self { exe, search_path, readers: Semaphore::new(READERS_MAX) }
    }

    /// A git command whose surroundings are ours alone.
    pub(crate) fn ask(&self, name: &'static str, git_dir: &Path) -> Asked {
        let mut command = Command::new(&self.exe);
        command
            .env_clear()
            .env("PATH", &self.search_path)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_DIR", git_dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            // The data folder may belong to another user than the one we run as.
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .arg(name);
        let subject = git_dir.file_name().unwrap_or(git_dir.as_os_str()).to_string_lossy().into_owned();
        Asked { command, name, subject }
    }

    /// The version of git, as `(major, minor)` and as text.
    pub(crate) async fn version(&self) -> Result<((u32, u32), String), GitError> {
        let limit = ReadLimit { wait: Duration::from_secs(10), bytes: 4096 };
        let asked = self.ask("version", Path::new("/nonexistent"));
        let answer = self.read(asked, Vec::new(), limit).await?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let version = text.trim().trim_start_matches("git version ").to_owned();
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Ok((number, version))
    }

    /// Waits until one more reader may run.
    pub(crate) async fn reader_turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so there is always a turn.
        self.readers.acquire().await.ok()
    }

    /// Runs a command that must succeed and fit its limits.
    pub(crate) async fn read_all(&self, asked: Asked, input: Vec<u8>, limit: ReadLimit) -> Result<Vec<u8>, GitError> {
        let (name, subject) = (asked.name, asked.subject.clone());
        let answer = self.read(asked, input, limit).await?;
        if answer.cut {
            return Err(GitError::TooLarge {
                what: format!("the answer of `git {name}` on `{subject}`"),
                limit_bytes: limit.bytes,
            });
        }
        if answer.status.success() {
            return Ok(answer.stdout);
        }
        Err(failed(name, subject, &answer))
    }

    /// Runs a command and hands out however it ended.
    pub(crate) async fn read(&self, mut asked: Asked, input: Vec<u8>, limit: ReadLimit) -> Result<Answer, GitError> {
        let (name, subject) = (asked.name, asked.subject.clone());
        asked
            .command
            .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let work = async {
            let _turn = self.reader_turn().await;
            let mut running = Running::spawn(asked.command)?;
            answer_of(&mut running, input, limit.bytes)
                .await
                .map_err(|source| GitError::Start { program: format!("git {name}"), source })
        };
        match tokio::time::timeout(limit.wait, work).await {
            Ok(answer) => answer,
            Err(_) => Err(GitError::TooSlow { command: name, subject, limit_seconds: limit.wait.as_secs() }),
        }
    }
}

/// The program's whole path: looking for it in every folder at every start takes longer than it seems.
fn found(exe: &Path, search_path: &OsStr) -> Option<PathBuf> {
    if exe.components().count() != 1 {
        return None;
    }
    let is_program = |path: &PathBuf| {
        let mode = path.metadata().map(|about| about.is_file().then(|| about.permissions().mode()));
        matches!(mode, Ok(Some(mode)) if mode & 0o111 != 0)
    };
    std::env::split_paths(search_path).map(|folder| folder.join(exe)).find(is_program)
}

/// The error for an answer that says failure.
pub(crate) fn failed(name: &'static str, subject: String, answer: &Answer) -> GitError {
    GitError::Failed { command: name, subject, status: answer.status.to_string(), said: answer.said.clone() }
}

async fn answer_of(running: &mut Running, input: Vec<u8>, bytes: u64) -> io::Result<Answer> {
    let (stdin, stdout, stderr) = running.take_pipes();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A reader that ends early has said why in its status.
            let _ = stdin.write_all(&input).await;
        }
    };
    let take = async {
        let (kept, cut) = read_up_to(stdout, bytes).await?;
        if cut {
            running.kill();
        }
        io::Result::Ok((kept, cut))
    };
    let ((), taken, said) = tokio::join!(feed, take, shortened(stderr));
    let (stdout, cut) = taken?;
    let status = running.wait().await?;
    Ok(Answer { status, stdout, said, cut })
}

async fn read_up_to(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    if let Some(from) = from {
        from.take(limit + 1).read_to_end(&mut kept).await?;
    }
    let cut = kept.len() as u64 > limit;
    kept.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((kept, cut))
}

/// Reads error output to its end and keeps the beginning, on one line.
pub(crate) async fn shortened(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(SAID_BYTES_MAX).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.join("; ")
}

/// A running git with everything that it started; dropping it ends them all.
pub(crate) struct Running {
    child: Child,
    /// The process group, until its leader has been waited for (after that the number may
    /// belong to somebody else).
    group: Option<Pid>,
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Result<Self, GitError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| GitError::Start { program, source })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let child = &mut self.child;
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    }

    /// Kills git and all that it started.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.group {
            // It may have ended by itself, which is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Asked {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<I: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }
}

impl Asked {
    /// Settings for this command alone.
    pub(crate) fn config(mut self, settings: &[(&str, &str)]) -> Self {
        for (n, (key, value)) in settings.iter().enumerate() {
            // Number 0 is `safe.directory`, set for every command.
            self.command
                .env(format!("GIT_CONFIG_KEY_{}", n + 1), key)
                .env(format!("GIT_CONFIG_VALUE_{}", n + 1), value);
        }
        let count = (settings.len() + 1).to_string();
        self.env("GIT_CONFIG_COUNT", count)
    }
}
