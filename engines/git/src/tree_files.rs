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
use crate::tree_step;

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

    fn record(&self) -> PathBuf {
        self.0.join("commit")
    }

    /// The commit that the tree was left at; nothing when it was left half-moved.
    pub(crate) fn recorded(&self) -> Option<Oid> {
        let text = fs::read_to_string(self.record()).ok()?;
        Oid::parse(text.trim()).ok()
    }

    /// Brings the tree to a commit. `from` is what it holds exactly, if that is known; `anew` when nothing is known about
    /// what is there.
    pub(crate) async fn move_to(
        &self,
        view: &ObjectView,
        commit: Oid,
        from: Option<Oid>,
        anew: bool,
    ) -> Result<(), GitError> {
        match fs::remove_file(self.record()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(GitError::file("remove", self.record())(error));
            }
            Ok(()) | Err(_) => {}
        }
        if anew {
            self.empty().await?;
        }
        if let Some(from) = from
            && self.step(view, from, commit).await
        {
            return self.write_record(commit);
        }
        let moved = self.read_tree(view, commit).await;
        let exact = match moved {
            Ok(()) => self.compare(commit).await,
            Err(error) => Err(error),
        };
        match exact {
            Ok(()) => {}
            Err(error) if anew => return Err(error),
            // Something unknown is in the way; a fresh tree has nothing unknown.
            Err(_) => {
                self.empty().await?;
                self.read_tree(view, commit).await?;
                self.compare(commit).await?;
            }
        }
        self.write_record(commit)
    }

    fn write_record(&self, commit: Oid) -> Result<(), GitError> {
        let record = self.record();
        fs::write(&record, format!("{commit}\n")).map_err(GitError::file("write", record))
    }

    /// The short way; where it fails, git compares every file and mends what was left half-way.
    async fn step(&self, view: &ObjectView, from: Oid, to: Oid) -> bool {
        let tree = self.tree();
        view.within(move |reader| tree_step::step(reader, &tree, from, to)).await.unwrap_or(false)
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
        let removed = tokio::task::spawn_blocking(move || match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        });
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
            .env("GIT_INDEX_FILE", self.0.join("index"))
            .config(SETTINGS);
        asked.command.current_dir(self.tree());
        view.program.read_all(asked, Vec::new(), CHECKOUT).await?;
        Ok(())
    }

    /// Counts what is on disk against the index: a leftover of any kind, ignored files too,
    /// makes a difference.
    async fn compare(&self, commit: Oid) -> Result<(), GitError> {
        let (tree, index) = (self.tree(), self.0.join("index"));
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
