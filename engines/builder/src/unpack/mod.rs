//! Takes an image apart for the machine that runs it: one folder per layer, for an overlay.
//!
//! In: an image in the store and a folder. Out: `FOLDER/<diff id>/` for each layer, and how to run the image.
//! Never: a layer folder that is not complete and synced; a write outside the folder, whatever the
//! layer says; a device node.
//!
//! The whiteouts of OCI become those of overlayfs: a character device 0/0 for what is hidden, the
//! attribute `overlay.opaque` for a folder that hides everything below it (kernel documentation,
//! `filesystems/overlayfs`), in both name spaces, because a mount in a user namespace reads `user.`.

mod extract;
mod kept;

pub use kept::KeptLayers;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock, fstat, syncfs};
use slipway_blobs::{BlobError, Blobs, Digest};

use crate::oci::{self, ImageConfig, LayerBlob, LoadError, Platform};

/// An image that lies ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// How to run it.
    pub config: ImageConfig,
    /// The folders of its layers, the lowest first; overlayfs wants them in the other order.
    pub layers: Vec<PathBuf>,
}

/// Why an image does not lie ready.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The content store failed.
    #[error("the image cannot be read")]
    Store(#[from] BlobError),
    /// The image is not as it should be.
    #[error("image `{manifest}` cannot be unpacked: {message}")]
    BadImage {
        /// Its manifest.
        manifest: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// A layer is not as it should be.
    #[error("layer `{layer}` is refused: {message}")]
    BadLayer {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// The disk is full. Nothing of the layer is left behind.
    #[error("no room to unpack `{layer}`: the disk of `{}` is full, {free_bytes} bytes are free", .folder.display())]
    DiskFull {
        /// The layer.
        layer: Digest,
        /// Where it was to go.
        folder: PathBuf,
        /// What the file system still has for us, in bytes.
        free_bytes: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Anything else that the operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Unpacks the layers of an image that are not there yet. Several may do so at once, also for the
/// same image; after a crash it is simply done again.
pub fn unpack(blobs: &Blobs, manifest: &Digest, into: &Path) -> Result<Unpacked, UnpackError> {
    let loaded = oci::load(blobs, manifest, &Platform::host()).map_err(|error| match error {
        LoadError::Store(error) => UnpackError::Store(error),
        LoadError::Bad(message) => UnpackError::BadImage { manifest: *manifest, message },
    })?;
    let layers = unpack_layers(blobs, &loaded.layers, into)?;
    Ok(Unpacked { layers, config: loaded.image.config })
}

/// The folders of these layers, each below `into` by its diff id.
fn unpack_layers(blobs: &Blobs, layers: &[LayerBlob], into: &Path) -> Result<Vec<PathBuf>, UnpackError> {
    fs::create_dir_all(into).map_err(at("make", into))?;
    sweep(into)?;
    let folder_of = |layer: &LayerBlob| into.join(layer.diff_id.hex());
    let mut temporary = Vec::new();
    for layer in layers {
        if folder_of(layer).is_dir() {
            continue;
        }
        let folder = Temporary::make(into)?;
        extract::extract(blobs, layer, &folder.path).map_err(|error| cause(blobs, layer, error.of(layer, into)))?;
        temporary.push((folder, folder_of(layer)));
    }
    if !temporary.is_empty() {
        // A folder must not survive a power cut with its name and without its bytes.
        let top = File::open(into).map_err(at("open", into))?;
        syncfs(&top).map_err(|error| at("sync", into)(error.into()))?;
    }
    for (folder, place) in temporary {
        folder.keep_as(&place)?;
    }
    Ok(layers.iter().map(folder_of).collect())
}

/// A blob that rotted on disk often looks like a bad archive first.
fn cause(blobs: &Blobs, layer: &LayerBlob, error: UnpackError) -> UnpackError {
    match (&error, blobs.verify(&layer.digest)) {
        (UnpackError::BadLayer { .. }, Err(damaged)) => UnpackError::Store(damaged),
        _ => error,
    }
}

/// A folder that is being filled; gone unless it is kept.
struct Temporary {
    path: PathBuf,
    /// Locked for as long as its maker lives.
    _lock: File,
}

impl Temporary {
    fn make(into: &Path) -> Result<Self, UnpackError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = into.join(format!(".tmp-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(at("make", &path)(error)),
            }
            // Another sweep may have come between the two calls; then it is made again.
            let Ok(lock) = File::open(&path) else { continue };
            let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && fstat(&lock).is_ok_and(|stat| stat.st_nlink > 0) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    fn keep_as(self, place: &Path) -> Result<(), UnpackError> {
        match fs::rename(&self.path, place) {
            Ok(()) => Ok(()),
            // Somebody was faster with the same layer; ours goes with `self`.
            Err(_) if place.is_dir() => Ok(()),
            Err(error) => Err(at("store", place)(error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // after a rename it is not there any more
    }
}

/// Removes what was left by those who are gone.
fn sweep(into: &Path) -> Result<(), UnpackError> {
    for entry in fs::read_dir(into).map_err(at("list", into))? {
        let entry = entry.map_err(at("list", into))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".tmp-") {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Two may sweep at once; the second finds parts of it gone.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { action, path, source }
}
