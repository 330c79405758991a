//! `/dev` and `/proc` inside. In: a root under construction. Out: harmless devices, and a `/proc` whose host-wide files cannot be used.

use crate::error::{Doing, Failure};
use crate::mounts::{self, Inside, READ_ONLY, Tree, new_filesystem};
use std::os::fd::AsFd;
use std::path::Path;

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Files of `/proc` about the whole machine.
const HIDDEN: &[&str] =
    &["kcore", "keys", "key-users", "kmsg", "sysrq-trigger", "timer_list", "latency_stats", "sched_debug", "config.gz"];
/// Folders of `/proc` that change the whole machine.
const FROZEN: &[&str] = &["sys", "irq", "bus", "fs"];

/// Adds both.
pub fn add(inside: &Inside<'_>) -> Result<(), Failure> {
    add_devices(inside)?;
    add_processes(inside)
}

fn add_devices(inside: &Inside<'_>) -> Result<(), Failure> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "0755"), ("size", "64k")];
    let folder = new_filesystem("tmpfs", &options, attributes).doing("mount of /dev")?;
    mounts::own(folder.0.as_fd(), Path::new("."), inside.owner, inside.owner).doing("chown of /dev")?;
    inside.attach(&folder, Path::new("/dev"))?;
    let dev = Inside { root: folder.0.as_fd(), owner: inside.owner };
    for name in DEVICES {
        let source = Path::new("/dev").join(name);
        let tree = Tree::of(&source, false).doing_on("open of", source.display())?;
        tree.set(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, false, None)
            .doing_on("restricting of", source.display())?;
        tree.attach(dev.file(Path::new(name))?.as_fd()).doing_on("mount on", source.display())?;
    }
    for (name, target) in
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")]
    {
        dev.link(Path::new(target), Path::new(name))?;
    }
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    let terminals = new_terminals(&options).doing("mount of /dev/pts")?;
    dev.attach(&terminals, Path::new("/pts"))?;
    dev.folder(Path::new("/shm")).map(drop)
}

fn new_terminals(options: &[(&str, &str)]) -> std::io::Result<Tree> {
    // `newinstance` is what every mount of devpts means since Linux 4.7.
    let options: Vec<_> = options.iter().filter(|(key, _)| *key != "newinstance").copied().collect();
    new_filesystem("devpts", &options, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)
}

fn add_processes(inside: &Inside<'_>) -> Result<(), Failure> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let tree = new_filesystem("proc", &[], attributes).doing("mount of /proc")?;
    inside.attach(&tree, Path::new("/proc"))?;
    let proc = Inside { root: tree.0.as_fd(), owner: inside.owner };
    let exists = |name: &str| {
        rustix::fs::accessat(tree.0.as_fd(), name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
    };
    for name in HIDDEN.iter().filter(|name| exists(name)) {
        let null = Tree::of(Path::new("/dev/null"), false).doing("open of /dev/null")?;
        null.attach(proc.file(Path::new(name))?.as_fd()).doing_on("hiding of /proc", name)?;
    }
    for name in FROZEN.iter().filter(|name| exists(name)) {
        let copy = Tree::at(tree.0.as_fd(), Path::new(name), false).doing_on("open of /proc", name)?;
        copy.set(READ_ONLY | libc::MOUNT_ATTR_NOEXEC, false, None).doing_on("freezing of /proc", name)?;
        copy.attach(proc.folder(Path::new(name))?.as_fd()).doing_on("freezing of /proc", name)?;
    }
    Ok(())
}
