//! What processes cost, as the kernel counts it.
//!
//! In: process ids. Out: memory and processor time. Never: an estimate.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Add;
use std::path::Path;

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// All its resident pages.
    pub rss: u64,
    /// The same, pages that others share being divided among them.
    pub pss: u64,
}

impl Add for Memory {
    type Output = Memory;

    fn add(self, other: Memory) -> Memory {
        Memory { rss: self.rss + other.rss, pss: self.pss + other.pss }
    }
}

/// Memory of a process now.
///
/// # Errors
/// When it is gone.
pub fn memory(pid: u32) -> Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{file}`"))?;
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().split(' ').next()?.parse().ok()
    };
    Ok(Memory { rss: field("Rss:").unwrap_or(0), pss: field("Pss:").unwrap_or(0) })
}

/// Processor time in nanoseconds of each living thread of a process, as the scheduler counts it.
pub type Cpu = BTreeMap<u32, u64>;

/// Processor time of a process now.
///
/// # Errors
/// When it is gone.
pub fn cpu(pid: u32) -> Result<Cpu> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let used = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, text.split(' ').next()?.parse().ok()?))
    };
    Ok(tasks.flatten().filter_map(used).collect())
}

/// Seconds used between two readings, by the threads that live at the end.
#[must_use]
#[allow(clippy::cast_precision_loss)] // some billion nanoseconds
pub fn used_seconds(before: &Cpu, after: &Cpu) -> f64 {
    let used = |(thread, now): (&u32, &u64)| now.saturating_sub(before.get(thread).copied().unwrap_or(0));
    after.iter().map(used).sum::<u64>() as f64 / 1e9
}

/// The shims of this program that live now: those that hold a run, and the first process inside it.
#[must_use]
pub fn shims(binary: &Path) -> Vec<u32> {
    let Ok(binary) = binary.canonicalize() else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_shim = |pid: &u32| {
        let same = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary);
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        same && words.split(|byte| *byte == 0).nth(1) == Some(b"shim")
    };
    pids.filter(is_shim).collect()
}
