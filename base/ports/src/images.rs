//! The images port: builds images and answers what exists.

use crate::Fut;
use serde::{Deserialize, Serialize};
use slipway_model::job::Artifact;
use slipway_model::plan::ImageDef;
use slipway_model::{CommitId, Digest, ProjectName};
use std::collections::BTreeMap;

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// The project.
    pub project: ProjectName,
    /// The commit whose files it takes.
    pub commit: CommitId,
    /// What to build.
    pub def: ImageDef,
    /// Artifacts of jobs, by job name within the service, for `COPY --from=job.NAME`.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
    /// The tag that it shall get, `guestbook/api:1f3c9ab-482`.
    pub reference: String,
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The manifest.
    pub digest: Digest,
    /// Sum of the layers as stored.
    pub size_bytes: u64,
    /// Ports it exposes.
    pub ports: Vec<u16>,
    /// The reference it has; an older one when this digest existed before.
    pub reference: String,
    /// Whether the digest existed before.
    pub reused: bool,
    /// What looks wrong about it.
    pub warnings: Vec<String>,
}

/// Why an image was not built.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// The change's fault: message with file, line and column, ending in what to do.
    #[error("{0}")]
    Change(String),
    /// The machine's fault.
    #[error("{0}")]
    Machine(String),
}

/// Builds images into the own registry.
pub trait Images: Send + Sync {
    /// Builds and tags. Idempotent: the same input gives the same digest.
    fn build(&self, request: BuildRequest) -> Fut<'_, Result<Built, BuildError>>;
    /// Ends the build that shall get this tag, if it runs: it fails as cancelled. A build that takes no time need not know it.
    fn cancel(&self, _reference: &str) {}
    /// Whether an image (manifest and all it names) is there whole.
    fn exists(&self, digest: &Digest) -> Fut<'_, bool>;
    /// The manifest that a reference names.
    fn resolve(&self, reference: &str) -> Fut<'_, Option<Digest>>;
    /// Whether a blob (an artifact) is there.
    fn has_blob(&self, digest: &Digest) -> Fut<'_, bool>;
}
