//! `rollback` and `restart`: what succeeded before, and what serves, once more.
//!
//! In: what was asked. Out: acts for the lanes that it is about. Never: a target that did not succeed there, unless a
//! person names it.

use crate::commands::{Act, Asked, place};
use crate::what::What;
use crate::{Problem, Server};
use http::StatusCode;
use slipway_model::rollout::ReleaseRef;
use slipway_model::{Lane, ProjectName, ServiceName};
use slipway_release::record::LaneRecord;

impl Server {
    pub(crate) async fn rollback(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let service = match asked.what.as_str() {
            "" => None,
            text => Some(self.service(project, text)?),
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
                None => match newest_good(&record) {
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
            self.not_on_its_way(project, &target, &lane.environment)?;
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
            return Err(Problem::new(StatusCode::CONFLICT, "nothing-runs", "nothing runs that could be rolled back")
                .hint("slipway status shows what runs where"));
        }
        Ok(acts)
    }

    pub(crate) async fn restart(&self, project: &ProjectName, asked: &Asked) -> Result<Vec<Act>, Problem> {
        let service = match asked.what.as_str() {
            "" => None,
            text => Some(self.service(project, text)?),
        };
        let lanes = self.lanes(project, service.as_ref(), asked.env.as_deref());
        let lanes: Vec<Lane> = if asked.env.is_some() { lanes } else { self.last_of(project, lanes) };
        let mut acts = Vec::new();
        for lane in lanes {
            let Some(current) = self.gates(&lane).await?.current else { continue };
            let found = self.road().stages().releases.find(project, &lane.service, &current.id).await;
            let Some(serving) = found.map_err(|error| Problem::broken(error.to_string()))? else { continue };
            let mut act = place(&serving, &lane.environment, "restart", &asked.reason);
            act.sentence = format!(
                "start new instances of {} in {}, one after the other, with the newest values of its secrets",
                serving.title(),
                lane.environment
            );
            acts.push(act);
        }
        if acts.is_empty() {
            return Err(Problem::new(StatusCode::CONFLICT, "nothing-runs", "nothing runs that could be started anew")
                .hint("slipway status shows what runs where"));
        }
        Ok(acts)
    }

    /// Per service what users see: production; where there is no environment of that name, the last of the promotion
    /// order that it is in.
    fn last_of(&self, project: &ProjectName, lanes: Vec<Lane>) -> Vec<Lane> {
        let order = self
            .road()
            .look(|projection| projection.projects.get(project).map(|state| state.order.clone()))
            .unwrap_or_default();
        let place = |lane: &Lane| {
            let at = order.iter().position(|environment| environment == &lane.environment);
            // One that the file does not name any more stands last in the order, and is not what users see.
            (lane.environment.as_str() == "production", at)
        };
        let mut last: std::collections::BTreeMap<ServiceName, Lane> = std::collections::BTreeMap::new();
        for lane in lanes {
            let later = last.get(&lane.service).is_none_or(|known| place(&lane) > place(known));
            if later {
                last.insert(lane.service.clone(), lane);
            }
        }
        last.into_values().collect()
    }
}

/// Where a rollback goes that names nothing: while a release goes in, to the one that it is to replace; else to the newest
/// that succeeded and is not what serves.
fn newest_good(record: &LaneRecord) -> Option<&ReleaseRef> {
    let serving = record.current.as_ref();
    serving.filter(|_| record.unsettled).or_else(|| record.rollback_target(serving.map(|current| &current.id)))
}
