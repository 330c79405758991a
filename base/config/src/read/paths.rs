//! In: paths as the file writes them. Out: paths from the repository's root
//! (`.` for the root itself). Never one that leads out of the repository;
//! never looks at the disk.

use crate::model::Spanned;
use crate::problem::quoted;
use crate::read::Reader;
use crate::yaml::Node;

/// The longest path. Linux ends at 4,096 bytes with the folder in front.
const PATH_MAX: usize = 1_024;

impl Reader<'_> {
    /// A path relative to this folder; a leading `/` means the root.
    pub(crate) fn path(&mut self, node: &Node, key: &str, folder: &str) -> Option<Spanned<String>> {
        let written = self.text(node, key)?;
        self.resolved(&written, key, folder)
    }

    /// One path or pattern, or a list of them.
    pub(crate) fn paths(&mut self, node: &Node, key: &str, folder: &str) -> Option<Spanned<Vec<String>>> {
        let written = self.texts(node, key)?;
        let mut paths = Vec::new();
        for path in &written {
            if path.value.starts_with('!') {
                self.not_yet(path.at, &path.value);
            } else if let Some(path) = self.resolved(path, key, folder) {
                paths.push(path.value);
            }
        }
        Some(Spanned::new(paths, node.at))
    }

    fn resolved(&mut self, written: &Spanned<String>, key: &str, folder: &str) -> Option<Spanned<String>> {
        if written.value.len() > PATH_MAX {
            let message = format!("{} is longer than {PATH_MAX} bytes", quoted(key));
            self.error(written.at, &message, None);
            return None;
        }
        if let Some(path) = resolve(folder, &written.value) {
            return Some(Spanned::new(path, written.at));
        }
        let message = format!("{} leads out of the repository", quoted(&written.value));
        let hint = "paths stay inside; a leading `/` means the repository's root";
        self.error(written.at, &message, Some(hint));
        None
    }
}

/// The path from the root, or nothing when it leads out of it.
pub(crate) fn resolve(folder: &str, written: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !written.starts_with('/') {
        parts.extend(folder.split('/').filter(|part| !matches!(*part, "" | ".")));
    }
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Some(".".to_owned());
    }
    Some(parts.join("/"))
}
