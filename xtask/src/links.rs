//! Links between documents.
//!
//! In: all Markdown files. Out: links to files and headings that do not exist. Never: asks the network.

use crate::markdown;
use crate::problem::Problem;
use crate::tree::{File, Tree};

/// All links that lead nowhere.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let dead = |file: &File, line: usize, target: String| {
        let reason = broken(tree, &file.path, &target)?;
        Some(Problem::new(format!("{}:{line}", file.path), reason, format!("correct the link `{target}`")))
    };
    let documents = tree.ending(".md");
    documents.flat_map(|f| markdown::links(&f.text).into_iter().filter_map(|(line, to)| dead(f, line, to))).collect()
}

/// Why a link leads nowhere, if so.
fn broken(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { from.to_owned() } else { resolve(from, path) };
    if !tree.root.join(&path).exists() {
        return Some(format!("there is no `{path}`"));
    }
    let anchor = anchor?;
    let known = tree.text(&path).map(markdown::anchors).unwrap_or_default();
    (!known.iter().any(|known| known == anchor)).then(|| format!("`{path}` has no heading `#{anchor}`"))
}

/// The path from the root, of a path as seen from a document.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_and_headings_are_checked() {
        let root = crate::tree::root().unwrap();
        let text = "[a](xtask/src/main.rs) [b](gone.rs) [c](#here) [d](#there) [e](https://example.org/x)\n\n# Here\n";
        let file = File { path: "README.md".into(), text: text.into() };
        let found = check(&Tree { root, files: vec![file] });
        let shown: Vec<_> = found.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(shown, ["there is no `gone.rs`", "`README.md` has no heading `#there`"]);
    }

    #[test]
    fn a_path_is_seen_from_its_document() {
        assert_eq!(resolve("docs/guide/a.md", "../glossary.md"), "docs/glossary.md");
        assert_eq!(resolve("README.md", "./docs/"), "docs");
    }
}
