//! The memory limit of an instance whose service names none.
//!
//! In: what the kernel says of this machine. Out: three quarters of its memory, the share that a job has, so that one
//! service that leaks ends neither the others nor the node; nothing where no controller could keep the limit, as
//! then no instance would start.

use std::fs;
use std::path::Path;

/// The controllers that a group of version 2 needs before it is used at all.
const UNIFIED: [&str; 3] = ["memory", "pids", "cpu"];

/// The limit on this machine.
pub(crate) fn default_limit() -> Option<u64> {
    if !slipway_sandbox::limits_memory() {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let offered = |point: &str| fs::read_to_string(Path::new(point).join("cgroup.controllers")).unwrap_or_default();
    let counts = counts_memory(&mounts, offered);
    counts.then(|| three_quarters(&fs::read_to_string("/proc/meminfo").ok()?)).flatten()
}

/// proc_meminfo(5)
fn three_quarters(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024 / 4 * 3)
}

/// Whether a memory controller is mounted (proc_pid_mountinfo(5)), of either version of control groups.
fn counts_memory(mounts: &str, offered: impl Fn(&str) -> String) -> bool {
    mounts.lines().any(|line| {
        let Some((left, right)) = line.split_once(" - ") else { return false };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup") => right.nth(1).is_some_and(|options| options.split(',').any(|one| one == "memory")),
            Some("cgroup2") => {
                let controllers = left.split(' ').nth(4).map(&offered).unwrap_or_default();
                UNIFIED.iter().all(|name| controllers.split_whitespace().any(|one| one == *name))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_only_where_something_keeps_it() {
        let old = "30 29 0:25 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let new = "31 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let all = |point: &str| if point == "/sys/fs/cgroup" { "cpu io memory pids".to_owned() } else { String::new() };
        assert!(counts_memory(old, all));
        assert!(counts_memory(new, all));
        assert!(!counts_memory(new, |_| "cpu pids".to_owned()));
        assert!(!counts_memory("32 29 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", all));
    }

    #[test]
    fn it_is_three_quarters_of_the_machine() {
        assert_eq!(three_quarters("MemTotal:        8000 kB\nMemFree: 1 kB\n"), Some(6000 * 1024));
        assert_eq!(three_quarters("nothing"), None);
    }
}
