//! Images from elsewhere: an OCI layout, what `docker save` wrote, or a root file system.
//!
//! In: a file or folder of anybody. Out: an image whose parts lie in a store of their own, every digest checked.
//! Never: a part that was not asked for; a write outside the scratch folder; the same input as another image.
//!
//! Formats: OCI image layout 1.1; `docker save` ("Docker Image Specification v1.2", combined image JSON and file system
//! changesets); tar. Any of the files may be compressed with gzip. `members` takes the file apart, `repack` makes layers.

mod members;
mod repack;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use slipway_blobs::{BlobError, Blobs, Digest, Hasher, Lease};

use crate::error::BuildError;
use crate::layer;
use crate::oci::{self, Descriptor, History, Image, ImageConfig, LayerBlob, LoadError, Manifest, Platform, RootFs};
use members::Members;

/// What is to be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An OCI layout or what `docker save` wrote.
    Image,
    /// A tar of a root file system.
    RootFileSystem,
}

/// An image that lies ready to be stored.
#[derive(Debug)]
pub struct Imported {
    /// Its manifest.
    pub manifest: Part,
    /// What kind of manifest it is.
    pub media_type: String,
    /// Its configuration and its layers.
    pub parts: Vec<Part>,
    /// What is not as it was in the file.
    pub notes: Vec<String>,
    _leases: Vec<Lease>,
}

/// One blob of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// The file with its bytes.
    pub file: PathBuf,
}

