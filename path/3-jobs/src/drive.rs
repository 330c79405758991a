//! Starts jobs and records how they end.
//!
//! In: wanted jobs. Out: facts; the runner carries out. Never: runs what is not recorded as started.

use crate::decide::{Next, after, is_remembered};
use serde::{Deserialize, Serialize};
use slipway_model::fact::{Body, ChangeInfo, stream};
use slipway_model::job::{Artifact, JobDef, JobOutcome, JobResult};
use slipway_model::{ContentKey, Digest, ItemId, NewFact, ProjectName, RunId};
use slipway_ports::{Append, Images, Intent, RunRequest, Runner, Secrets, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The stage's name on its intents.
pub const STAGE: &str = "jobs";

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Carries jobs out.
    pub runner: Arc<dyn Runner>,
    /// Secret values.
    pub secrets: Arc<dyn Secrets>,
    /// Resolves a job's image.
    pub images: Arc<dyn Images>,
}

/// A job that is to be carried out now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The change.
    pub info: ChangeInfo,
    /// The plan's item.
    pub item: ItemId,
    /// From 1.
    pub attempt: u32,
    /// Stands for its content.
    pub key: ContentKey,
    /// The job.
    pub job: JobDef,
    /// Artifacts of the jobs it needs.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
    /// Outputs of the jobs it needs.
    pub outputs: BTreeMap<String, BTreeMap<String, Digest>>,
    /// The build's number within the project, for `SLIPWAY_RUN`.
    pub number: u64,
}

/// The stage.
#[derive(Clone)]
pub struct Jobs {
    ports: Ports,
}

impl Jobs {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Jobs {
        Jobs { ports }
    }

    /// Records that a job starts. Performing the intent that comes back is the caller's, in the background.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn start(&self, project: &ProjectName, wanted: Wanted) -> Result<Option<Intent>, StoreError> {
        let run = run_id(&wanted);
        let stream = stream::change(&wanted.info.id);
        let body = Body::JobStarted { item: wanted.item.clone(), run: run.clone(), attempt: wanted.attempt };
        let facts = self.ports.store.load(project, &stream, 0).await?;
        if facts.iter().any(|fact| fact.body == body) {
            return Ok(None);
        }
        // Ends of other jobs come in between; they do not matter to a start, which its change alone gives.
        let append = Append::to(project, stream).fact(NewFact::new(Some(wanted.info.id.clone()), body)).intent(
            STAGE,
            run.as_str(),
            serde_json::to_value(&wanted).unwrap_or_default(),
        );
        Ok(self.ports.store.append(append).await?.intents.into_iter().next())
    }

    /// Carries out a recorded start to its end and records that. Joins what still runs after a crash. Returns the
    /// intent of the next attempt, when there is to be one.
    ///
    /// # Errors
    /// When the journal fails; the intent stays open then.
    pub async fn perform(&self, intent: &Intent) -> Result<Option<Intent>, StoreError> {
        let wanted: Wanted = match serde_json::from_value(intent.body.clone()) {
            Ok(wanted) => wanted,
            Err(error) => return Err(StoreError::Broken(format!("intent {}: {error}", intent.id))),
        };
        let run = run_id(&wanted);
        let outcome = self.carry_out(&intent.project, &wanted, run.clone()).await;
        self.ended(&intent.project, &wanted, run, outcome, intent.id).await
    }

    /// Ends a running job; its outcome becomes `cancelled`.
    pub async fn cancel(&self, run: &RunId) {
        self.ports.runner.cancel(run).await;
    }

    async fn carry_out(&self, project: &ProjectName, wanted: &Wanted, run: RunId) -> JobOutcome {
        let image = match &wanted.job.image {
            slipway_model::job::JobImage::Host => None,
            slipway_model::job::JobImage::Image(reference) if reference.split('/').next() != Some(project.as_str()) => {
                let what =
                    format!("image `{reference}` is not of project `{project}`; push it there under its own name");
                return unable(JobResult::Failed, what);
            }
            slipway_model::job::JobImage::Image(reference) => match self.ports.images.resolve(reference).await {
                Some(digest) => Some(digest),
                None => {
                    return unable(
                        JobResult::Failed,
                        format!("image `{reference}` is not in the registry; push it there first"),
                    );
                }
            },
        };
        let mut secrets = BTreeMap::new();
        for name in &wanted.job.secrets {
            match self.ports.secrets.value(project, None, name).await {
                Ok(Some(value)) => drop(secrets.insert(name.clone(), value)),
                Ok(None) => {
                    return unable(
                        JobResult::Failed,
                        format!("secret `{name}` has no value; set it with `slipway secret add {name}`"),
                    );
                }
                Err(error) => return unable(JobResult::Lost, format!("secret `{name}`: {error}")),
            }
        }
        let request = RunRequest {
            env: environment(project, wanted, &run),
            run,
            project: project.clone(),
            commit: wanted.info.commit.clone(),
            tree: None,
            job: wanted.job.clone(),
            secrets,
            image,
            artifacts: wanted.artifacts.clone(),
            outputs: wanted.outputs.clone(),
        };
        self.ports.runner.run(request).await.unwrap_or_else(|error| unable(JobResult::Lost, error.to_string()))
    }

    async fn ended(
        &self,
        project: &ProjectName,
        wanted: &Wanted,
        run: RunId,
        outcome: JobOutcome,
        intent: u64,
    ) -> Result<Option<Intent>, StoreError> {
        let next = after(&outcome, &wanted.job.retry, wanted.attempt);
        let body = Body::JobEnded {
            item: wanted.item.clone(),
            run,
            attempt: wanted.attempt,
            outcome: Box::new(outcome.clone()),
        };
        let mut append = Append::to(project, stream::change(&wanted.info.id))
            .fact(NewFact::new(Some(wanted.info.id.clone()), body))
            .ack(intent);
        match next {
            Next::Again { .. } => {
                let again = Wanted { attempt: wanted.attempt + 1, ..wanted.clone() };
                let run = run_id(&again);
                let started = Body::JobStarted { item: again.item.clone(), run: run.clone(), attempt: again.attempt };
                append = append.fact(NewFact::new(Some(wanted.info.id.clone()), started)).intent(
                    STAGE,
                    run.as_str(),
                    serde_json::to_value(&again).unwrap_or_default(),
                );
            }
            Next::Done if is_remembered(outcome.result) => {
                let value = serde_json::json!({
                    "change": wanted.info.id, "commit": wanted.info.commit, "outcome": outcome,
                });
                append = append.row("reuse", wanted.key.as_str(), Some(value));
            }
            Next::Done => {}
        }
        Ok(self.ports.store.append(append).await?.intents.into_iter().next())
    }
}

