//! The packages of the workspace and what they depend on.
//!
//! In: what `cargo metadata` says. Out: packages with their folders, dependencies and programs. Never: builds.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A package of the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// `slipway-plan`.
    pub name: String,
    /// `path/2-plan`.
    pub folder: String,
    /// All dependencies, of tests and build scripts too.
    pub needs: Vec<Need>,
    /// Its programs.
    pub programs: Vec<String>,
}

/// A dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The package's name.
    pub name: String,
    /// For what.
    pub kind: NeedKind,
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedKind {
    /// The package itself.
    Normal,
    /// Its tests.
    Tests,
    /// Its build script.
    Build,
}

impl NeedKind {
    /// The section of the manifest.
    pub fn section(self) -> &'static str {
        match self {
            NeedKind::Normal => "[dependencies]",
            NeedKind::Tests => "[dev-dependencies]",
            NeedKind::Build => "[build-dependencies]",
        }
    }
}

/// `cargo`, the one that started us.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Asks cargo for the workspace.
pub fn load(root: &Path) -> Result<Vec<Package>> {
    let answer = cargo(root)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("`cargo metadata` cannot be started")?;
    ensure!(answer.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&answer.stderr).trim());
    let said: Value = serde_json::from_slice(&answer.stdout).context("`cargo metadata` did not answer JSON")?;
    let packages = said["packages"].as_array().context("`cargo metadata` names no packages")?;
    packages.iter().map(|package| read(root, package)).collect()
}

fn read(root: &Path, package: &Value) -> Result<Package> {
    let manifest = Path::new(text(package, "manifest_path")?);
    let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
    let folder = folder.with_context(|| format!("`{}` lies outside the workspace", manifest.display()))?;
    let list = |key: &str| package[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let needs = list("dependencies").iter().map(|need| {
        let kind = match need["kind"].as_str() {
            Some("dev") => NeedKind::Tests,
            Some("build") => NeedKind::Build,
            _ => NeedKind::Normal,
        };
        Ok(Need { name: text(need, "name")?.to_owned(), kind })
    });
    let is_program = |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "bin"));
    let programs = list("targets").iter().filter(is_program).map(|target| Ok(text(target, "name")?.to_owned()));
    Ok(Package {
        name: text(package, "name")?.to_owned(),
        folder: folder.to_string_lossy().into_owned(),
        needs: needs.collect::<Result<_>>()?,
        programs: programs.collect::<Result<_>>()?,
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("`cargo metadata` gives no `{key}`"))
}
