//! Limits and accounts of one run. In: limits, the pid of the sandbox's first process. Out: cgroups (version 1 where it has the
//! controllers, else version 2), numbers read from them. Never takes a process out of the limits that already bind this one:
//! version 1 groups are made below the current ones.

use crate::error::{Doing, Failure, errno_text};
use crate::spec::Limits;
use crate::sys;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// CPU limits count in periods of this length.
const CPU_PERIOD_US: u64 = 100_000;
const V2_PARENT: &str = "slipway";

/// The cgroups of one run.
#[derive(Debug, Default)]
pub struct Group {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    account: Option<PathBuf>,
    unified: bool,
}

impl Group {
    /// Makes the groups, without limits.
    pub fn create(name: &str) -> Result<Self, Failure> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").doing("read of /proc/self/mountinfo")?;
        let current = fs::read_to_string("/proc/self/cgroup").doing("read of /proc/self/cgroup")?;
        let group = match unified(&mounts, name)? {
            Some(folder) => Self {
                memory: Some(folder.clone()),
                pids: Some(folder.clone()),
                cpu: Some(folder.clone()),
                account: Some(folder),
                unified: true,
            },
            None => {
                let at = |controller: &str| legacy(&mounts, &current, controller).map(|parent| parent.join(name));
                Self { memory: at("memory"), pids: at("pids"), cpu: at("cpu"), account: at("cpuacct"), unified: false }
            }
        };
        if let Err(failure) = group.make() {
            group.remove();
            return Err(failure);
        }
        Ok(group)
    }

    /// Whether a controller counts processes.
    pub fn counts_processes(&self) -> bool {
        self.pids.is_some()
    }

    /// `v1`, `v2`, or `none`.
    pub fn version(&self) -> &'static str {
        match (self.folders().is_empty(), self.unified) {
            (true, _) => "none",
            (false, true) => "v2",
            (false, false) => "v1",
        }
    }

    /// The folders, each once.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            [&self.memory, &self.pids, &self.cpu, &self.account].into_iter().flatten().cloned().collect();
        folders.sort();
        folders.dedup();
        folders
    }

    fn make(&self) -> Result<(), Failure> {
        for folder in self.folders() {
            match fs::create_dir(&folder) {
                Ok(()) => {}
                // Left by a shim that was killed: nothing runs in it, since a sandbox dies with its shim.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).doing_on("making of cgroup", folder.display()),
            }
        }
        Ok(())
    }

    /// Sets the limits. One that was asked for and cannot be set is an error.
    pub fn limit(&self, limits: &Limits) -> Result<(), Failure> {
        let names = if self.unified {
            ["memory.max", "pids.max", "cpu.max"]
        } else {
            ["memory.limit_in_bytes", "pids.max", "cpu.cfs_quota_us"]
        };
        if let Some(pids) = &self.pids {
            set(pids, names[1], &limits.processes.to_string())?;
        }
        if let Some(bytes) = limits.memory_bytes {
            let memory = self.memory.as_ref().ok_or_else(|| missing("memory"))?;
            set(memory, names[0], &bytes.to_string())?;
            // Swap would turn the limit into slowness. The files are missing where the kernel does not count swap.
            let swap = if self.unified { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", bytes) };
            if memory.join(swap.0).exists() {
                set(memory, swap.0, &swap.1.to_string())?;
            }
        }
        if let Some(millis) = limits.cpu_millis {
            let cpu = self.cpu.as_ref().ok_or_else(|| missing("cpu"))?;
            let quota = (u64::from(millis) * CPU_PERIOD_US / 1000).max(1000);
            let value = if self.unified { format!("{quota} {CPU_PERIOD_US}") } else { quota.to_string() };
            set(cpu, names[2], &value)?;
        }
        Ok(())
    }

    /// Moves this thread into the groups, so that a process that it makes is born there; whether all took it. A thread
    /// may move itself at once, while moving another process waits for the kernel's grace period (about 10 ms). Only
    /// version 1 takes single threads, and a caller of one thread is moved as a whole.
    pub fn join(&self) -> bool {
        !self.unified && self.folders().iter().all(|folder| fs::write(folder.join("tasks"), "0").is_ok())
    }

    /// Moves this thread back to where it was before [`Group::join`].
    pub fn leave(&self) -> Result<(), Failure> {
        for parent in self.folders().iter().filter(|_| !self.unified).filter_map(|folder| folder.parent()) {
            fs::write(parent.join("tasks"), "0").doing_on("return to cgroup", parent.display())?;
        }
        Ok(())
    }

    /// Puts a process into the groups.
    pub fn enter(&self, pid: libc::pid_t) -> Result<(), Failure> {
        for folder in self.folders() {
            let file = folder.join("cgroup.procs");
            match fs::write(&file, pid.to_string()) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    sys::leave_real_time(pid);
                    fs::write(&file, pid.to_string()).doing_on("entering of cgroup", folder.display())?;
                }
                Err(e) => return Err(e).doing_on("entering of cgroup", folder.display()),
            }
        }
        Ok(())
    }

    /// How often the kernel killed at the memory limit.
    pub fn out_of_memory_kills(&self) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = self.memory.as_ref().map(|f| fs::read_to_string(f.join(file)).unwrap_or_default());
        text.as_deref()
            .unwrap_or_default()
            .lines()
            .find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// CPU time so far, if it is counted.
    pub fn cpu_us(&self) -> Option<u64> {
        let folder = self.account.as_ref()?;
        if self.unified {
            let text = fs::read_to_string(folder.join("cpu.stat")).ok()?;
            return text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.trim().parse().ok());
        }
        number(folder, "cpuacct.usage").map(|nanos| nanos / 1000)
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> u64 {
        let file = if self.unified { "memory.current" } else { "memory.usage_in_bytes" };
        self.memory.as_ref().and_then(|f| number(f, file)).unwrap_or(0)
    }

    /// Most memory in use since the last call; where the kernel cannot start anew (version 2 before 6.12), since the start.
    pub fn take_memory_peak(&self) -> u64 {
        let file = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let Some(folder) = &self.memory else { return 0 };
        let peak = number(folder, file).unwrap_or(0);
        let _ = fs::write(folder.join(file), "0");
        peak
    }

    /// Removes the groups; nothing may run in them any more.
    pub fn remove(&self) {
        remove_folders(&self.folders());
    }
}

