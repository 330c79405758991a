//! The part of the version 2 hierarchy that was given to an ordinary user (cgroups(7), "Delegation"). In: the mounts, the current
//! group. Out: a folder for one run, and the controllers that count in it. Never moves a process that is not the run's.

use crate::cgroup::mount_line;
use std::fs;
use std::path::{Path, PathBuf};

/// Controllers that are wanted.
const WANTED: [&str; 3] = ["memory", "pids", "cpu"];
/// The folder of all runs within what was given.
const BRANCH: &str = "slipway";

/// Makes the folder of a run, where one can be made that limits anything.
pub fn make(mounts: &str, current: &str, name: &str) -> Option<(PathBuf, Vec<String>)> {
    let (top, own) = place(mounts, current)?;
    given(&top, &own).into_iter().find_map(|folder| make_in(folder, name))
}

/// Groups that are this account's, the highest first: the run's processes can be moved into what lies below it only, and a
/// group that holds processes, as the lower ones do, may not hand controllers on.
fn given<'a>(top: &Path, own: &'a Path) -> Vec<&'a Path> {
    let within = own.ancestors().take_while(|folder| folder.starts_with(top));
    let mut given: Vec<&Path> = within.filter(|folder| is_ours(folder)).collect();
    given.reverse();
    given
}

/// The hierarchy's mount point, and the current group in it.
fn place(mounts: &str, current: &str) -> Option<(PathBuf, PathBuf)> {
    let (root, point) = mounts
        .lines()
        .filter_map(mount_line)
        .find_map(|(root, point, kind, _)| (kind == "cgroup2").then_some((root, point)))?;
    let path = current.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Some((PathBuf::from(point), Path::new(point).join(below.trim_start_matches('/'))))
}

fn is_ours(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK).is_ok() && access(folder.join("cgroup.procs"), Access::WRITE_OK).is_ok()
}

fn make_in(folder: &Path, name: &str) -> Option<(PathBuf, Vec<String>)> {
    let branch = folder.join(BRANCH);
    let is_new = fs::create_dir(&branch).is_ok();
    for group in [folder, &branch] {
        for controller in WANTED {
            // One that is not there, or may not be handed on, is not among those found below.
            let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    let handed_on = fs::read_to_string(branch.join("cgroup.subtree_control")).unwrap_or_default();
    let has: Vec<String> = handed_on.split_whitespace().filter(|c| WANTED.contains(c)).map(str::to_owned).collect();
    let run = branch.join(name);
    if !has.is_empty() && (fs::create_dir(&run).is_ok() || run.is_dir()) {
        return Some((run, has));
    }
    if is_new {
        let _ = fs::remove_dir(&branch);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_group_of_version_2_is_found_below_its_mount() {
        let mounts = "30 29 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let current = "4:memory:/x\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n";
        let (top, own) = place(mounts, current).unwrap();
        assert_eq!(top, Path::new("/sys/fs/cgroup"));
        assert_eq!(own, top.join("user.slice/user-1000.slice/user@1000.service/app.slice/a.service"));
        assert_eq!(place("", current), None);
    }

    #[test]
    fn the_highest_group_that_is_ours_comes_first() {
        let top = std::env::temp_dir().join(format!("slipway-delegated-{}", std::process::id()));
        let own = top.join("user/app/unit");
        fs::create_dir_all(&own).unwrap();
        for group in ["user/app", "user/app/unit"] {
            fs::write(top.join(group).join("cgroup.procs"), "").unwrap();
        }
        let found: Vec<_> = given(&top, &own).into_iter().map(|group| group.strip_prefix(&top).unwrap()).collect();
        assert_eq!(found, ["user/app", "user/app/unit"].map(Path::new));
        fs::remove_dir_all(&top).unwrap();
    }
}
