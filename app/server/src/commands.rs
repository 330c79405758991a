//! Commands over the API: understood, checked against the rights of their own verb, recorded.
//!
//! In: `{verb, what, env, …}`. Out: what will be done, or why not. Never: an effect before the record of it.

use crate::came::{came_of, is_answered};
use crate::problem::Posted;
use crate::what::What;
use crate::{Caller, Problem, Server};
use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use slipway_feedback::lines::plain;
use slipway_model::fact::{ChangeState, Command};
use slipway_model::release::Release;
use slipway_model::view::{ChangeView, JobView};
use slipway_model::{Actor, ChangeId, EnvironmentName, ItemId, Lane, ProjectName, ServiceName};
use slipway_release::record::LaneRecord;
use tokio::sync::broadcast::error::RecvError;

/// How long a command's answer waits for the gates that it asks.
const ANSWER_MS: u64 = 1_500;

/// A command as it comes.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    pub(crate) verb: String,
    #[serde(default)]
    pub(crate) what: String,
    pub(crate) env: Option<String>,
    pub(crate) to: Option<String>,
    #[serde(default)]
    pub(crate) reason: String,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What is done about it.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// Sentences for people, one per act.
    pub will: Vec<String>,
    /// Whether it was done.
    pub done: bool,
    /// The number of the newest fact before what was done: what follows from it comes after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Services and environments that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<Place>,
    /// What came of it so far, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
    /// Whether something that was asked for may not be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// A service in an environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The release that is to come there, when it is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<slipway_model::ReleaseId>,
}

pub(crate) struct Act {
    pub(crate) sentence: String,
    pub(crate) change: Option<ChangeId>,
    pub(crate) command: Command,
}

/// A command with nothing but a verb and a thing.
#[must_use]
pub fn bare(verb: &str, what: &str, environment: Option<EnvironmentName>) -> Command {
    Command {
        verb: verb.to_owned(),
        what: what.to_owned(),
        environment,
        service: None,
        release: None,
        commit: None,
        item: None,
        reason: String::new(),
    }
}

/// `POST …/commands`.
pub async fn command(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Posted(asked): Posted<Asked>,
) -> Result<Json<Answered>, Problem> {
    let project = crate::api::project(&name)?;
    if !caller.may(&asked.verb, Some(&project)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "right",
            format!("`{}` may not {} here", caller.name, asked.verb),
        )
        .hint(needs_right(&asked.verb)));
    }
    let project = server.project(&name)?;
    let acts = server.acts(&project, &asked, &caller).await?;
    let will = acts.iter().map(|act| act.sentence.clone()).collect();
    if asked.dry_run {
        return Ok(Json(Answered { will, done: false, n: None, lanes: Vec::new(), then: Vec::new(), refused: false }));
    }
    let n = Some(*server.road().stages().store.newest().borrow());
    let place = |act: &Act| {
        let (environment, service) = (act.command.environment.clone()?, act.command.service.clone()?);
        // New instances are a release of their own, which is made now.
        let release = act.command.release.clone().filter(|_| act.command.verb != "restart");
        Some(Place { environment, service, release })
    };
    let lanes = acts.iter().filter_map(place).collect();
    let (began, mut live) = (server.now(), server.road().live());
    let mut last = 0;
    for act in &acts {
        let actor = Actor(caller.name.clone());
        let given = server.road().give(&project, &actor, act.change.clone(), act.command.clone()).await;
        last = given.map_err(Problem::broken)?;
    }
    server.road().followed(last).await;
    let answers = server.road().stages().clock.sleep(ANSWER_MS);
    let answered = async {
        // Gates are asked in a moment: the answer of before would say nothing about this command.
        let open = |act: &Act| server.road().look(|now| !is_answered(now, &project, &act.command, began));
        while acts.iter().any(open) && !matches!(live.recv().await, Err(RecvError::Closed)) {}
    };
    tokio::select! { () = answered => {}, () = answers => {} }
    let came: Vec<_> = server.road().look(|projection| {
        let of = |act: &Act| came_of(projection, &project, act.change.as_ref(), &act.command, began);
        acts.iter().filter_map(of).collect()
    });
    let refused = came.iter().any(|came| came.refused);
    let mut then: Vec<String> = came.into_iter().map(|came| came.sentence).collect();
    then.dedup();
    Ok(Json(Answered { will, done: true, n, lanes, then, refused }))
}

