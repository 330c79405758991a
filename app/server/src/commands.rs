//! Commands over the API: understood, checked against the rights of their own verb, recorded.
//!
//! In: `{verb, what, env, …}`. Out: what will be done, or why not. Never: an effect before the record of it.

use crate::what::What;
use crate::{Caller, Problem, Server};
use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use slipway_model::fact::Command;
use slipway_model::release::Release;
use slipway_model::{Actor, ChangeId, EnvironmentName, Lane, ProjectName, ServiceName};
use slipway_release::record::LaneRecord;

/// A command as it comes.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    verb: String,
    #[serde(default)]
    what: String,
    env: Option<String>,
    to: Option<String>,
    #[serde(default)]
    reason: String,
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
}

struct Act {
    sentence: String,
    change: Option<ChangeId>,
    command: Command,
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
    Json(asked): Json<Asked>,
) -> Result<Json<Answered>, Problem> {
    let project = ProjectName::parse(&name).map_err(|error| Problem::bad(error.to_string()))?;
    if !caller.may(&asked.verb, Some(&project)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "right",
            format!("`{}` may not {} here", caller.name, asked.verb),
        ));
    }
    let acts = server.acts(&project, &asked).await?;
    let will = acts.iter().map(|act| act.sentence.clone()).collect();
    if asked.dry_run {
        return Ok(Json(Answered { will, done: false }));
    }
    let mut last = 0;
    for act in acts {
        let actor = Actor(caller.name.clone());
        last = server.road().give(&project, &actor, act.change, act.command).await.map_err(Problem::broken)?;
    }
    server.road().followed(last).await;
    Ok(Json(Answered { will, done: true }))
}

impl Server {
    async fn acts(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        match asked.verb.as_str() {
            "deploy" => self.deploy(project, asked).await,
            "promote" => self.promote(project, asked).await,
            "rollback" => self.rollback(project, asked).await,
            "approve" | "reject" => self.consent(project, asked).await,
            "abort" => self.abort(project, asked),
            "hold" | "unhold" => self.hold(project, asked).await,
            "retry" | "cancel" => self.rerun(project, asked).await,
            other => Err(Problem::bad(format!("`{other}` is no command"))),
        }
    }

