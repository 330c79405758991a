//! Recognises services: folders with a Dockerfile.
//!
//! In: the paths of a commit and the texts of its Dockerfiles and manifests. Out: what the configuration may leave
//! out. Never: guesses a service from a folder that nothing can be built in.

use crate::cargo::{self, Package, join};
use slipway_config::{Config, DetectedService};
use slipway_ports::TreeFile;
use std::collections::BTreeMap;

/// Services by name. A Dockerfile in the root makes one named after the project.
#[must_use]
pub fn services(
    project: &str,
    texts: &BTreeMap<String, String>,
    packages: &BTreeMap<String, Package>,
) -> BTreeMap<String, DetectedService> {
    let mut found = BTreeMap::new();
    for (path, text) in texts.iter().filter(|(path, _)| *path == "Dockerfile" || path.ends_with("/Dockerfile")) {
        let folder = path.strip_suffix("Dockerfile").unwrap_or_default().trim_end_matches('/');
        let name = if folder.is_empty() { project } else { folder.rsplit('/').next().unwrap_or(folder) };
        let name: String = name.to_ascii_lowercase().replace(['_', '.'], "-");
        let service = DetectedService {
            path: if folder.is_empty() { ".".into() } else { folder.to_owned() },
            dockerfile: Some(path.clone()),
            port: exposed(text),
            tests: tests(folder, packages),
            evidence: path.clone(),
        };
        found.entry(name).or_insert(service);
    }
    found
}

/// Services that the file names with a path: what is recognised there, whatever the folder is called.
pub fn in_their_folders(
    config: &Config,
    texts: &BTreeMap<String, String>,
    packages: &BTreeMap<String, Package>,
    found: &mut BTreeMap<String, DetectedService>,
) {
    for (name, service) in &config.services {
        let Some(path) = &service.path else { continue };
        let folder = if path.value == "." { "" } else { &path.value };
        let given = service.dockerfile.as_ref().map(|file| file.value.clone());
        let dockerfile = given.unwrap_or_else(|| join(folder, "Dockerfile"));
        let text = texts.get(&dockerfile);
        let detected = DetectedService {
            path: path.value.clone(),
            dockerfile: text.map(|_| dockerfile.clone()),
            port: text.and_then(|text| exposed(text)),
            tests: tests(folder, packages),
            evidence: dockerfile,
        };
        found.insert(name.clone(), detected);
    }
}

/// Services that the file names without a path, where no folder has their name and the root has a Dockerfile: the
/// root is meant.
pub fn in_the_root(
    config: &Config,
    files: &[TreeFile],
    texts: &BTreeMap<String, String>,
    packages: &BTreeMap<String, Package>,
    found: &mut BTreeMap<String, DetectedService>,
) {
    let Some(dockerfile) = texts.get("Dockerfile") else { return };
    for (name, service) in &config.services {
        let folder = format!("{name}/");
        if service.path.is_some() || found.contains_key(name) || files.iter().any(|file| file.path.starts_with(&folder))
        {
            continue;
        }
        let detected = DetectedService {
            path: ".".into(),
            dockerfile: Some("Dockerfile".into()),
            port: exposed(dockerfile),
            tests: tests("", packages),
            evidence: "Dockerfile".into(),
        };
        found.insert(name.clone(), detected);
    }
}

/// The command of a Rust package's tests.
#[must_use]
pub fn tests(folder: &str, packages: &BTreeMap<String, Package>) -> Option<String> {
    packages.get(folder).map(|package| format!("cargo test -p {}", package.name))
}

/// The first port that a Dockerfile exposes.
#[must_use]
pub fn exposed(dockerfile: &str) -> Option<u16> {
    dockerfile.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if !words.next()?.eq_ignore_ascii_case("EXPOSE") {
            return None;
        }
        words.next()?.split('/').next()?.parse().ok()
    })
}

/// A job that a Dockerfile takes files from (`COPY --from=job.NAME`), and where it first says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub job: String,
    /// From 1.
    pub line: usize,
    /// Of `job.NAME`, in characters from 1.
    pub column: usize,
}

/// Jobs that a Dockerfile takes files from, by name.
#[must_use]
pub fn jobs_taken(dockerfile: &str) -> Vec<Taken> {
    const FLAG: &str = "--from=";
    let mut taken = Vec::new();
    for (number, line) in (1..).zip(dockerfile.lines()).filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for word in line.split_whitespace() {
            let Some(job) = word.strip_prefix(FLAG).and_then(|from| from.strip_prefix("job.")) else { continue };
            let before = line.get(..word.as_ptr().addr() - line.as_ptr().addr()).map_or(0, |text| text.chars().count());
            let column = before + FLAG.len() + 1;
            taken.push(Taken { job: job.trim_matches('"').to_owned(), line: number, column });
        }
    }
    // The sort is stable: the first place stays.
    taken.sort_by(|one, other| one.job.cmp(&other.job));
    taken.dedup_by(|later, first| later.job == first.job);
    taken
}

/// Files that count for every Rust package below a workspace's folder.
#[must_use]
pub fn workspace_files(workspace: &str) -> Vec<String> {
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "rust-toolchain", ".cargo/**"]
        .iter()
        .map(|name| join(workspace, name))
        .collect()
}

/// Whether a folder is a Rust package.
#[must_use]
pub fn is_rust(folder: &str, packages: &BTreeMap<String, cargo::Package>) -> bool {
    packages.contains_key(folder)
}
