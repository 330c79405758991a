//! Plans: what must happen for a change, what not, and why.
//!
//! In: nothing. Out: plain data made by the plan stage and read by all later ones. Never decides.

use crate::fact::ImageBuilt;
use crate::id::{ChangeId, CommitId, ContentKey, ItemId, JobKey, ServiceName};
use crate::job::{JobDef, JobOutcome};
use crate::policy::EnvironmentPolicy;
use crate::release::{Places, ServiceSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The plan of one change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Everything that was considered, in order of the road.
    pub items: Vec<Item>,
    /// Environments in promotion order, with what lets a release in; empty when this branch deploys nowhere.
    pub environments: Vec<EnvironmentPolicy>,
    /// Services without any behaviour test, by the reason: they are not CI (R106).
    pub not_ci: Vec<ServiceName>,
    /// Sentences worth saying before anything runs.
    pub warnings: Vec<String>,
    /// Time that reuse and skipping save, from earlier runs.
    pub saved_ms: u64,
}

/// One thing that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// `job:api/test`, `image:api`, `release:api`.
    pub id: ItemId,
    /// The service, unless it belongs to the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// What is to be done about it.
    pub decision: Decision,
    /// Why, for a person.
    pub reason: String,
    /// Items that must be satisfied first.
    pub needs: Vec<ItemId>,
    /// Stands for everything that determines its result.
    pub key: ContentKey,
    /// The input files that the key is made of, path to object id; what `why` compares. A recorded plan leaves them
    /// to the index `inputs`, by the item's key: there may be many thousand.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// Exactly what is to be done.
    pub spec: ItemSpec,
    /// The earlier result that stands in, when it is not to be done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// A result of the same content, from an earlier change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    /// The change that has it.
    pub change: ChangeId,
    /// Its commit.
    pub commit: CommitId,
    /// How the job ended, when it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Box<JobOutcome>>,
    /// The image, when it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageBuilt>>,
}

/// What a plan decided about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It is to be done.
    Run,
    /// The same content gave this result before, and its outputs are still there.
    Reused,
    /// Nothing that counts for it changed since it passed.
    NotAffected,
    /// The same content failed before; only `retry` runs it again.
    FailedBefore,
}

impl Decision {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Decision::Run => "run",
            Decision::Reused => "reused",
            Decision::NotAffected => "not-affected",
            Decision::FailedBefore => "failed-before",
        }
    }
}

/// Exactly what an item does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum ItemSpec {
    /// Run a job.
    Job(Box<JobDef>),
    /// Build an image.
    Image(ImageDef),
    /// Make a release.
    Release(Box<ReleaseDef>),
}

impl ItemSpec {
    /// `job`, `image` or `release`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ItemSpec::Job(_) => "job",
            ItemSpec::Image(_) => "image",
            ItemSpec::Release(_) => "release",
        }
    }
}

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDef {
    /// The service.
    pub service: ServiceName,
    /// The context folder, from the repository's root.
    pub folder: String,
    /// The Dockerfile, from the repository's root.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to publish, when not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How tags are made.
    pub tag: TagStrategy,
    /// Jobs whose files the Dockerfile takes (`COPY --from=job.NAME`).
    pub jobs: Vec<JobKey>,
}

/// How an image is tagged (R126).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagStrategy {
    /// `1f3c9ab-482`.
    #[default]
    GithashBuildid,
    /// `1f3c9ab`.
    Githash,
    /// `482`.
    Buildid,
}

/// A release to make, once its image is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseDef {
    /// The service.
    pub service: ServiceName,
    /// How it runs everywhere.
    pub spec: ServiceSpec,
    /// Where that stands in the file; no part of the item's key.
    #[serde(default)]
    pub places: Places,
    /// Services whose releases of the same change go first; no part of the item's key.
    #[serde(default)]
    pub needs: Vec<ServiceName>,
}

impl Plan {
    /// The item with this id.
    #[must_use]
    pub fn item(&self, id: &ItemId) -> Option<&Item> {
        self.items.iter().find(|item| &item.id == id)
    }

    /// Whether nothing of it has to be done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.items.iter().all(|item| item.decision != Decision::Run)
    }
}
