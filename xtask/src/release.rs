//! The binary that is given to people.
//!
//! In: the checkout. Out: `target/release/slipway`, its size and its SHA-256. Never: publishes anything.

use crate::packages::cargo;
use crate::{Outcome, tree};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Builds it and says what came out.
pub fn run() -> Result<Outcome> {
    let root = tree::root()?;
    let mut build = cargo(&root);
    build.args(["build", "--release", "--locked", "--package", "slipway"]);
    if !build.status().context("`cargo build` cannot be started")?.success() {
        println!("error: the release binary cannot be built\nhint: the reason stands above");
        return Ok(Outcome::Broken);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let binary = root.join(target).join("release/slipway");
    let size = std::fs::metadata(&binary).with_context(|| format!("there is no `{}`", binary.display()))?.len();
    let sum = Command::new("sha256sum").arg(&binary).output().context("`sha256sum` cannot be started")?;
    ensure!(sum.status.success(), "`sha256sum` failed: {}", String::from_utf8_lossy(&sum.stderr).trim());
    let sum = String::from_utf8(sum.stdout).context("`sha256sum` did not answer text")?;
    println!("{}", binary.display());
    println!("{size} bytes ({:.1} MiB)", size as f64 / f64::from(1 << 20));
    println!("sha256 {}", sum.split_whitespace().next().unwrap_or_default());
    Ok(Outcome::Holds)
}
