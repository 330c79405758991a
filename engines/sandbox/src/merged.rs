//! A writable copy, seen from outside after its run. In: the lower folder and the run's upper one. Out: what a path is now, and its bytes.
//! Never follows a symbolic link: a link that a job made must not lead the reader out of its copy.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Extended attributes that overlayfs puts on a folder which hides the one below it: as root, and as an ordinary user.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// A workspace as the run left it.
#[derive(Debug, Clone)]
pub struct Merged {
    lower: PathBuf,
    upper: PathBuf,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File, folder or link.
    pub kind: EntryKind,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Length in bytes.
    pub bytes: u64,
    /// Whether the run wrote it.
    pub changed: bool,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link with this target, which is not followed.
    Link(PathBuf),
    /// A pipe or socket.
    Other,
}

impl Merged {
    /// The workspace of the run with this state folder.
    pub fn workspace(dir: &Path, lower: &Path) -> Self {
        Self { lower: lower.to_owned(), upper: dir.join("workspace/upper") }
    }

    /// What is at a relative path, if anything.
    pub fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.find(path)?.map(|(full, metadata, changed)| describe(&full, &metadata, changed)).transpose()
    }

    /// Opens a regular file.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let (_, metadata, changed) = self.find(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let base = File::open(if changed { &self.upper } else { &self.lower })?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(File::from(openat2(&base, path, flags, Mode::empty(), resolve)?))
    }

    /// What a folder holds.
    pub fn list(&self, path: &Path) -> io::Result<BTreeMap<OsString, Entry>> {
        let mut found = BTreeMap::new();
        let mut names: Vec<OsString> = Vec::new();
        let (in_upper, in_lower) = self.layers(path)?;
        for folder in [in_upper, in_lower].into_iter().flatten() {
            for entry in fs::read_dir(folder)? {
                names.push(entry?.file_name());
            }
        }
        names.sort();
        names.dedup();
        for name in names {
            if let Some(entry) = self.entry(&path.join(&name))? {
                found.insert(name, entry);
            }
        }
        Ok(found)
    }

    /// The folders in upper and lower that together are the folder at `path`.
    fn layers(&self, path: &Path) -> io::Result<(Option<PathBuf>, Option<PathBuf>)> {
        let (mut upper, mut lower) = (Some(self.upper.clone()), Some(self.lower.clone()));
        let folder = |path: PathBuf| fs::symlink_metadata(&path).ok().filter(Metadata::is_dir).map(|_| path);
        for part in parts(path)? {
            let hidden = upper.as_ref().is_some_and(|upper| hides(&upper.join(part)));
            upper = upper.and_then(|upper| folder(upper.join(part)));
            lower = lower.filter(|_| !hidden).and_then(|lower| folder(lower.join(part)));
        }
        if upper.is_none() && lower.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((upper, lower))
    }

    fn find(&self, path: &Path) -> io::Result<Option<(PathBuf, Metadata, bool)>> {
        let names = parts(path)?;
        let Some((name, folders)) = names.split_last() else {
            return Ok(Some((self.lower.clone(), fs::symlink_metadata(&self.lower)?, false)));
        };
        let (upper, lower) = match self.layers(&folders.iter().collect::<PathBuf>()) {
            Ok(layers) => layers,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        for (folder, changed) in [(upper, true), (lower, false)] {
            let Some(full) = folder.map(|folder| folder.join(name)) else { continue };
            match fs::symlink_metadata(&full) {
                Ok(metadata) if is_whiteout(&metadata) => return Ok(None),
                Ok(metadata) => return Ok(Some((full, metadata, changed))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

fn parts(path: &Path) -> io::Result<Vec<&std::ffi::OsStr>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the workspace"));
            }
        }
    }
    Ok(names)
}

fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether an entry of the upper layer hides what the lower has below it.
fn hides(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let is_opaque = |name: &&str| {
        let mut value = [0_u8; 1];
        matches!(rustix::fs::lgetxattr(path, *name, &mut value[..]), Ok(1) if value[0] == b'y')
    };
    !metadata.is_dir() || OPAQUE.iter().any(is_opaque)
}

fn describe(path: &Path, metadata: &Metadata, changed: bool) -> io::Result<Entry> {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Folder,
        kind if kind.is_symlink() => EntryKind::Link(fs::read_link(path)?),
        _ => EntryKind::Other,
    };
    Ok(Entry { kind, executable: metadata.permissions().mode() & 0o100 != 0, bytes: metadata.len(), changed })
}
