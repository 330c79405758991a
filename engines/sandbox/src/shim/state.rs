//! What is left of a shim that was killed. In: a running shim. Out: `DIR/shim.json`, by which who attaches can clean up.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// File name of the state.
pub const STATE_FILE: &str = "shim.json";

/// Traces of a shim outside its state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// Version.
    pub v: u32,
    /// The run.
    pub id: String,
    /// The shim's pid, which may be another process's by now.
    pub shim_pid: u32,
    /// Start of the first step.
    pub started_ms: u64,
    /// Its cgroups.
    pub cgroups: Vec<PathBuf>,
}

impl ShimState {
    /// Reads it, if it is there and whole.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(STATE_FILE)).ok()?).ok()
    }
}
