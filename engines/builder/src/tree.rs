//! The file system of a stage, without its bytes.
//!
//! In: the entries of layers and of COPYs. Out: what is where, links resolved within the image.
//! Never: the content of a file, only where it can be had.

use std::collections::BTreeMap;
use std::sync::Arc;

use slipway_blobs::Digest;

use crate::folder::Folder;
use crate::oci::LayerBlob;
use crate::paths::{ancestors, join, parent};

/// More files than this in one image are a mistake.
pub(crate) const ENTRIES_MAX: usize = 1_000_000;
/// As in Linux.
const LINKS_MAX: u32 = 40;

/// A file, folder or link of an image.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Folder,
    File { size_bytes: u64, content: Content },
    Link { target: String },
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In a folder of this machine, hashed.
    Disk { folder: Arc<Folder>, path: String, digest: Digest },
    /// In a layer, under this path of the layer.
    Layer { layer: Arc<LayerBlob>, path: String },
}

impl Node {
    pub(crate) fn folder() -> Self {
        Self { kind: Kind::Folder, mode: 0o755, uid: 0, gid: 0 }
    }

    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The root is a folder that is always there.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        path.is_empty() || self.get(path).is_some_and(Node::is_folder)
    }

    /// Puts a node in its place. What was below a folder that it replaces is gone.
    pub(crate) fn put(&mut self, path: String, node: Node) {
        if !node.is_folder() && self.is_folder(&path) {
            self.remove_below(&path);
        }
        self.nodes.insert(path, node);
    }

    /// Makes the folders above `path` that a layer left out.
    pub(crate) fn put_missing_folders(&mut self, path: &str) {
        for folder in ancestors(path) {
            if !self.is_folder(folder) {
                self.nodes.insert(folder.to_owned(), Node::folder());
            }
        }
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    pub(crate) fn remove_below(&mut self, path: &str) {
        let gone: Vec<String> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }

    /// Everything below a folder, with whole paths, folders before what is in them.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let from = self.nodes.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, node)| (path.as_str(), node))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Follows links within the image, also that of the last part. What is not there stays as it is
    /// written. `None` when links lead in a circle.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        let mut parts: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut found = String::new();
        let mut links = 0;
        while let Some(part) = parts.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    found = parent(&found).to_owned();
                    continue;
                }
                _ => {}
            }
            let next = join(&found, &part);
            let Some(Node { kind: Kind::Link { target }, .. }) = self.get(&next) else {
                found = next;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            if target.starts_with('/') {
                found.clear();
            }
            parts.extend(target.rsplit('/').map(str::to_owned));
        }
        Some(found)
    }

    /// The node that a path leads to in the end.
    pub(crate) fn follow(&self, path: &str) -> Option<(String, &Node)> {
        let resolved = self.resolve(path)?;
        let node = self.get(&resolved)?;
        Some((resolved, node))
    }
}