/// Why there is nothing to store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not what it should be.
    #[error("{message}")]
    Bad {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// Its bytes are not those that it promises.
    #[error("the image is damaged")]
    Damaged(#[source] BlobError),
    /// The scratch folder could not be used.
    #[error("the image could not be taken apart")]
    Store(#[from] BlobError),
    /// A file could not be read.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ImportError {
    pub(crate) fn bad(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Bad { message: message.into(), hint: hint.into() }
    }
}

const WHAT_IS_READ: &str =
    "it can be an OCI layout (folder or tar), what `docker save` wrote, or with `--rootfs` a tar of a root file system";

/// Takes an image apart, into `scratch`, which has to stay until the parts are stored.
pub fn import(from: &Path, source: Source, platform: &Platform, scratch: &Path) -> Result<Imported, ImportError> {
    let store = Blobs::open(scratch.join("import"))?;
    let mut work = Work { store, platform, leases: Vec::new(), notes: Vec::new() };
    match source {
        Source::RootFileSystem => work.root_file_system(from),
        Source::Image => {
            let mut members = members::read(from, &work.store)?;
            work.leases.append(&mut members.leases);
            match (&members.index, &members.docker) {
                (Some(index), _) => work.layout(index),
                (None, Some(docker)) => work.docker_archive(docker, &members),
                (None, None) => {
                    let message = format!("`{}` has neither an `index.json` nor a `manifest.json`", from.display());
                    Err(ImportError::bad(message, WHAT_IS_READ))
                }
            }
        }
    }
}

struct Work<'a> {
    store: Blobs,
    platform: &'a Platform,
    leases: Vec<Lease>,
    notes: Vec<String>,
}

/// One image of `docker save` (`manifest.json`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

impl Work<'_> {
    fn layout(self, index: &[u8]) -> Result<Imported, ImportError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let index: Index = read_json(index, "index.json")?;
        let fits: Vec<&Descriptor> = match index.manifests.as_slice() {
            [only] => vec![only],
            several => several.iter().filter(|one| one.platform.as_ref() == Some(self.platform)).collect(),
        };
        let [chosen] = fits.as_slice() else {
            let count = index.manifests.len();
            let Platform { os, architecture } = self.platform;
            let message = format!("it holds {count} images, of which {} are for {os}/{architecture}", fits.len());
            return Err(ImportError::bad(
                message,
                "copy the one that you mean out of it: `skopeo copy oci:FOLDER:NAME oci:OTHER`",
            ));
        };
        let manifest = self.manifest_of(&chosen.digest)?;
        self.finish(&manifest)
    }

    /// Of an index the manifest for this platform.
    fn manifest_of(&self, digest: &Digest) -> Result<Digest, ImportError> {
        let bytes = self.store.read(digest, oci::DOCUMENT_BYTES_MAX).map_err(damaged)?;
        Ok(oci::choose(&bytes, self.platform).map_err(unusable)?.unwrap_or(*digest))
    }

    fn docker_archive(mut self, manifest: &[u8], members: &Members) -> Result<Imported, ImportError> {
        let images: Vec<DockerImage> = read_json(manifest, "manifest.json")?;
        let [image] = images.as_slice() else {
            let names: Vec<String> = images.iter().flat_map(|image| image.repo_tags.clone()).flatten().collect();
            let message = format!("it holds {} images: {}", images.len(), names.join(", "));
            return Err(ImportError::bad(message, "save one of them: `docker save NAME:TAG -o FILE`"));
        };
        let (config, config_size) = members.find(&image.config)?;
        let bytes = self.store.read(&config, oci::DOCUMENT_BYTES_MAX).map_err(damaged)?;
        let read: Image = read_json(&bytes, &image.config)?;
        let (count, named) = (image.layers.len(), read.rootfs.diff_ids.len());
        if count != named {
            let message = format!("it has {count} layers, and its configuration names {named}");
            return Err(ImportError::bad(message, "save it once more: `docker save NAME:TAG -o FILE`"));
        }
        let mut layers = Vec::new();
        for (name, promised) in image.layers.iter().zip(&read.rootfs.diff_ids) {
            let (member, _) = members.find(name)?;
            let (layer, lease) = repack::compressed(&self.store, &member)?;
            if layer.diff_id != *promised {
                let found = layer.diff_id;
                return Err(ImportError::bad(
                    format!("layer `{name}` unpacks to `{found}`, the image promises `{promised}`"),
                    "the file is damaged: save it once more",
                ));
            }
            self.leases.push(lease);
            layers.push(layer);
        }
        let manifest = self.write_manifest(config, config_size, &layers)?;
        self.finish(&manifest)
    }

    fn root_file_system(mut self, from: &Path) -> Result<Imported, ImportError> {
        let stop = AtomicBool::new(false);
        let (layer, lease, left_out) = repack::root(&self.store, from, &stop)?;
        self.leases.push(lease);
        if left_out > 0 {
            self.notes.push(format!("left out: {left_out} devices, pipes and sockets, which no image has"));
        }
        let image = Image {
            created: Some(oci::rfc3339(0)),
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            config: ImageConfig::default(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] },
            history: vec![History {
                created: Some(oci::rfc3339(0)),
                created_by: Some("slipway image import --rootfs".to_owned()),
                empty_layer: false,
            }],
        };
        let bytes = serde_json::to_vec(&image).expect("maps with text keys always become JSON");
        let stored = self.store.put_bytes("configuration", &bytes)?;
        self.leases.push(stored.lease);
        let manifest = self.write_manifest(stored.digest, stored.size_bytes, &[layer])?;
        self.finish(&manifest)
    }

    fn write_manifest(&mut self, config: Digest, size: u64, layers: &[LayerBlob]) -> Result<Digest, ImportError> {
        let descriptor = |media_type: &str, digest, size| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: oci::MANIFEST.to_owned(),
            config: descriptor(oci::CONFIG, config, size),
            layers: layers.iter().map(|layer| descriptor(oci::LAYER_GZIP, layer.digest, layer.size_bytes)).collect(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("maps with text keys always become JSON");
        let stored = self.store.put_bytes("manifest", &bytes)?;
        self.leases.push(stored.lease);
        Ok(stored.digest)
    }

    /// Looks at all of it as a build would.
    fn finish(self, manifest: &Digest) -> Result<Imported, ImportError> {
        let loaded = oci::load(&self.store, manifest, self.platform).map_err(unusable)?;
        let Platform { os, architecture } = self.platform;
        if (&loaded.image.os, &loaded.image.architecture) != (os, architecture) {
            return Err(ImportError::bad(
                format!(
                    "it is for {}/{}, this machine is {os}/{architecture}",
                    loaded.image.os, loaded.image.architecture
                ),
                format!("take the one for this machine: `docker pull --platform {os}/{architecture} NAME:TAG`"),
            ));
        }
        for layer in &loaded.layers {
            check_layer(&self.store, layer)?;
        }
        let bytes = self.store.read(manifest, oci::DOCUMENT_BYTES_MAX)?;
        let read: Manifest = read_json(&bytes, "manifest")?;
        let media_type = if read.media_type.is_empty() { oci::MANIFEST.to_owned() } else { read.media_type };
        let part = |digest: Digest| -> Result<Part, ImportError> {
            let size_bytes = self.store.size(&digest).map_err(damaged)?;
            Ok(Part { digest, size_bytes, file: self.store.path(&digest) })
        };
        let mut parts = vec![part(read.config.digest)?];
        for layer in &loaded.layers {
            parts.push(part(layer.digest)?);
        }
        parts.dedup();
        Ok(Imported { manifest: part(*manifest)?, media_type, parts, notes: self.notes, _leases: self.leases })
    }
}

