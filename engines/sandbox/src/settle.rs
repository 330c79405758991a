//! What a run of an ordinary user leaves on disk. In: a folder in which ids of a user namespace wrote. Out: the same files, the user's
//! own to read; what he cannot remove is removed in such a namespace. Never follows a link, and changes no mode but one that
//! forbids reading: files of a run become results.

use crate::error::errno_text;
use crate::launch::Launcher;
use crate::standing::{self, Side};
use crate::sys;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, openat, statat};
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Deeper folders are a mistake; they are still removed, only by a process of their own.
const DEPTH_MAX: u32 = 200;
const PATH_BYTES_MAX: u64 = 64 * 1024;
/// Removing millions of files takes a while.
const REMOVE_LIMIT: Duration = Duration::from_secs(600);
const OWNER_READS: u32 = 0o400;
const OWNER_LISTS: u32 = 0o500;

/// Makes what is in a folder the user's own. Called by root of the user namespace, when nothing inside runs any more.
pub fn settle(folder: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(folder) = openat(CWD, folder, flags, Mode::empty()) {
        settle_in(folder.as_fd(), 0);
    }
}

fn settle_in(folder: BorrowedFd<'_>, depth: u32) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name != c"." && name != c".." {
            settle_one(folder, name, depth);
        }
    }
}

/// What cannot be settled stays for the removal, which has the same rights.
fn settle_one(folder: BorrowedFd<'_>, name: &CStr, depth: u32) {
    let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    if stat.st_uid != 0 || stat.st_gid != 0 {
        let (uid, gid) = (Some(Uid::ROOT), Some(Gid::ROOT));
        let _ = chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    }
    let needs = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => OWNER_LISTS,
        FileType::RegularFile => OWNER_READS,
        _ => return,
    };
    if stat.st_mode & needs != needs {
        let _ = chmodat(folder, name, Mode::from_raw_mode((stat.st_mode & 0o7777) | needs), AtFlags::empty());
    }
    if needs == OWNER_LISTS && depth < DEPTH_MAX {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(below) = openat(folder, name, flags, Mode::empty()) {
            settle_in(below.as_fd(), depth + 1);
        }
    }
}

/// Removes a folder with everything in it, also what a run of this user left that only its namespace may remove: a run that was
/// killed with its shim, an image with folders that forbid it. A folder that is not there is an error as always.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    Launcher::this_program().remove(folder)
}

impl Launcher {
    /// As [`remove_folder`], by this launcher's program.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {
                self.remove_inside(folder).map_err(|_| e)
            }
            other => other,
        }
    }

    fn remove_inside(&self, folder: &Path) -> io::Result<()> {
        let mut command = self.command("remove");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let told = child.stdin.take().map(|mut input| input.write_all(folder.as_os_str().as_bytes()));
        told.unwrap_or(Ok(()))?;
        let pid = rustix::process::Pid::from_raw(child.id() as i32).ok_or(io::ErrorKind::NotFound)?;
        let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        if !crate::wire::readable_within(ended, REMOVE_LIMIT)? {
            let _ = child.kill();
        }
        if child.wait()?.success() { Ok(()) } else { Err(io::Error::other("some of it could not be removed")) }
    }
}

/// Entry of a process that removes the folder named on its standard input. Returns the exit code.
pub fn remove_main() -> i32 {
    let mut path = Vec::new();
    if io::stdin().take(PATH_BYTES_MAX).read_to_end(&mut path).is_err() {
        return 2;
    }
    match standing::fork() {
        Ok(Side::Shim(Ok(_))) => match remove(Path::new(OsStr::from_bytes(&path))) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Ok(Side::Parent(pid)) => sys::reap(Some(pid), true).ok().flatten().and_then(|ended| ended.code).unwrap_or(1),
        Ok(Side::Shim(Err(_))) | Err(_) => 3,
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    settle(folder);
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io::Error::other(errno_text(&e))),
        Ok(()) => Ok(()),
    }
}
