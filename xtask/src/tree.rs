//! The files of this checkout, as text.
//!
//! In: the folder that `xtask` was built from. Out: every text file, by its path from the root. Never: what `git` or
//! `cargo` keep (`.git`, `target`), a file that is not text, a file above a megabyte.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Nobody writes a larger file by hand; what is larger is data.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Hidden folders that are part of the project.
const HIDDEN: [&str; 2] = [".ci", ".cargo"];

/// A text file.
#[derive(Debug, Clone)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// All text files of the checkout, in the order of their paths.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Its text files.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the checkout.
    pub fn load() -> Result<Tree> {
        let root = root()?;
        let mut files = Vec::new();
        walk(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { root, files })
    }

    /// The text of a file, if there is such a text file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The files whose name ends so.
    pub fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }
}

/// The folder of the workspace.
pub fn root() -> Result<PathBuf> {
    // What cargo says now comes first: a target folder that checkouts share keeps the path of another one.
    let now = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|folder| folder.ends_with("xtask"));
    let package = now.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).context("the folder of `xtask` has no parent")
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let ours = name != "target" && (!name.starts_with('.') || HIDDEN.contains(&name.as_str()));
            if ours {
                walk(root, &path, files)?;
            }
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
            let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let path = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
    Ok(())
}