fn needs_right(verb: &str) -> String {
    match slipway_change::rights::needed(verb) {
        Some(right) => format!("it needs the right `{}`", format!("{right:?}").to_lowercase()),
        None => "there is no such command".into(),
    }
}

impl Server {
    async fn acts(&self, project: &ProjectName, asked: &Asked, caller: &Caller) -> Result<Vec<Act>, Problem> {
        self.environment(project, asked.env.as_deref()).await?;
        match asked.verb.as_str() {
            "deploy" => self.deploy(project, asked).await,
            "promote" => self.promote(project, asked).await,
            "rollback" => self.rollback(project, asked).await,
            "restart" => self.restart(project, asked).await,
            "approve" | "reject" => self.consent(project, asked, caller).await,
            "abort" => self.abort(project, asked),
            "freeze" | "unfreeze" => self.freeze(project, asked).await,
            "hold" | "unhold" => self.hold(project, asked).await,
            "retry" | "cancel" => self.rerun(project, asked).await,
            other => Err(Problem::bad(format!("`{other}` is no command"))),
        }
    }

    pub(crate) fn lanes(&self, project: &ProjectName, service: Option<&ServiceName>, env: Option<&str>) -> Vec<Lane> {
        let all = self.road().look(|projection| {
            projection
                .projects
                .get(project)
                .map(|state| state.lanes.values().map(|lane| lane.lane.clone()).collect::<Vec<_>>())
        });
        let wanted = |lane: &Lane| {
            service.is_none_or(|service| &lane.service == service)
                && env.is_none_or(|env| lane.environment.as_str() == env)
        };
        all.unwrap_or_default().into_iter().filter(wanted).collect()
    }

    /// A lane as its gates see it.
    pub(crate) async fn gates(&self, lane: &Lane) -> Result<LaneRecord, Problem> {
        let record = self.road().stages().releases.record(lane).await;
        record.map_err(|error| Problem::broken(error.to_string()))
    }

    /// The releases that a WHAT names: one, or those of a commit's change.
    pub(crate) async fn releases_of(&self, project: &ProjectName, what: &str) -> Result<Vec<Release>, Problem> {
        match self.what(project, what).await? {
            What::Release(release) => Ok(vec![*release]),
            What::Commit(commit, Some(change)) => {
                let view = self.find_change(project, change.as_str()).await?;
                let ids: Vec<_> = view.releases.iter().map(|release| release.id.clone()).collect();
                let found: Vec<Release> = self.road().look(|projection| {
                    let known = projection
                        .projects
                        .get(project)
                        .map(|state| ids.iter().filter_map(|id| state.releases.get(id).cloned()).collect());
                    known.unwrap_or_default()
                });
                if found.is_empty() {
                    let hint = format!("its checks have to pass first: slipway why {}", commit.short());
                    return Err(Problem::new(
                        StatusCode::CONFLICT,
                        "no-release",
                        format!("{} has no release", commit.short()),
                    )
                    .hint(hint));
                }
                Ok(found)
            }
            What::Commit(commit, None) => Err(Problem::new(
                StatusCode::CONFLICT,
                "no-release",
                format!("{} was never pushed as the tip of a branch", commit.short()),
            )),
            What::Service(service) => {
                let newest = self.road().look(|projection| {
                    let state = projection.projects.get(project)?;
                    state
                        .releases
                        .values()
                        .filter(|release| release.bundle.service == service)
                        .max_by_key(|release| release.number)
                        .cloned()
                });
                newest
                    .map(|release| vec![release])
                    .ok_or_else(|| Problem::not_found(format!("`{service}` has no release yet")))
            }
            What::Item(_, item) => Err(Problem::bad(format!("`{item}` is not something to deploy"))),
        }
    }

