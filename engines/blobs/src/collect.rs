//! Clean-up: mark and sweep.
//!
//! In: the digests that the caller's records refer to. Out: everything else is gone, if it is old
//! enough. Never: a blob that is kept, leased, was leased since the collection began, or is young.
//!
//! The order matters: first [`Blobs::begin_collection`], then read what to keep from the records,
//! then [`Collection::sweep`]. A push that runs meanwhile holds leases; whatever it records and
//! gives back in between is remembered by the collection, so no push and no clean-up race.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::{BlobError, Blobs, Digest, Entry};

/// A clean-up that has begun and not yet swept.
#[derive(Debug)]
pub struct Collection {
    blobs: Blobs,
}

/// What a clean-up did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What is gone.
    pub removed: Vec<Digest>,
    /// What that gave back, in bytes.
    pub removed_bytes: u64,
    /// Blobs that the records refer to.
    pub kept: u64,
    /// Blobs that nothing refers to and that somebody holds, or that are too young.
    pub spared: u64,
}

impl Blobs {
    /// Begins a clean-up. Read what to keep after this call, not before.
    pub fn begin_collection(&self) -> Collection {
        self.in_use().begin_collection();
        Collection { blobs: self.clone() }
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.blobs.in_use().end_collection();
    }
}

impl Collection {
    /// Removes every blob that is not in `keep`, that nobody holds, and that was not used within
    /// `older_than` before `now`.
    ///
    /// `older_than` protects what other processes are storing: it has to be longer than the time
    /// from the storing of a blob to the record that refers to it.
    pub fn sweep(self, keep: &HashSet<Digest>, older_than: Duration, now: SystemTime) -> Result<Collected, BlobError> {
        let mut collected = Collected::default();
        for entry in self.blobs.list()? {
            if keep.contains(&entry.digest) {
                collected.kept += 1;
            } else if is_young(&entry, older_than, now) || !self.remove(&entry, older_than, now)? {
                collected.spared += 1;
            } else {
                collected.removed_bytes += entry.size_bytes;
                collected.removed.push(entry.digest);
            }
        }
        Ok(collected)
    }

    /// Withdraws the blob, looks whether another process asked for it in that moment, and then
    /// deletes or restores it. False when it stays.
    fn remove(&self, entry: &Entry, older_than: Duration, now: SystemTime) -> Result<bool, BlobError> {
        let in_use = self.blobs.in_use();
        if in_use.holds(&entry.digest) {
            return Ok(false);
        }
        let place = self.blobs.path(&entry.digest);
        let withdrawn = self.blobs.temporary(&format!("gc-{}", entry.digest.hex()));
        if !present(fs::rename(&place, &withdrawn), "withdraw", &place)? {
            return Ok(false);
        }
        let Ok(metadata) = fs::metadata(&withdrawn) else {
            return Ok(false); // a process that just opened the store has put it back
        };
        let now_used = metadata.modified().unwrap_or(now);
        if now_used != entry.used_at && age(now_used, now) < older_than {
            present(fs::rename(&withdrawn, &place), "restore", &place)?;
            return Ok(false);
        }
        present(fs::remove_file(&withdrawn), "remove", &withdrawn)
    }
}

fn is_young(entry: &Entry, older_than: Duration, now: SystemTime) -> bool {
    age(entry.used_at, now) < older_than
}

/// A time that lies ahead of `now` counts as just now: a clock that jumped shortens no grace.
fn age(used_at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(used_at).unwrap_or_default()
}

/// Whether the file was there.
fn present(done: io::Result<()>, action: &'static str, path: &Path) -> Result<bool, BlobError> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BlobError::at(action, path)(error)),
    }
}
