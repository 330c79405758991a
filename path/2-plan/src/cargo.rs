//! Edges between folders as Cargo's manifests declare them (R555).
//!
//! In: the texts of all `Cargo.toml` of a commit. Out: packages with the folders they depend on. Never: runs cargo.

use std::collections::{BTreeMap, BTreeSet};

/// A package of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Folders of packages it depends on, directly.
    pub needs: BTreeSet<String>,
}

/// Packages by their folder (empty is the root).
#[must_use]
pub fn packages(manifests: &BTreeMap<String, String>) -> BTreeMap<String, Package> {
    let parsed: BTreeMap<String, toml::Table> = manifests
        .iter()
        .filter_map(|(path, text)| Some((folder_of(path), text.parse::<toml::Table>().ok()?)))
        .collect();
    parsed
        .iter()
        .filter_map(|(folder, manifest)| {
            let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
            Some((folder.clone(), Package { name, needs: needs(folder, manifest, &parsed) }))
        })
        .collect()
}

/// All folders that a folder depends on, over any number of steps, without itself.
#[must_use]
pub fn closure(packages: &BTreeMap<String, Package>, folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for needed in packages.get(&next).map(|package| &package.needs).into_iter().flatten() {
            if needed != folder && found.insert(needed.clone()) {
                open.push(needed.clone());
            }
        }
    }
    found
}

/// The workspace that a folder belongs to: the nearest folder above with a `[workspace]`.
#[must_use]
pub fn workspace(manifests: &BTreeMap<String, String>, folder: &str) -> Option<String> {
    let mut at = Some(folder);
    while let Some(candidate) = at {
        let text = manifests.get(&join(candidate, "Cargo.toml"));
        if text.is_some_and(|text| text.parse::<toml::Table>().is_ok_and(|manifest| manifest.contains_key("workspace")))
        {
            return Some(candidate.to_owned());
        }
        at = parent(candidate);
    }
    None
}

fn needs(folder: &str, manifest: &toml::Table, all: &BTreeMap<String, toml::Table>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for table in dependency_tables(manifest) {
        for (name, dependency) in table {
            let path = dependency.get("path").and_then(|path| path.as_str()).and_then(|path| resolve(folder, path));
            let inherited = dependency.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            let path = if inherited { from_workspace(folder, name, all) } else { path };
            found.extend(path);
        }
    }
    found
}

fn dependency_tables(manifest: &toml::Table) -> Vec<&toml::Table> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let of = |table: &'_ toml::Table| -> Vec<String> { table.keys().cloned().collect() };
    let mut tables: Vec<&toml::Table> = kinds.iter().filter_map(|kind| manifest.get(*kind)?.as_table()).collect();
    if let Some(targets) = manifest.get("target").and_then(|target| target.as_table()) {
        for name in of(targets) {
            tables.extend(kinds.iter().filter_map(|kind| targets.get(&name)?.get(*kind)?.as_table()));
        }
    }
    tables
}

fn from_workspace(folder: &str, name: &str, all: &BTreeMap<String, toml::Table>) -> Option<String> {
    let mut at = Some(folder);
    while let Some(candidate) = at {
        let dependency = all
            .get(candidate)
            .and_then(|manifest| manifest.get("workspace")?.get("dependencies")?.get(name)?.get("path")?.as_str());
        if let Some(path) = dependency {
            return resolve(candidate, path);
        }
        at = parent(candidate);
    }
    None
}

fn folder_of(manifest: &str) -> String {
    manifest.strip_suffix("Cargo.toml").map(|folder| folder.trim_end_matches('/')).unwrap_or_default().to_owned()
}

fn parent(folder: &str) -> Option<&str> {
    if folder.is_empty() {
        return None;
    }
    Some(folder.rsplit_once('/').map_or("", |(parent, _)| parent))
}

/// A path below a folder, both from the root; the root itself is the empty text.
#[must_use]
pub fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() || folder == "." { path.to_owned() } else { format!("{folder}/{path}") }
}

/// `path` seen from `folder`, from the root; `None` when it leaves the repository.
#[must_use]
pub fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_through_paths_and_through_the_workspace() {
        let manifests = BTreeMap::from([
            (
                "Cargo.toml".to_owned(),
                "[workspace]\nmembers=['a','b','lib','deep']\n[workspace.dependencies]\ndeep={path='deep'}".to_owned(),
            ),
            ("a/Cargo.toml".into(), "[package]\nname='a'\n[dependencies]\nlib={path='../lib'}".into()),
            ("b/Cargo.toml".into(), "[package]\nname='b'\n[dev-dependencies]\nserde='1'".into()),
            (
                "lib/Cargo.toml".into(),
                "[package]\nname='lib'\n[target.'cfg(unix)'.dependencies]\ndeep.workspace=true".into(),
            ),
            ("deep/Cargo.toml".into(), "[package]\nname='deep'".into()),
        ]);
        let packages = packages(&manifests);
        assert_eq!(closure(&packages, "a"), BTreeSet::from(["lib".into(), "deep".into()])); // R555
        assert!(closure(&packages, "b").is_empty());
        assert_eq!(workspace(&manifests, "a"), Some(String::new()));
    }

    #[test]
    fn a_path_that_leaves_the_repository_is_nothing() {
        assert_eq!(resolve("a/b", "../../.."), None);
        assert_eq!(resolve("a/b", "../c"), Some("a/c".into()));
    }
}
