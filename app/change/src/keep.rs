//! What the clean-up may take of a project's releases (R143).
//!
//! In: a project. Out: services with images that none of their environments can want any more, and that no remembered
//! result names any more. Never removes an image itself.

use crate::drive::Road;
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::release::Release;
use slipway_model::{Digest, ProjectName, ServiceName};
use slipway_ports::Append;
use std::collections::{BTreeMap, BTreeSet};

/// The stream under which rows are given up; it has no facts.
const CLEAN_UP: &str = "clean-up";

impl Road {
    /// Gives up images beyond what the environments of their service retain (`retain`): they may be removed. Content
    /// that made one of them is built again when it comes back.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn retire(&self, project: &ProjectName) -> Result<Vec<(ServiceName, Digest)>, String> {
        let beyond = self.beyond_retain(project).await?;
        let images: BTreeSet<String> = beyond.iter().map(|(_, image)| image.to_string()).collect();
        if images.is_empty() {
            return Ok(beyond);
        }
        let said = |error: slipway_ports::StoreError| error.to_string();
        let store = &self.stages().store;
        for (key, value) in store.rows(project, "reuse", "").await.map_err(said)? {
            let made = value.pointer("/image/digest").and_then(|digest| digest.as_str());
            if made.is_some_and(|digest| images.contains(digest)) {
                let append = Append::to(project, CLEAN_UP).row("reuse", key, None);
                store.append(append).await.map_err(said)?;
            }
        }
        Ok(beyond)
    }

    async fn beyond_retain(&self, project: &ProjectName) -> Result<Vec<(ServiceName, Digest)>, String> {
        let stages = self.stages();
        let said = |error: slipway_ports::StoreError| error.to_string();
        let mut lanes: BTreeMap<ServiceName, Vec<_>> = BTreeMap::new();
        for lane in self.lanes().into_iter().filter(|lane| &lane.project == project) {
            let row = stages.store.row(project, "environment", lane.environment.as_str()).await.map_err(said)?;
            let policy = row.and_then(|value| serde_json::from_value::<EnvironmentPolicy>(value).ok());
            let record = stages.releases.record(&lane).await.map_err(said)?;
            lanes.entry(lane.service.clone()).or_default().push((record, policy.and_then(|policy| policy.retain)));
        }
        let mut found = Vec::new();
        for (service, lanes) in lanes {
            // Most services retain everything: then nothing has to be read.
            if lanes.iter().all(|(_, retain)| retain.is_none()) {
                continue;
            }
            let rows = stages.store.rows(project, "release", &format!("{service}/")).await.map_err(said)?;
            let releases: Vec<Release> =
                rows.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect();
            let images = slipway_release::keep::beyond(&lanes, &releases);
            found.extend(images.into_iter().map(|image| (service.clone(), image)));
        }
        Ok(found)
    }
}
