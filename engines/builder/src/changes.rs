//! What a RUN changed, as a layer.
//!
//! In: the upper folder of the overlay that was its root, and the file system before it. Out: a packed layer: what is new or
//! changed, and whiteouts for what is gone; the same bytes for the same changes.
//! Never: what the sandbox itself put there; a pipe, a socket or an extended attribute; a link that is followed.
//!
//! overlayfs marks what is gone by a character device 0/0, and a folder that hides the one below it by the attribute
//! `overlay.opaque` (kernel documentation, `filesystems/overlayfs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, openat, readlinkat, statat};
use slipway_blobs::{Blobs, Lease};

use crate::error::BuildError;
use crate::folder::{self, Folder};
use crate::layer::{Attributes, Packer};
use crate::oci::LayerBlob;
use crate::paths::{absolute, ancestors, join, name, parent};
use crate::run::Owners;
use crate::tree::{ENTRIES_MAX, Kind, Tree};

/// Deeper folders are a mistake, and each level holds a descriptor.
const DEPTH_MAX: u32 = 200;
/// The sandbox writes these anew for each run.
const OF_THE_SANDBOX: &[&str] = &["etc/hosts", "etc/hostname", "etc/resolv.conf"];
/// Things of the run are mounted there; what is in them is in no upper folder.
const MOUNTED: &[&str] = &["dev", "proc", "run", "sys"];

/// One changed path.
#[derive(Debug)]
enum What {
    Folder { hides_what_was_there: bool },
    File { size_bytes: u64, inode: Option<(u64, u64)> },
    Link { target: String },
    Gone,
}

#[derive(Debug)]
struct Change {
    what: What,
    attributes: Attributes,
}

/// Where a RUN ran, and what is no part of its result.
pub(crate) struct Source<'a> {
    /// The upper folder.
    pub(crate) upper: &'a Path,
    /// Whose files are in it.
    pub(crate) owners: Owners,
    /// The file system before the RUN.
    pub(crate) before: &'a Tree,
    /// Where caches were mounted.
    pub(crate) mounts: Vec<String>,
}

/// Packs what was changed; `label` is what errors call the layer.
pub(crate) fn pack(
    source: &Source<'_>,
    blobs: &Blobs,
    label: &str,
    epoch_seconds: u64,
    stop: &AtomicBool,
) -> Result<(LayerBlob, Lease), BuildError> {
    let folder = Folder::open(source.upper)?;
    let mut reader = Reader { folder: &folder, owners: source.owners, found: BTreeMap::new(), stop };
    let top = folder.open_at("", OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| folder.failed("open", "", e))?;
    reader.walk(&top, "", 0)?;
    let mut changes = reader.found;
    leave_out(&mut changes, source);
    let mut packer = Packer::new(blobs, label, epoch_seconds, stop)?;
    let mut first_names: HashMap<(u64, u64), String> = HashMap::new();
    for (path, change) in &changes {
        let attributes = change.attributes;
        match &change.what {
            What::Folder { hides_what_was_there } => {
                packer.folder(path, attributes)?;
                if *hides_what_was_there {
                    packer.whiteout(&join(path, ".wh..wh..opq"))?;
                }
            }
            What::Link { target } => packer.link(path, attributes, target)?,
            What::Gone => packer.whiteout(&join(parent(path), &format!(".wh.{}", name(path))))?,
            What::File { size_bytes, inode } => {
                match inode.and_then(|inode| first_names.get(&inode)) {
                    Some(first) => packer.hard_link(path, attributes, first)?,
                    None => {
                        packer.file(path, attributes, *size_bytes, folder.open_file(path)?)?;
                    }
                }
                if let Some(inode) = inode {
                    first_names.entry(*inode).or_insert_with(|| path.clone());
                }
            }
        }
    }
    packer.finish()
}

struct Reader<'a> {
    folder: &'a Arc<Folder>,
    owners: Owners,
    found: BTreeMap<String, Change>,
    stop: &'a AtomicBool,
}

