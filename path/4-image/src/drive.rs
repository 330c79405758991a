//! Has images built and records them.
//!
//! In: wanted images. Out: facts; the images port builds. Never: builds what is not recorded as started.

use crate::decide::reference;
use serde::{Deserialize, Serialize};
use slipway_model::fact::{Body, ChangeInfo, ImageBuilt, stream};
use slipway_model::job::Artifact;
use slipway_model::plan::ImageDef;
use slipway_model::{ChangeId, ContentKey, ItemId, NewFact, ProjectName};
use slipway_ports::{Append, BuildError, BuildRequest, Built, Clock, Images, Intent, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The stage's name on its intents.
pub const STAGE: &str = "image";

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Builds.
    pub images: Arc<dyn Images>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// An image that is to be built now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The change.
    pub info: ChangeInfo,
    /// The plan's item.
    pub item: ItemId,
    /// Stands for its content.
    pub key: ContentKey,
    /// What to build.
    pub def: ImageDef,
    /// Artifacts of its jobs, by job name.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
    /// How often it was tried in this change.
    pub attempt: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Started {
    wanted: Wanted,
    build: u64,
    began: u64,
}

/// The stage.
#[derive(Clone)]
pub struct Building {
    ports: Ports,
    /// What is being built now, by the tag that it shall get.
    under_way: Arc<Mutex<BTreeMap<String, ChangeId>>>,
}

impl Building {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Building {
        Building { ports, under_way: Arc::default() }
    }

    /// Records that a build starts. Performing the intent that comes back is the caller's, in the background.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn start(&self, project: &ProjectName, wanted: Wanted) -> Result<Option<Intent>, StoreError> {
        let build = self.ports.store.next(project, "build").await?;
        let body = Body::ImageStarted { item: wanted.item.clone(), build };
        let name = format!("{}-{}", wanted.item, wanted.attempt);
        let (change, began) = (wanted.info.id.clone(), self.ports.clock.now().0);
        let started = serde_json::to_value(Started { wanted, build, began }).unwrap_or_default();
        let append = Append::to(project, stream::change(&change))
            .fact(NewFact::new(Some(change), body))
            .intent(STAGE, name, started);
        Ok(self.ports.store.append(append).await?.intents.into_iter().next())
    }

    /// Builds what a recorded start asks for and records the end.
    ///
    /// # Errors
    /// When the journal fails; the intent stays open then.
    pub async fn perform(&self, intent: &Intent) -> Result<(), StoreError> {
        let Started { wanted, build, began } = match serde_json::from_value(intent.body.clone()) {
            Ok(started) => started,
            Err(error) => return Err(StoreError::Broken(format!("intent {}: {error}", intent.id))),
        };
        let project = &intent.project;
        let request = BuildRequest {
            project: project.clone(),
            commit: wanted.info.commit.clone(),
            def: wanted.def.clone(),
            artifacts: wanted.artifacts.clone(),
            reference: reference(project, &wanted.def.service, wanted.def.tag, &wanted.info.commit, build),
        };
        let change = wanted.info.id.clone();
        let append = Append::to(project, stream::change(&change)).ack(intent.id);
        let under_way = UnderWay::note(self, &request.reference, &change);
        let built = self.ports.images.build(request).await;
        drop(under_way);
        let append = match built {
            Ok(built) => {
                let took_ms = self.ports.clock.now().0.saturating_sub(began);
                let image = self.image(project, &wanted, build, built, took_ms).await?;
                let value = serde_json::json!({ "change": change, "commit": wanted.info.commit, "image": image });
                let latest = serde_json::to_value(&image).unwrap_or_default();
                append
                    .row("reuse", wanted.key.as_str(), Some(value))
                    .row("image", format!("latest/{}", wanted.def.service), Some(latest.clone()))
                    .row("image", format!("digest/{}/{}", image.digest, wanted.def.service), Some(latest))
                    .fact(NewFact::new(Some(change), Body::ImageBuilt(image)))
            }
            Err(error) => {
                let (reason, infrastructure) = match error {
                    BuildError::Change(reason) => (reason, false),
                    BuildError::Machine(reason) => (reason, true),
                };
                let body = Body::ImageFailed { item: wanted.item.clone(), reason, infrastructure };
                append.fact(NewFact::new(Some(change), body))
            }
        };
        self.ports.store.append(append).await.map(drop)
    }

    /// Ends the builds of a change that are under way; they fail as cancelled.
    pub fn cancel(&self, change: &ChangeId) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (reference, _) in under_way.iter().filter(|(_, of)| *of == change) {
            self.ports.images.cancel(reference);
        }
    }

    /// Records that what was started is given up; `append` goes with it.
    ///
    /// # Errors
    /// When the journal fails; the intent stays open then.
    pub async fn give_up(&self, intent: &Intent, reason: String, append: Append) -> Result<(), StoreError> {
        let Started { wanted, .. } = match serde_json::from_value(intent.body.clone()) {
            Ok(started) => started,
            Err(error) => return Err(StoreError::Broken(format!("intent {}: {error}", intent.id))),
        };
        let body = Body::ImageFailed { item: wanted.item, reason, infrastructure: false };
        let append = append.ack(intent.id).fact(NewFact::new(Some(wanted.info.id), body));
        self.ports.store.append(append).await.map(drop)
    }

    async fn image(
        &self,
        project: &ProjectName,
        wanted: &Wanted,
        build: u64,
        built: Built,
        took_ms: u64,
    ) -> Result<ImageBuilt, StoreError> {
        let before = self.ports.store.row(project, "image", &format!("latest/{}", wanted.def.service)).await?;
        let before: Option<ImageBuilt> = before.and_then(|value| serde_json::from_value(value).ok());
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(ImageBuilt {
            item: wanted.item.clone(),
            service: wanted.def.service.clone(),
            grew_bytes: before.map(|before| signed(built.size_bytes) - signed(before.size_bytes)),
            digest: built.digest,
            reference: built.reference,
            build,
            size_bytes: built.size_bytes,
            reused: built.reused,
            ports: built.ports,
            warnings: built.warnings,
            took_ms,
        })
    }
}

/// A build that can be cancelled, for as long as this lives.
struct UnderWay<'a> {
    building: &'a Building,
    reference: String,
}

impl<'a> UnderWay<'a> {
    fn note(building: &'a Building, reference: &str, change: &ChangeId) -> UnderWay<'a> {
        let mut all = building.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(reference.to_owned(), change.clone());
        UnderWay { building, reference: reference.to_owned() }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.building.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.reference);
    }
}
