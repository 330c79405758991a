//! Mounts by descriptor. In: paths outside, a root under construction. Out: detached trees and attached mounts.
//! Never resolves a path of an image against the host: every lookup inside a root is kept in it by openat2(RESOLVE_IN_ROOT).

use crate::error::{Doing, Failure, errno_text};
use crate::sys;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, mknodat, openat, openat2,
    readlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What every mount inside has: no set-user-id programs, no device nodes.
pub const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// `PLAIN` and no writing.
pub const READ_ONLY: u64 = PLAIN | libc::MOUNT_ATTR_RDONLY;
/// The kernel takes at most this many bytes in one mount option.
const OPTION_BYTES_MAX: usize = 255;
/// Links of an image that lead to links that lead nowhere.
const LINKS_MAX: u32 = 8;

/// A mount that is not yet attached anywhere.
pub struct Tree(pub OwnedFd);

impl Tree {
    /// A copy of the mount at `path`, with or without the mounts below it.
    pub fn of(path: &Path, with_submounts: bool) -> io::Result<Self> {
        Self::at(CWD, path, with_submounts)
    }

    /// As [`Tree::of`], relative to a folder.
    pub fn at(folder: BorrowedFd<'_>, path: &Path, with_submounts: bool) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if with_submounts {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        if path.as_os_str().is_empty() {
            flags |= OpenTreeFlags::AT_EMPTY_PATH;
        }
        Ok(Self(open_tree(folder, path, flags)?))
    }

    /// Sets attributes, and optionally the user namespace whose mapping the mount shows.
    pub fn set(&self, attributes: u64, with_submounts: bool, ids: Option<BorrowedFd<'_>>) -> io::Result<()> {
        sys::mount_setattr(self.0.as_fd(), with_submounts, attributes, ids)
    }

    /// Attaches it on an open folder or file.
    pub fn attach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.0.as_fd(), "", target, "", flags)?)
    }
}

