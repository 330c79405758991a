//! The user namespace of a sandbox. In: a range of host ids. Out: a descriptor of a namespace in which they are 0 and on.
//! The namespace is made by a child that never runs anything and ends with its [`Maker`].

use crate::error::{Doing, Failure};
use crate::sys;
use std::fs;
use std::os::fd::OwnedFd;

/// The child that made a namespace, told to end. Waited for when this is dropped, so that who needs the namespace first has it first.
#[must_use]
pub struct Maker(libc::pid_t);

impl Drop for Maker {
    fn drop(&mut self) {
        let _ = sys::reap(Some(self.0), true);
    }
}

/// Makes the namespace.
pub fn user_namespace(first: u32, count: u32) -> Result<(OwnedFd, Maker), Failure> {
    let pid = sys::clone(sys::NEW_USER).doing("user namespace")?;
    if pid == 0 {
        // Waits to be killed; its parent does that right away, and its end would do it too.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    }
    let maker = Maker(pid);
    let made = map(pid, first, count);
    let _ = sys::kill(pid, libc::SIGKILL);
    Ok((made?, maker))
}

fn map(pid: libc::pid_t, first: u32, count: u32) -> Result<OwnedFd, Failure> {
    // A line must not lead over two lines of the namespace outside: an ordinary user's has one for himself and one for the rest.
    let lines = match (first, count) {
        (0, 2..) => format!("0 0 1\n1 1 {}\n", count - 1),
        _ => format!("0 {first} {count}\n"),
    };
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &lines).doing_on("id mapping in", file)?;
    }
    fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from).doing("open of the user namespace")
}
