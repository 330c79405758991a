//! The content store: bytes on disk, found by the SHA-256 of what they are.
//!
//! In: bytes of images, job artifacts and caches, as a stream or a file.
//! Out: their [`Digest`], and later the same bytes again.
//! Never: half a blob under its final name; two copies of one content; the removal of a blob that
//! somebody holds a [`Lease`] of; knowledge of what a blob means (that is for registry, builder and jobs).
//!
//! The calls block on the disk: asynchronous callers use `spawn_blocking`. Several processes may
//! open one folder. On disk:
//!
//! ```text
//! ROOT/sha256/9f/9f86d081…   a blob, complete and synced
//! ROOT/tmp/w-PID-N           being written; locked by its writer, swept at open when its writer is gone
//! ROOT/tmp/gc-9f86d081…      withdrawn by a clean-up, which then looks once more and deletes or restores it
//! ```

mod collect;
mod digest;
mod error;
mod lease;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

pub use collect::{Collected, Collection};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use error::BlobError;
pub use lease::Lease;
pub use read::Reader;
pub use writer::{Stored, Writer};

/// A content store. Cheap to clone; clones share their leases.
#[derive(Clone, Debug)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    in_use: Mutex<lease::InUse>,
    /// Numbers the temporary files of this process.
    next: AtomicU64,
}

/// One blob as [`Blobs::list`] reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// When it was stored, or last asked for by somebody who wants to keep it.
    pub used_at: SystemTime,
}

impl Blobs {
    /// Opens the store in `root`, makes its folders, and removes what writers left that are gone.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let root = root.into();
        for folder in [root.join("sha256"), root.join("tmp")] {
            fs::create_dir_all(&folder)
                .map_err(|source| BlobError::storing("the store's folders", &root, "make", &folder, source))?;
        }
        let blobs = Self { inner: Arc::new(Inner { root, in_use: Mutex::default(), next: AtomicU64::new(0) }) };
        blobs.sweep_temporary_files()?;
        Ok(blobs)
    }

    /// The folder of the store.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Begins a blob. `name` is what people call it in errors (`layer of COPY dist /app`).
    pub fn writer(&self, name: impl Into<String>) -> Result<Writer, BlobError> {
        Writer::begin(self.clone(), name.into())
    }

    /// Stores bytes that are in memory.
    pub fn put_bytes(&self, name: impl Into<String>, bytes: &[u8]) -> Result<Stored, BlobError> {
        let name = name.into();
        if let Some(stored) = self.stored(Digest::of(bytes))? {
            return Ok(stored);
        }
        let mut writer = self.writer(name)?;
        writer.append(bytes)?;
        writer.commit()
    }

    /// Stores a copy of a file; the file stays where it is.
    pub fn put_file(&self, path: &Path) -> Result<Stored, BlobError> {
        let mut file = File::open(path).map_err(BlobError::at("open", path))?;
        let mut writer = self.writer(path.display().to_string())?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return writer.commit(),
                Ok(length) => writer.append(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlobError::at("read", path)(error)),
            }
        }
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.inner.root.join("sha256").join(&hex[..2]).join(hex)
    }

    /// Whether the blob is there now. Who goes on to rely on it takes a [`lease`](Self::lease) instead.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Opens the blob for reading at any offset, unverified.
    pub fn open_file(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| missing_or(digest, "open", &path, source))
    }

    /// Opens the blob as a stream that fails at its end when the bytes are not those of the name.
    pub fn open_verified(&self, digest: &Digest) -> Result<Reader, BlobError> {
        Ok(Reader::new(*digest, self.open_file(digest)?))
    }

    /// The whole blob, verified. For small ones: manifests, configurations.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, BlobError> {
        let size_bytes = self.size(digest)?;
        if size_bytes > limit_bytes {
            return Err(BlobError::TooLarge { digest: *digest, size_bytes, limit_bytes });
        }
        let mut bytes = Vec::new();
        self.open_verified(digest)?.read_to_end(&mut bytes).map_err(|error| self.read_failed(digest, error))?;
        Ok(bytes)
    }

    /// The size of the blob in bytes.
    pub fn size(&self, digest: &Digest) -> Result<u64, BlobError> {
        let path = self.path(digest);
        let metadata = fs::metadata(&path).map_err(|source| missing_or(digest, "look at", &path, source))?;
        Ok(metadata.len())
    }

    /// Reads the whole blob and compares it with its name.
    pub fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        io::copy(&mut self.open_verified(digest)?, &mut io::sink())
            .map(|_| ())
            .map_err(|error| self.read_failed(digest, error))
    }

    /// All blobs, in the order of their digests.
    pub fn list(&self) -> Result<Vec<Entry>, BlobError> {
        let mut entries = Vec::new();
        let top = self.inner.root.join("sha256");
        for shard in read_folder(&top)? {
            for path in read_folder(&shard)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(digest) = name.and_then(Digest::from_hex) else {
                    continue; // not ours, and never touched
                };
                // It may be removed while we look.
                if let Ok(metadata) = fs::metadata(&path) {
                    entries.push(Entry {
                        digest,
                        size_bytes: metadata.len(),
                        used_at: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    });
                }
            }
        }
        entries.sort_by_key(|entry| entry.digest);
        Ok(entries)
    }

    fn read_failed(&self, digest: &Digest, error: io::Error) -> BlobError {
        BlobError::from_io(error).unwrap_or_else(BlobError::at("read", &self.path(digest)))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.inner.root.join("tmp").join(name)
    }

    fn sweep_temporary_files(&self) -> Result<(), BlobError> {
        for path in read_folder(&self.inner.root.join("tmp"))? {
            // Gone meanwhile, or held by a living writer: not ours to touch.
            let Ok(file) = File::open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let withdrawn = name.and_then(|name| name.strip_prefix("gc-")).and_then(Digest::from_hex);
            // A clean-up died before it had decided; the next one decides again.
            let swept = match withdrawn {
                Some(digest) => fs::rename(&path, self.path(&digest)),
                None => fs::remove_file(&path),
            };
            match swept {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BlobError::at("sweep", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn missing_or(digest: &Digest, action: &'static str, path: &Path, source: io::Error) -> BlobError {
    match source.kind() {
        io::ErrorKind::NotFound => BlobError::Missing { digest: *digest },
        _ => BlobError::at(action, path)(source),
    }
}

/// The paths in a folder; none when the folder is not there.
fn read_folder(folder: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BlobError::at("list", folder)(error)),
    };
    listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(BlobError::at("list", folder))
}
