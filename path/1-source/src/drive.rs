//! Admits and receives pushes; reconciles refs and journal.
//!
//! In: hook calls and the refs of repositories. Out: facts. Never: records a delivery twice.

use crate::decide::{RefMove, Refusal, admit, branch_of, change, is_production, named, production_by, undeletable};
use slipway_config::{Config, effective};
use slipway_model::fact::{Body, ChangeInfo, ChangeState, stream};
use slipway_model::{Actor, CommitId, NewFact, ProjectName};
use slipway_ports::{Append, RepoError, Repository, Store, StoreError};
use std::sync::Arc;

/// The file's name.
const FILE: &str = "slipway.yaml";

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Commits and files.
    pub repository: Arc<dyn Repository>,
}

/// Why a push could not be received.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The repository could not be read.
    #[error("reading the repository")]
    Repository(#[from] RepoError),
    /// The journal failed.
    #[error("journal")]
    Store(#[from] StoreError),
}

/// The stage.
#[derive(Clone)]
pub struct Source {
    ports: Ports,
}

impl Source {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Source {
        Source { ports }
    }

    /// Judges moves before they happen. `text` reads `slipway.yaml` of the new commit where the objects are not yet
    /// part of the repository; branches are those that exist now.
    ///
    /// # Errors
    /// The refusal, for the pusher's terminal.
    pub async fn admit<F, R>(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        branches: &[String],
        text: F,
    ) -> Result<(), Refusal>
    where
        F: Fn(CommitId) -> R,
        R: Future<Output = Result<Option<Vec<u8>>, RepoError>>,
    {
        let known = self.production(project).await.unwrap_or_default();
        for moved in moves {
            let Some(branch) = branch_of(&moved.name) else { continue };
            let Some(new) = &moved.new else {
                if known.as_deref() == Some(branch) {
                    return Err(undeletable(branch));
                }
                continue;
            };
            named(branch)?;
            let bytes = text(new.clone()).await.map_err(|error| Refusal(vec![format!("error: {error}")]))?;
            let config = match &bytes {
                Some(bytes) => slipway_config::parse(FILE, &String::from_utf8_lossy(bytes)),
                None => Ok(Config::default()),
            };
            let deploys = match &config {
                Ok(config) => deploys(config, branches, branch),
                // A file that cannot be read decides nothing: the production branch by its usual name, and every
                // branch that an environment took before.
                Err(_) => {
                    is_production(known.as_deref(), None, branches, branch)
                        || self.deployed_before(project, branch).await
                }
            };
            if deploys || config.as_ref().is_ok_and(|config| config.project.is_some()) {
                admit(project, config)?;
            }
        }
        Ok(())
    }

    async fn deployed_before(&self, project: &ProjectName, branch: &str) -> bool {
        let rows = self.ports.store.rows(project, "environment", "").await.unwrap_or_default();
        rows.iter().any(|(_, policy)| {
            let patterns = policy.get("from").and_then(|from| from.as_array());
            patterns.is_some_and(|patterns| {
                patterns.iter().filter_map(|p| p.as_str()).any(|p| slipway_config::pattern::matches(p, branch))
            })
        })
    }

    /// Records the changes that moved refs make; each delivery once. Returns them.
    ///
    /// # Errors
    /// When the journal or the repository fails; what was recorded until then stays.
    pub async fn receive(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        pusher: &str,
        options: &[String],
        branches: &[String],
    ) -> Result<Vec<ChangeInfo>, SourceError> {
        let mut received = Vec::new();
        for moved in moves {
            let known = self.production(project).await?;
            let Some(branch) = branch_of(&moved.name) else { continue };
            let Some(new) = &moved.new else {
                self.forget(project, &moved.name).await?;
                continue;
            };
            // Each is a process: they go beside each other.
            let (commit, bytes, reverts) = futures::join!(
                self.ports.repository.commit(project, new),
                self.ports.repository.read(project, new, FILE),
                self.reverts(project, moved, new)
            );
            let (commit, bytes) = (commit?, bytes?);
            let is_there = bytes.is_some();
            let config = bytes.and_then(|bytes| slipway_config::parse(FILE, &String::from_utf8_lossy(&bytes)).ok());
            let readable = config.is_some() || !is_there;
            let production = is_production(known.as_deref(), config.as_ref(), branches, branch);
            let built = config.as_ref().is_none_or(|config| effective::branch_is_built(config, branch));
            let mut info = change(project, moved, &commit, pusher, options, production, built);
            info.reverts = reverts;
            // A file that cannot be read renames nothing.
            let named = (production && readable).then(|| production_by(config.as_ref(), branches));
            let named = named.filter(|named| known.as_ref() != Some(named));
            if self.record(project, &info, named).await? {
                received.push(info);
            }
        }
        Ok(received)
    }

    async fn reverts(&self, project: &ProjectName, moved: &RefMove, new: &CommitId) -> Vec<String> {
        let commits = self.ports.repository.between(project, moved.old.as_ref(), new, 200).await.unwrap_or_default();
        let sentence =
            |line: &str| line.trim().strip_prefix("This reverts commit ").map(|id| id.trim_end_matches('.').to_owned());
        commits.iter().flat_map(|commit| commit.message.lines().filter_map(sentence).collect::<Vec<_>>()).collect()
    }

    /// The branch that is the production branch so far.
    async fn production(&self, project: &ProjectName) -> Result<Option<String>, SourceError> {
        let row = self.ports.store.row(project, "project", "production").await?;
        Ok(row.and_then(|name| name.as_str().map(ToOwned::to_owned)))
    }

    /// `production` is the production branch from this change on, where it is another.
    async fn record(
        &self,
        project: &ProjectName,
        info: &ChangeInfo,
        production: Option<String>,
    ) -> Result<bool, SourceError> {
        let fact = |body| NewFact::new(Some(info.id.clone()), body).by(Actor(info.pusher.clone()));
        let mut append = Append::to(project, stream::change(&info.id))
            .expecting(0)
            .row("ref", &info.reference, Some(serde_json::json!(info.commit)))
            .row("change", format!("commit/{}", info.commit), Some(serde_json::json!(info.id)))
            .fact(fact(Body::ChangeReceived(info.clone())));
        if let Some(name) = production {
            append = append.row("project", "production", Some(serde_json::json!(name)));
        }
        if let Some(reason) = &info.skip {
            append = append.fact(fact(Body::ChangeEnded { state: ChangeState::Skipped, reason: reason.clone() }));
        }
        match self.ports.store.append(append).await {
            Ok(_) => Ok(true),
            // The same delivery again: it is recorded already.
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn forget(&self, project: &ProjectName, reference: &str) -> Result<(), SourceError> {
        let append = Append::to(project, "refs").row("ref", reference, None);
        self.ports.store.append(append).await?;
        Ok(())
    }

    /// Finds refs whose commit the journal does not know (a hook that was lost) and receives them.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub async fn reconcile(
        &self,
        project: &ProjectName,
        refs: &[(String, CommitId)],
    ) -> Result<Vec<ChangeInfo>, SourceError> {
        let branches: Vec<String> =
            refs.iter().filter_map(|(name, _)| branch_of(name).map(ToOwned::to_owned)).collect();
        let mut moves = Vec::new();
        for (name, commit) in refs {
            let row = self.ports.store.row(project, "ref", name).await?;
            let known: Option<CommitId> = row.and_then(|value| serde_json::from_value(value).ok());
            if known.as_ref() != Some(commit) && branch_of(name).is_some() {
                moves.push(RefMove { name: name.clone(), old: known, new: Some(commit.clone()) });
            }
        }
        self.receive(project, &moves, "unknown (the hook was lost)", &[], &branches).await
    }
}

fn deploys(config: &Config, branches: &[String], branch: &str) -> bool {
    let facts = slipway_config::Facts { branches: branches.to_vec(), ..Default::default() };
    effective::environment_policies(config, &facts).iter().any(|policy| policy.takes(branch))
}
