//! The API's reading half, secrets and tokens.
//!
//! In: requests whose right was checked. Out: the shapes that are promised. Never: a secret's value.

use crate::problem::Posted;
use crate::what::What;
use crate::{Caller, Problem, Server};
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use slipway_change::rights::Right;
use slipway_model::fact::{ChangeInfo, ChangeState};
use slipway_model::view::{ChangeView, HistoryLine, PlanView, Status};
use slipway_model::{ChangeId, CommitId, EnvironmentName, ProjectName};

type Answer<T> = Result<Json<T>, Problem>;

/// The longest name of a token.
const NAME_BYTES: usize = 100;
/// A token with an end ends within ten years.
const DAYS: u64 = 3650;
/// Changes shown by default.
const CHANGES: usize = 20;

/// `/healthz`: alive.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// With less room the journal cannot grow much longer, nor be tidied up: somebody has to make room before it fails.
const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// `/readyz`: able to work, which is able to record, now and for a while.
pub async fn ready(State(server): State<Server>) -> Result<&'static str, Problem> {
    let unable = |code, why: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why);
    let written = server.road().stages().store.set_cursor("ready", server.now().0).await;
    written.map_err(|error| unable("journal", error.to_string()))?;
    match rustix::fs::statvfs(&server.parts.data).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)) {
        Ok(free_bytes) if free_bytes < ROOM_BYTES_MIN => Err(unable("disk", short_of(&server.parts.data, free_bytes))
            .hint("make room on that disk; `slipway image gc` removes what nothing refers to")),
        // Recording worked just now: what cannot be asked is no reason to stop.
        Ok(_) | Err(_) => Ok("ok\n"),
    }
}

fn short_of(data: &std::path::Path, free_bytes: u64) -> String {
    let wanted = ROOM_BYTES_MIN >> 20;
    format!("the disk of `{}` is nearly full: {} KiB free, less than {wanted} MiB", data.display(), free_bytes >> 10)
}

/// `/api/v1/whoami`.
pub async fn whoami(Extension(caller): Extension<Caller>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "name": caller.name, "rights": caller.rights, "project": caller.project }))
}

/// `POST /api/v1/login`.
pub async fn login(State(server): State<Server>, Extension(caller): Extension<Caller>) -> Answer<serde_json::Value> {
    let code = server.parts.auth.code(&caller, server.now()).map_err(Problem::broken)?;
    Ok(Json(serde_json::json!({ "url": format!("{}/login?code={code}", server.parts.address) })))
}