    async fn deploy(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let Some(env) = &asked.env else { return Err(Problem::bad("deploy needs `--env ENVIRONMENT`")) };
        let environment = EnvironmentName::parse(env).map_err(|error| Problem::bad(error.to_string()))?;
        let releases = self.releases_of(project, &asked.what).await?;
        for release in &releases {
            if release.bundle.environment(&environment).is_none() {
                return Err(Problem::bad(format!("{} has no environment `{environment}`", release.title()))
                    .hint("slipway status lists environments"));
            }
        }
        for release in &releases {
            self.not_on_its_way(project, release, &environment)?;
        }
        Ok(releases.iter().map(|release| place(release, &environment, "deploy", &asked.reason)).collect())
    }

    /// What is being rolled out already is not asked for once more.
    pub(crate) fn not_on_its_way(
        &self,
        project: &ProjectName,
        release: &Release,
        environment: &EnvironmentName,
    ) -> Result<(), Problem> {
        let key = (environment.clone(), release.bundle.service.clone());
        let moving = self.road().look(|projection| {
            let (moved, _) = projection.projects.get(project)?.lanes.get(&key)?.moved.as_ref()?;
            // One that goes back may be asked for again.
            let forward = !moved.phase.is_final() && !moved.phase.is_return();
            (forward && moved.head.to.id == release.id).then(|| moved.phase.word())
        });
        match moving {
            Some(phase) => Err(Problem::new(
                StatusCode::CONFLICT,
                "on-its-way",
                format!("{} is on its way to {environment} already ({phase})", release.title()),
            )
            .hint(format!("slipway watch {}", release.title()))),
            None => Ok(()),
        }
    }