/// Both of its digests.
fn check_layer(store: &Blobs, layer: &LayerBlob) -> Result<(), ImportError> {
    let mut reader = layer::open(store, layer).map_err(damaged)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) => {
                return Err(match BlobError::from_io(error) {
                    Ok(error) => damaged(error),
                    Err(error) => ImportError::bad(
                        format!("layer `{}` cannot be read: {error}", layer.digest),
                        "the file is damaged: save it once more",
                    ),
                });
            }
        }
    }
    let (found, promised) = (hasher.finish(), layer.diff_id);
    if found == promised {
        return Ok(());
    }
    Err(ImportError::bad(
        format!("layer `{}` unpacks to `{found}`, the image promises `{promised}`", layer.digest),
        "the file is damaged: save it once more",
    ))
}

fn damaged(error: BlobError) -> ImportError {
    match error {
        BlobError::Missing { digest } => {
            ImportError::bad(format!("its part `{digest}` is missing"), "save the image once more, with all its layers")
        }
        error => ImportError::Damaged(error),
    }
}

fn unusable(error: LoadError) -> ImportError {
    match error {
        LoadError::Store(error) => damaged(error),
        LoadError::Bad(message) => ImportError::bad(
            format!("the image is not usable: {message}"),
            "`skopeo copy --format oci --dest-compress-format gzip …` writes one that is",
        ),
    }
}

fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], name: &str) -> Result<T, ImportError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImportError::bad(format!("`{name}` cannot be read: {error}"), WHAT_IS_READ))
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> ImportError + '_ {
    move |source| ImportError::Io { path: path.to_owned(), source }
}

/// A file, unpacked if gzip packed it (RFC 1952, section 2.3.1).
fn open(path: &Path) -> Result<Box<dyn Read>, ImportError> {
    let mut file = fs::File::open(path).map_err(io_at(path))?;
    let mut magic = [0; 2];
    let length = file.read(&mut magic).map_err(io_at(path))?;
    let whole = io::Cursor::new(magic[..length].to_vec()).chain(file);
    let buffered = io::BufReader::with_capacity(128 * 1024, whole);
    Ok(match magic {
        [0x1f, 0x8b] => Box::new(flate2::read::MultiGzDecoder::new(buffered)),
        _ => Box::new(buffered),
    })
}

fn of_build(path: &Path, error: BuildError) -> ImportError {
    match error {
        BuildError::Store(error) => ImportError::Store(error),
        BuildError::Io { source, .. } => ImportError::Io { path: path.to_owned(), source },
        other => ImportError::bad(other.to_string(), WHAT_IS_READ),
    }
}
