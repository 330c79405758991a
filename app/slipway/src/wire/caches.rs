//! Folders that commands of Dockerfiles keep between builds (`RUN --mount=type=cache`).
//!
//! In: the project's folder and what the commands call theirs. Out: folders that nobody else has meanwhile.
//! Never: a cache of another project; two commands in one cache; more in it than the limit when a command has ended.

use rustix::fs::{FlockOperation, flock};
use slipway_builder::Cache;
use slipway_sandbox::remove_folder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A cache beyond this is emptied.
const BYTES_MAX: u64 = 10 << 30;
/// How the folder itself is called beside its lock.
const CONTENT: &str = "content";

/// A cache that belongs to one command.
pub struct HeldCache {
    /// Its folder.
    pub folder: PathBuf,
    /// Where the command finds it.
    pub targets: Vec<String>,
    _lock: File,
}

/// Waits until nobody else has them, and makes those that are not there.
pub fn hold(place: &Path, caches: &[Cache]) -> io::Result<Vec<HeldCache>> {
    // In the order of their names, so that two commands never wait for each other.
    let mut by_name: BTreeMap<String, Vec<&Cache>> = BTreeMap::new();
    for cache in caches {
        by_name.entry(slipway_blobs::Digest::of(cache.id.as_bytes()).hex()).or_default().push(cache);
    }
    by_name.into_iter().map(|(name, caches)| hold_one(&place.join(name), &caches)).collect()
}

fn hold_one(place: &Path, caches: &[&Cache]) -> io::Result<HeldCache> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(place)?;
    let lock = File::create(place.join("lock"))?;
    // Whoever has it ends by its own time limit.
    while let Err(error) = flock(&lock, FlockOperation::LockExclusive) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let folder = place.join(CONTENT);
    if let (false, Some(first)) = (folder.is_dir(), caches.first()) {
        fs::create_dir(&folder)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(first.owner.0), Some(first.owner.1))?;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(first.mode))?;
    }
    Ok(HeldCache { folder, targets: caches.iter().map(|cache| cache.target.clone()).collect(), _lock: lock })
}

impl HeldCache {
    /// Empties it where it has become too large.
    pub fn limit(&self) {
        if size_of(&self.folder) > BYTES_MAX {
            let _ = remove_folder(&self.folder);
        }
    }
}

/// What it takes on disk, counted until it is too much.
fn size_of(folder: &Path) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * BLOCK_BYTES;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
        if total > BYTES_MAX {
            return total;
        }
    }
    total
}
