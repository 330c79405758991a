//! Brings files out of layers onto the disk, for the time of one build.
//!
//! In: nodes whose bytes are in layers of base images. Out: the same nodes with their bytes on disk.
//! Never: more than one pass over a layer for one COPY; a file that stays after the build.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slipway_blobs::{BlobError, Blobs, Digest, Hasher};

use crate::error::BuildError;
use crate::folder::Folder;
use crate::layer;
use crate::oci::LayerBlob;
use crate::paths::of_entry;
use crate::tree::{Content, Kind, Node, Tree};

pub(crate) struct Spool<'a> {
    blobs: &'a Blobs,
    path: PathBuf,
    folder: Arc<Folder>,
    next: u64,
}

impl<'a> Spool<'a> {
    /// Makes an empty folder in `scratch`.
    pub(crate) fn new(blobs: &'a Blobs, scratch: &Path) -> Result<Self, BuildError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = scratch.join(format!("build-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Folder::open(&path)?;
                    return Ok(Self { blobs, path, folder, next: 0 });
                }
                // Of a dead process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(BuildError::Io { action: "make", path, source }),
            }
        }
    }

    /// Brings the bytes of all these nodes onto the disk.
    pub(crate) fn fetch<'n>(&mut self, nodes: impl Iterator<Item = &'n mut Node>) -> Result<(), BuildError> {
        let mut wanted: HashMap<Digest, Wanted<'n>> = HashMap::new();
        for node in nodes {
            let Kind::File { content, .. } = &mut node.kind else { continue };
            let (layer, path) = match &*content {
                Content::Layer { layer, path } => (Arc::clone(layer), path.clone()),
                Content::Disk { .. } => continue,
            };
            let of_layer = wanted.entry(layer.digest).or_insert_with(|| Wanted { layer, nodes: HashMap::new() });
            of_layer.nodes.entry(path).or_default().push(content);
        }
        for (_, wanted) in wanted {
            self.fetch_from(wanted)?;
        }
        Ok(())
    }

    fn fetch_from(&mut self, wanted: Wanted<'_>) -> Result<(), BuildError> {
        let mut found = HashMap::new();
        let mut archive = tar::Archive::new(layer::open(self.blobs, &wanted.layer)?);
        let reading = |error| reading_failed(&wanted.layer, error);
        for entry in archive.entries().map_err(reading)? {
            let mut entry = entry.map_err(reading)?;
            let Ok(path) = of_entry(&entry.path_bytes()) else { continue };
            if entry.header().entry_type().is_file() && wanted.nodes.contains_key(&path) {
                // The last entry of a path is the one that counts.
                found.insert(path, self.store(&mut entry)?);
            }
        }
        for (path, contents) in wanted.nodes {
            let Some((on_disk, digest)) = found.get(&path) else {
                return Err(BuildError::BadBase {
                    manifest: wanted.layer.digest,
                    message: format!("`{path}` is not in the layer any more"),
                });
            };
            for content in contents {
                *content = Content::Disk { folder: Arc::clone(&self.folder), path: on_disk.clone(), digest: *digest };
            }
        }
        Ok(())
    }

    fn store(&mut self, entry: &mut impl Read) -> Result<(String, Digest), BuildError> {
        self.next += 1;
        let name = self.next.to_string();
        let path = self.path.join(&name);
        let failed = |source| BuildError::Io { action: "write", path: path.clone(), source };
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = entry.read(&mut buffer).map_err(failed)?;
            if length == 0 {
                return Ok((name, hasher.finish()));
            }
            hasher.update(&buffer[..length]);
            file.write_all(&buffer[..length]).map_err(failed)?;
        }
    }

    /// A small text file of the image, such as `/etc/passwd`; `None` when it is not there.
    pub(crate) fn read_text(&mut self, tree: &Tree, path: &str) -> Result<Option<String>, BuildError> {
        const BYTES_MAX: u64 = 1024 * 1024;
        let Some((_, node)) = tree.follow(path) else {
            return Ok(None);
        };
        let mut node = node.clone();
        self.fetch(std::iter::once(&mut node))?;
        let Kind::File { size_bytes, content: Content::Disk { folder, path: on_disk, .. } } = &node.kind else {
            return Ok(None);
        };
        if *size_bytes > BYTES_MAX {
            return Err(BuildError::Limit {
                what: format!("the size of `/{path}`"),
                limit: format!("{BYTES_MAX} bytes"),
            });
        }
        let mut bytes = Vec::new();
        let file = folder.open_file(on_disk)?;
        let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| folder.failed("read", on_disk, error))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // what stays is in the caller's scratch folder
    }
}

struct Wanted<'n> {
    layer: Arc<LayerBlob>,
    nodes: HashMap<String, Vec<&'n mut Content>>,
}

pub(crate) fn reading_failed(layer: &LayerBlob, error: io::Error) -> BuildError {
    match BlobError::from_io(error) {
        Ok(error) => BuildError::Store(error),
        Err(error) => {
            BuildError::BadBase { manifest: layer.digest, message: format!("its layer cannot be read: {error}") }
        }
    }
}
