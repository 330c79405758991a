//! The pages in a browser: `checks/pages` against the binary of this tree.
//!
//! In: `chromium`, `node`, `npm`, the lock file of what the tests use. Out: pictures in `target/pages`, what is wrong with a
//! page. Never: a module that the lock file does not name; anything installed into the checkout.

use crate::packages::cargo;
use crate::{Outcome, tools, tree};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "checks/pages";
/// A binary to test instead of building one.
const BINARY: &str = "SLIPWAY_PAGES_BINARY";
/// The programs, and their packages on Debian.
const TOOLS: [(&str, &str); 5] =
    [("git", "git"), ("cc", "gcc"), ("node", "nodejs"), ("npm", "npm"), ("chromium", "chromium")];

/// Installs what the tests need, builds the binary, runs them.
pub fn run() -> Result<Outcome> {
    let root = tree::root()?;
    let lacking = tools::provide_these(&TOOLS)?;
    for problem in &lacking {
        println!("{problem}\n");
    }
    if !lacking.is_empty() {
        return Ok(Outcome::Surroundings);
    }
    let target = target(&root)?;
    let place = target.join("pages");
    install(&root, &place)?;
    let binary = binary(&root, &target)?;
    let pictures = place.join("pictures");
    let status = Command::new("node")
        .arg("--test-reporter=spec")
        .arg(root.join(FOLDER).join("run.mjs"))
        .env("SLIPWAY_PAGES", format!("{}\n{}", binary.display(), pictures.display()))
        .env("SLIPWAY_PAGES_MODULES", &place)
        .status()
        .context("`node` cannot be started")?;
    println!("pictures: {}", pictures.display());
    Ok(if status.success() { Outcome::Holds } else { Outcome::Broken })
}

/// What the lock file names, beside the build's own results.
fn install(root: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("cannot make `{}`", place.display()))?;
    let same = |name: &str| {
        let (wanted, there) = (fs::read(root.join(FOLDER).join(name)), fs::read(place.join(name)));
        wanted.is_ok_and(|wanted| there.is_ok_and(|there| there == wanted))
    };
    if same("package.json") && same("package-lock.json") && place.join("node_modules/axe-core").is_dir() {
        return Ok(());
    }
    let _ = fs::remove_file(place.join("package-lock.json"));
    let copy = |name: &str, to: &Path| {
        fs::copy(root.join(FOLDER).join(name), to).with_context(|| format!("cannot copy `{name}`"))
    };
    copy("package.json", &place.join("package.json"))?;
    copy("package-lock.json", &place.join("package-lock.json"))?;
    let installed = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(place)
        .status()
        .context("`npm` cannot be started")?;
    ensure!(installed.success(), "`npm ci` failed in `{}`", place.display());
    Ok(())
}

/// The binary of this tree, built now.
fn binary(root: &Path, target: &Path) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(BINARY) {
        return Ok(given.into());
    }
    let built =
        cargo(root).args(["build", "--quiet", "-p", "slipway"]).status().context("`cargo` cannot be started")?;
    ensure!(built.success(), "`slipway` does not build");
    Ok(target.join("debug/slipway"))
}

fn target(root: &Path) -> Result<PathBuf> {
    let answer = cargo(root).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output()?;
    let said: serde_json::Value = serde_json::from_slice(&answer.stdout).context("`cargo metadata` said no JSON")?;
    said["target_directory"].as_str().map(PathBuf::from).context("`cargo metadata` names no target folder")
}