impl Reader<'_> {
    fn walk(&mut self, above: &OwnedFd, path: &str, depth: u32) -> Result<(), BuildError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BuildError::Stopped);
        }
        if depth > DEPTH_MAX {
            return Err(BuildError::Limit {
                what: format!("the depth of the folders in `/{}`", path.chars().take(60).collect::<String>()),
                limit: DEPTH_MAX.to_string(),
            });
        }
        let names = folder::names(above).map_err(|error| self.folder.failed("list", path, error))?;
        for name in names {
            let name = name.map_err(|name| BuildError::BadResult {
                path: format!("/{}", join(path, &name)),
                message: "its name is not UTF-8".to_owned(),
            })?;
            let inner = join(path, &name);
            if name.starts_with(".wh.") {
                let message = "a layer would take this name for a mark of what is removed".to_owned();
                return Err(BuildError::BadResult { path: format!("/{inner}"), message });
            }
            let stat = statat(above, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.folder.failed("look at", &inner, error))?;
            self.take(above.as_fd(), &name, inner, &stat, depth)?;
            if self.found.len() > ENTRIES_MAX {
                let what = "the number of files that a command changed".to_owned();
                return Err(BuildError::Limit { what, limit: ENTRIES_MAX.to_string() });
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        above: BorrowedFd<'_>,
        name: &str,
        path: String,
        stat: &Stat,
        depth: u32,
    ) -> Result<(), BuildError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_char_device() && stat.st_rdev == 0 {
            let attributes = Attributes { mode: 0, uid: 0, gid: 0 };
            self.found.insert(path, Change { what: What::Gone, attributes });
            return Ok(());
        }
        let what = if kind.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(above, name, flags, Mode::empty());
            let opened = opened.map_err(|error| self.folder.failed("open", &path, error))?;
            self.walk(&opened, &path, depth + 1)?;
            What::Folder { hides_what_was_there: is_opaque(opened.as_fd()) }
        } else if kind.is_file() {
            let inode = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
            What::File { size_bytes: stat.st_size as u64, inode }
        } else if kind.is_symlink() {
            let target = readlinkat(above, name, Vec::new());
            let target = target.map_err(|error| self.folder.failed("read", &path, error))?;
            let target = target.into_string().map_err(|_| BuildError::BadResult {
                path: format!("/{path}"),
                message: "the target of this link is not UTF-8".to_owned(),
            })?;
            What::Link { target }
        } else {
            return Ok(()); // a pipe or a socket means nothing without the processes at its ends
        };
        let attributes = self.attributes(stat, &path)?;
        self.found.insert(path, Change { what, attributes });
        Ok(())
    }

    fn attributes(&self, stat: &Stat, path: &str) -> Result<Attributes, BuildError> {
        let (uid, gid) = self.owners.inside(stat.st_uid, stat.st_gid).ok_or_else(|| BuildError::BadResult {
            path: format!("/{path}"),
            message: format!("its owner {}:{} is nobody of the sandbox", stat.st_uid, stat.st_gid),
        })?;
        Ok(Attributes { mode: stat.st_mode & 0o7777, uid, gid })
    }
}

/// In one of both name spaces, whichever the mount used.
fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    let mut value = [0_u8; 1];
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|attribute| matches!(fgetxattr(folder, *attribute, &mut value[..]), Ok(1) if value[0] == b'y'))
}

/// Takes away what is the sandbox's, and folders in which nothing was changed in the end: overlayfs copies those above
/// whatever is written.
fn leave_out(changes: &mut BTreeMap<String, Change>, source: &Source<'_>) {
    let mounts: BTreeSet<String> = MOUNTED
        .iter()
        .map(|path| (*path).to_owned())
        .chain(source.mounts.iter().map(|path| absolute("", path)))
        .collect();
    changes.retain(|path, _| {
        !OF_THE_SANDBOX.contains(&path.as_str()) && !ancestors(path).any(|folder| mounts.contains(folder))
    });
    // What the sandbox makes where it is missing.
    let mut made: BTreeSet<&str> = BTreeSet::from(["etc", "tmp"]);
    for mount in &mounts {
        made.extend(ancestors(mount).chain([mount.as_str()]));
    }
    if let Some(change) = changes.get_mut("tmp")
        && change.attributes.mode == 0o1777
        && let Some(before) = source.before.get("tmp").filter(|node| node.is_folder())
    {
        change.attributes.mode = before.mode; // the sandbox opens it to all
    }
    let folders: Vec<String> = changes
        .iter()
        .filter(|(_, change)| matches!(change.what, What::Folder { hides_what_was_there: false }))
        .map(|(path, _)| path.clone())
        .collect();
    // The innermost first: a folder may be left with nothing in it.
    for path in folders.iter().rev() {
        let prefix = format!("{path}/");
        let has_more = changes.range(prefix.clone()..).next().is_some_and(|(next, _)| next.starts_with(&prefix));
        let Some(change) = changes.get(path).filter(|_| !has_more) else { continue };
        let is_as_before = match source.before.get(path) {
            Some(node) => {
                let attributes = Attributes { mode: node.mode, uid: node.uid, gid: node.gid };
                matches!(node.kind, Kind::Folder) && attributes == change.attributes
            }
            None => made.contains(path.as_str()),
        };
        if is_as_before {
            changes.remove(path);
        }
    }
}
