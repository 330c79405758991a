//! Who runs the steps. In: the words of an image's USER. Out: numbers. Reads `/etc/passwd` and `/etc/group` of the root, never the host's.

use crate::error::Failure;
use crate::mounts::Inside;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::Read;

/// A passwd file beyond this is not read on.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A user inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
}

/// `""`, `uid`, `uid:gid`, `name`, `name:group` → ids.
pub fn find(inside: &Inside<'_>, text: &str) -> Result<User, Failure> {
    if text.is_empty() {
        return Ok(User { uid: 0, gid: 0 });
    }
    resolve(text, &read(inside, "etc/passwd"), &read(inside, "etc/group"))
        .ok_or_else(|| Failure::new(format!("user `{text}`"), "the image's /etc/passwd or /etc/group does not know it"))
}

fn resolve(text: &str, passwd: &str, group: &str) -> Option<User> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let entry = passwd.lines().map(fields).find(|f| f.len() > 3 && (f[0] == name || f[2] == name));
    let uid = match &entry {
        Some(entry) => entry[2].parse().ok()?,
        None => name.parse().ok()?,
    };
    let gid = match group_name {
        Some(wanted) => match group.lines().map(fields).find(|f| f.len() > 2 && f[0] == wanted) {
            Some(found) => found[2].parse().ok()?,
            None => wanted.parse().ok()?,
        },
        None => entry.map_or(Some(0), |entry| entry[3].parse().ok())?,
    };
    // 65,536 ids stand behind the sandbox; the last is `nogroup`.
    (uid < 65_536 && gid < 65_536).then_some(User { uid, gid })
}

fn read(inside: &Inside<'_>, path: &str) -> String {
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if let Ok(fd) = openat2(inside.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        let _ = File::from(fd).take(FILE_BYTES_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/:/bin/sh\nbad\n";
        let group = "root:x:0:\nweb:x:33:\n";
        for (text, want) in [
            ("app", Some((1001, 1002))),
            ("app:web", Some((1001, 33))),
            ("1001", Some((1001, 1002))),
            ("7", Some((7, 0))),
            ("7:9", Some((7, 9))),
            ("nobody", None),
            ("app:none", None),
            ("4294967295", None),
        ] {
            assert_eq!(resolve(text, passwd, group), want.map(|(uid, gid)| User { uid, gid }), "{text}");
        }
    }
}
