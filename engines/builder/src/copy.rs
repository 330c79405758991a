//! Puts what a COPY or WORKDIR makes in its place in the image.
//!
//! In: the file system so far, what was picked, where it goes, who owns it.
//! Out: the entries of the new layer, and the file system after it.
//! Never: an entry below a link (links of the image are followed first), or a folder's mode and owner
//! changed by the way: folders that are there come into the layer as they are, because an overlay
//! shows the uppermost one.

use std::collections::BTreeMap;

use crate::error::{BuildError, Position, Problem};
use crate::paths::{absolute, ancestors, join, name, parent};
use crate::source::Picked;
use crate::tree::{Kind, Node, Tree};

/// The entries of one layer in the order in which they are packed.
pub(crate) type Entries = BTreeMap<String, Node>;

/// Who owns what is copied, and its mode, when the instruction says so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<u32>,
}

/// Adds a layer to a stage's file system.
pub(crate) struct Placing<'a> {
    tree: &'a mut Tree,
    attributes: Attributes,
    at: Position,
    entries: Entries,
}

impl<'a> Placing<'a> {
    pub(crate) fn new(tree: &'a mut Tree, attributes: Attributes, at: Position) -> Self {
        Self { tree, attributes, at, entries: Entries::new() }
    }

    /// The folder of a WORKDIR and those above it, if they are not there.
    pub(crate) fn folder(mut self, path: &str) -> Result<Entries, BuildError> {
        let path = self.resolve(path)?;
        if !self.tree.is_folder(&path) {
            self.make_folder(&path)?;
        }
        Ok(self.entries)
    }

    /// The rules for destinations are those of the Dockerfile reference, "COPY".
    pub(crate) fn copy(
        mut self,
        picked: Vec<Picked>,
        working_folder: &str,
        destination: &str,
    ) -> Result<Entries, BuildError> {
        let names_folder = destination.ends_with('/') || matches!(name(destination), "." | "..");
        let place = self.resolve(&absolute(working_folder, destination))?;
        let is_folder = names_folder || self.tree.is_folder(&place);
        if picked.len() > 1 && !is_folder {
            let message = format!("{} things are copied, so `{destination}` has to be a folder", picked.len());
            return Err(Problem::new(self.at, message).hint(format!("end it with a slash: `{destination}/`")).into());
        }
        for one in picked {
            if one.node.is_folder() {
                match self.tree.is_folder(&place) {
                    true => self.make_folder(&place)?,
                    // A folder that comes with its content comes with its owner and mode.
                    false => self.put(&place, one.node)?,
                }
                for (relative, node) in one.below {
                    self.put(&join(&place, &relative), node)?;
                }
            } else if is_folder {
                self.put(&join(&place, &one.name), one.node)?;
            } else {
                self.put(&place, one.node)?;
            }
        }
        Ok(self.entries)
    }

    fn put(&mut self, path: &str, mut node: Node) -> Result<(), BuildError> {
        let folder = self.resolve(parent(path))?;
        let path = join(&folder, name(path));
        if node.is_folder() {
            let leads_to = self.resolve(&path)?;
            if self.tree.is_folder(&leads_to) {
                return Ok(());
            }
            if self.tree.get(&leads_to).is_some() {
                return Err(self.is_in_the_way(&leads_to, "a folder", "a file"));
            }
        } else if self.tree.is_folder(&path) {
            return Err(self.is_in_the_way(&path, "a file", "a folder"));
        }
        self.make_folder(&folder)?;
        if let Some((uid, gid)) = self.attributes.owner {
            (node.uid, node.gid) = (uid, gid);
        }
        if let (Some(mode), Kind::File { .. } | Kind::Folder) = (self.attributes.mode, &node.kind) {
            node.mode = mode;
        }
        self.entries.insert(path.clone(), node.clone());
        self.tree.put(path, node);
        Ok(())
    }

    /// Makes `path`, which has no links in it, and brings the folders above it into the layer.
    fn make_folder(&mut self, path: &str) -> Result<(), BuildError> {
        let own = (!path.is_empty()).then_some(path);
        for folder in ancestors(path).chain(own) {
            if self.entries.contains_key(folder) {
                continue;
            }
            let node = match self.tree.get(folder) {
                Some(node) if node.is_folder() => node.clone(),
                Some(_) => return Err(self.is_in_the_way(folder, "a folder", "a file")),
                None => {
                    let (uid, gid) = self.attributes.owner.unwrap_or((0, 0));
                    Node { uid, gid, ..Node::folder() }
                }
            };
            self.entries.insert(folder.to_owned(), node.clone());
            self.tree.put(folder.to_owned(), node);
        }
        Ok(())
    }

    fn resolve(&self, path: &str) -> Result<String, BuildError> {
        let circle = || Problem::new(self.at, format!("`/{path}` leads in a circle of links"));
        Ok(self.tree.resolve(path).ok_or_else(circle)?)
    }

    fn is_in_the_way(&self, path: &str, wanted: &str, found: &str) -> BuildError {
        Problem::new(self.at, format!("`/{path}` would become {wanted}, but is {found} in the image")).into()
    }
}
