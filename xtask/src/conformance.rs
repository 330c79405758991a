//! Tests against what others wrote: corpora of files and their known answers, too large for the repository.
//!
//! In: `SLIPWAY_CORPORA`, a folder with one folder per corpus; tests in modules called `conformance`, which read it and
//! name their corpus. Out: what passed, and plainly what was not run. Never: counts a corpus without a test as passed.

use crate::Outcome;
use crate::packages::{self, Package, cargo};
use crate::rust;
use crate::tree::{File, Tree};
use anyhow::{Context, Result};
use std::path::Path;

const VARIABLE: &str = "SLIPWAY_CORPORA";
const MODULE: &str = "conformance";

/// Runs all of them.
pub fn run() -> Result<Outcome> {
    let Some(folder) = std::env::var_os(VARIABLE) else {
        println!("not run: {VARIABLE} is not set\nhint: {VARIABLE}=FOLDER cargo xtask conformance");
        return Ok(Outcome::Surroundings);
    };
    let corpora = corpora(Path::new(&folder))?;
    let tree = Tree::load()?;
    let packages = packages::load(&tree.root)?;
    let sources: Vec<&File> = tree.ending(".rs").filter(|file| is_conformance(file)).collect();
    let with: Vec<&Package> = packages.iter().filter(|package| sources.iter().any(|f| within(f, package))).collect();
    let mut all_pass = true;
    for package in &with {
        println!("{} …", package.name);
        let mut command = cargo(&tree.root);
        command.args(["test", "--quiet", "--package", &package.name, "--", &format!("{MODULE}::")]);
        all_pass &= command.status().context("`cargo test` cannot be started")?.success();
    }
    let quoted = |name: &str| format!("\"{name}");
    let used = |name: &String| sources.iter().any(|file| file.text.contains(&quoted(name)));
    let (ran, left): (Vec<String>, Vec<String>) = corpora.into_iter().partition(used);
    println!("run against: {}", list(&ran));
    println!("not run, since no test names it: {}", list(&left));
    Ok(match (all_pass, with.is_empty()) {
        (_, true) => Outcome::Surroundings,
        (true, false) => Outcome::Holds,
        (false, false) => Outcome::Broken,
    })
}

fn corpora(folder: &Path) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{VARIABLE}: cannot list `{}`", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A file of such a module, or with one inside.
fn is_conformance(file: &File) -> bool {
    let named = file.path.ends_with(&format!("/{MODULE}.rs")) || file.path.contains(&format!("/{MODULE}/"));
    let code = rust::code(&rust::tokens(&file.text));
    named || code.windows(3).any(|three| [three[0].text, three[1].text, three[2].text] == ["mod", MODULE, "{"])
}

fn within(file: &File, package: &Package) -> bool {
    // `xtask` has this file, which is no test.
    package.folder != "xtask" && file.path.starts_with(&format!("{}/", package.folder))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
