//! `GET …/logs?what=`: lines of a job, a service or a release.
//!
//! In: a WHAT. Out: lines as text, as they come when following. Never: a line held back until the end.

use crate::what::What;
use crate::{Problem, Server};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use serde::Deserialize;
use slipway_model::view::ChangeView;
use slipway_model::{CommitId, Lane, ProjectName, RunId};

#[derive(Deserialize)]
pub struct LogsQuery {
    what: String,
    env: Option<String>,
    #[serde(default)]
    follow: bool,
    /// Lines of a service before those that come.
    tail: Option<usize>,
}

/// Lines of a service that are shown when nothing else is said, and at most.
const TAIL: usize = 1_000;
const TAIL_MAX: usize = 100_000;

/// `GET …/logs?what=`: lines as text, as they come when following.
pub async fn logs(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let project = server.project(&name)?;
    server.environment(&project, query.env.as_deref()).await?;
    let mut note = None;
    let lines = match server.what(&project, &query.what).await? {
        What::Item(change, item) => {
            let name = slipway_feedback::change::name_of(&item);
            let view = server.find_change(&project, change.as_str()).await?;
            let (of, run) = server.last_run(&project, &view, &name).ok_or_else(|| {
                Problem::not_found(format!("job `{name}` did not run in any change that is remembered"))
                    .hint(format!("slipway why {name}"))
            })?;
            note = (of != view.commit).then(|| {
                let (here, there) = (view.commit.short(), of.short());
                format!("# {name} did not run for {here}; this is how it ran for {there}\n")
            });
            server.parts.logs.job(&project, &run, query.follow).await
        }
        What::Service(service) => server.service_log(&project, &service, None, &query).await?,
        What::Release(release) => {
            server.service_log(&project, &release.bundle.service.clone(), Some(&release.id), &query).await?
        }
        What::Commit(..) => {
            return Err(
                Problem::bad("a commit has no log of its own").hint("name a job (`api/test`) or a service (`api`)")
            );
        }
    };
    let lines = lines.map_err(Problem::broken)?;
    let stream = futures::stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(Bytes::from(line + "\n")), lines))
    });
    let stream = futures::StreamExt::chain(futures::stream::iter(note.map(|note| Ok(Bytes::from(note)))), stream);
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(stream)).into_response())
}

impl Server {
    /// The newest run of a job, and its commit: that of the change, else of the last one before in which it ran.
    fn last_run(&self, project: &ProjectName, view: &ChangeView, name: &str) -> Option<(CommitId, RunId)> {
        let run = |change: &ChangeView| {
            let job = change.jobs.iter().find(|job| job.name == name)?;
            let run = RunId::parse(&job.id).ok().filter(|run| !run.as_str().starts_with("job:"))?;
            Some((change.commit.clone(), run))
        };
        run(view).or_else(|| {
            self.road().look(|projection| {
                let changes = &projection.projects.get(project)?.changes;
                let end = changes.iter().position(|change| change.id == view.id).unwrap_or(changes.len());
                changes.get(..end)?.iter().rev().find_map(run)
            })
        })
    }

    async fn service_log(
        &self,
        project: &ProjectName,
        service: &slipway_model::ServiceName,
        release: Option<&slipway_model::ReleaseId>,
        query: &LogsQuery,
    ) -> Result<Result<tokio::sync::mpsc::Receiver<String>, String>, Problem> {
        let lanes: Vec<Lane> = self.road().look(|projection| {
            let lanes = projection
                .projects
                .get(project)
                .map(|state| state.lanes.values().map(|lane| lane.lane.clone()).collect());
            let lanes: Vec<Lane> = lanes.unwrap_or_default();
            lanes
                .into_iter()
                .filter(|lane| {
                    &lane.service == service && query.env.as_ref().is_none_or(|env| lane.environment.as_str() == env)
                })
                .collect()
        });
        // Without an environment the last of the promotion order is meant: what users see.
        // A release that never came there is looked for where it was.
        let was_in = |lane: &&Lane| {
            let key = (lane.environment.clone(), lane.service.clone());
            let has = |id| {
                self.road().look(|projection| {
                    let lane = projection.projects.get(project).and_then(|state| state.lanes.get(&key));
                    lane.is_some_and(|lane| lane.history.iter().any(|line| &line.release_id == id))
                })
            };
            release.is_none_or(has)
        };
        let lanes: Vec<&Lane> = lanes.iter().filter(was_in).collect();
        let lane = lanes.iter().find(|lane| lane.environment.as_str() == "production").or(lanes.last());
        let Some(lane) = lane else {
            let place = query.env.as_ref().map(|env| format!(" in `{env}`")).unwrap_or_default();
            return Err(Problem::not_found(format!("`{service}` was never started{place}"))
                .hint(format!("slipway why {service}")));
        };
        Ok(self.parts.logs.service(lane, release, query.tail.unwrap_or(TAIL).min(TAIL_MAX), query.follow).await)
    }
}
