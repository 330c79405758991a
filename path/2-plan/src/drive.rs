//! Makes plans from repositories and records them.
//!
//! In: a change. Out: `plan.made`, or `change.ended` when no plan can be made. Never: a plan of another commit's file.

use crate::cargo;
use crate::decide::{Known, PlanInput, decide, draft, policies};
use crate::detect;
use slipway_config::{Config, Facts};
use slipway_model::fact::{Body, ChangeInfo, ChangeState, ImageBuilt, stream};
use slipway_model::job::JobOutcome;
use slipway_model::plan::{Item, ItemSpec, Plan, Previous};
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::{ChangeId, CommitId, ContentKey, ItemId, NewFact, ProjectName};
use slipway_ports::{Append, Images, RepoError, Repository, Store, StoreError, TreeFile};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The file's name.
pub const FILE: &str = "slipway.yaml";
/// Manifests and Dockerfiles read for one plan; a repository with more is read as far as this.
const TEXTS_MAX: usize = 2_000;

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Commits and files.
    pub repository: Arc<dyn Repository>,
    /// Whether images and artifacts are still there.
    pub images: Arc<dyn Images>,
    /// Fingerprint of the machine's tools.
    pub tools: String,
}

/// A tree that was not pushed (yet): what a plan reads of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct AskedTree {
    /// The branch that it would be pushed to.
    pub branch: String,
    /// All files, with the ids that Git would give them.
    pub files: Vec<TreeFile>,
    /// `slipway.yaml`, when there is one.
    pub file: Option<String>,
    /// The files that [`is_read`] names, by path.
    pub texts: BTreeMap<String, String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The change is at fault: messages that end in what to do.
    #[error("{}", .0.join("\n"))]
    Change(Vec<String>),
    /// The repository could not be read.
    #[error("reading the repository")]
    Repository(#[from] RepoError),
    /// The journal failed.
    #[error("journal")]
    Store(#[from] StoreError),
}

/// The stage.
#[derive(Clone)]
pub struct Plans {
    ports: Ports,
}

impl Plans {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Plans {
        Plans { ports }
    }

    /// Makes and records the plan of a change, once.
    ///
    /// # Errors
    /// When the journal or the repository fails; a faulty change is recorded as failed instead.
    pub async fn make(&self, project: &ProjectName, info: &ChangeInfo) -> Result<(), PlanError> {
        let stream = stream::change(&info.id);
        let facts = self.ports.store.load(project, &stream, 0).await?;
        let is_planned = |body: &Body| matches!(body, Body::PlanMade { .. } | Body::ChangeEnded { .. });
        if facts.iter().any(|fact| is_planned(&fact.body)) {
            return Ok(());
        }
        let mut append = Append::to(project, stream).expecting(facts.last().map_or(0, |fact| fact.version));
        let input = self.input(project, info).await;
        // Also where no plan can be made: what the production branch says holds for the others all the same.
        for policy in input.iter().flat_map(|input| policies(input).unwrap_or_default()) {
            let name = policy.name.as_str();
            // It stands until the production branch says otherwise.
            if info.production || self.ports.store.row(project, "environment", name).await?.is_none() {
                append = append.row("environment", name, Some(serde_json::to_value(&policy).unwrap_or_default()));
            }
        }
        let planned = match input {
            Ok(input) => self.planned(project, &input).await,
            Err(error) => Err(error),
        };
        let body = match planned {
            Ok(mut plan) => {
                // As many as the repository has files, and the commit has them all: they are worked out again when asked for.
                plan.items.iter_mut().for_each(|item| item.inputs.clear());
                if info.production {
                    let order: Vec<&str> = plan.environments.iter().map(|policy| policy.name.as_str()).collect();
                    append = append.row("environments", "order", Some(serde_json::json!(order)));
                }
                Body::PlanMade { plan: Box::new(plan) }
            }
            Err(PlanError::Change(messages)) => {
                Body::ChangeEnded { state: ChangeState::Failed, reason: messages.join("\n") }
            }
            Err(PlanError::Repository(error)) if error.of_content => {
                Body::ChangeEnded { state: ChangeState::Failed, reason: error.what }
            }
            Err(other) => return Err(other),
        };
        self.ports.store.append(append.fact(NewFact::new(Some(info.id.clone()), body))).await?;

        Ok(())
    }

    /// The plan of a change, not recorded (`slipway plan`).
    ///
    /// # Errors
    /// As [`Plans::make`]; a faulty change is an error here.
    pub async fn plan(&self, project: &ProjectName, info: &ChangeInfo) -> Result<Plan, PlanError> {
        let input = self.input(project, info).await?;
        self.planned(project, &input).await
    }

    async fn planned(&self, project: &ProjectName, input: &PlanInput) -> Result<Plan, PlanError> {
        let draft = draft(input).map_err(PlanError::Change)?;
        let known = self.known(project, &draft.plan.items).await?;
        Ok(decide(draft, &known))
    }

    /// The plan that a push of this tree to its branch would have, not recorded; and the commit that it was compared with.
    ///
    /// # Errors
    /// As [`Plans::plan`].
    pub async fn plan_tree(
        &self,
        project: &ProjectName,
        asked: AskedTree,
    ) -> Result<(Plan, Option<CommitId>), PlanError> {
        let reference = format!("refs/heads/{}", asked.branch);
        let base = match self.ports.repository.resolve(project, &reference).await? {
            None => self.main(project, &reference).await?,
            head => head,
        };
        let changed = match &base {
            Some(base) => Some(differing(&self.ports.repository.files(project, base).await?, &asked.files)),
            None => None,
        };
        let config = match &asked.file {
            Some(text) => read_config(text.as_bytes())?,
            None => Config::default(),
        };
        let AskedTree { branch, files, texts, .. } = asked;
        let tools = &self.ports.tools;
        let mut input = input(project.as_str(), config, &branch, files, changed, texts, tools, "push");
        let production = self.ports.store.row(project, "project", "production").await?;
        let is_production = production
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .map_or_else(|| matches!(branch.as_str(), "main" | "master"), |production| production == branch);
        self.rule(project, is_production, &mut input).await?;
        Ok((self.planned(project, &input).await?, base))
    }

    /// The input files of an item of a change's plan, worked out again from its commit.
    ///
    /// # Errors
    /// As [`Plans::plan`].
    pub async fn inputs(
        &self,
        project: &ProjectName,
        change: &ChangeId,
        item: &ItemId,
    ) -> Result<BTreeMap<String, String>, PlanError> {
        let facts = self.ports.store.load(project, &stream::change(change), 0).await?;
        let info = facts.iter().find_map(|fact| match &fact.body {
            Body::ChangeReceived(info) => Some(info),
            _ => None,
        });
        let Some(info) = info else { return Ok(BTreeMap::new()) };
        let draft = draft(&self.input(project, info).await?).map_err(PlanError::Change)?;
        let found = draft.plan.items.into_iter().find(|known| &known.id == item);
        Ok(found.map(|item| item.inputs).unwrap_or_default())
    }

    async fn input(&self, project: &ProjectName, info: &ChangeInfo) -> Result<PlanInput, PlanError> {
        let repository = &self.ports.repository;
        // Each is a process: they go beside each other.
        let (files, file, base) = futures::join!(
            repository.files(project, &info.commit),
            repository.read(project, &info.commit, FILE),
            self.base(project, info)
        );
        let (files, base) = (files?, base?);
        let config = match file? {
            Some(bytes) => read_config(&bytes)?,
            None => Config::default(),
        };
        let changed = match &base {
            Some(base) if *base == info.commit => Some(BTreeSet::new()),
            Some(base) => repository
                .changed(project, Some(base), &info.commit)
                .await
                .ok()
                .map(|paths| paths.into_iter().collect()),
            None => None,
        };
        let texts = self.texts(project, &info.commit, &files, &config).await?;
        let tools = &self.ports.tools;
        let mut input = input(project.as_str(), config, &info.branch, files, changed, texts, tools, &info.event);
        self.rule(project, info.production, &mut input).await?;
        Ok(input)
    }

    /// What the production branch says of environments holds for the others.
    async fn rule(&self, project: &ProjectName, is_production: bool, input: &mut PlanInput) -> Result<(), PlanError> {
        if !is_production {
            let rows = self.ports.store.rows(project, "environment", "").await?;
            let policies = rows.into_iter().filter_map(|(_, policy)| serde_json::from_value(policy).ok());
            input.ruling = policies.map(|policy: EnvironmentPolicy| (policy.name.clone(), policy)).collect();
        }
        Ok(())
    }

    /// What this commit is compared with: the ref before, else the newest production commit.
    async fn base(&self, project: &ProjectName, info: &ChangeInfo) -> Result<Option<CommitId>, PlanError> {
        if info.old.is_some() {
            return Ok(info.old.clone());
        }
        self.main(project, &info.reference).await
    }

    /// The head of the usual production branch, unless that is the reference itself.
    async fn main(&self, project: &ProjectName, reference: &str) -> Result<Option<CommitId>, PlanError> {
        for branch in ["refs/heads/main", "refs/heads/master"] {
            if reference != branch
                && let Some(head) = self.ports.repository.resolve(project, branch).await?
            {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    async fn texts(
        &self,
        project: &ProjectName,
        commit: &CommitId,
        files: &[TreeFile],
        config: &Config,
    ) -> Result<BTreeMap<String, String>, PlanError> {
        let mut texts = BTreeMap::new();
        for file in files.iter().filter(|file| is_read(&file.path, config)).take(TEXTS_MAX) {
            let read = self.ports.repository.read(project, commit, &file.path).await;
            // The whole of it counts for the plan, so there is none without it.
            let bytes = read.map_err(|error| {
                let told = error.of_content.then(|| vec![format!("{}; make it shorter", error.what)]);
                told.map_or_else(|| PlanError::Repository(error), PlanError::Change)
            })?;
            if let Some(bytes) = bytes {
                texts.insert(file.path.clone(), String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(texts)
    }

    async fn known(&self, project: &ProjectName, items: &[Item]) -> Result<BTreeMap<ContentKey, Known>, PlanError> {
        let mut known = BTreeMap::new();
        for item in items {
            let Some(row) = self.ports.store.row(project, "reuse", item.key.as_str()).await? else { continue };
            if let ItemSpec::Release(def) = &item.spec
                && !self.ports.store.rows(project, "waiting", &format!("{}/", def.service)).await?.is_empty()
            {
                continue;
            }
            if let Some(found) = self.read_known(item, &row).await {
                known.insert(item.key.clone(), found);
            }
        }
        Ok(known)
    }

    async fn read_known(&self, item: &Item, row: &serde_json::Value) -> Option<Known> {
        let change: ChangeId = serde_json::from_value(row.get("change")?.clone()).ok()?;
        let commit: CommitId = serde_json::from_value(row.get("commit")?.clone()).ok()?;
        let mut previous = Previous { change, commit, outcome: None, image: None };
        match &item.spec {
            ItemSpec::Job(_) => {
                let outcome: JobOutcome = serde_json::from_value(row.get("outcome")?.clone()).ok()?;
                for digest in outcome.artifacts.iter().map(|artifact| &artifact.digest).chain(outcome.outputs.values())
                {
                    // Its files were cleaned up: the result cannot stand in for a run any more.
                    if !self.ports.images.has_blob(digest).await {
                        return None;
                    }
                }
                let (satisfied, took_ms) = (outcome.result.satisfies(), outcome.set_up_ms + outcome.run_ms);
                previous.outcome = Some(Box::new(outcome));
                Some(Known { previous, satisfied, took_ms })
            }
            ItemSpec::Image(_) => {
                let image: ImageBuilt = serde_json::from_value(row.get("image")?.clone()).ok()?;
                if !self.ports.images.exists(&image.digest).await {
                    return None;
                }
                let took_ms = image.took_ms;
                previous.image = Some(Box::new(image));
                Some(Known { previous, satisfied: true, took_ms })
            }
            ItemSpec::Release(_) => Some(Known { previous, satisfied: true, took_ms: 0 }),
        }
    }
}

/// Paths that are not the same in two trees.
fn differing(before: &[TreeFile], after: &[TreeFile]) -> BTreeSet<String> {
    let by_path = |files: &[TreeFile]| -> BTreeMap<String, (u32, String)> {
        files.iter().map(|file| (file.path.clone(), (file.mode, file.id.clone()))).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    let paths = before.keys().chain(after.keys());
    paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}

/// Files whose text a plan reads.
#[must_use]
pub fn is_read(path: &str, config: &Config) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let named =
        config.services.values().any(|service| service.dockerfile.as_ref().is_some_and(|file| file.value == path));
    name == "Cargo.toml" || name == "Dockerfile" || named
}

/// Reads a `slipway.yaml`, all its problems at once.
///
/// # Errors
/// The rendered problems.
pub fn read_config(bytes: &[u8]) -> Result<Config, PlanError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| PlanError::Change(vec![format!("{FILE} is not UTF-8; save it as UTF-8")]))?;
    slipway_config::parse(FILE, text)
        .map_err(|problems| PlanError::Change(problems.list.iter().map(|problem| problem.render(false)).collect()))
}

/// Puts an input together, with what is recognised in the files.
#[must_use]
#[allow(clippy::too_many_arguments)] // each is one fact about the commit; a struct of them is what this returns
pub fn input(
    project: &str,
    config: Config,
    branch: &str,
    files: Vec<TreeFile>,
    changed: Option<BTreeSet<String>>,
    texts: BTreeMap<String, String>,
    tools: &str,
    event: &str,
) -> PlanInput {
    let packages = cargo::packages(
        &texts
            .iter()
            .filter(|(path, _)| path.ends_with("Cargo.toml"))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect(),
    );
    let mut services = detect::services(project, &texts, &packages);
    detect::in_their_folders(&config, &texts, &packages, &mut services);
    detect::in_the_root(&config, &files, &texts, &packages, &mut services);
    let facts = Facts {
        folder: project.to_owned(),
        remote: Some(project.to_owned()),
        branches: vec![branch.to_owned()],
        services,
    };
    PlanInput {
        project: project.to_owned(),
        config,
        facts,
        branch: branch.to_owned(),
        files,
        changed,
        texts,
        tools: tools.to_owned(),
        event: event.to_owned(),
        ruling: BTreeMap::new(),
    }
}