/// `GET /api/v1/projects`.
pub async fn projects(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> Answer<Vec<serde_json::Value>> {
    let names = server.parts.git.projects().map_err(|error| Problem::broken(error.to_string()))?;
    let visible = names
        .iter()
        .filter_map(|name| ProjectName::parse(name.as_str()).ok())
        .filter(|name| caller.may("status", Some(name)));
    Ok(Json(
        visible
            .map(|name| serde_json::json!({ "name": name, "git": format!("{}/git/{name}.git", server.parts.address) }))
            .collect(),
    ))
}

#[derive(Deserialize)]
pub struct NewProject {
    name: String,
}

/// `POST /api/v1/projects`.
pub async fn make_project(State(server): State<Server>, Json(new): Json<NewProject>) -> Answer<serde_json::Value> {
    let project = ProjectName::parse(&new.name).map_err(|error| Problem::bad(error.to_string()))?;
    let name = slipway_git::ProjectName::parse(project.as_str()).map_err(|error| Problem::bad(error.to_string()))?;
    if project == crate::auth::system() {
        return Err(Problem::bad(format!("`{project}` is Slipway's own name")).hint("choose another one"));
    }
    if !server.parts.git.exists(&name) {
        server.parts.git.create(&name).await.map_err(|error| Problem::broken(error.to_string()))?;
    }
    Ok(Json(serde_json::json!({ "name": project, "git": format!("{}/git/{project}.git", server.parts.address) })))
}

/// The project that a path names.
///
/// # Errors
/// When the text is no project's name.
pub(crate) fn project(text: &str) -> Result<ProjectName, Problem> {
    ProjectName::parse(text).map_err(|error| Problem::bad(error.to_string()))
}

#[derive(Deserialize)]
pub struct StatusQuery {
    changes: Option<usize>,
}

/// `GET …/status`.
pub async fn status(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(query): Query<StatusQuery>,
) -> Answer<Status> {
    let project = server.project(&name)?;
    let status = server.status(&project, query.changes.unwrap_or(CHANGES)).await;
    Ok(Json(status.unwrap_or(Status { project, needs_you: Vec::new(), changes: Vec::new(), environments: Vec::new() })))
}

impl Server {
    /// Where things are. What failed on a branch that is gone needs nobody any more.
    pub(crate) async fn status(&self, project: &ProjectName, changes: usize) -> Option<Status> {
        let url = self.parts.url.clone();
        let mut status = self.road().look(|projection| projection.status(project, &*url, changes))?;
        let failed = self.road().look(|projection| {
            let failed = |change: &&ChangeView| change.state == ChangeState::Failed;
            let changes = projection.projects.get(project).map(|state| state.changes.iter().filter(failed));
            let named = |change: &ChangeView| (format!("refs/heads/{}", change.branch), change.commit.clone());
            changes.into_iter().flatten().map(named).collect::<Vec<_>>()
        });
        if status.needs_you.is_empty() || failed.is_empty() {
            return Some(status);
        }
        let Ok(name) = slipway_git::ProjectName::parse(project.as_str()) else { return Some(status) };
        let Ok(view) = self.parts.git.view(&name) else { return Some(status) };
        let Ok(refs) = view.refs().await else { return Some(status) };
        let there = |branch: &String| refs.iter().any(|entry| entry.name == *branch);
        let is_told = |commit: &CommitId| failed.iter().any(|(branch, same)| same == commit && there(branch));
        for (_, commit) in failed.iter().filter(|(_, commit)| !is_told(commit)) {
            let command = format!("slipway why {}", commit.short());
            status.needs_you.retain(|need| need.command != command);
        }
        Some(status)
    }
}

/// `GET …/changes/{change}`: by the change's id, a commit, a branch.
pub async fn change(State(server): State<Server>, Path((name, text)): Path<(String, String)>) -> Answer<ChangeView> {
    let project = server.project(&name)?;
    server.find_change(&project, &text).await.map(Json)
}

impl Server {
    pub(crate) async fn find_change(&self, project: &ProjectName, text: &str) -> Result<ChangeView, Problem> {
        let missing = || Problem::not_found(format!("`{}` has no change in `{project}`", shown(text)));
        let id = match ChangeId::parse(text) {
            Ok(id) if self.road().look(|projection| projection.change(project, &id).is_some()) => id,
            _ => match self.what(project, text).await? {
                What::Commit(_, Some(change)) | What::Item(change, _) => change,
                What::Release(release) => release.origin.change.clone(),
                // Of a service the change is meant that moves or moved it last.
                What::Service(service) => self.newest_with(project, &service).ok_or_else(missing)?,
                What::Commit(..) => {
                    return Err(missing().hint("only the tip of a pushed branch has one; name that, or a service"));
                }
            },
        };
        if let Some(view) = self.road().look(|projection| projection.change(project, &id).cloned()) {
            return Ok(view);
        }
        let facts = self
            .road()
            .stages()
            .store
            .of_change(project, &id)
            .await
            .map_err(|error| Problem::broken(error.to_string()))?;
        let mut view: Option<ChangeView> = None;
        for fact in &facts {
            match (&fact.body, &mut view) {
                (slipway_model::fact::Body::ChangeReceived(info), _) => {
                    view = Some(slipway_feedback::change::received(info, fact.at))
                }
                (_, Some(view)) => slipway_feedback::change::apply(view, fact),
                (_, None) => {}
            }
        }
        view.ok_or_else(missing)
    }

    /// The newest change that does something about a service.
    pub(crate) fn newest_with(&self, project: &ProjectName, service: &slipway_model::ServiceName) -> Option<ChangeId> {
        self.road().look(|projection| {
            let changes = &projection.projects.get(project)?.changes;
            let about = |change: &&ChangeView| {
                let items = change.plan.items.iter().filter(|item| item.service.as_ref() == Some(service));
                items.into_iter().any(|item| item.decision == "run")
            };
            changes.iter().rev().find(about).map(|change| change.id.clone())
        })
    }
}

/// A WHAT as people write it: a whole commit id is cut to seven digits.
pub(crate) fn shown(text: &str) -> &str {
    match CommitId::parse(text) {
        Ok(_) => text.get(..7).unwrap_or(text),
        Err(_) => text,
    }
}

#[derive(Deserialize)]
pub struct RevQuery {
    rev: Option<String>,
    branch: Option<String>,
}

/// `GET …/plan?rev=`: what would happen for a commit; the recorded plan when it has one.
pub async fn plan(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(query): Query<RevQuery>,
) -> Answer<PlanView> {
    let project = server.project(&name)?;
    let rev = query.rev.unwrap_or_else(|| "main".into());
    let What::Commit(commit, _) = server.what(&project, &rev).await? else {
        return Err(Problem::bad(format!("`{}` is not a commit", shown(&rev))).hint("name a commit, branch or tag"));
    };
    let stages = server.road().stages();
    let branch = query.branch.as_deref().unwrap_or_else(|| branch_of(&rev, &commit));
    let info = server.as_if_pushed(&project, branch, &commit);
    let plan = stages
        .plans
        .plan(&project, &info)
        .await
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "change", error.to_string()))?;
    Ok(Json(server.plan_view(&plan)))
}

