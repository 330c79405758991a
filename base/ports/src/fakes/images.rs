//! Images by script.
//!
//! In: what each build makes. Out: the Images port. Never: a byte of an image.

use crate::{BuildError, BuildRequest, Built, Fut, Images};
use slipway_model::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a build takes in milliseconds, and the image's digest.
pub type Made = (u64, Result<Digest, BuildError>);
type Script = Box<dyn Fn(&BuildRequest) -> Made + Send + Sync>;

#[derive(Debug, Default)]
struct Registry {
    tags: BTreeMap<String, Digest>,
    first: BTreeMap<Digest, String>,
    blobs: BTreeSet<Digest>,
}

/// Images by script.
pub struct FakeImages {
    script: Script,
    registry: Mutex<Registry>,
}

impl FakeImages {
    /// A builder whose builds go as the script says.
    #[must_use]
    pub fn new(script: impl Fn(&BuildRequest) -> Made + Send + Sync + 'static) -> FakeImages {
        FakeImages { script: Box::new(script), registry: Mutex::default() }
    }

    /// An image that somebody pushed.
    pub fn put(&self, reference: &str, digest: &Digest) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.tags.insert(reference.to_owned(), digest.clone());
        registry.first.entry(digest.clone()).or_insert_with(|| reference.to_owned());
    }

    /// A blob that a job left.
    pub fn put_blob(&self, digest: &Digest) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).blobs.insert(digest.clone());
    }

    /// Removes an image, as a clean-up that did not know of a pin would.
    pub fn remove(&self, digest: &Digest) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.first.remove(digest);
        registry.tags.retain(|_, tagged| tagged != digest);
    }
}

impl Images for FakeImages {
    fn build(&self, request: BuildRequest) -> Fut<'_, Result<Built, BuildError>> {
        Box::pin(async move {
            let (ms, made) = (self.script)(&request);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let digest = made?;
            let known = {
                let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
                registry.first.get(&digest).cloned()
            };
            if known.is_none() {
                self.put(&request.reference, &digest);
            }
            Ok(Built {
                digest,
                size_bytes: 1_000_000,
                ports: Vec::new(),
                reused: known.is_some(),
                reference: known.unwrap_or(request.reference),
                warnings: Vec::new(),
            })
        })
    }

    fn exists(&self, digest: &Digest) -> Fut<'_, bool> {
        let there = self.registry.lock().unwrap_or_else(PoisonError::into_inner).first.contains_key(digest);
        Box::pin(std::future::ready(there))
    }

    fn resolve(&self, reference: &str) -> Fut<'_, Option<Digest>> {
        let found = self.registry.lock().unwrap_or_else(PoisonError::into_inner).tags.get(reference).cloned();
        Box::pin(std::future::ready(found))
    }

    fn has_blob(&self, digest: &Digest) -> Fut<'_, bool> {
        let there = self.registry.lock().unwrap_or_else(PoisonError::into_inner).blobs.contains(digest);
        Box::pin(std::future::ready(there))
    }
}
