//! What there is: projects, environments, services. An unknown name is an error that lists the known ones.
//!
//! In: names as people typed them. Out: the same as types, or a problem with the command line. Never: an empty answer
//! that looks like "nothing happened yet".

use crate::{Problem, Server};
use http::StatusCode;
use slipway_feedback::project::ProjectState;
use slipway_model::{EnvironmentName, ProjectName, ServiceName};
use std::collections::BTreeSet;

/// Names listed in a message.
const LISTED: usize = 12;

impl Server {
    /// A project that exists.
    ///
    /// # Errors
    /// When the text is no project's name, or none has it.
    pub(crate) fn project(&self, text: &str) -> Result<ProjectName, Problem> {
        let project = crate::api::project(text)?;
        let name =
            slipway_git::ProjectName::parse(project.as_str()).map_err(|error| Problem::bad(error.to_string()))?;
        if self.parts.git.exists(&name) {
            return Ok(project);
        }
        let names = self.parts.git.projects().unwrap_or_default();
        let names: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let detail = missing("project", project.as_str(), "", &names);
        Err(Problem::new(StatusCode::NOT_FOUND, "no-project", detail)
            .hint(format!("a push makes it: git push {}/git/{project}.git main", self.parts.address)))
    }

    /// An environment that some plan of the project named. Before the first plan none is known, and each may come.
    ///
    /// # Errors
    /// When the text is no environment's name, none has it, or the journal cannot be read.
    pub(crate) async fn environment(
        &self,
        project: &ProjectName,
        text: Option<&str>,
    ) -> Result<Option<EnvironmentName>, Problem> {
        let Some(text) = text else { return Ok(None) };
        let name = EnvironmentName::parse(text).map_err(|error| Problem::bad(error.to_string()))?;
        let mut known = self.of_project(project, |state| {
            let mut known: Vec<String> = state.order.iter().map(ToString::to_string).collect();
            known.extend(state.lanes.keys().map(|(environment, _)| environment.to_string()));
            known
        });
        // Also those that no pushed branch has led into yet.
        let rows = self.road().stages().store.rows(project, "environment", "").await;
        known.extend(rows.map_err(|error| Problem::broken(error.to_string()))?.into_iter().map(|(name, _)| name));
        if known.is_empty() || known.iter().any(|known| known == name.as_str()) {
            return Ok(Some(name));
        }
        let detail = missing("environment", name.as_str(), &format!(" in `{project}`"), &known);
        Err(Problem::new(StatusCode::NOT_FOUND, "no-environment", detail))
    }

    /// A service that the project has or had.
    ///
    /// # Errors
    /// When the text is no service's name, or none has it.
    pub(crate) fn service(&self, project: &ProjectName, text: &str) -> Result<ServiceName, Problem> {
        let name = ServiceName::parse(text).map_err(|error| Problem::bad(error.to_string()))?;
        let known = self.services(project);
        if known.contains(&name) {
            return Ok(name);
        }
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let detail = missing("service", name.as_str(), &format!(" in `{project}`"), &known);
        Err(Problem::new(StatusCode::NOT_FOUND, "no-service", detail))
    }

    /// Services of the newest plans, of lanes and of releases.
    pub(crate) fn services(&self, project: &ProjectName) -> BTreeSet<ServiceName> {
        let known = self.of_project(project, |state| {
            let planned = state.changes.iter().flat_map(|change| &change.plan.items).filter_map(|i| i.service.clone());
            let placed = state.lanes.keys().map(|(_, service)| service.clone());
            planned.chain(placed).chain(state.releases.values().map(|r| r.bundle.service.clone())).collect::<Vec<_>>()
        });
        known.into_iter().collect()
    }

    fn of_project<T>(&self, project: &ProjectName, read: impl Fn(&ProjectState) -> Vec<T>) -> Vec<T> {
        self.road().look(|projection| projection.projects.get(project).map(read)).unwrap_or_default()
    }
}

/// `there is no environment `prod` in `shop`; there are `staging`, `production``.
fn missing(kind: &str, name: &str, place: &str, known: &[String]) -> String {
    let mut names: Vec<String> = Vec::new();
    for known in known.iter().map(|known| format!("`{known}`")) {
        if !names.contains(&known) {
            names.push(known);
        }
    }
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let list = match (names.as_slice(), more) {
        ([], _) => "there is none yet".to_owned(),
        ([only], _) => format!("there is {only}"),
        (names, 0) => format!("there are {}", names.join(", ")),
        (names, more) => format!("there are {} and {more} more", names.join(", ")),
    };
    format!("there is no {kind} `{name}`{place}; {list}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let said = missing("environment", "prod", " in `shop`", &known(&["staging", "production", "staging"]));
        assert_eq!(said, "there is no environment `prod` in `shop`; there are `staging`, `production`");
        assert_eq!(missing("project", "x", "", &[]), "there is no project `x`; there is none yet");
        assert_eq!(missing("service", "x", "", &known(&["api"])), "there is no service `x`; there is `api`");
    }
}
