//! Limits and accounts of one run. In: limits, the pid of the sandbox's first process. Out: cgroups (version 1 where it has the
//! controllers, else version 2), numbers read from them. Never takes a process out of the limits that already bind this one:
//! version 1 groups are made below the current ones. An ordinary user has those that were delegated to him.

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
    /// An ordinary user's: what is not there is told, not refused.
    delegated: bool,
}

impl Group {
    /// Makes the groups that were delegated to an ordinary user, if any, without limits.
    pub fn create_delegated(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let current = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if let Some((folder, has)) = crate::delegated::make(&mounts, &current, name) {
            let at = |controller: &str| has.iter().any(|one| one == controller).then(|| folder.clone());
            let (memory, pids, cpu) = (at("memory"), at("pids"), at("cpu"));
            return Self { memory, pids, cpu, account: Some(folder.clone()), unified: true, delegated: true };
        }
        let at = |controller: &str| {
            let folder = legacy(&mounts, &current, controller)?.join(name);
            let made = fs::create_dir(&folder);
            (made.is_ok() || made.is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists)).then_some(folder)
        };
        let (memory, pids, cpu, account) = (at("memory"), at("pids"), at("cpu"), at("cpuacct"));
        Self { memory, pids, cpu, account, unified: false, delegated: true }
    }

    /// No groups, of an ordinary user.
    pub fn none() -> Self {
        Self { delegated: true, ..Self::default() }
    }

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
                delegated: false,
            },
            None => {
                let at = |controller: &str| legacy(&mounts, &current, controller).map(|parent| parent.join(name));
                let (memory, pids, cpu, account) = (at("memory"), at("pids"), at("cpu"), at("cpuacct"));
                Self { memory, pids, cpu, account, unified: false, delegated: false }
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

    /// Sets the limits. One that was asked for and cannot be set is an error; for an ordinary user, what is told of it.
    pub fn limit(&self, limits: &Limits) -> Result<Vec<String>, Failure> {
        let asked = [
            (format!("processes are not limited to {}", limits.processes), self.limit_processes(limits.processes)),
            match limits.memory_bytes {
                Some(bytes) => (format!("memory is not limited to {} MiB", bytes >> 20), self.limit_memory(bytes)),
                None => (String::new(), Ok(())),
            },
            match limits.cpu_millis {
                Some(millis) => {
                    let cores = format!("{}.{:03}", millis / 1000, millis % 1000);
                    (format!("cpu is not limited to {cores} cores"), self.limit_cpu(millis))
                }
                None => (String::new(), Ok(())),
            },
        ];
        let mut notes = Vec::new();
        for (note, set) in asked {
            match set {
                Err(failure) if self.delegated => notes.push(format!("{note}: {}", failure.cause)),
                other => other?,
            }
        }
        Ok(notes)
    }

    fn limit_processes(&self, count: u32) -> Result<(), Failure> {
        // Without the controller a resource limit of each user counts.
        self.pids.as_ref().map_or(Ok(()), |pids| set(pids, "pids.max", &count.to_string()))
    }

    fn limit_memory(&self, bytes: u64) -> Result<(), Failure> {
        let memory = self.memory.as_ref().ok_or_else(|| self.missing("memory"))?;
        set(memory, if self.unified { "memory.max" } else { "memory.limit_in_bytes" }, &bytes.to_string())?;
        // Swap would turn the limit into slowness. The files are missing where the kernel does not count swap.
        let (file, value) = if self.unified { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", bytes) };
        if memory.join(file).exists() { set(memory, file, &value.to_string()) } else { Ok(()) }
    }

    fn limit_cpu(&self, millis: u32) -> Result<(), Failure> {
        let cpu = self.cpu.as_ref().ok_or_else(|| self.missing("cpu"))?;
        let quota = (u64::from(millis) * CPU_PERIOD_US / 1000).max(1000);
        match self.unified {
            true => set(cpu, "cpu.max", &format!("{quota} {CPU_PERIOD_US}")),
            false => set(cpu, "cpu.cfs_quota_us", &quota.to_string()),
        }
    }

    /// Moves this thread into the groups, so that a process that it makes is born there; whether all took it. A thread
    /// may move itself at once, while moving another process waits for the kernel's grace period (about 10 ms). Only
    /// version 1 takes single threads, and a caller of one thread is moved as a whole. An ordinary user might not come
    /// back.
    pub fn join(&self) -> bool {
        !self.unified
            && !self.delegated
            && self.folders().iter().all(|folder| fs::write(folder.join("tasks"), "0").is_ok())
    }

    /// Moves this thread back to where it was before [`Group::join`].
    pub fn leave(&self) -> Result<(), Failure> {
        let joined = !self.unified && !self.delegated;
        for parent in self.folders().iter().filter(|_| joined).filter_map(|folder| folder.parent()) {
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

    fn missing(&self, controller: &str) -> Failure {
        let why = match self.delegated {
            true => format!("no control group with `{controller}` is delegated to this account"),
            false => format!("this machine offers no cgroup controller `{controller}`"),
        };
        Failure::new(format!("limit of {controller}"), why)
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

/// Whether an account that is not root's was given a group that limits memory; root is told when a limit is set.
pub fn limits_memory() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let group = Group::create_delegated(&format!("slipway-look-{}", std::process::id()));
    group.remove();
    group.memory.is_some()
}

/// Removes cgroup folders that are empty of processes.
pub fn remove_folders(folders: &[PathBuf]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

fn set(folder: &Path, file: &str, value: &str) -> Result<(), Failure> {
    fs::write(folder.join(file), value)
        .map_err(|e| Failure::new(format!("setting of `{}` to {value}", folder.join(file).display()), errno_text(&e)))
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// One line of mountinfo (proc(5)): root in its file system, mount point, type, super options.
pub(crate) fn mount_line(line: &str) -> Option<(&str, &str, &str, &str)> {
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
