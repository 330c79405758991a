//! Writing a blob as a stream.
//!
//! In: bytes, piece by piece, of any length. Out: the blob under its digest, synced, and a lease of it.
//! Never: a half-written blob that stays, or a second copy of bytes that are there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{FlockOperation, flock, fstat};

use crate::{BlobError, Blobs, Digest, Hasher, Lease};

/// A blob that has been stored.
#[derive(Debug)]
pub struct Stored {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Whether the store had these bytes before.
    pub was_there: bool,
    /// Keeps the blob until the caller has recorded what refers to it.
    pub lease: Lease,
}

/// A blob that is being written. Dropping it removes what was written.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    name: String,
    file: File,
    path: PathBuf,
    /// Whether `path` still names our file; afterwards somebody else may have taken the name.
    is_temporary: bool,
    hasher: Hasher,
    size_bytes: u64,
}

impl Writer {
    pub(crate) fn begin(blobs: Blobs, name: String) -> Result<Self, BlobError> {
        loop {
            let number = blobs.inner.next.fetch_add(1, Ordering::Relaxed);
            let path = blobs.temporary(&format!("w-{}-{number}", std::process::id()));
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = match opened {
                Ok(file) => file,
                // Another store object of this process, or a dead process of our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    let root = &blobs.inner.root;
                    return Err(BlobError::storing(&name, root, "make", &path, error));
                }
            };
            // Someone who opens the store just now may have swept the file before we locked it.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                return Ok(Self { blobs, name, file, path, is_temporary: true, hasher: Hasher::new(), size_bytes: 0 });
            }
        }
    }

    /// Adds the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.file.write_all(bytes).map_err(|source| self.failed("write", &self.path, source))?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes came so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Stores what came under its digest.
    pub fn commit(self) -> Result<Stored, BlobError> {
        let digest = self.hasher.clone().finish();
        self.store(digest)
    }

    /// Stores what came, if it is what was announced.
    pub fn commit_as(self, expected: &Digest) -> Result<Stored, BlobError> {
        let found = self.hasher.clone().finish();
        if found == *expected {
            return self.store(found);
        }
        Err(BlobError::Mismatch { name: self.name.clone(), expected: *expected, found })
    }

    fn store(mut self, digest: Digest) -> Result<Stored, BlobError> {
        if let Some(stored) = self.blobs.stored(digest)? {
            return Ok(stored); // our copy goes with `self`
        }
        // Held before it appears, so that no clean-up finds it unheld.
        let lease = self.blobs.lease_unseen(digest);
        self.file.sync_all().map_err(|source| self.failed("sync", &self.path, source))?;
        let place = self.blobs.path(&digest);
        let shard = place.parent().expect("a blob's path has a folder");
        self.make_shard(shard)?;
        fs::rename(&self.path, &place).map_err(|source| self.failed("store", &place, source))?;
        self.is_temporary = false;
        File::open(shard).and_then(|folder| folder.sync_all()).map_err(|source| self.failed("sync", shard, source))?;
        Ok(Stored { digest, size_bytes: self.size_bytes, was_there: false, lease })
    }

    fn make_shard(&self, shard: &Path) -> Result<(), BlobError> {
        match fs::create_dir(shard) {
            Ok(()) => {
                let top = shard.parent().expect("a shard has a folder");
                File::open(top).and_then(|folder| folder.sync_all()).map_err(BlobError::at("sync", top))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.failed("make", shard, error)),
        }
    }

    fn failed(&self, action: &'static str, path: &Path, source: io::Error) -> BlobError {
        BlobError::storing(&self.name, &self.blobs.inner.root, action, path, source)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(BlobError::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is held back
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_temporary {
            // A failure leaves work for the sweep at open.
            let _ = fs::remove_file(&self.path);
        }
    }
}
