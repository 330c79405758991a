//! Unpacks one layer into an empty folder.
//!
//! In: a layer from anybody. Out: its files, with owners, modes and times, and overlayfs whiteouts.
//! Never: a path resolved by anything but the kernel below the folder, without links (`openat2` with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); a device, a pipe, a socket; an extended attribute of the layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use slipway_blobs::{BlobError, Blobs, Hasher};

use super::UnpackError;
use crate::layer;
use crate::oci::LayerBlob;
use crate::paths::{ancestors, join, name, of_entry, parent};
use crate::tree::ENTRIES_MAX;

/// One layer may unpack to this much: a small archive can hold endless zeros.
const LAYER_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Why a layer cannot be unpacked.
#[derive(Debug)]
pub(super) enum ExtractError {
    Bad(String),
    Io(io::Error),
}

impl ExtractError {
    pub(super) fn of(self, layer: &LayerBlob, folder: &Path) -> UnpackError {
        let (layer, folder) = (layer.digest, folder.to_owned());
        let source = match self {
            Self::Bad(message) => return UnpackError::BadLayer { layer, message },
            Self::Io(error) => error,
        };
        let source = match BlobError::from_io(source) {
            Ok(error) => return UnpackError::Store(error),
            Err(source) => source,
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let stat = rustix::fs::statvfs(&folder);
                let free_bytes = stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                UnpackError::DiskFull { layer, folder, free_bytes, source }
            }
            // The compressed stream or the archive itself is broken.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::Other => UnpackError::BadLayer { layer, message: source.to_string() },
            _ => UnpackError::Io { action: "unpack into", path: folder, source },
        }
    }
}

impl From<io::Error> for ExtractError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for ExtractError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<String> for ExtractError {
    fn from(message: String) -> Self {
        Self::Bad(message)
    }
}

/// Unpacks `layer` into `folder`, and checks both of its digests.
pub(super) fn extract(blobs: &Blobs, layer: &LayerBlob, folder: &Path) -> Result<(), ExtractError> {
    let reader = layer::open(blobs, layer).map_err(BlobError::into_io)?;
    let mut archive = tar::Archive::new(Hashing { inner: reader, hasher: Hasher::new(), left_bytes: LAYER_BYTES_MAX });
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut target = Target {
        root: openat(CWD, folder, flags, Mode::empty())?,
        folders: BTreeMap::from([(String::new(), Attributes::default())]),
        owns: rustix::process::geteuid().is_root(),
        entries: 0,
    };
    for entry in archive.entries()? {
        target.unpack(&mut entry?)?;
    }
    target.finish()?;
    let mut reader = archive.into_inner();
    io::copy(&mut reader, &mut io::sink())?;
    let found = reader.hasher.finish();
    if found != layer.diff_id {
        let promised = layer.diff_id;
        return Err(format!("it unpacks to `{found}`, the image promises `{promised}`").into());
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_seconds: u64,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime_seconds: 0 }
    }
}

struct Target {
    root: OwnedFd,
    /// The folders that were made. Their attributes are set at the end, when nothing more is put
    /// into them: it would change their time, and a read-only one would refuse it.
    folders: BTreeMap<String, Attributes>,
    /// Only root can give files away.
    owns: bool,
    entries: usize,
}

