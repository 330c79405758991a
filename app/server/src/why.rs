//! `GET …/why`: why something ran, waits, failed, was skipped, was taken back.
//!
//! In: a WHAT. Out: lines for people, and what they are about for programs. Never: a guess.

use crate::what::What;
use crate::{Problem, Server};
use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use slipway_feedback::why as words;
use slipway_model::plan::Item;
use slipway_model::view::ChangeView;
use slipway_model::{ChangeId, ItemId, Lane, ProjectName};

#[derive(Deserialize)]
pub struct WhyQuery {
    what: String,
    env: Option<String>,
}

/// `GET …/why?what=`.
pub async fn why(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(query): Query<WhyQuery>,
) -> Result<Json<serde_json::Value>, Problem> {
    let project = crate::api::project(&name)?;
    let (lines, about) = match server.what(&project, &query.what).await? {
        What::Commit(_, Some(id)) => {
            let view = server.find_change(&project, id.as_str()).await?;
            (words::change(&view), serde_json::to_value(&view).unwrap_or_default())
        }
        What::Commit(commit, None) => {
            (vec![format!("{} was never pushed as the tip of a branch", commit.short())], serde_json::Value::Null)
        }
        What::Item(change, item) => server.why_item(&project, &change, &item).await?,
        What::Release(release) => server.why_lanes(
            &project,
            |lane, to| lane.service == release.bundle.service && to == format!("r{}", release.number),
            query.env.as_deref(),
        ),
        What::Service(service) => server.why_service(&project, &service, query.env.as_deref()),
    };
    Ok(Json(serde_json::json!({ "lines": lines, "about": about })))
}

impl Server {
    async fn why_item(
        &self,
        project: &ProjectName,
        change: &ChangeId,
        item: &ItemId,
    ) -> Result<(Vec<String>, serde_json::Value), Problem> {
        let view = self.find_change(project, change.as_str()).await?;
        let (known, before) = self.planned_items(project, change, item);
        let mut lines = Vec::new();
        if let Some(known) = known {
            let known = self.with_inputs(project, change, known).await?;
            let before = match before {
                Some((change, before)) => Some(self.with_inputs(project, &change, before).await?),
                None => None,
            };
            lines.extend(words::item(&known, before.as_ref()));
        }
        let name = slipway_feedback::change::name_of(item);
        let job = view.jobs.iter().find(|job| job.name == name);
        lines.extend(job.map(words::job).unwrap_or_default());
        Ok((lines, serde_json::to_value(job).unwrap_or_default()))
    }

    /// An item of a change's plan, and the same item of the change before.
    fn planned_items(
        &self,
        project: &ProjectName,
        change: &ChangeId,
        item: &ItemId,
    ) -> (Option<Item>, Option<(ChangeId, Item)>) {
        self.road().look(|projection| {
            let Some(state) = projection.projects.get(project) else { return (None, None) };
            let of = |change: &ChangeView| {
                let item = state.plans.get(&change.id).and_then(|plan| plan.item(item))?;
                Some((change.id.clone(), item.clone()))
            };
            let at = state.changes.iter().position(|known| &known.id == change);
            let before =
                at.and_then(|at| state.changes.get(..at)).and_then(|earlier| earlier.iter().rev().find_map(of));
            let known = at.and_then(|at| state.changes.get(at)).and_then(of);
            (known.map(|(_, item)| item), before)
        })
    }

    async fn with_inputs(&self, project: &ProjectName, change: &ChangeId, mut item: Item) -> Result<Item, Problem> {
        let inputs = self.road().stages().plans.inputs(project, change, &item.id).await;
        item.inputs = inputs.map_err(|error| Problem::broken(error.to_string()))?;
        Ok(item)
    }

    fn why_lanes(
        &self,
        project: &ProjectName,
        wanted: impl Fn(&Lane, &str) -> bool,
        env: Option<&str>,
    ) -> (Vec<String>, serde_json::Value) {
        let rollouts: Vec<_> = self.road().look(|projection| {
            let Some(state) = projection.projects.get(project) else { return Vec::new() };
            let of_changes = state.changes.iter().flat_map(|change| change.rollouts.clone());
            let newest = state.lanes.values().filter_map(slipway_feedback::lane::LaneState::rollout);
            let mut all: Vec<_> = of_changes.collect();
            for rollout in newest {
                if !all.iter().any(|known| known.id == rollout.id) {
                    all.push(rollout);
                }
            }
            all.retain(|rollout| {
                let lane = Lane {
                    project: project.clone(),
                    environment: rollout.environment.clone(),
                    service: rollout.service.clone(),
                };
                wanted(&lane, &rollout.to) && env.is_none_or(|env| rollout.environment.as_str() == env)
            });
            all
        });
        let mut lines: Vec<String> = rollouts.iter().flat_map(words::rollout).collect();
        if lines.is_empty() {
            lines.push("it was never rolled out".into());
        }
        (lines, serde_json::to_value(&rollouts).unwrap_or_default())
    }

    fn why_service(
        &self,
        project: &ProjectName,
        service: &slipway_model::ServiceName,
        env: Option<&str>,
    ) -> (Vec<String>, serde_json::Value) {
        let url = self.parts.url.clone();
        let status = self.road().look(|projection| projection.status(project, &*url, 0));
        let mut lines = Vec::new();
        let mut about = Vec::new();
        for environment in status.iter().flat_map(|status| &status.environments) {
            if env.is_some_and(|env| environment.name.as_str() != env) {
                continue;
            }
            for lane in environment.services.iter().filter(|lane| &lane.name == service) {
                lines.push(format!("{} {}: {}", environment.name, lane.name, lane.phase));
                lines.extend(lane.waiting.iter().map(|waiting| format!("  waits: {}", waiting.what)));
                lines.extend(
                    lane.instances.iter().filter(|i| !i.reason.is_empty()).map(|i| format!("  {}: {}", i.id, i.reason)),
                );
                lines.extend(lane.held.iter().map(|held| format!("  {} is held here", held.short())));
                let key = (environment.name.clone(), service.clone());
                let endings = self.road().look(|projection| {
                    let known = projection.projects.get(project).and_then(|state| state.lanes.get(&key));
                    known.map(slipway_feedback::lane::LaneState::endings).unwrap_or_default()
                });
                lines.extend(endings.into_iter().map(|line| format!("  {line}")));
                about.push(lane.clone());
            }
        }
        let (more, _) = self.why_lanes(project, |lane, _| &lane.service == service, env);
        lines.extend(more.into_iter().rev().take(20).rev());
        (lines, serde_json::to_value(&about).unwrap_or_default())
    }
}