    fn lanes(&self, project: &ProjectName, service: Option<&ServiceName>, env: Option<&str>) -> Vec<Lane> {
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
    async fn gates(&self, lane: &Lane) -> Result<LaneRecord, Problem> {
        let record = self.road().stages().releases.record(lane).await;
        record.map_err(|error| Problem::broken(error.to_string()))
    }

    /// The releases that a WHAT names: one, or those of a commit's change.
    async fn releases_of(&self, project: &ProjectName, what: &str) -> Result<Vec<Release>, Problem> {
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
        Ok(releases.iter().map(|release| place(release, &environment, "deploy", &asked.reason)).collect())
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
            let Some(next) = order.iter().find(|environment| !stands(environment)) else {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    "everywhere",
                    format!("{} is in every environment already", release.title()),
                ));
            };
            acts.push(place(release, next, "promote", &asked.reason));
        }
        Ok(acts)
    }

    async fn rollback(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let service = match asked.what.as_str() {
            "" => None,
            text => Some(ServiceName::parse(text).map_err(|error| Problem::bad(error.to_string()))?),
        };
        let lanes = self.lanes(project, service.as_ref(), asked.env.as_deref());
        let lanes: Vec<Lane> = if asked.env.is_some() { lanes } else { self.last_of(project, lanes) };
        let mut acts = Vec::new();
        for lane in lanes {
            let record = self.gates(&lane).await?;
            let target = match &asked.to {
                Some(to) => {
                    let found = self
                        .what(project, &if to.starts_with('r') { format!("{}@{to}", lane.service) } else { to.clone() })
                        .await?;
                    let What::Release(release) = found else {
                        return Err(Problem::bad(format!("`{to}` is no release of `{}`", lane.service)));
                    };
                    Some(*release)
                }
                None => match record.rollback_target(record.current.as_ref().map(|current| &current.id)) {
                    Some(target) => self
                        .road()
                        .stages()
                        .releases
                        .find(project, &lane.service, &target.id)
                        .await
                        .map_err(|error| Problem::broken(error.to_string()))?,
                    None => None,
                },
            };
            let Some(target) = target else {
                let detail = format!("no other release of `{}` succeeded in {}", lane.service, lane.environment);
                return Err(Problem::new(StatusCode::CONFLICT, "no-target", detail)
                    .hint("name one with `--to rN`, or push a revert"));
            };
            let mut act = place(&target, &lane.environment, "rollback", &asked.reason);
            act.sentence = format!(
                "roll {} in {} back to r{} ({})",
                lane.service,
                lane.environment,
                target.number,
                target.origin.commit.short()
            );
            acts.push(act);
        }
        if acts.is_empty() {
            return Err(Problem::not_found("nothing runs that could be rolled back"));
        }
        Ok(acts)
    }

    /// Per service the last environment of the promotion order that it is in.
    fn last_of(&self, project: &ProjectName, lanes: Vec<Lane>) -> Vec<Lane> {
        let order = self
            .road()
            .look(|projection| projection.projects.get(project).map(|state| state.order.clone()))
            .unwrap_or_default();
        let place = |lane: &Lane| order.iter().position(|environment| environment == &lane.environment);
        let mut last: std::collections::BTreeMap<ServiceName, Lane> = std::collections::BTreeMap::new();
        for lane in lanes {
            let later = last.get(&lane.service).is_none_or(|known| place(&lane) > place(known));
            if later {
                last.insert(lane.service.clone(), lane);
            }
        }
        last.into_values().collect()
    }

    async fn consent(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let releases = self.releases_of(project, &asked.what).await?;
        let mut acts = Vec::new();
        for release in &releases {
            for lane in self.lanes(project, Some(&release.bundle.service), asked.env.as_deref()) {
                let record = self.gates(&lane).await?;
                let waits = record.is_waiting()
                    && record.candidate.as_ref().is_some_and(|candidate| candidate.release == release.id);
                if !waits {
                    continue;
                }
                let change = record.candidate.and_then(|candidate| candidate.change);
                let command = Command {
                    release: Some(release.id.clone()),
                    service: Some(lane.service.clone()),
                    reason: asked.reason.clone(),
                    ..bare(&asked.verb, &asked.what, Some(lane.environment.clone()))
                };
                acts.push(Act {
                    sentence: format!("{} {} for {}", asked.verb, release.title(), lane.environment),
                    change,
                    command,
                });
            }
        }
        if acts.is_empty() {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "nothing-waits",
                format!("nothing of `{}` waits for approval", asked.what),
            )
            .hint("slipway status shows what waits"));
        }
        Ok(acts)
    }

    fn abort(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let service = match asked.what.as_str() {
            "" => None,
            text => Some(
                ServiceName::parse(text.split('@').next().unwrap_or(text))
                    .map_err(|error| Problem::bad(error.to_string()))?,
            ),
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
        if lanes.is_empty() {
            return Err(Problem::new(StatusCode::CONFLICT, "not-held", format!("{} is held nowhere", commit.short())));
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
        let failed: Vec<slipway_model::ItemId> = match item {
            Some(item) => vec![item],
            None if asked.verb == "retry" => view
                .jobs
                .iter()
                .filter(|job| {
                    matches!(job.result.as_str(), "failed" | "timed-out" | "cancelled" | "lost" | "failed-before")
                })
                .map(|job| slipway_model::ItemId(format!("job:{}", job.name)))
                .collect(),
            None => Vec::new(),
        };
        let one = |item: Option<slipway_model::ItemId>| Act {
            sentence: match &item {
                Some(item) => format!("{} {item} of {}", asked.verb, view.commit.short()),
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
                format!("no job of {} failed", view.commit.short()),
            ));
        }
        Ok(failed.into_iter().map(|item| one(Some(item))).collect())
    }
}

fn place(release: &Release, environment: &EnvironmentName, verb: &str, reason: &str) -> Act {
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
