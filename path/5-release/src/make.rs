//! Makes releases.
//!
//! In: a planned change with its image, or a release of which new instances are wanted. Out: `release.made`, and the
//! release as a row. Never: two releases of one bundle, or one number twice.

use crate::drive::{Planned, Releases, TRIES};
use slipway_model::fact::{Body, Fact, ImageBuilt, stream};
use slipway_model::plan::ReleaseDef;
use slipway_model::release::{Bundle, Origin, Places, Release};
use slipway_model::{ItemId, NewFact, ProjectName, ReleaseId};
use slipway_ports::{Append, StoreError};

impl Releases {
    /// Makes the release of a service from its image, or finds the equal one that exists.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn make(
        &self,
        project: &ProjectName,
        planned: &Planned,
        item: &ItemId,
        def: &ReleaseDef,
        image: &ImageBuilt,
    ) -> Result<(), StoreError> {
        let bundle = Bundle {
            v: 1,
            project: project.clone(),
            service: def.service.clone(),
            image: image.digest.clone(),
            spec: def.spec.clone(),
            round: None,
        };
        let origin = Origin {
            commit: planned.info.commit.clone(),
            change: planned.info.id.clone(),
            tag: image.reference.rsplit(':').next().unwrap_or_default().to_owned(),
            build: image.build,
        };
        let stream = stream::service(&def.service);
        for _ in 0..TRIES {
            let facts = self.ports.store.load(project, &stream, 0).await?;
            if facts.iter().any(|fact| is_made_by(fact, planned, item)) {
                return Ok(());
            }
            let (mut release, again) = number(&facts, &bundle, &origin);
            release.places = def.places.clone();
            let value = serde_json::to_value(&release).unwrap_or_default();
            let key = format!("{}/{}", def.service, release.id);
            let body =
                Body::ReleaseMade { item: item.clone(), release: Box::new(release), origin: origin.clone(), again };
            let append = Append::to(project, &stream)
                .expecting(facts.last().map_or(0, |fact| fact.version))
                .fact(NewFact::new(Some(planned.info.id.clone()), body))
                .row("release", key, Some(value));
            match self.ports.store.append(append).await {
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(drop),
            }
        }
        Err(StoreError::Broken(format!("stream `{stream}` changes too often")))
    }

    /// Makes a release that differs from another only in its round, so that new instances start for it, with the newest
    /// values of their secrets. The same round once more is the same release.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn again(&self, release: &Release, round: u64) -> Result<Release, StoreError> {
        let bundle = Bundle { round: Some(round), ..release.bundle.clone() };
        let (project, service) = (bundle.project.clone(), bundle.service.clone());
        let stream = stream::service(&service);
        for _ in 0..TRIES {
            let facts = self.ports.store.load(&project, &stream, 0).await?;
            let (mut made, again) = number(&facts, &bundle, &release.origin);
            if again {
                return Ok(made);
            }
            made.places = release.places.clone();
            let value = serde_json::to_value(&made).unwrap_or_default();
            let body = Body::ReleaseMade {
                item: ItemId::release(&service),
                release: Box::new(made.clone()),
                origin: release.origin.clone(),
                again: false,
            };
            let append = Append::to(&project, stream.clone())
                .expecting(facts.last().map_or(0, |fact| fact.version))
                .fact(NewFact::new(None, body))
                .row("release", format!("{service}/{}", made.id), Some(value));
            match self.ports.store.append(append).await {
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(|_| made),
            }
        }
        Err(StoreError::Broken(format!("stream `{stream}` changes too often")))
    }
}

fn is_made_by(fact: &Fact, planned: &Planned, made: &ItemId) -> bool {
    matches!(&fact.body, Body::ReleaseMade { item, .. } if item == made && fact.change.as_ref() == Some(&planned.info.id))
}

/// The release for a bundle: the equal one that exists, or the next number with an id of its own.
fn number(facts: &[Fact], bundle: &Bundle, origin: &Origin) -> (Release, bool) {
    let made: Vec<&Release> = facts
        .iter()
        .filter_map(|fact| match &fact.body {
            Body::ReleaseMade { release, again: false, .. } => Some(&**release),
            _ => None,
        })
        .collect();
    if let Some(equal) = made.iter().find(|release| &release.bundle == bundle) {
        return ((*equal).clone(), true);
    }
    let digest = bundle.digest();
    let digits = (8..=64).find(|digits| {
        let id = ReleaseId::of(&digest, *digits);
        made.iter().all(|release| release.id != id)
    });
    let release = Release {
        id: ReleaseId::of(&digest, digits.unwrap_or(64)),
        number: made.len() as u64 + 1,
        bundle: bundle.clone(),
        origin: origin.clone(),
        places: Places::default(),
    };
    (release, false)
}
