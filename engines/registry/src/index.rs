//! What a registry has to remember.
//!
//! In: manifests and tags. Out: the same later, and all blobs they refer to.
//! Never: the bytes of a manifest (they are a blob), or a tag with a second meaning.

use std::collections::HashSet;
use std::error::Error;

use serde::{Deserialize, Serialize};
use slipway_blobs::Digest;

use crate::{Repository, Tag};

/// A failure of the index, in the words of its implementation.
pub type IndexError = Box<dyn Error + Send + Sync>;

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Its name; its bytes are the blob of this name.
    pub digest: Digest,
    /// What it is, as it was pushed.
    pub media_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// The blobs and manifests that it names.
    pub references: Vec<Digest>,
}

/// What became of a [`Index::publish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is recorded.
    New,
    /// It was recorded just so.
    Same,
    /// A tag names other content; nothing was recorded.
    TagTaken {
        /// The tag.
        tag: Tag,
        /// What it names, or named before that was forgotten.
        holds: Digest,
    },
}

/// What became of a [`Index::forget`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// It is forgotten.
    Gone,
    /// It was not there.
    NotThere,
    /// Another manifest of the repository consists of it; it stays.
    PartOf(Digest),
}

/// The registry's memory. Calls may block on a disk; each is one transaction and durable when it
/// returns. Implementations: [`FileIndex`](crate::FileIndex), and the server's database.
pub trait Index: Send + Sync {
    /// What a tag names; `None` also when that was forgotten.
    fn get_tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, IndexError>;

    /// A manifest of the repository.
    fn get_manifest(&self, repository: &Repository, digest: &Digest) -> Result<Option<ManifestRecord>, IndexError>;

    /// Whether a manifest of the repository refers to the blob.
    fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, IndexError>;

    /// Records the manifest under all the tags, or nothing. A tag that ever named other content
    /// refuses it, also when that content is forgotten (R125).
    fn publish(
        &self,
        repository: &Repository,
        manifest: &ManifestRecord,
        tags: &[Tag],
    ) -> Result<Published, IndexError>;

    /// Takes a manifest out, unless it is part of another one. Its tags stay taken.
    fn forget(&self, repository: &Repository, digest: &Digest) -> Result<Forgotten, IndexError>;

    /// Tags in order, at most `limit`, those after `after`; `None`: no such repository.
    fn list_tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, IndexError>;

    /// Repositories in order, at most `limit`, those after `after`.
    fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Vec<Repository>, IndexError>;

    /// All manifests and everything that they refer to, of all repositories.
    fn pins(&self) -> Result<HashSet<Digest>, IndexError>;
}
