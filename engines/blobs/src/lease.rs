//! Who uses which blob now, so that a clean-up and a push never meet.
//!
//! In: a digest that somebody is about to rely on. Out: a [`Lease`]; while it lives, no clean-up of
//! this process removes the blob. Never: a lease of a blob that is not there.
//!
//! For other processes a lease renews the blob's modification time, and their clean-up leaves alone
//! what was used more recently than its `older_than`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::{BlobError, Blobs, Digest, Stored};

#[derive(Debug, Default)]
pub(crate) struct InUse {
    counts: HashMap<Digest, usize>,
    collections: usize,
    /// Everything that was leased at any moment since a running collection began. Its caller may
    /// have read what to keep before such a lease was given and recorded, and given back after.
    seen: HashSet<Digest>,
}

impl InUse {
    pub(crate) fn add(&mut self, digest: Digest) {
        *self.counts.entry(digest).or_default() += 1;
        if self.collections > 0 {
            self.seen.insert(digest);
        }
    }

    fn subtract(&mut self, digest: Digest) {
        if let Some(count) = self.counts.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&digest);
            }
        }
    }

    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.counts.contains_key(digest) || self.seen.contains(digest)
    }

    pub(crate) fn begin_collection(&mut self) {
        self.collections += 1;
        self.seen.extend(self.counts.keys());
    }

    pub(crate) fn end_collection(&mut self) {
        self.collections -= 1;
        if self.collections == 0 {
            self.seen.clear();
        }
    }
}

/// Keeps one blob in the store for as long as it lives. Whoever stores a blob holds its lease
/// until the record that refers to the blob is written.
pub struct Lease {
    blobs: Blobs,
    digest: Digest,
}

impl Lease {
    /// The blob that is held.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The clean-up of another process counts its grace from here.
        let _ = touch(&self.blobs, &self.digest);
        self.blobs.in_use().subtract(self.digest);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({})", self.digest)
    }
}

impl Blobs {
    /// Holds the blob, or says that it is not there.
    pub fn lease(&self, digest: &Digest) -> Result<Option<Lease>, BlobError> {
        let lease = self.lease_unseen(*digest);
        let path = self.path(digest);
        match touch(self, digest) {
            Ok(()) => Ok(Some(lease)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BlobError::at("touch", &path)(error)),
        }
    }

    /// Removes one blob now, unless somebody holds it. True when it was there.
    pub fn remove(&self, digest: &Digest) -> Result<bool, BlobError> {
        let in_use = self.in_use();
        if in_use.holds(digest) {
            return Err(BlobError::InUse { digest: *digest });
        }
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BlobError::at("remove", &path)(error)),
        }
    }

    /// A lease whose blob is about to come.
    pub(crate) fn lease_unseen(&self, digest: Digest) -> Lease {
        self.in_use().add(digest);
        Lease { blobs: self.clone(), digest }
    }

    pub(crate) fn stored(&self, digest: Digest) -> Result<Option<Stored>, BlobError> {
        let Some(lease) = self.lease(&digest)? else {
            return Ok(None);
        };
        Ok(Some(Stored { digest, size_bytes: self.size(&digest)?, was_there: true, lease }))
    }

    pub(crate) fn in_use(&self) -> MutexGuard<'_, InUse> {
        // The counts are right after every statement, so a panic elsewhere does not spoil them.
        self.inner.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the modification time to now; fails with `NotFound` when the blob is not there.
fn touch(blobs: &Blobs, digest: &Digest) -> io::Result<()> {
    let moment = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: moment(UTIME_OMIT as _), last_modification: moment(UTIME_NOW as _) };
    Ok(utimensat(CWD, blobs.path(digest), &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
