//! What the builder promises, on real folders.

mod build;
mod import;
mod parse;
mod run;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use slipway_blobs::{Blobs, Digest};

use crate::{BuildError, BuildRequest, Built, Ignore, NoBaseImages, NoCache, Platform, parse as parse_text};

/// A folder of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("slipway-builder-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("context")).unwrap();
        fs::create_dir_all(path.join("scratch")).unwrap();
        Self(path)
    }

    fn blobs(&self) -> Blobs {
        Blobs::open(self.0.join("blobs")).unwrap()
    }

    /// Writes a file below the context, with the folders above it.
    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.join("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn link(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.0.join("context").join(path)).unwrap();
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            dockerfile: parse_text(dockerfile).unwrap(),
            context: self.0.join("context"),
            ignore: Ignore::default(),
            jobs: BTreeMap::new(),
            arguments: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            platform: Platform::host(),
            scratch: self.0.join("scratch"),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    fn build(&self, dockerfile: &str) -> Built {
        build_plainly(&self.request(dockerfile), &self.blobs()).unwrap()
    }

    /// What a refused build says, as `line:column: message | hint`.
    fn refusal(&self, dockerfile: &str) -> String {
        match build_plainly(&self.request(dockerfile), &self.blobs()).unwrap_err() {
            BuildError::Refused(problems) => told(&problems).join("\n"),
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn build_plainly(request: &BuildRequest, blobs: &Blobs) -> Result<Built, BuildError> {
    crate::build(request, blobs, &NoBaseImages, &NoCache, None)
}

fn told(problems: &[crate::Problem]) -> Vec<String> {
    let one = |problem: &crate::Problem| match &problem.hint {
        Some(hint) => format!("{problem} | {hint}"),
        None => problem.to_string(),
    };
    problems.iter().map(one).collect()
}

/// A layer as `type mode uid:gid path[ -> target][ = content]` lines.
fn listing(blobs: &Blobs, digest: &Digest) -> Vec<String> {
    let raw = blobs.open_file(digest).unwrap();
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(raw));
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), 0);
        let kind = match header.entry_type() {
            tar::EntryType::Directory => "d",
            tar::EntryType::Symlink => "l",
            tar::EntryType::Regular => "f",
            tar::EntryType::Link => "h",
            other => panic!("unexpected {other:?}"),
        };
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let path = entry.path().unwrap().display().to_string();
        let mut line = format!("{kind} {mode:o} {uid}:{gid} {path}");
        if let Some(target) = entry.link_name().unwrap() {
            line += &format!(" -> {}", target.display());
        }
        if kind == "f" {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            line += &format!(" = {text}");
        }
        lines.push(line);
    }
    lines
}

fn entries_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
