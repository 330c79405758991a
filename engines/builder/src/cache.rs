//! Remembers which layer came of which inputs.
//!
//! In: the hash of everything that decides a layer's bytes. Out: the layer that was packed from it.
//! Never: a layer that is not in the store any more (the builder looks); a failed build because the
//! cache cannot be written.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use slipway_blobs::Digest;

/// A layer that was packed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedLayer {
    /// The compressed layer in the store.
    pub digest: Digest,
    /// The digest of its uncompressed bytes.
    pub diff_id: Digest,
    /// Its compressed size.
    pub size_bytes: u64,
}

/// A memory of packed layers. It may forget.
pub trait LayerCache: Send + Sync {
    /// The layer that was packed for `key`.
    fn get(&self, key: &Digest) -> Option<CachedLayer>;
    /// Remembers a layer, if it can.
    fn put(&self, key: &Digest, layer: &CachedLayer);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

impl LayerCache for NoCache {
    fn get(&self, _key: &Digest) -> Option<CachedLayer> {
        None
    }

    fn put(&self, _key: &Digest, _layer: &CachedLayer) {}
}

/// One small file per layer in a folder.
#[derive(Debug)]
pub struct FileCache {
    folder: PathBuf,
    next: AtomicU64,
}

impl FileCache {
    /// Uses `folder`, which is made when the first layer comes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), next: AtomicU64::new(0) }
    }
}

impl LayerCache for FileCache {
    fn get(&self, key: &Digest) -> Option<CachedLayer> {
        let bytes = fs::read(self.folder.join(key.hex())).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn put(&self, key: &Digest, layer: &CachedLayer) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("tmp-{}-{number}", std::process::id()));
        let Ok(bytes) = serde_json::to_vec(layer) else { return };
        // Renamed when complete; a damaged one is read as "not there".
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, self.folder.join(key.hex())));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
}