/// `POST …/plan`: what a push of a tree that was not pushed would do. The newest warning names what it was compared with.
pub async fn plan_tree(
    State(server): State<Server>,
    Path(name): Path<String>,
    Posted(asked): Posted<slipway_plan::AskedTree>,
) -> Answer<PlanView> {
    let project = server.project(&name)?;
    let planned = server.road().stages().plans.plan_tree(&project, asked).await;
    let (plan, base) =
        planned.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "change", error.to_string()))?;
    let mut view = server.plan_view(&plan);
    view.warnings.push(match base {
        Some(base) => format!("compared with {}, which was pushed", base.short()),
        None => "nothing of this project was pushed yet".into(),
    });
    Ok(Json(view))
}

/// The branch that a rev means: itself, or for a commit the usual production branch.
fn branch_of<'a>(rev: &'a str, commit: &CommitId) -> &'a str {
    if commit.as_str().starts_with(rev) || rev == "HEAD" { "main" } else { rev }
}

impl Server {
    /// A plan as people see it, with what the machine will do in a weaker way.
    fn plan_view(&self, plan: &slipway_model::plan::Plan) -> PlanView {
        let mut view = slipway_feedback::change::plan_view(plan);
        let found = std::fs::read(self.parts.data.join("run").join(slipway_ports::machine::MACHINE_FILE)).ok();
        let machine = found.and_then(|bytes| serde_json::from_slice::<slipway_ports::Machine>(&bytes).ok());
        view.warnings.extend(machine.unwrap_or_default().warnings(plan));
        view
    }