/// Removes cgroup folders that are empty of processes.
pub fn remove_folders(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

fn missing(controller: &str) -> Failure {
    Failure::new(format!("limit of {controller}"), format!("this machine offers no cgroup controller `{controller}`"))
}

fn set(folder: &Path, file: &str, value: &str) -> Result<(), Failure> {
    fs::write(folder.join(file), value)
        .map_err(|e| Failure::new(format!("setting of `{}` to {value}", folder.join(file).display()), errno_text(&e)))
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// One line of mountinfo (proc(5)): root in its file system, mount point, type, super options.
fn mount_line(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let (root, point) = (left.nth(3)?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    Some((root, point, kind, right.nth(1).unwrap_or_default()))
}

/// The current group of a version 1 controller, as a folder.
fn legacy(mounts: &str, current: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let (root, point) = mounts
        .lines()
        .filter_map(mount_line)
        .find_map(|(root, point, kind, options)| (kind == "cgroup" && has(options)).then_some((root, point)))?;
    let path = current.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        (has(parts.next()?)).then(|| parts.next()).flatten()
    })?;
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Some(Path::new(point).join(below.trim_start_matches('/')))
}

/// The run's folder under version 2, if that is where the controllers are. Root may make its own branch; processes live in
/// leaves only, so it cannot be below the current group.
fn unified(mounts: &str, name: &str) -> Result<Option<PathBuf>, Failure> {
    let Some(point) =
        mounts.lines().filter_map(mount_line).find_map(|(_, point, kind, _)| (kind == "cgroup2").then_some(point))
    else {
        return Ok(None);
    };
    let offered = fs::read_to_string(Path::new(point).join("cgroup.controllers")).unwrap_or_default();
    if !["memory", "pids", "cpu"].iter().all(|c| offered.split_whitespace().any(|o| o == *c)) {
        return Ok(None);
    }
    let branch = Path::new(point).join(V2_PARENT);
    match fs::create_dir(&branch) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).doing_on("making of cgroup", branch.display());
        }
        _ => {}
    }
    for folder in [Path::new(point), &branch] {
        set(folder, "cgroup.subtree_control", "+memory +pids +cpu")?;
    }
    Ok(Some(branch.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_group_is_found_on_a_hybrid_hierarchy() {
        let mounts = "30 29 0:25 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      31 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      32 29 0:27 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let current = "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/docker/x/y\n0::/\n";
        for (controller, want) in [
            ("memory", Some("/sys/fs/cgroup/memory/a/b")),
            ("cpu", Some("/sys/fs/cgroup/cpu,cpuacct/")),
            ("pids", Some("/sys/fs/cgroup/pids/y")),
            ("blkio", None),
        ] {
            assert_eq!(legacy(mounts, current, controller), want.map(PathBuf::from), "{controller}");
        }
    }
}