impl Target {
    fn unpack(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), ExtractError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} entries").into());
        }
        if entry.header().entry_type().is_pax_global_extensions() {
            return Ok(());
        }
        let path = of_entry(&entry.path_bytes())?;
        if let Some(hidden) = name(&path).strip_prefix(".wh.") {
            return self.hide(parent(&path), hidden);
        }
        let attributes = attributes(entry, &path)?;
        if path.is_empty() {
            self.folders.insert(path, attributes);
            return Ok(());
        }
        let folder = self.folder(parent(&path))?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                self.make_folder(folder.as_fd(), &path)?;
                self.folders.insert(path, attributes);
                Ok(())
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                self.clear(folder.as_fd(), &path)?;
                self.file(folder.as_fd(), &path, entry, attributes)
            }
            tar::EntryType::Symlink => {
                self.clear(folder.as_fd(), &path)?;
                self.link(folder.as_fd(), &path, &link_target(entry, &path)?, attributes)
            }
            tar::EntryType::Link => {
                let target = of_entry(&link_target(entry, &path)?)?;
                self.hard_link(folder.as_fd(), &path, &target)
            }
            other => Err(format!("`{path}` is a {}, which no layer may have", kind_text(other)).into()),
        }
    }

    /// Opens a folder of the layer, and makes it if the layer did not say it before.
    fn folder(&mut self, path: &str) -> Result<OwnedFd, ExtractError> {
        let mut above = self.open("")?.ok_or(Errno::NOENT)?;
        if path.is_empty() {
            return Ok(above);
        }
        if self.folders.contains_key(path) {
            return Ok(self.open(path)?.ok_or(Errno::NOENT)?);
        }
        for step in ancestors(path).chain([path]) {
            if !self.folders.contains_key(step) {
                refuse_other_than_whiteout(above.as_fd(), step)?;
                self.make_folder(above.as_fd(), step)?;
                self.folders.insert(step.to_owned(), Attributes::default());
            }
            above = self.open(step)?.ok_or(Errno::NOENT)?;
        }
        Ok(above)
    }

    /// `None` when it is not there. A link or a file on the way is a reason to refuse the layer.
    fn open(&self, path: &str) -> Result<Option<OwnedFd>, ExtractError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = openat2(&self.root, if path.is_empty() { "." } else { path }, flags, Mode::empty(), within);
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => Err(format!("`{path}` leads over a link").into()),
            Err(Errno::NOTDIR) => Err(format!("`{path}` is used as a folder and is none").into()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_folder(&mut self, above: BorrowedFd<'_>, path: &str) -> Result<(), ExtractError> {
        if self.folders.contains_key(path) {
            return Ok(());
        }
        let was_hidden = self.clear(above, path)?;
        mkdirat(above, name(path), Mode::from_raw_mode(0o700))?;
        match was_hidden {
            // The layer replaces the folder as a whole.
            true => set_opaque(self.open(path)?.ok_or(Errno::NOENT)?.as_fd()),
            false => Ok(()),
        }
    }

    /// A path may come twice, then the later one counts; a folder with things in it stays in the way.
    /// True when what was there was a whiteout.
    fn clear(&mut self, above: BorrowedFd<'_>, path: &str) -> Result<bool, ExtractError> {
        let stat = match statat(above, name(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_dir() {
            unlinkat(above, name(path), AtFlags::empty())?;
            return Ok(kind.is_char_device());
        }
        match unlinkat(above, name(path), AtFlags::REMOVEDIR) {
            Ok(()) => {
                self.folders.remove(path);
                Ok(false)
            }
            Err(_) => Err(format!("`{path}` is a folder first and something else later").into()),
        }
    }

    fn file(
        &self,
        above: BorrowedFd<'_>,
        path: &str,
        content: &mut impl Read,
        attributes: Attributes,
    ) -> Result<(), ExtractError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(above, name(path), flags, Mode::from_raw_mode(0o600))?);
        let mut buffer = [0; 64 * 1024];
        loop {
            let length = content.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            file.write_all(&buffer[..length])?;
        }
        self.set(&file, attributes)
    }

    fn link(
        &self,
        above: BorrowedFd<'_>,
        path: &str,
        target: &[u8],
        attributes: Attributes,
    ) -> Result<(), ExtractError> {
        symlinkat(target, above, name(path))?;
        if self.owns {
            let (uid, gid) = owner(attributes);
            chownat(above, name(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(utimensat(above, name(path), &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn hard_link(&mut self, above: BorrowedFd<'_>, path: &str, target: &str) -> Result<(), ExtractError> {
        if path == target {
            return Err(format!("`{path}` is a hard link to itself").into());
        }
        let bad = || format!("`{path}` is a hard link to `{target}`, which is no file of its layer");
        let there = self.open(parent(target))?.ok_or_else(bad)?;
        let stat = statat(&there, name(target), AtFlags::SYMLINK_NOFOLLOW).map_err(|_| bad())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_file() && !kind.is_symlink() {
            return Err(bad().into());
        }
        self.clear(above, path)?;
        Ok(linkat(&there, name(target), above, name(path), AtFlags::empty())?)
    }

    /// Whiteouts (OCI image specification, "Whiteouts").
    fn hide(&mut self, folder: &str, hidden: &str) -> Result<(), ExtractError> {
        let opened = self.folder(folder)?;
        if hidden == ".wh..opq" {
            return set_opaque(opened.as_fd());
        }
        if hidden.starts_with(".wh.") {
            return Ok(()); // bookkeeping of aufs
        }
        if matches!(hidden, "" | "." | "..") {
            return Err(format!("`{folder}/.wh.{hidden}` hides nothing that has a name").into());
        }
        let path = join(folder, hidden);
        // What the layer itself has in this place is not hidden by it.
        if statat(&opened, hidden, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return match self.folders.contains_key(&path) {
                true => set_opaque(self.folder(&path)?.as_fd()),
                false => Ok(()),
            };
        }
        Ok(mknodat(&opened, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?)
    }

    fn finish(&self) -> Result<(), ExtractError> {
        // The innermost first: the time of a folder changes when one in it is made.
        for (path, attributes) in self.folders.iter().rev() {
            let opened = self.open(path)?.ok_or(Errno::NOENT)?;
            self.set(&opened, *attributes)?;
        }
        Ok(())
    }

    fn set(&self, file: impl AsFd, attributes: Attributes) -> Result<(), ExtractError> {
        if self.owns {
            let (uid, gid) = owner(attributes);
            fchown(&file, uid, gid)?;
        }
        // After the owner: a change of owner takes set-user-id away.
        fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
        Ok(futimens(&file, &times(attributes))?)
    }
}

/// A link or file that an entry wants to go through.
fn refuse_other_than_whiteout(above: BorrowedFd<'_>, path: &str) -> Result<(), ExtractError> {
    let Ok(stat) = statat(above, name(path), AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(()),
        FileType::Symlink => Err(format!("`{path}` leads over a link").into()),
        _ => Err(format!("`{path}` is used as a folder and is none").into()),
    }
}

fn attributes(entry: &tar::Entry<'_, impl Read>, path: &str) -> Result<Attributes, ExtractError> {
    let header = entry.header();
    let number = |value: io::Result<u64>| {
        let value = value.ok().and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("`{path}` has an owner that is no number"))
    };
    Ok(Attributes {
        mode: header.mode().map_err(|_| format!("`{path}` has a mode that is no number"))? & 0o7777,
        uid: number(header.uid())?,
        gid: number(header.gid())?,
        mtime_seconds: header.mtime().unwrap_or(0).min(i64::MAX as u64),
    })
}

fn link_target(entry: &tar::Entry<'_, impl Read>, path: &str) -> Result<Vec<u8>, ExtractError> {
    let target = entry.link_name_bytes().map(|target| target.into_owned());
    match target {
        Some(target) if !target.is_empty() && !target.contains(&0) => Ok(target),
        Some(_) | None => Err(format!("`{path}` is a link to nothing").into()),
    }
}

fn kind_text(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Char | tar::EntryType::Block => "device",
        tar::EntryType::Fifo => "pipe",
        tar::EntryType::GNUSparse => "sparse file",
        _ => "thing of an unknown kind",
    }
}

fn set_opaque(folder: BorrowedFd<'_>) -> Result<(), ExtractError> {
    let trusted = fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty());
    let user = fsetxattr(folder, "user.overlay.opaque", b"y", XattrFlags::empty());
    // Not every file system has both; one of them is what a mount here can read.
    match (trusted, user) {
        (Err(_), Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn owner(attributes: Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

fn times(attributes: Attributes) -> Timestamps {
    let moment = Timespec { tv_sec: attributes.mtime_seconds as _, tv_nsec: 0 };
    Timestamps { last_access: moment, last_modification: moment }
}

/// Sees the uncompressed bytes, and ends when there are too many of them.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    left_bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        match self.left_bytes.checked_sub(length as u64) {
            Some(left) => self.left_bytes = left,
            None => return Err(io::Error::other(format!("it unpacks to more than {LAYER_BYTES_MAX} bytes"))),
        }
        Ok(length)
    }
}
