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
use slipway_model::view::{ChangeView, RolloutView};
use slipway_model::{ChangeId, ItemId, Lane, ProjectName};

/// Rollouts that are told whole; the history has them all.
const ROLLOUTS: usize = 3;

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
    let project = server.project(&name)?;
    server.environment(&project, query.env.as_deref()).await?;
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
        // A job that did not run has nothing to add to the plan's word.
        let ran = job.filter(|job| job.attempt > 0 || lines.is_empty());
        lines.extend(ran.map(words::job).unwrap_or_default());
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
        let mut rollouts: Vec<RolloutView> = self.road().look(|projection| {
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
        rollouts.sort_by_key(|rollout| std::cmp::Reverse(rollout.started));
        (newest_first(&rollouts), serde_json::to_value(&rollouts).unwrap_or_default())
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
                let means = words::meaning(&lane.phase).map(|means| format!(" ({means})")).unwrap_or_default();
                lines.push(format!("{} {}: {}{means}", environment.name, lane.name, lane.phase));
                if let Some(waiting) = &lane.waiting {
                    lines.push(format!("  waits: {}", waiting.what));
                    lines.extend(waiting.next.iter().map(|next| format!("  next: {next}")));
                }
                lines.extend(
                    lane.instances.iter().filter(|i| !i.reason.is_empty()).map(|i| format!("  {}: {}", i.id, i.reason)),
                );
                let key = (environment.name.clone(), service.clone());
                let (held, endings) = self.road().look(|projection| {
                    let known = projection.projects.get(project).and_then(|state| state.lanes.get(&key));
                    known.map(|lane| (lane.held.clone(), lane.endings())).unwrap_or_default()
                });
                for (commit, reason) in held {
                    let short = commit.short();
                    lines.push(format!("  {short} is held here: {reason}    next: slipway unhold {short}"));
                }
                lines.extend(endings.into_iter().map(|line| format!("  {line}")));
                about.push(lane.clone());
            }
        }
        let (rollouts, known) = self.why_lanes(project, |lane, _| &lane.service == service, env);
        if about.is_empty() && known.as_array().is_none_or(Vec::is_empty) {
            // It has not come to a release: its newest change says why.
            lines.push(format!("{service} has no release yet"));
            let newest = self.newest_with(project, service);
            let why = |id| self.road().look(|projection| projection.change(project, &id).map(words::change));
            lines.extend(newest.and_then(why).unwrap_or_default());
            return (lines, serde_json::to_value(&about).unwrap_or_default());
        }
        lines.extend(rollouts);
        (lines, serde_json::to_value(&about).unwrap_or_default())
    }
}

/// The newest rollouts whole, the newest first; of the rest how many there are.
fn newest_first(rollouts: &[RolloutView]) -> Vec<String> {
    let Some(first) = rollouts.first() else { return vec!["it was never rolled out".into()] };
    let mut lines: Vec<String> = rollouts.iter().take(ROLLOUTS).flat_map(words::rollout).collect();
    match rollouts.len().saturating_sub(ROLLOUTS) {
        0 => {}
        1 => lines.push(format!("and one earlier rollout: slipway history {}", first.service)),
        more => lines.push(format!("and {more} earlier rollouts: slipway history {}", first.service)),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rollouts_are_told_whole_and_only_so_many() {
        let rollout = |number: u64| -> RolloutView {
            serde_json::from_value(json!({ "id": format!("production-api-{number}"), "environment": "production",
                "service": "api", "to": format!("r{number}"), "strategy": "rolling", "phase": "rolled-back",
                "reason": "gave 5xx", "held": false, "by": "kim", "started": "2026-03-01T12:00:00.000Z",
                "steps": [] }))
            .unwrap()
        };
        let rollouts: Vec<RolloutView> = (1..=6).rev().map(rollout).collect();
        let lines = newest_first(&rollouts);
        assert!(lines[0].starts_with("rollout production api nothing -> r6: rolled-back (the release before"));
        assert_eq!(lines.iter().filter(|line| line.starts_with("rollout ")).count(), ROLLOUTS);
        assert_eq!(lines.last().unwrap(), "and 3 earlier rollouts: slipway history api");
        assert_eq!(newest_first(&[]), ["it was never rolled out"]);
    }
}
