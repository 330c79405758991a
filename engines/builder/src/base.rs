//! Base images.
//!
//! In: a reference, and who knows which manifest it means. Out: the image's configuration, layers and
//! file system. Never: a registry of others; a pull happens before the build, by a person.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use slipway_blobs::{Blobs, Digest};

use crate::error::{BuildError, Position, Problem};
use crate::layer;
use crate::oci::{self, LayerBlob, LoadError, Loaded, Platform};
use crate::paths::{join, name, of_entry, parent};
use crate::reference::ImageReference;
use crate::spool::reading_failed;
use crate::tree::{Content, ENTRIES_MAX, Kind, Node, Tree};

/// Why an image could not be looked up (not: that it is not there).
pub type ResolveError = Box<dyn Error + Send + Sync>;

/// Knows the images of the own registry.
pub trait BaseImages: Send + Sync {
    /// The manifest (or index) of an image; its blobs are in the store. `None`: there is no such image.
    fn resolve(&self, reference: &ImageReference) -> Result<Option<Digest>, ResolveError>;
}

/// No images at all: only `FROM scratch`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBaseImages;

impl BaseImages for NoBaseImages {
    fn resolve(&self, _reference: &ImageReference) -> Result<Option<Digest>, ResolveError> {
        Ok(None)
    }
}

/// Finds an image and reads what is in it.
pub(crate) fn load(
    blobs: &Blobs,
    bases: &dyn BaseImages,
    reference: &ImageReference,
    platform: &Platform,
    at: Position,
) -> Result<(Loaded, Tree), BuildError> {
    let resolved =
        bases.resolve(reference).map_err(|source| BuildError::Resolve { reference: reference.to_string(), source })?;
    let Some(manifest) = resolved else {
        return Err(Problem::new(at, format!("there is no image `{reference}` in this registry"))
            .hint("`slipway image ls` shows what there is; `slipway image import` or `skopeo copy` brings one in")
            .into());
    };
    let loaded = oci::load(blobs, &manifest, platform).map_err(|error| match error {
        LoadError::Store(error) => BuildError::Store(error),
        LoadError::Bad(message) => BuildError::BadBase { manifest, message },
    })?;
    let mut tree = Tree::default();
    for layer in &loaded.layers {
        read_layer(blobs, &Arc::new(layer.clone()), &mut tree)?;
    }
    Ok((loaded, tree))
}

/// Applies one layer to the file system (OCI image specification, "Applying Changesets").
pub(crate) fn read_layer(blobs: &Blobs, layer: &Arc<LayerBlob>, tree: &mut Tree) -> Result<(), BuildError> {
    let bad = |message| BuildError::BadBase { manifest: layer.digest, message };
    // Whiteouts hide what lies below this layer, wherever in the layer they stand.
    let mut added = Added::default();
    let mut archive = tar::Archive::new(layer::open(blobs, layer)?);
    let reading = |error| reading_failed(layer, error);
    for entry in archive.entries().map_err(reading)? {
        let entry = entry.map_err(reading)?;
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let path = of_entry(&entry.path_bytes()).map_err(bad)?;
        match name(&path).strip_prefix(".wh.") {
            Some(".wh..opq") => tree.remove_below(parent(&path)),
            Some(hidden) if hidden.starts_with(".wh.") => {}
            Some(hidden) => tree.remove(&join(parent(&path), hidden)),
            None if path.is_empty() => {}
            None => {
                let node = read_entry(&entry, layer, &added).map_err(bad)?;
                added.push(path, node);
            }
        }
        if added.nodes.len() + tree.len() > ENTRIES_MAX {
            return Err(BuildError::Limit {
                what: format!("the number of files in `{}`", layer.digest),
                limit: ENTRIES_MAX.to_string(),
            });
        }
    }
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(reading)?;
    for (path, node) in added.nodes {
        tree.put_missing_folders(&path);
        tree.put(path, node);
    }
    Ok(())
}

/// What a layer adds, in its order; of a path that comes twice the later one counts.
#[derive(Default)]
struct Added {
    nodes: Vec<(String, Node)>,
    places: HashMap<String, usize>,
}

impl Added {
    fn push(&mut self, path: String, node: Node) {
        self.places.insert(path.clone(), self.nodes.len());
        self.nodes.push((path, node));
    }

    fn get(&self, path: &str) -> Option<&Node> {
        self.places.get(path).map(|place| &self.nodes[*place].1)
    }
}

fn read_entry(
    entry: &tar::Entry<'_, impl std::io::Read>,
    layer: &Arc<LayerBlob>,
    added: &Added,
) -> Result<Node, String> {
    let header = entry.header();
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let number = |value: std::io::Result<u64>| {
        let value = value.ok().and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("`{path}` has an owner that is no number"))
    };
    let target = || {
        let target = entry.link_name_bytes().ok_or_else(|| format!("`{path}` is a link to nothing"))?;
        String::from_utf8(target.into_owned()).map_err(|_| format!("the target of `{path}` is not UTF-8"))
    };
    let kind = match header.entry_type() {
        tar::EntryType::Directory => Kind::Folder,
        tar::EntryType::Symlink => Kind::Link { target: target()? },
        tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File {
            size_bytes: entry.size(),
            content: Content::Layer { layer: Arc::clone(layer), path: of_entry(&entry.path_bytes())? },
        },
        tar::EntryType::Link => {
            let target = of_entry(target()?.as_bytes())?;
            let linked = added.get(&target);
            return match linked {
                Some(node) if !node.is_folder() => Ok(node.clone()),
                _ => Err(format!("`{path}` is a hard link to `{target}`, which is no file of its layer")),
            };
        }
        _ => return Err(format!("`{path}` is neither a file nor a folder nor a link")),
    };
    Ok(Node {
        kind,
        mode: header.mode().map_err(|_| format!("`{path}` has a mode that is no number"))? & 0o7777,
        uid: number(header.uid())?,
        gid: number(header.gid())?,
    })
}
