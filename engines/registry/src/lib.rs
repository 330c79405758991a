//! The image registry: OCI distribution over the content store.
//!
//! In: requests of docker, skopeo, podman and of our own nodes under `/v2/`, and images that the
//! pipeline built. Out: images by tag and digest.
//! Never: a tag that changes what it names; the tag `latest`; a blob in memory as a whole; a blob of
//! a repository that the asker may not read; polling.
//!
//! The protocol is that of the OCI distribution specification 1.1. [`router`] serves it; `route`
//! reads the address, `blob`, `upload`, `manifest` and `listing` answer, `held` keeps pushed blobs
//! until a manifest names them. What the registry has to remember is behind [`Index`].

mod auth;
mod blob;
mod body;
mod file_index;
mod held;
mod index;
mod listing;
mod manifest;
mod names;
mod reply;
mod route;
mod sessions;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use slipway_blobs::{BlobError, Blobs, Collected, Digest};

pub use auth::{Action, Authorize, Challenge};
pub use file_index::FileIndex;
pub use index::{Forgotten, Index, IndexError, ManifestRecord, Published};
pub use names::{NameError, Repository, Tag};
pub use reply::Failure;
pub use route::router;

/// The limits of a registry. What lies beyond is refused with the limit in the message.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Uploads under way at once.
    pub uploads_max: usize,
    /// An upload that nobody continues for this long is forgotten.
    pub upload_idle: Duration,
    /// The size of one blob.
    pub blob_bytes_max: u64,
    /// The size of a manifest; clients have the same limit.
    pub manifest_bytes_max: usize,
    /// How long to wait for the next bytes of a request.
    pub body_idle: Duration,
    /// How long a blob is kept for the manifest that will name it.
    pub held_for: Duration,
    /// How many blobs are kept so.
    pub held_max: usize,
    /// Entries of one page of a listing.
    pub page_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uploads_max: 256,
            upload_idle: Duration::from_secs(3600),
            blob_bytes_max: 64 * 1024 * 1024 * 1024,
            manifest_bytes_max: 4 * 1024 * 1024,
            body_idle: Duration::from_secs(60),
            held_for: Duration::from_secs(3600),
            held_max: 100_000,
            page_max: 1000,
        }
    }
}

/// A registry. Cheap to clone; clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    blobs: Blobs,
    index: Arc<dyn Index>,
    authorize: Arc<dyn Authorize>,
    limits: Limits,
    sessions: sessions::Sessions,
    held: held::Held,
}

/// Why an image could not be published or found.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The content store failed.
    #[error("the content store failed")]
    Store(#[from] BlobError),
    /// The index failed.
    #[error("the registry's index failed")]
    Index(#[source] IndexError),
    /// The manifest is not one.
    #[error("manifest `{digest}` is not valid: {message}")]
    Invalid {
        /// The manifest.
        digest: Digest,
        /// Why.
        message: String,
    },
}

impl Registry {
    /// A registry over a store and an index.
    pub fn new(blobs: Blobs, index: Arc<dyn Index>, authorize: Arc<dyn Authorize>) -> Self {
        Self::with_limits(blobs, index, authorize, Limits::default())
    }

    /// The same with limits of one's own.
    pub fn with_limits(blobs: Blobs, index: Arc<dyn Index>, authorize: Arc<dyn Authorize>, limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner {
                blobs,
                index,
                authorize,
                limits,
                sessions: sessions::Sessions::default(),
                held: held::Held::default(),
            }),
        }
    }

    /// Records an image whose blobs are in the store, under all these tags or none of them.
    /// Blocks on the disk.
    pub fn publish(
        &self,
        repository: &Repository,
        manifest: &Digest,
        tags: &[Tag],
    ) -> Result<Published, RegistryError> {
        let limit = self.inner.limits.manifest_bytes_max as u64;
        let bytes = self.inner.blobs.read(manifest, limit)?;
        let read =
            manifest::read(&bytes, None).map_err(|message| RegistryError::Invalid { digest: *manifest, message })?;
        let mut leases = Vec::new();
        for digest in read.references.iter().chain([manifest]) {
            let lease = self.inner.blobs.lease(digest)?;
            leases.push(lease.ok_or(BlobError::Missing { digest: *digest })?);
        }
        let record = read.record(*manifest, bytes.len());
        let published = self.inner.index.publish(repository, &record, tags);
        published.map_err(RegistryError::Index)
    }

    /// The manifest that a tag names.
    pub fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        self.inner.index.get_tag(repository, tag).map_err(RegistryError::Index)
    }

    /// Whether the repository has this manifest.
    pub fn has_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool, RegistryError> {
        let found = self.inner.index.get_manifest(repository, digest);
        Ok(found.map_err(RegistryError::Index)?.is_some())
    }

    /// Takes an image out of the index; its blobs go with the next [`clean_up`](Self::clean_up)
    /// unless something else refers to them. Whether it may go is the caller's decision.
    pub fn forget(&self, repository: &Repository, digest: &Digest) -> Result<Forgotten, RegistryError> {
        self.inner.index.forget(repository, digest).map_err(RegistryError::Index)
    }

    /// Removes the blobs that neither an image of the index nor `pinned` refers to, and that were
    /// not used within `older_than` before `now`. `pinned` is called after the clean-up has begun,
    /// so that no push is missed. Blocks on the disk.
    pub fn clean_up(
        &self,
        pinned: impl FnOnce() -> Result<HashSet<Digest>, IndexError>,
        older_than: Duration,
        now: SystemTime,
    ) -> Result<Collected, RegistryError> {
        let collection = self.inner.blobs.begin_collection();
        let mut keep = self.inner.index.pins().map_err(RegistryError::Index)?;
        keep.extend(pinned().map_err(RegistryError::Index)?);
        Ok(collection.sweep(&keep, older_than, now)?)
    }

    /// Forgets uploads that nobody continued, and holds that ran out. New uploads do so by the way;
    /// a quiet registry may be told now and then.
    pub fn expire(&self, now: Instant) {
        self.inner.sessions.expire(now, self.inner.limits.upload_idle);
        self.inner.held.expire(now);
    }
}
