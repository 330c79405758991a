//! A kept checkout moved by writing only what differs, without git: a small change costs as much as it is large, not
//! as much as the repository is.
//!
//! In: a folder that holds exactly one commit, another commit. Out: the folder holds exactly that, or `false` before
//! anything was touched: git must do it.
//! Never: follows a link, leaves the folder, writes a file of which attributes may change the bytes.

use crate::error::GitError;
use crate::names::Oid;
use crate::odb::{Difference, Reader};
use crate::parse::{EntryKind, TreeEntry};
use crate::path::RepoPath;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, symlinkat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More files than this are git's to write.
const FILES_MAX: usize = 2_000;
/// A larger file is not held in memory.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// All files together.
const BYTES_MAX: usize = 64 << 20;

/// Moves `tree` from one commit to another. `before` is called once it is sure that something will be written.
///
/// # Errors
/// When an object or the folder fails half-way: nothing is known about the folder then.
pub(crate) fn step(
    reader: &Reader<'_>,
    tree: &Path,
    from: Oid,
    to: Oid,
    before: impl FnOnce() -> io::Result<()>,
) -> Result<bool, GitError> {
    let differences = reader.differences(from, to)?;
    if differences.len() > FILES_MAX || differences.iter().any(|one| !is_plain(&one.path)) {
        return Ok(false);
    }
    // Attributes may ask for other line ends: what they mean is git's to know.
    if !attributes(reader, from)?.is_empty() || !attributes(reader, to)?.is_empty() {
        return Ok(false);
    }
    let Some(contents) = contents(reader, &differences)? else { return Ok(false) };
    let failed = |source| GitError::File { act: "move", path: tree.to_owned(), source };
    before().and_then(|()| write_all(tree, &differences, &contents)).map_err(failed)?;
    Ok(true)
}

/// The files of a commit that say what becomes of the bytes of others.
pub(crate) fn attributes(reader: &Reader<'_>, commit: Oid) -> Result<Vec<TreeEntry>, GitError> {
    let is_one = |entry: &&TreeEntry| entry.path.as_bytes().rsplit(|b| *b == b'/').next() == Some(b".gitattributes");
    Ok(reader.tree(commit)?.iter().filter(is_one).cloned().collect())
}

/// Names that git itself looks at twice are left to it.
fn is_plain(path: &RepoPath) -> bool {
    let odd = |name: &[u8]| name.is_empty() || name == b"." || name == b".." || name.eq_ignore_ascii_case(b".git");
    !path.as_bytes().split(|byte| *byte == b'/').any(odd)
}

/// What is to be written, in the order of the differences; nothing when it is too much.
fn contents(reader: &Reader<'_>, differences: &[Difference]) -> Result<Option<Vec<Vec<u8>>>, GitError> {
    let mut all = Vec::with_capacity(differences.len());
    let mut bytes = 0;
    for one in differences {
        let content = match &one.new {
            Some(entry) if entry.kind != EntryKind::Submodule => match reader.blob(entry.id, FILE_BYTES_MAX) {
                Ok(content) => content,
                Err(GitError::TooLarge { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
            _ => Vec::new(),
        };
        bytes += content.len();
        if bytes > BYTES_MAX {
            return Ok(None);
        }
        all.push(content);
    }
    Ok(Some(all))
}

/// Everything old goes first: a file may become a folder, and a folder a file.
fn write_all(tree: &Path, differences: &[Difference], contents: &[Vec<u8>]) -> io::Result<()> {
    let root = openat(rustix::fs::CWD, tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for one in differences {
        if let Some(old) = &one.old {
            remove(&root, &one.path, old.kind)?;
        }
    }
    for (one, content) in differences.iter().zip(contents) {
        if let Some(new) = &one.new {
            write(&root, &one.path, new.kind, content)?;
        }
    }
    Ok(())
}

fn remove(root: &OwnedFd, path: &RepoPath, kind: EntryKind) -> io::Result<()> {
    let Some(folder) = folder(root, parent(path))? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let flags = if kind == EntryKind::Submodule { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unlinkat(&folder, name(path), flags)?;
    // Git knows no empty folders: those that this was the last file of go too.
    let mut left = parent(path);
    while let Some(path) = left {
        let above = path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at]);
        let Some(folder) = self::folder(root, above)? else { break };
        let last = &path[above.map_or(0, |above| above.len() + 1)..];
        match unlinkat(&folder, OsStr::from_bytes(last), AtFlags::REMOVEDIR) {
            Ok(()) => left = above,
            Err(Errno::NOTEMPTY | Errno::EXIST) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write(root: &OwnedFd, path: &RepoPath, kind: EntryKind, content: &[u8]) -> io::Result<()> {
    let folder = made(root, parent(path))?;
    let name = name(path);
    match kind {
        EntryKind::Symlink => symlinkat(OsStr::from_bytes(content), &folder, name)?,
        EntryKind::Submodule => mkdirat(&folder, name, Mode::from_raw_mode(0o777))?,
        EntryKind::File | EntryKind::Executable => {
            let mode = if kind == EntryKind::Executable { 0o777 } else { 0o666 };
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            File::from(openat(&folder, name, flags, Mode::from_raw_mode(mode))?).write_all(content)?;
        }
    }
    Ok(())
}

fn parent(path: &RepoPath) -> Option<&[u8]> {
    let bytes = path.as_bytes();
    bytes.iter().rposition(|byte| *byte == b'/').map(|at| &bytes[..at])
}

fn name(path: &RepoPath) -> &OsStr {
    OsStr::from_bytes(path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default())
}

/// A folder below the root, no part of which is a link; nothing when there is none.
fn folder(root: &OwnedFd, path: Option<&[u8]>) -> io::Result<Option<OwnedFd>> {
    let path = path.map_or(OsStr::new("."), OsStr::from_bytes);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, made with all that leads to it.
fn made(root: &OwnedFd, path: Option<&[u8]>) -> io::Result<OwnedFd> {
    if let Some(found) = folder(root, path)? {
        return Ok(found);
    }
    let path = path.unwrap_or_default();
    let above = path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at]);
    let last = OsStr::from_bytes(&path[above.map_or(0, |above| above.len() + 1)..]);
    let parent = made(root, above)?;
    mkdirat(&parent, last, Mode::from_raw_mode(0o777))?;
    Ok(openat(&parent, last, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}