    async fn promote(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let releases = self.releases_of(project, &asked.what).await?;
        let order = self
            .road()
            .look(|projection| projection.projects.get(project).map(|state| state.order.clone()))
            .unwrap_or_default();
        let mut acts = Vec::new();
        for release in &releases {
            let stands = |environment: &EnvironmentName| {
                self.road().look(|projection| {
                    let state = projection.projects.get(project)?;
                    let lane = state.lanes.get(&(environment.clone(), release.bundle.service.clone()))?;
                    lane.current.clone()
                }) == Some(release.id.clone())
            };
            let has = |environment: &EnvironmentName| release.bundle.environment(environment).is_some();
            let Some(next) = order.iter().find(|environment| has(environment) && !stands(environment)) else {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    "everywhere",
                    format!("{} is in every environment already", release.title()),
                ));
            };
            self.not_on_its_way(project, release, next)?;
            acts.push(place(release, next, "promote", &asked.reason));
        }
        Ok(acts)
    }

    fn abort(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let service = match asked.what.as_str() {
            "" => None,
            text => Some(self.service(project, text.split('@').next().unwrap_or(text))?),
        };
        let moving: Vec<Lane> = self
            .lanes(project, service.as_ref(), asked.env.as_deref())
            .into_iter()
            .filter(|lane| {
                let key = (lane.environment.clone(), lane.service.clone());
                self.road().look(|projection| {
                    let moved = projection
                        .projects
                        .get(project)
                        .and_then(|state| state.lanes.get(&key))
                        .and_then(|lane| lane.moved.as_ref());
                    moved.is_some_and(|(moved, _)| !moved.phase.is_final())
                })
            })
            .collect();
        if moving.is_empty() {
            return Err(Problem::new(StatusCode::CONFLICT, "nothing-moves", "no rollout is under way")
                .hint("to go back from a finished one: slipway rollback SERVICE"));
        }
        Ok(moving
            .into_iter()
            .map(|lane| Act {
                sentence: format!("abort the rollout of {} in {}: traffic goes back", lane.service, lane.environment),
                change: None,
                command: Command {
                    service: Some(lane.service.clone()),
                    reason: asked.reason.clone(),
                    ..bare("abort", &asked.what, Some(lane.environment.clone()))
                },
            })
            .collect())
    }

    async fn freeze(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let named = asked.env.as_deref().unwrap_or(&asked.what);
        let Some(environment) = self.environment(project, Some(named)).await? else { return Ok(Vec::new()) };
        let is_frozen = self.road().look(|projection| {
            projection.projects.get(project).is_some_and(|state| state.frozen.contains_key(&environment))
        });
        if asked.verb == "unfreeze" && !is_frozen {
            let detail = format!("{environment} is not frozen");
            return Err(Problem::new(StatusCode::CONFLICT, "not-frozen", detail).hint("slipway status shows what is"));
        }
        let sentence = match asked.verb.as_str() {
            "freeze" => format!("freeze {environment}: nothing new comes in; rollbacks and restarts do"),
            _ => format!("unfreeze {environment}: what waits for that goes in"),
        };
        let command = Command {
            reason: asked.reason.clone(),
            ..bare(&asked.verb, environment.as_str(), Some(environment.clone()))
        };
        Ok(vec![Act { sentence, change: None, command }])
    }

    async fn hold(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let (commit, service) = match self.what(project, &asked.what).await? {
            What::Commit(commit, _) => (commit, None),
            What::Release(release) => (release.origin.commit.clone(), Some(release.bundle.service.clone())),
            What::Service(_) | What::Item(..) => {
                return Err(Problem::bad(format!("{} takes a commit or a release", asked.verb)));
            }
        };
        let mut lanes = self.lanes(project, service.as_ref(), asked.env.as_deref());
        if asked.verb == "unhold" {
            let mut held = Vec::new();
            for lane in lanes {
                let record = self.gates(&lane).await?;
                if record.holds.iter().any(|hold| hold.commit == commit) {
                    held.push(lane);
                }
            }
            lanes = held;
        }
        if lanes.is_empty() && asked.verb == "hold" {
            let detail = "no service has come to an environment yet, so there is nothing to hold it from";
            return Err(Problem::new(StatusCode::CONFLICT, "no-lane", detail));
        }
        if lanes.is_empty() {
            return Err(Problem::new(StatusCode::CONFLICT, "not-held", format!("{} is held nowhere", commit.short()))
                .hint("slipway status shows what is held"));
        }
        Ok(lanes
            .into_iter()
            .map(|lane| Act {
                sentence: format!("{} {} for {} in {}", asked.verb, commit.short(), lane.service, lane.environment),
                change: None,
                command: Command {
                    service: Some(lane.service.clone()),
                    commit: Some(commit.clone()),
                    reason: asked.reason.clone(),
                    ..bare(&asked.verb, &asked.what, Some(lane.environment.clone()))
                },
            })
            .collect())
    }

    async fn rerun(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let (change, item) = match self.what(project, &asked.what).await? {
            What::Commit(_, Some(change)) => (change, None),
            What::Item(change, item) => (change, Some(item)),
            What::Commit(..) | What::Service(_) | What::Release(_) => {
                return Err(Problem::bad(format!("{} takes a commit or a job", asked.verb)));
            }
        };
        let view = self.find_change(project, change.as_str()).await?;
        if asked.verb == "cancel" && view.state.is_final() {
            let detail = format!("{} has ended already: {}", view.commit.short(), view.state.word());
            return Err(Problem::new(StatusCode::CONFLICT, "ended", detail)
                .hint("to take back what it deployed: slipway rollback"));
        }
        let failed: Vec<ItemId> = match item {
            Some(item) => vec![item],
            None if asked.verb == "retry" => failed_items(&view),
            None => Vec::new(),
        };
        let one = |item: Option<ItemId>| Act {
            sentence: match &item {
                Some(item) => format!("{} {} of {}", asked.verb, plain(&item.0), view.commit.short()),
                None => format!("{} change {}", asked.verb, view.commit.short()),
            },
            change: Some(change.clone()),
            command: Command {
                commit: Some(view.commit.clone()),
                item,
                reason: asked.reason.clone(),
                ..bare(&asked.verb, &asked.what, None)
            },
        };
        if asked.verb == "cancel" {
            return Ok(vec![one(failed.first().cloned())]);
        }
        if failed.is_empty() {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "nothing-failed",
                format!("no job and no image of {} failed", view.commit.short()),
            )
            .hint(format!("slipway why {}", view.commit.short())));
        }
        Ok(failed.into_iter().map(|item| one(Some(item))).collect())
    }
}

