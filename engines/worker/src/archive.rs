//! Artifacts as tar files whose bytes depend on nothing but the files.
//!
//! In: files of a workspace, or such a tar. Out: a tar (ordered by path; time 0; owner 0; modes 644 or 755), or files again.
//! Never: follows a link, on either way; writes outside the folder it was given.
//! Format: POSIX.1-1988 ustar with GNU's long names.

use crate::select::Selected;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, symlinkat, unlinkat};
use rustix::io::Errno;
use slipway_sandbox::{EntryKind, Merged};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use tar::{Builder, EntryType, Header};

/// Links longer than this are no paths.
const PATH_BYTES_MAX: usize = 4096;

/// Writes the selected files. Pipes and sockets are left out: they hold nothing.
pub(crate) fn pack(merged: &Merged, selected: &Selected, into: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(into);
    for (path, entry) in selected {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(if entry.executable || entry.kind == EntryKind::Folder { 0o755 } else { 0o644 });
        header.set_size(0);
        match &entry.kind {
            EntryKind::File => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(entry.bytes);
                let file = merged.open(path)?;
                tar.append_data(&mut header, path, Exactly { from: file, left: entry.bytes })?;
            }
            EntryKind::Folder => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, io::empty())?;
            }
            EntryKind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target)?;
            }
            EntryKind::Other => {}
        }
    }
    tar.into_inner()?.flush()
}

/// As many bytes as were announced: a tar with fewer would be damaged without saying so.
struct Exactly {
    from: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.from.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read")),
            length => {
                self.left -= length as u64;
                Ok(length)
            }
        }
    }
}

/// Puts the files of an artifact into a folder, which is made if missing. A file that is there already is replaced.
///
/// # Errors
/// When the tar is damaged, leads out of the folder, or the disk refuses.
pub fn unpack(from: impl Read, into: &Path) -> io::Result<()> {
    std::fs::create_dir_all(into)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = openat(CWD, into, flags, Mode::empty())?;
    let mut tar = tar::Archive::new(from);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some((folder, name)) = place(&base, &path)? else { continue };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make_folder(folder.as_fd(), Path::new(&name))?;
            continue;
        }
        match unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if kind.is_symlink() {
            let target = entry.link_name()?.ok_or_else(|| refused(&path, "it is a link without a target"))?;
            if target.as_os_str().len() > PATH_BYTES_MAX {
                return Err(refused(&path, "its target is too long"));
            }
            symlinkat(target.as_ref(), &folder, &name)?;
        } else if kind.is_file() {
            let mode = if entry.header().mode()? & 0o100 == 0 { 0o644 } else { 0o755 };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&folder, &name, flags, Mode::from_raw_mode(mode))?);
            // The process's mask must not change what was recorded.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            io::copy(&mut entry, &mut file)?;
        } else {
            return Err(refused(&path, "it is neither file, folder nor link"));
        }
    }
    Ok(())
}

/// The open folder that a path lies in, made with its parents if missing, and its last name.
fn place(base: &OwnedFd, path: &Path) -> io::Result<Option<(OwnedFd, std::ffi::OsString)>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused(path, "it leads out of the folder"));
            }
        }
    }
    let Some((last, parents)) = names.split_last() else { return Ok(None) };
    let mut folder = base.try_clone()?;
    for name in parents {
        make_folder(folder.as_fd(), Path::new(name))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        folder = openat2(&folder, Path::new(name), flags, Mode::empty(), resolve)?;
    }
    Ok(Some((folder, last.to_os_string())))
}

fn make_folder(folder: std::os::fd::BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    let name = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` of the artifact is refused: {why}"))
}
