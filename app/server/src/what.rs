//! What a WHAT means: a commit, branch or tag, a service, a service's release, a job.
//!
//! In: the text. Out: one meaning, or all candidates. Never: the first of several.

use crate::api::shown;
use crate::{Problem, Server};
use http::StatusCode;
use slipway_feedback::project::ProjectState;
use slipway_model::release::Release;
use slipway_model::{ChangeId, CommitId, ItemId, ProjectName, ReleaseId, ServiceName};

/// One meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A commit, with its newest change if there is one.
    Commit(CommitId, Option<ChangeId>),
    /// A service.
    Service(ServiceName),
    /// A release of a service.
    Release(Box<Release>),
    /// A job or image item of the newest change that has it.
    Item(ChangeId, ItemId),
}

impl What {
    /// In words, for ambiguous ones.
    fn words(&self) -> String {
        match self {
            What::Commit(commit, _) => format!("commit {}", commit.short()),
            What::Service(service) => format!("service {service}"),
            What::Release(release) => format!("release {} ({})", release.title(), release.id),
            What::Item(_, item) => format!("{item}"),
        }
    }
}

impl Server {
    /// Finds the meaning.
    pub(crate) async fn what(&self, project: &ProjectName, text: &str) -> Result<What, Problem> {
        let mut found = self.known(project, text);
        if let Some(commit) = self.commit(project, text).await? {
            let change = self.road().change_of(project, Some(&commit)).await.map_err(Problem::broken)?;
            found.push(What::Commit(commit, change));
        }
        match found.len() {
            0 if CommitId::parse(text).is_ok() => {
                Err(Problem::not_found(format!("commit {} was not pushed to `{project}`", shown(text)))
                    .hint("git push slipway"))
            }
            0 => Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no-such",
                format!("`{text}` is no commit, branch, service, release or job of `{project}`"),
            )
            .hint("`slipway status` shows what there is")),
            1 => Ok(found.remove(0)),
            _ => {
                let mut problem =
                    Problem::new(StatusCode::CONFLICT, "ambiguous", format!("`{text}` can mean several things"));
                problem.candidates = found.iter().map(What::words).collect();
                Err(problem.hint("name it as `SERVICE@rN`, `SERVICE/JOB` or by its full commit id"))
            }
        }
    }

    fn known(&self, project: &ProjectName, text: &str) -> Vec<What> {
        self.road().look(|projection| {
            let Some(state) = projection.projects.get(project) else { return Vec::new() };
            let mut found = Vec::new();
            if let Ok(service) = ServiceName::parse(text)
                && (state.lanes.keys().any(|(_, known)| known == &service)
                    || state.releases.values().any(|r| r.bundle.service == service)
                    || planned(state, &service))
            {
                found.push(What::Service(service));
            }
            let (service, release) =
                text.split_once('@').map_or((None, text), |(service, release)| (Some(service), release));
            for known in state.releases.values() {
                let named = service.is_none_or(|service| known.bundle.service.as_str() == service);
                let by_number = service.is_some() && release == format!("r{}", known.number);
                let by_id = ReleaseId::parse(release).is_ok_and(|id| known.id.as_str().starts_with(id.as_str()));
                if named && (by_number || by_id) {
                    found.push(What::Release(Box::new(known.clone())));
                }
            }
            if text.contains('/') || !found.iter().any(|what| matches!(what, What::Service(_))) {
                let item = [format!("job:{text}"), format!("image:{text}")];
                let newest = state.changes.iter().rev().find_map(|change| {
                    let wanted =
                        change.plan.items.iter().find(|known| item.contains(&known.id.0) && known.kind == "job")?;
                    Some(What::Item(change.id.clone(), wanted.id.clone()))
                });
                found.extend(newest);
            }
            if found.is_empty() && !text.contains(['/', '@']) {
                found.extend(jobs_called(state, text));
            }
            found
        })
    }

    async fn commit(&self, project: &ProjectName, text: &str) -> Result<Option<CommitId>, Problem> {
        if text.contains('@') {
            return Ok(None);
        }
        let Ok(name) = slipway_git::ProjectName::parse(project.as_str()) else { return Ok(None) };
        let Ok(view) = self.parts.git.view(&name) else { return Ok(None) };
        match view.resolve(text).await {
            Ok(oid) => Ok(CommitId::parse(&oid.to_string()).ok()),
            Err(slipway_git::GitError::AmbiguousRevision { candidates, .. }) => {
                let mut problem =
                    Problem::new(StatusCode::CONFLICT, "ambiguous", format!("`{text}` names several commits"));
                problem.candidates =
                    candidates.iter().map(|candidate| format!("{} {}", candidate.name, candidate.commit)).collect();
                Err(problem)
            }
            Err(_) => Ok(None),
        }
    }
}

/// Whether the newest changes plan something for a service, which may not have come to a release yet.
fn planned(state: &ProjectState, service: &ServiceName) -> bool {
    state.changes.iter().any(|change| change.plan.items.iter().any(|item| item.service.as_ref() == Some(service)))
}

/// Jobs of the newest plan that are called so in their service: `test` is `api/test` when no other service has one.
fn jobs_called(state: &ProjectState, text: &str) -> Vec<What> {
    let newest = state.changes.iter().rev().find(|change| !change.plan.items.is_empty());
    let items = newest.into_iter().flat_map(|change| change.plan.items.iter().map(move |item| (change, item)));
    let called = items.filter(|(_, item)| item.kind == "job" && item.name.rsplit('/').next() == Some(text));
    called.map(|(change, item)| What::Item(change.id.clone(), item.id.clone())).collect()
}
