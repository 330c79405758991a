//! The files of one kept checkout.
//!
//! In: a folder, a commit. Out: the folder holds exactly that commit.
//! Never: runs what attributes or configuration name (filters, LFS, hooks, fsmonitor), fetches
//! submodules, keeps a file that the commit does not have.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::ReadLimit;
use crate::error::GitError;
use crate::names::Oid;
use crate::objects::ObjectView;
use crate::tree_step::{self, attributes};

/// The first checkout of a very large repository on a slow disk.
const CHECKOUT: ReadLimit = ReadLimit { wait: Duration::from_secs(1800), bytes: 1 << 20 };

/// Settings that keep a checkout from running anything and make it what the commit says.
const SETTINGS: &[(&str, &str)] = &[
    ("core.bare", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.splitIndex", "false"),
    ("core.sparseCheckout", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
];

/// What is known of a tree before it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: it is made anew.
    Unknown,
    /// It was left at this commit by a former life.
    Unchecked(Oid),
    /// It holds exactly this commit.
    Holds(Oid),
}

/// One kept checkout: `tree/` with the files, `index` beside it, and `commit`, which is there
/// only while `tree/` is known to be what it says.
#[derive(Debug, Clone)]
pub(crate) struct TreeFolder(PathBuf);

impl TreeFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }

    fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    fn record(&self) -> PathBuf {
        self.0.join("commit")
    }

    /// The commit that the tree was left at; nothing when it was left half-moved.
    pub(crate) fn recorded(&self) -> Option<Oid> {
        let text = fs::read_to_string(self.record()).ok()?;
        Oid::parse(text.trim()).ok()
    }

    /// Brings the tree to a commit.
    pub(crate) async fn move_to(&self, view: &ObjectView, commit: Oid, before: Before) -> Result<(), GitError> {
        gone(fs::remove_file(self.record())).map_err(GitError::file("remove", self.record()))?;
        if let Before::Holds(from) = before
            && self.step(view, from, commit).await
        {
            return self.write_record(commit);
        }
        // Where something unknown is in the way, a fresh tree has nothing unknown.
        if !self.refresh(view, commit, before).await {
            self.empty().await?;
            self.fits(view, commit).await?;
            self.read_tree(view, commit).await?;
            self.compare(commit).await?;
        }
        self.write_record(commit)
    }

    /// A few kilobytes in a repository can be a full disk in a checkout, and on that disk is the journal.
    async fn fits(&self, view: &ObjectView, commit: Oid) -> Result<(), GitError> {
        let needs = view.within(move |reader| reader.checkout_bytes(commit)).await?;
        let disk =
            rustix::fs::statvfs(self.tree()).map_err(|error| GitError::file("look at", self.tree())(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needs <= free / 10 * 9 {
            return Ok(());
        }
        Err(GitError::NoRoom { commit, needs_bytes: needs, free_bytes: free })
    }

    /// Lets git compare every file with its index and write what differs. The index must be that of the tree as it is,
    /// and attributes the same: git believes a file whose metadata the index knows, whatever attributes made of it.
    async fn refresh(&self, view: &ObjectView, commit: Oid, before: Before) -> bool {
        let (Before::Unchecked(from) | Before::Holds(from)) = before else { return false };
        if !self.index().is_file() {
            return false;
        }
        let same = view.within(move |reader| Ok(attributes(reader, from)? == attributes(reader, commit)?)).await;
        same.unwrap_or(false) && self.read_tree(view, commit).await.is_ok() && self.compare(commit).await.is_ok()
    }

    fn write_record(&self, commit: Oid) -> Result<(), GitError> {
        let record = self.record();
        fs::write(&record, format!("{commit}\n")).map_err(GitError::file("write", record))
    }

    /// The short way. Git's index does not follow it, so it goes: from then on git can only begin anew.
    async fn step(&self, view: &ObjectView, from: Oid, to: Oid) -> bool {
        let (tree, index) = (self.tree(), self.index());
        let before = move || gone(fs::remove_file(&index));
        view.within(move |reader| tree_step::step(reader, &tree, from, to, before)).await.unwrap_or(false)
    }

    /// Removes all, and makes the empty tree.
    async fn empty(&self) -> Result<(), GitError> {
        self.remove().await?;
        let tree = self.tree();
        fs::create_dir_all(&tree).map_err(GitError::file("create", tree))
    }

    /// Removes the whole folder.
    pub(crate) async fn remove(&self) -> Result<(), GitError> {
        let folder = self.0.clone();
        let removed = tokio::task::spawn_blocking(move || gone(fs::remove_dir_all(folder)));
        removed.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(GitError::file("remove", &self.0))
    }

    /// `--reset -u` compares every file's metadata with the index, writes what differs, and
    /// removes what the commit no longer has.
    async fn read_tree(&self, view: &ObjectView, commit: Oid) -> Result<(), GitError> {
        let mut asked = view
            .ask("read-tree")
            .args(["--reset", "-u"])
            .arg(commit.to_string())
            .env("GIT_WORK_TREE", self.tree())
            .env("GIT_INDEX_FILE", self.index())
            .config(SETTINGS);
        asked.command.current_dir(self.tree());
        view.program.read_all(asked, Vec::new(), CHECKOUT).await?;
        Ok(())
    }

    /// Counts what is on disk against the index: a leftover of any kind, ignored files too,
    /// makes a difference.
    async fn compare(&self, commit: Oid) -> Result<(), GitError> {
        let (tree, index) = (self.tree(), self.index());
        let counts = tokio::task::spawn_blocking(move || {
            io::Result::Ok((entries_of_index(&index)?, entries_on_disk(&tree, true)?))
        });
        let (wanted, found) = counts
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(GitError::file("compare", self.tree()))?;
        if wanted == found {
            return Ok(());
        }
        Err(GitError::TreeNotExact { path: self.tree(), commit, wanted, found })
    }
}

/// What was not there is removed already.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The number of entries that the head of an index file says (git: gitformat-index).
fn entries_of_index(index: &Path) -> io::Result<u64> {
    let mut head = [0; 12];
    fs::File::open(index)?.read_exact(&mut head)?;
    let [b'D', b'I', b'R', b'C', _, _, _, _, a, b, c, d] = head else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(u64::from(u32::from_be_bytes([a, b, c, d])))
}

/// Files, links, and empty folders (a submodule is one; nothing else makes one).
fn entries_on_disk(folder: &Path, is_root: bool) -> io::Result<u64> {
    let mut count = 0;
    let mut is_empty = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        is_empty = false;
        count += if entry.file_type()?.is_dir() { entries_on_disk(&entry.path(), false)? } else { 1 };
    }
    Ok(if is_empty && !is_root { 1 } else { count })
}
