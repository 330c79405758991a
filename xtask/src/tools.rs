//! The programs that tests use beside Rust.
//!
//! In: the search path. Out: they are there. As root on a machine with `apt-get` what lacks is installed; otherwise a
//! problem says how. Never: anything else on the machine.

use crate::problem::Problem;
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// A program, and its package on Debian.
const TOOLS: [(&str, &str); 7] = [
    ("git", "git"),
    ("cc", "gcc"),
    ("curl", "curl"),
    ("skopeo", "skopeo"),
    ("newuidmap", "uidmap"),
    ("pasta", "passt"),
    ("dockerd", "docker.io"),
];

/// Sees to it that the programs are there.
pub fn provide() -> Result<Vec<Problem>> {
    provide_these(&TOOLS)
}

/// Sees to it that these programs are there, each given with its package on Debian.
pub fn provide_these(tools: &[(&str, &str)]) -> Result<Vec<Problem>> {
    let lacking: Vec<&str> = tools.iter().filter(|(name, _)| !exists(name)).map(|(_, package)| *package).collect();
    if lacking.is_empty() {
        return Ok(Vec::new());
    }
    if is_root()? && exists("apt-get") {
        print!("installing {} … ", lacking.join(", "));
        apt(&["update"])?;
        apt(&[["install", "--yes", "--no-install-recommends"].as_slice(), &lacking].concat())?;
    }
    let still = tools.iter().filter(|(name, _)| !exists(name));
    let problem = |(name, package): &(&str, &str)| {
        let hint = format!("on Debian, as root: apt-get install {package}");
        Problem::new(*name, "the tests need this program", hint)
    };
    Ok(still.map(problem).collect())
}

/// Whether we may do what only root may. `/proc/self` belongs to the user we act as.
pub fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self").context("cannot look at `/proc/self`")?.uid() == 0)
}

fn exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        || Path::new("/usr/sbin").join(name).is_file()
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let answer = command.output().context("`apt-get` cannot be started")?;
    anyhow::ensure!(
        answer.status.success(),
        "`apt-get {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&answer.stderr).trim()
    );
    Ok(())
}
