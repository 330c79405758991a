//! Gives up every right that the sandbox must not have. In: a process that is the host's root, or root of its user's namespace. Out: the same process as root of
//! its user namespace only, with a short list of capabilities, no way to gain more, a system call filter and resource limits.

use crate::error::{Doing, Failure};
use crate::spec::Spec;
use crate::{seccomp, sys};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use std::os::fd::BorrowedFd;

/// What root inside may still do: own files, change users, bind low ports. All of it counts within its own ids only.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);
/// Open files: as much as servers usually ask for.
const OPEN_FILES: u64 = 65_536;

/// Confines this process and everything that it will start.
pub fn confine(spec: &Spec, ids: BorrowedFd<'_>, limit_processes: bool, drop_groups: bool) -> Result<(), Failure> {
    limits(spec, limit_processes)?;
    sys::unshare(sys::NEW_CGROUP).doing("cgroup namespace")?;
    sys::setns(ids, sys::NEW_USER).doing("entering the user namespace")?;
    sys::become_user(0, 0, drop_groups.then_some(&[][..])).doing("becoming root inside")?;
    capabilities()?;
    // Both are cleared by a change of user, hence here. Not dumpable: nothing inside may look into this process, which
    // is a copy of the shim and was given secrets.
    set_parent_process_death_signal(Some(Signal::KILL)).doing("parent's death signal")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("making it not dumpable")?;
    set_no_new_privs(true).doing("no_new_privs")?;
    sys::install_filter(&seccomp::filter(spec.kind)).doing("system call filter")
}

fn capabilities() -> Result<(), Failure> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if KEPT.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // A number beyond the kernel's last capability: there is nothing to drop from here on.
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(e).doing("dropping of capabilities"),
        }
    }
    rustix::thread::clear_ambient_capability_set().doing("dropping of capabilities")?;
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).doing("dropping of capabilities")
}

fn limits(spec: &Spec, limit_processes: bool) -> Result<(), Failure> {
    sys::limit_resource(libc::RLIMIT_CORE, 0).doing("limit of core files")?;
    sys::limit_resource(libc::RLIMIT_NOFILE, OPEN_FILES).doing("limit of open files")?;
    if let Some(bytes) = spec.limits.file_bytes {
        sys::limit_resource(libc::RLIMIT_FSIZE, bytes).doing("limit of a file's size")?;
    }
    if limit_processes {
        sys::limit_resource(libc::RLIMIT_NPROC, spec.limits.processes.into()).doing("limit of processes")?;
    }
    Ok(())
}