/// Jobs and images of a change that a repetition may help.
fn failed_items(view: &ChangeView) -> Vec<ItemId> {
    let bad =
        |job: &&JobView| matches!(job.result.as_str(), "failed" | "timed-out" | "cancelled" | "lost" | "failed-before");
    let mut items: Vec<ItemId> = view.jobs.iter().filter(bad).map(|job| ItemId(format!("job:{}", job.name))).collect();
    if !matches!(view.state, ChangeState::Failed | ChangeState::Cancelled) {
        return items;
    }
    // An image that was to be built and is not there failed, was cancelled, or waits for one of these jobs.
    let missing = view.plan.items.iter().filter(|item| {
        let wanted = item.kind == "image" && matches!(item.decision.as_str(), "run" | "failed-before");
        wanted && !view.images.iter().any(|image| image.item == item.id)
    });
    items.extend(missing.map(|item| item.id.clone()));
    items
}

pub(crate) fn place(release: &Release, environment: &EnvironmentName, verb: &str, reason: &str) -> Act {
    Act {
        sentence: format!("{verb} {} ({}) to {environment}", release.title(), release.origin.commit.short()),
        change: None,
        command: Command {
            service: Some(release.bundle.service.clone()),
            release: Some(release.id.clone()),
            commit: Some(release.origin.commit.clone()),
            reason: reason.to_owned(),
            ..bare(verb, &release.title(), Some(environment.clone()))
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use slipway_model::At;

    fn failed(jobs: &[(&str, &str)], built: bool) -> ChangeView {
        let info = json!({ "id": "0123456789abcdef", "event": "push", "reference": "refs/heads/main",
            "branch": "main", "production": true, "commit": "1f3c9ab0".repeat(5), "author": "kim", "subject": "Greet",
            "pusher": "kim" });
        let mut view = slipway_feedback::change::received(&serde_json::from_value(info).unwrap(), At(1));
        view.state = ChangeState::Failed;
        let item = json!({ "id": "image:api", "kind": "image", "name": "api", "decision": "run", "reason": "",
            "needs": [] });
        view.plan.items.push(serde_json::from_value(item).unwrap());
        for (name, result) in jobs {
            let job = json!({ "id": "r-1", "name": name, "kind": "unit", "result": result, "reason": "", "attempt": 1,
                "queued_ms": 0, "set_up_ms": 0, "run_ms": 0, "first_error": [], "usage": slipway_model::job::Usage::default() });
            view.jobs.push(serde_json::from_value(job).unwrap());
        }
        if built {
            let image = json!({ "item": "image:api", "service": "api", "digest": format!("sha256:{}", "0".repeat(64)),
                "reference": "shop/api:1f3c9ab-1", "build": 1, "size_bytes": 1, "reused": false, "took_ms": 1 });
            view.images.push(serde_json::from_value(image).unwrap());
        }
        view
    }

    #[test]
    fn retry_of_a_change_repeats_its_failed_jobs_and_images() {
        let items = |view: &ChangeView| failed_items(view).into_iter().map(|item| item.0).collect::<Vec<_>>();
        assert_eq!(items(&failed(&[("api/test", "failed"), ("api/lint", "passed")], true)), ["job:api/test"]);
        assert_eq!(items(&failed(&[("api/test", "passed")], false)), ["image:api"]);
        assert_eq!(items(&failed(&[("api/test", "cancelled")], false)), ["job:api/test", "image:api"]);
        assert!(items(&failed(&[("api/test", "passed")], true)).is_empty());
    }
}
