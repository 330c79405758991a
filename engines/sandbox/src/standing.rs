//! Who a shim is. In: the user who started it. Out: the shim's process, as the machine's root or as root of a user namespace
//! whose ids are the user and his subordinate ids, or the user alone. Never more than this user may have anyway.

use crate::error::{Doing, Failure};
use crate::probe::Level;
use crate::spec::Spec;
use crate::subordinate::{self, Ranges};
use crate::sys;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{getegid, geteuid};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Two small programs have to be run meanwhile.
const MAPPING_LIMIT: Duration = Duration::from_secs(15);
/// Begins the note of a shim that has fewer ids than its account.
pub const IDS_UNUSED: &str = "subordinate ids are not used: ";
const MADE: &[u8] = b"m";
const MAPPED: &[u8] = b"y";

/// What a shim may do, and with which ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The level.
    pub level: Level,
    /// Ids 0 and on that there are; for the machine's root all.
    ids: u32,
    /// What had to be done in a weaker way than this user's ids promise.
    pub notes: Vec<String>,
}

/// Which process this is after the fork.
pub enum Side {
    /// The shim, or why it cannot be one.
    Shim(Result<Standing, Failure>),
    /// Who forked it.
    Parent(libc::pid_t),
}

impl Standing {
    /// The machine's root.
    fn root() -> Self {
        Self { level: Level::Root, ids: u32::MAX, notes: Vec::new() }
    }

    /// Whether it is the machine's root: mounts can show other ids, and every limit can be set.
    pub fn is_root(&self) -> bool {
        self.level == Level::Root
    }

    /// Whether the groups that this user is a member of can be given up.
    pub fn drops_groups(&self) -> bool {
        self.level != Level::SingleId
    }

    /// The id that root of the sandbox is to this process, and how many ids the sandbox has.
    pub fn range(&self, spec: &Spec) -> (u32, u32) {
        if self.is_root() { spec.ids.range(&spec.id) } else { (0, self.ids) }
    }

    /// Refuses a user inside who has no id outside.
    pub fn check_user(&self, text: &str, uid: u32, gid: u32) -> Result<(), Failure> {
        if self.is_root() || uid.max(gid) < self.ids {
            return Ok(());
        }
        let why = match self.level {
            Level::SingleId => "it needs a second id, and this account has one only; \
                 with subordinate ids it works (`slipway doctor` says how), and root (`USER 0`) works as it is"
                .to_owned(),
            _ => format!("this account has {} subordinate ids in `/etc/subuid`, and it needs more", self.ids - 1),
        };
        Err(Failure::new(format!("user `{text}`"), why))
    }
}

/// Forks the process that becomes the shim. For an ordinary user it is root of a user namespace when this returns in it.
pub fn fork() -> io::Result<Side> {
    if geteuid().is_root() {
        return Ok(match sys::clone(0)? {
            0 => Side::Shim(Ok(Standing::root())),
            pid => Side::Parent(pid),
        });
    }
    let notes = match subordinate::own() {
        Ok(ranges) => match with_subordinate(&ranges)? {
            Ok(side) => return Ok(side),
            Err(why) => vec![format!("{IDS_UNUSED}{why}")],
        },
        // One id is what was promised then.
        Err(_) => Vec::new(),
    };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    Ok(match sys::clone(0)? {
        0 => Side::Shim(with_one(uid, gid).map(|()| Standing { level: Level::SingleId, ids: 1, notes })),
        pid => Side::Parent(pid),
    })
}

fn with_one(uid: u32, gid: u32) -> Result<(), Failure> {
    sys::unshare(sys::NEW_USER).doing("making of a user namespace")?;
    let maps =
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1\n")), ("gid_map", format!("0 {gid} 1\n"))];
    for (file, text) in maps {
        fs::write(format!("/proc/self/{file}"), text).doing_on("id mapping in", file)?;
    }
    Ok(())
}

/// The child makes the namespace, this process has it mapped: only a process outside may.
fn with_subordinate(ranges: &Ranges) -> io::Result<Result<Side, String>> {
    let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let pid = sys::clone(0)?;
    if pid == 0 {
        drop(mine);
        if !is_mapped(&theirs) {
            sys::exit_now(1);
        }
        let done = sys::become_user(0, 0, Some(&[])).doing("becoming root of the user namespace");
        let ids = ranges.count.saturating_add(1);
        return Ok(Ok(Side::Shim(done.map(|()| Standing { level: Level::SubordinateIds, ids, notes: Vec::new() }))));
    }
    drop(theirs);
    let mapped = match hear(&mine, MADE) {
        true => subordinate::map(pid, ranges),
        false => Err("the kernel refused to make a user namespace".to_owned()),
    };
    let mapped = mapped.and_then(|()| {
        rustix::io::write(&mine, MAPPED).map(drop).map_err(|_| "the process to be mapped ended".to_owned())
    });
    drop(mine);
    Ok(match mapped {
        Ok(()) => Ok(Side::Parent(pid)),
        Err(why) => {
            let _ = sys::reap(Some(pid), true);
            Err(why)
        }
    })
}

/// In the child.
fn is_mapped(parent: &OwnedFd) -> bool {
    sys::unshare(sys::NEW_USER).is_ok() && rustix::io::write(parent, MADE).is_ok() && hear(parent, MAPPED)
}

fn hear(other: &OwnedFd, word: &[u8]) -> bool {
    let mut heard = [0_u8; 1];
    crate::wire::readable_within(other, MAPPING_LIMIT).unwrap_or(false)
        && rustix::io::read(other, &mut heard).is_ok_and(|count| &heard[..count] == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(level: Level, ids: u32) -> Standing {
        Standing { level, ids, notes: Vec::new() }
    }

    #[test]
    fn a_user_inside_needs_an_id_outside() {
        let text = |standing: Standing, uid| match standing.check_user("app", uid, 0) {
            Ok(()) => String::new(),
            Err(failure) => format!("{}: {}", failure.what, failure.cause),
        };
        assert_eq!(text(Standing::root(), 70_000), "");
        assert_eq!(text(standing(Level::SubordinateIds, 65_537), 65_536), "");
        assert_eq!(
            text(standing(Level::SubordinateIds, 1001), 1001),
            "user `app`: this account has 1000 subordinate ids in `/etc/subuid`, and it needs more"
        );
        assert_eq!(text(standing(Level::SingleId, 1), 0), "");
        assert!(text(standing(Level::SingleId, 1), 1).contains("this account has one only"));
    }
}