    fn as_if_pushed(&self, project: &ProjectName, branch: &str, commit: &CommitId) -> ChangeInfo {
        let reference = format!("refs/heads/{branch}");
        ChangeInfo {
            id: ChangeId::derive(project, "plan", &reference, "", commit.as_str()),
            event: "push".into(),
            production: matches!(branch, "main" | "master"),
            branch: branch.to_owned(),
            reference,
            old: None,
            commit: commit.clone(),
            author: String::new(),
            subject: String::new(),
            pusher: String::new(),
            skip: None,
            fixes: Vec::new(),
            reverts: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
pub struct HistoryQuery {
    env: Option<String>,
    service: Option<String>,
    search: Option<String>,
    limit: Option<usize>,
}

/// `GET …/history` with filter and search (R384).
pub async fn history(
    State(server): State<Server>,
    Path(name): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<Vec<HistoryLine>> {
    let project = server.project(&name)?;
    server.environment(&project, query.env.as_deref()).await?;
    if let Some(service) = &query.service {
        server.service(&project, service)?;
    }
    let lines = server
        .road()
        .look(|projection| projection.projects.get(&project).map(slipway_feedback::project::ProjectState::history));
    let wanted = |line: &HistoryLine| {
        let text = format!(
            "{} {} {} {} {} {} {} {}",
            line.lane.environment,
            line.lane.service,
            line.release,
            line.release_id,
            line.commit,
            line.result,
            line.by,
            line.reason
        );
        query.env.as_ref().is_none_or(|env| line.lane.environment.as_str() == env)
            && query.service.as_ref().is_none_or(|service| line.lane.service.as_str() == service)
            && query.search.as_ref().is_none_or(|search| text.contains(search.as_str()))
    };
    let lines = lines.unwrap_or_default().into_iter().filter(wanted).take(query.limit.unwrap_or(50)).collect();
    Ok(Json(lines))
}

/// `GET …/releases`.
pub async fn releases(
    State(server): State<Server>,
    Path(name): Path<String>,
) -> Answer<Vec<slipway_model::release::Release>> {
    let project = server.project(&name)?;
    let releases = server
        .road()
        .look(|projection| projection.projects.get(&project).map(|state| state.releases.values().cloned().collect()));
    let mut releases: Vec<slipway_model::release::Release> = releases.unwrap_or_default();
    releases.sort_by_key(|release| (release.bundle.service.clone(), release.number));
    Ok(Json(releases))
}

/// `POST /api/v1/clean-up` (R143).
pub async fn clean_up(State(server): State<Server>, Extension(caller): Extension<Caller>) -> Answer<crate::Swept> {
    server.audit(&crate::auth::system(), &caller, "clean-up", "", None).await?;
    (server.parts.clean_up)().await.map(Json).map_err(Problem::broken)
}

#[derive(Deserialize)]
pub struct SecretName {
    name: String,
    env: Option<String>,
}

#[derive(Serialize)]
pub struct SecretLine {
    key: String,
    version: u64,
    set: slipway_model::At,
    by: String,
}

/// `GET …/secrets`: names and versions.
pub async fn secrets(State(server): State<Server>, Path(name): Path<String>) -> Answer<Vec<SecretLine>> {
    let listed = server.parts.secrets.list(&server.project(&name)?).await.map_err(Problem::broken)?;
    Ok(Json(
        listed
            .into_iter()
            .map(|(key, record)| SecretLine { key, version: record.version, set: record.set, by: record.by })
            .collect(),
    ))
}

/// `PUT …/secrets?name=&env=` with the value as body.
pub async fn set_secret(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(secret): Query<SecretName>,
    value: Bytes,
) -> Answer<serde_json::Value> {
    let project = server.project(&name)?;
    let env = server.environment(&project, secret.env.as_deref()).await?;
    let good = !secret.name.is_empty()
        && secret.name.len() <= 100
        && secret.name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !good {
        return Err(Problem::bad(format!("`{}` is no name of a secret", secret.name)).hint("use A-Z, 0-9 and _"));
    }
    let version = server
        .parts
        .secrets
        .set(&project, env.as_ref(), &secret.name, &value, &caller.name, server.now())
        .await
        .map_err(Problem::broken)?;
    server.audit(&project, &caller, "secret", &secret.name, env.clone()).await?;
    let used_by = env.map(|env| server.users_of(&project, &env, &secret.name)).unwrap_or_default();
    Ok(Json(serde_json::json!({ "name": secret.name, "version": version, "used_by": used_by })))
}

/// `DELETE …/secrets?name=&env=`.
pub async fn remove_secret(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(secret): Query<SecretName>,
) -> Answer<serde_json::Value> {
    let project = server.project(&name)?;
    let env = secret
        .env
        .as_deref()
        .map(EnvironmentName::parse)
        .transpose()
        .map_err(|error| Problem::bad(error.to_string()))?;
    if !server.parts.secrets.remove(&project, env.as_ref(), &secret.name).await.map_err(Problem::broken)? {
        server.environment(&project, secret.env.as_deref()).await?;
        let place = env.map_or_else(|| "for jobs".to_owned(), |env| format!("in `{env}`"));
        return Err(
            Problem::not_found(format!("there is no secret `{}` {place}", secret.name)).hint("slipway secret ls")
        );
    }
    server.audit(&project, &caller, "secret", &secret.name, env).await?;
    Ok(Json(serde_json::json!({ "name": secret.name })))
}

impl Server {
    /// Services that serve in an environment and are given a secret.
    fn users_of(&self, project: &ProjectName, env: &EnvironmentName, name: &str) -> Vec<String> {
        self.road().look(|projection| {
            let Some(state) = projection.projects.get(project) else { return Vec::new() };
            let given = |lane: &&slipway_feedback::lane::LaneState| {
                let serving = lane.current.as_ref().and_then(|id| state.releases.get(id));
                let config = serving.and_then(|release| release.bundle.environment(env));
                &lane.lane.environment == env
                    && config.is_some_and(|config| config.secrets.iter().any(|known| known == name))
            };
            state.lanes.values().filter(given).map(|lane| lane.lane.service.to_string()).collect()
        })
    }

    async fn audit(
        &self,
        project: &ProjectName,
        caller: &Caller,
        verb: &str,
        what: &str,
        environment: Option<EnvironmentName>,
    ) -> Result<(), Problem> {
        let command = crate::commands::bare(verb, what, environment);
        self.road()
            .give(project, &slipway_model::Actor(caller.name.clone()), None, command)
            .await
            .map_err(Problem::broken)
            .map(drop)
    }
}

/// `GET /api/v1/tokens`.
pub async fn tokens(State(server): State<Server>) -> Json<Vec<crate::TokenRecord>> {
    Json(server.parts.auth.list())
}

#[derive(Deserialize)]
pub struct NewToken {
    name: String,
    rights: Vec<Right>,
    project: Option<ProjectName>,
    days: Option<u64>,
}

/// `POST /api/v1/tokens`: the answer holds the token, once.
pub async fn make_token(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Posted(new): Posted<NewToken>,
) -> Answer<serde_json::Value> {
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ' '));
    if new.name.is_empty() || new.name.len() > NAME_BYTES || !plain(&new.name) {
        return Err(Problem::bad("a token's name is 1 to 100 letters, digits, blanks and - _ . @"));
    }
    if new.rights.is_empty() || new.days.is_some_and(|days| days == 0 || days > DAYS) {
        return Err(Problem::bad("a token needs at least one right, and `days` from 1 to 3650 when it is to end"));
    }
    if let Some(right) = new.rights.iter().find(|right| !caller.rights.contains(right)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "right",
            format!("`{}` cannot give the right {right:?}, which it does not have", caller.name),
        ));
    }
    let made = server.parts.auth.make(&new.name, &new.rights, new.project, server.now(), new.days).await;
    let (token, record) = made.map_err(Problem::broken)?;
    server.audit(&crate::auth::system(), &caller, "token-add", &new.name, None).await?;
    Ok(Json(serde_json::json!({ "token": token, "record": record })))
}

/// `DELETE /api/v1/tokens/{id}`.
pub async fn remove_token(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<serde_json::Value> {
    if !server.parts.auth.remove(&id).await.map_err(Problem::broken)? {
        return Err(Problem::not_found(format!("there is no token `{id}`")).hint("slipway token ls"));
    }
    server.audit(&crate::auth::system(), &caller, "token-rm", &id, None).await?;
    Ok(Json(serde_json::json!({ "id": id })))
}
