//! A folder of this machine that may be read, and nothing beside it.
//!
//! In: a path of a build context or of a job's output. Out: files and folders below it.
//! Never: a path that leads out of it, by `..`, by a link, or by a race; the kernel sees to that
//! (`openat2` with `RESOLVE_BENEATH`).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::error::BuildError;

/// The kernel asks for another try when something was renamed meanwhile.
const TRIES_MAX: u32 = 32;

pub(crate) struct Folder {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Arc::new(Self { path: path.to_owned(), descriptor })),
            Err(error) => Err(BuildError::Io { action: "open", path: path.to_owned(), source: error.into() }),
        }
    }

    pub(crate) fn path_of(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// Opens anything below the folder; links are followed as long as they stay below.
    pub(crate) fn open_at(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let relative = if relative.is_empty() { "." } else { relative };
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 1..TRIES_MAX {
            match openat2(&self.descriptor, relative, flags, Mode::empty(), within) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        Err(Errno::AGAIN)
    }

    pub(crate) fn open_file(&self, relative: &str) -> Result<File, BuildError> {
        // A pipe that took the file's place must not hang the build.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = self.open_at(relative, flags);
        opened.map(File::from).map_err(|error| self.failed("open", relative, error))
    }

    pub(crate) fn failed(&self, action: &'static str, relative: &str, source: impl Into<io::Error>) -> BuildError {
        BuildError::Io { action, path: self.path_of(relative), source: source.into() }
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, formatter)
    }
}

/// The names in an open folder, sorted; names that are not UTF-8 come in replacement characters.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<Result<String, String>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        let name = String::from_utf8(bytes.to_vec());
        names.push(name.map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()));
    }
    names.sort();
    Ok(names)
}