fn run_id(wanted: &Wanted) -> RunId {
    let text = format!("{}-{}-{}", wanted.info.id, wanted.job.key.to_string().replace('/', "."), wanted.attempt);
    RunId::parse(&text).unwrap_or_else(|_| unreachable!("ids and job names are tokens"))
}

fn unable(result: JobResult, reason: String) -> JobOutcome {
    JobOutcome {
        result,
        first_error: vec![reason.clone()],
        reason,
        step: None,
        command: None,
        exit_code: None,
        artifacts: Vec::new(),
        outputs: BTreeMap::new(),
        usage: slipway_model::job::Usage::default(),
        set_up_ms: 0,
        run_ms: 0,
        tests: None,
    }
}

/// `CI`, `SLIPWAY_*` and the job's own environment.
fn environment(project: &ProjectName, wanted: &Wanted, run: &RunId) -> BTreeMap<String, String> {
    let info = &wanted.info;
    let mut env = BTreeMap::from([
        ("CI".to_owned(), "true".to_owned()),
        ("SLIPWAY_PROJECT".into(), project.to_string()),
        ("SLIPWAY_COMMIT".into(), info.commit.to_string()),
        ("SLIPWAY_BRANCH".into(), info.branch.clone()),
        ("SLIPWAY_REF".into(), info.reference.clone()),
        ("SLIPWAY_EVENT".into(), info.event.clone()),
        ("SLIPWAY_ACTOR".into(), info.pusher.clone()),
        ("SLIPWAY_RUN".into(), run.to_string()),
        ("SLIPWAY_ATTEMPT".into(), wanted.attempt.to_string()),
        ("SLIPWAY_SERVICE".into(), wanted.job.key.service.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]);
    env.extend(wanted.job.env.clone());
    env
}