/// A new file system that needs no device.
pub fn new_filesystem(kind: &str, options: &[(&str, &str)], attributes: u64) -> io::Result<Tree> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_truncate(attributes as u32);
    Ok(Tree(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
}

/// An overlay of `lower` (names relative to the current folder, the lowest first) and a writable folder.
///
/// `redirect_dir`, `index` and `metacopy` stay off: with a lower folder that others wrote they would follow its attributes.
/// `volatile`: nothing in a run outlives a crash of the machine, so its fsyncs buy nothing. `as_user`: its attributes are
/// in the name space that an ordinary user may write.
pub fn overlay(lower: &[String], upper: BorrowedFd<'_>, work: BorrowedFd<'_>, as_user: bool) -> io::Result<Tree> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let joined = lower.iter().rev().map(String::as_str).collect::<Vec<_>>().join(":");
    if joined.len() <= OPTION_BYTES_MAX {
        fsconfig_set_string(context.as_fd(), "lowerdir", joined.as_str())?;
    } else {
        for name in lower.iter().rev() {
            fsconfig_set_string(context.as_fd(), "lowerdir+", name.as_str())?;
        }
    }
    fsconfig_set_string(context.as_fd(), "upperdir", descriptor_path(upper).as_str())?;
    fsconfig_set_string(context.as_fd(), "workdir", descriptor_path(work).as_str())?;
    // The kernel takes `userxattr` with this word for "off" only.
    let redirect = if as_user { "nofollow" } else { "off" };
    for (key, value) in [("redirect_dir", redirect), ("index", "off"), ("metacopy", "off")] {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    if as_user {
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    // Kernels before 5.10 do not know it; they only lose speed.
    let _ = fsconfig_set_flag(context.as_fd(), "volatile");
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_truncate(PLAIN as u32);
    Ok(Tree(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
}

/// A path that leads to an open descriptor of this process, whatever it was called.
pub fn descriptor_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens a folder for lookups.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A root that is being built, and the ids that its new folders get.
pub struct Inside<'a> {
    /// The root folder.
    pub root: BorrowedFd<'a>,
    /// Outside id of root inside.
    pub owner: u32,
}

impl Inside<'_> {
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// The folder at `path`, made with its parents if missing. A link that leads nowhere gets its target made, inside.
    pub fn folder(&self, path: &Path) -> Result<OwnedFd, Failure> {
        self.folder_through(path, 0)
    }

    fn folder_through(&self, path: &Path, links: u32) -> Result<OwnedFd, Failure> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) if links <= LINKS_MAX => {}
            Err(e) => return Err(e).doing_on("open of folder", path.display()),
        }
        let mut so_far = PathBuf::new();
        let mut parent = self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY).doing("open of the root")?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            match mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o755)) {
                Ok(()) => self.own(parent.as_fd(), Path::new(name), 0).doing_on("chown of", path.display())?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e).doing_on("making of folder", path.display()),
            }
            let above = so_far.clone();
            so_far.push(name);
            parent = match self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    let target =
                        readlinkat(parent.as_fd(), name, Vec::new()).doing_on("open of folder", path.display())?;
                    // Joining an absolute target replaces what is above: `/` is the root inside either way.
                    self.folder_through(&above.join(OsStr::from_bytes(target.as_bytes())), links + 1)?
                }
                other => other.doing_on("open of folder", path.display())?,
            };
        }
        Ok(parent)
    }

    /// The file at `path`, made empty if missing.
    pub fn file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        if let Ok(fd) = self.open(path, OFlags::PATH) {
            return Ok(fd);
        }
        self.write(path, b"", 0o644)?;
        self.open(path, OFlags::PATH).doing_on("open of", path.display())
    }

    /// Writes a small file, replacing what was there (a symbolic link is replaced, not followed).
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        let _ = rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            openat(parent.as_fd(), name, flags, Mode::from_raw_mode(mode)).doing_on("writing of", path.display())?;
        File::from(fd).write_all(bytes).doing_on("writing of", path.display())?;
        self.own(parent.as_fd(), Path::new(name), 0).doing_on("chown of", path.display())
    }

    /// Makes a symbolic link if nothing is there.
    pub fn link(&self, target: &Path, path: &Path) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::symlinkat(target, parent.as_fd(), name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e).doing_on("linking of", path.display()),
        }
    }

    /// Attaches a tree on the folder at `path`.
    pub fn attach(&self, tree: &Tree, path: &Path) -> Result<(), Failure> {
        let target = self.folder(path)?;
        tree.attach(target.as_fd()).doing_on("mount on", path.display())
    }

    /// Shows a file or folder of the host at `path`, by mounts without or with those below it.
    pub fn show(&self, source: &Path, path: &Path, attributes: u64, with_submounts: bool) -> Result<(), Failure> {
        let tree = Tree::of(source, with_submounts).doing_on("open of", source.display())?;
        tree.set(attributes, with_submounts, None).doing_on("restricting of", path.display())?;
        self.attach_like(&tree, source, path)
    }

    /// Shows a file or folder of the host read-only under a name that the root does not have yet: a few calls of the
    /// kernel, for what there are many of.
    pub fn show_new(&self, source: &Path, name: &OsStr, is_folder: bool) -> Result<(), Failure> {
        let tree = Tree::of(source, false).doing_on("open of", source.display())?;
        tree.set(READ_ONLY, false, None).doing_on("restricting of", source.display())?;
        let place = || {
            if is_folder {
                mkdirat(self.root, name, Mode::from_raw_mode(0o755))?;
            } else {
                mknodat(self.root, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
            }
            openat(self.root, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        let target = place().doing_on("making of the place for", source.display())?;
        tree.attach(target.as_fd()).doing_on("mount of", source.display())
    }

    /// Shows a file or folder with its ids as seen from inside. Where the file system cannot do that, a read-only one
    /// is shown with unknown owners (`Ok(false)`), a writable one is refused: it would be writable by nobody. Without
    /// `ids` nothing is mapped: what the shim's user owns is root's inside.
    pub fn show_mapped(
        &self,
        source: &Path,
        path: &Path,
        attributes: u64,
        ids: Option<BorrowedFd<'_>>,
    ) -> Result<bool, Failure> {
        let tree = Tree::of(source, false).doing_on("open of", source.display())?;
        match tree.set(attributes, false, ids) {
            Ok(()) => self.attach_like(&tree, source, path).map(|()| true),
            Err(_) if attributes & libc::MOUNT_ATTR_RDONLY != 0 => {
                self.show(source, path, attributes, false).map(|()| false)
            }
            Err(e) => Err(Failure::new(
                format!("id mapping of `{}`", source.display()),
                format!("{}; its file system must support idmapped mounts to be writable", errno_text(&e)),
            )),
        }
    }

    fn attach_like(&self, tree: &Tree, source: &Path, path: &Path) -> Result<(), Failure> {
        let is_folder = std::fs::metadata(source).doing_on("look at", source.display())?.is_dir();
        let target = if is_folder { self.folder(path)? } else { self.file(path)? };
        tree.attach(target.as_fd()).doing_on("mount on", path.display())
    }

    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Failure> {
        let name =
            path.file_name().ok_or_else(|| Failure::new(format!("path `{}`", path.display()), "it has no name"))?;
        let parent = self.folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok((parent, name))
    }

    fn own(&self, folder: BorrowedFd<'_>, name: &Path, id: u32) -> io::Result<()> {
        own(folder, name, self.owner + id, self.owner + id)
    }
}

/// chown that does not follow a link.
pub fn own(folder: BorrowedFd<'_>, name: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes a folder in the run's state folder, owned by an id of the sandbox, and opens it.
pub fn state_folder(dir: BorrowedFd<'_>, name: &str, mode: u32, owner: (u32, u32)) -> Result<OwnedFd, Failure> {
    let mut so_far = PathBuf::new();
    for part in Path::new(name).components() {
        so_far.push(part);
        match mkdirat(dir, &so_far, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).doing_on("making of state folder", name),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty()).doing_on("open of state folder", name)?;
    let owner_ids = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(fd.as_fd(), Some(owner_ids.0), Some(owner_ids.1)).doing_on("chown of state folder", name)?;
    rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(mode)).doing_on("chmod of state folder", name)?;
    Ok(fd)
}

/// Whether `path` is a symbolic link, and to where.
pub fn link_target(path: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(path).ok()?;
    (!target.as_os_str().as_bytes().is_empty()).then_some(target)
}
