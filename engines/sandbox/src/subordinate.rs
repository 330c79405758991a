//! Subordinate ids of an ordinary user (subuid(5)). In: `/etc/passwd`, `/etc/subuid`, `/etc/subgid`. Out: ranges, and a mapping made
//! by `newuidmap` and `newgidmap`, which alone may make it. Never maps an id that those files do not give to this user.

use rustix::process::{Pid, PidfdFlags, getegid, geteuid, pidfd_open};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Each of the two programs has this long.
const TOOL_LIMIT: Duration = Duration::from_secs(5);
/// An image's ids go up to 65,535, and 0 is the user.
const COUNT_MAX: u32 = 65_536;
/// Where set-user-id programs live; this process was given no PATH.
const FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];
const OUTPUT_BYTES_MAX: u64 = 4096;

/// The ranges of a user and of his group, of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    users: u32,
    groups: u32,
    /// How many of each.
    pub count: u32,
}

/// This user's ranges, or why there are none.
pub fn own() -> Result<Ranges, String> {
    let uid = geteuid().as_raw();
    let name = name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    for tool in ["newuidmap", "newgidmap"] {
        find(tool)?;
    }
    let name = name.ok_or_else(|| format!("`/etc/passwd` has no account with id {uid}"))?;
    let range = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        range_of(&text, &name, uid).ok_or_else(|| format!("`{path}` has no range for `{name}`"))
    };
    let ((users, user_count), (groups, group_count)) = (range("/etc/subuid")?, range("/etc/subgid")?);
    Ok(Ranges { users, groups, count: user_count.min(group_count).min(COUNT_MAX) })
}

/// The name of this account, for texts.
pub fn own_name() -> String {
    let uid = geteuid().as_raw();
    name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid).unwrap_or_else(|| uid.to_string())
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let is_own = |fields: &Vec<&str>| fields.len() > 3 && fields[2].parse() == Ok(uid);
    passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(is_own).map(|fields| fields[0].to_owned())
}

/// `name-or-id:first:count`; the longest range of this user.
fn range_of(text: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_own = owner == name || owner.parse() == Ok(uid);
        (is_own && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(parse).max_by_key(|(_, count)| *count)
}

fn find(tool: &str) -> Result<PathBuf, String> {
    let found = FOLDERS.iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.is_file());
    found.ok_or_else(|| format!("`{tool}` is not installed"))
}

/// Maps a process's new user namespace: 0 is the user, 1 and on are the subordinate ids.
pub fn map(pid: libc::pid_t, ranges: &Ranges) -> Result<(), String> {
    let own = [geteuid().as_raw(), getegid().as_raw()];
    for (tool, own, first) in [("newuidmap", own[0], ranges.users), ("newgidmap", own[1], ranges.groups)] {
        let numbers = [pid as u32, 0, own, 1, 1, first, ranges.count];
        let started = Command::new(find(tool)?)
            .args(numbers.map(|number| number.to_string()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = started.map_err(|e| format!("{tool}: {}", crate::error::errno_text(&e)))?;
        end_of(child).map_err(|why| format!("{tool}: {why}"))?;
    }
    Ok(())
}

fn end_of(mut child: Child) -> Result<(), String> {
    let pid = Pid::from_raw(child.id() as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if !pid.is_some_and(|pid| crate::wire::readable_within(pid, TOOL_LIMIT).unwrap_or(false)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it did not end within {} s", TOOL_LIMIT.as_secs()));
    }
    let status = child.wait().map_err(|e| crate::error::errno_text(&e))?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    let _ = child.stderr.take().map(|output| output.take(OUTPUT_BYTES_MAX).read_to_string(&mut said));
    let line = said.lines().find(|line| line.starts_with("new")).or_else(|| said.lines().next()).unwrap_or_default();
    let line = line.split_once(": ").map_or(line, |(_, rest)| rest).trim();
    Err(if line.is_empty() { status.to_string() } else { line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number_and_the_longest_counts() {
        let text =
            "ann:100000:65536\n1001:300000:10\nben:200000:1000\nben:400000:2000\nbad\nann:x:1\ncara:4294967295:5\n";
        for (name, uid, want) in [
            ("ann", 1000, Some((100_000, 65_536))),
            ("other", 1001, Some((300_000, 10))),
            ("ben", 1002, Some((400_000, 2000))),
            ("cara", 1003, None),
            ("nobody", 65_534, None),
        ] {
            assert_eq!(range_of(text, name, uid), want, "{name}");
        }
    }

    #[test]
    fn an_account_is_found_by_its_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
