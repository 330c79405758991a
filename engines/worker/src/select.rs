//! Which files of a workspace a pattern names.
//!
//! In: the workspace as a job left it, patterns from the repository's root. Out: paths in order, with what they are.
//! Never: follows a link, looks below folders that no pattern can reach, takes more than [`ENTRIES_MAX`].

use slipway_config::pattern::matches;
use slipway_sandbox::{Entry, EntryKind, Merged};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Files, folders and links that patterns may name together.
pub(crate) const ENTRIES_MAX: usize = 200_000;
/// Deeper folders are a mistake.
const DEPTH_MAX: usize = 200;

/// What patterns name.
pub(crate) type Selected = BTreeMap<PathBuf, Entry>;

/// Everything that one of the patterns names; of a folder, all that is in it.
pub(crate) fn select(merged: &Merged, patterns: &[String]) -> io::Result<Selected> {
    let mut selected = Selected::new();
    for pattern in patterns {
        search(merged, pattern, &mut |path, entry| {
            selected.insert(path, entry);
            selected.len() <= ENTRIES_MAX
        })?;
    }
    if selected.len() > ENTRIES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {ENTRIES_MAX} files match")));
    }
    Ok(selected)
}

/// Whether the pattern names anything.
pub(crate) fn names_something(merged: &Merged, pattern: &str) -> io::Result<bool> {
    let mut found = false;
    search(merged, pattern, &mut |_, _| {
        found = true;
        false
    })?;
    Ok(found)
}

/// Takes a path; says whether to go on.
type Take<'a> = dyn FnMut(PathBuf, Entry) -> bool + 'a;

fn search(merged: &Merged, pattern: &str, take: &mut Take<'_>) -> io::Result<()> {
    let pattern = pattern.trim_start_matches('/').trim_end_matches('/');
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    if pattern.is_empty() || pattern == "." {
        walk(merged, Path::new(""), None, 0, take)?;
        return Ok(());
    }
    let literal: PathBuf = pattern.split('/').take_while(|part| !part.contains(['*', '?'])).collect();
    let Some(entry) = merged.entry(&literal)? else { return Ok(()) };
    let is_whole = literal.as_os_str() == pattern;
    let is_folder = entry.kind == EntryKind::Folder;
    if is_whole && !literal.as_os_str().is_empty() && !take(literal.clone(), entry) {
        return Ok(());
    }
    if is_folder {
        walk(merged, &literal, (!is_whole).then_some(pattern), 0, take)?;
    }
    Ok(())
}

/// Below a folder: what matches, or with no pattern everything. False when the taker has enough.
fn walk(merged: &Merged, folder: &Path, pattern: Option<&str>, depth: usize, take: &mut Take<'_>) -> io::Result<bool> {
    if depth > DEPTH_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("folders are nested deeper than {DEPTH_MAX}")));
    }
    for (name, entry) in merged.list(folder)? {
        let path = folder.join(name);
        let matched = pattern.is_none_or(|pattern| matches(pattern, &path.to_string_lossy()));
        let is_folder = entry.kind == EntryKind::Folder;
        if matched && !take(path.clone(), entry) {
            return Ok(false);
        }
        let below = if matched { None } else { pattern };
        if is_folder && !walk(merged, &path, below, depth + 1, take)? {
            return Ok(false);
        }
    }
    Ok(true)
}
