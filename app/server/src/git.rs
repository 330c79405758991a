//! Git over smart HTTP: who may, and that a push to an unknown name makes the project.
//!
//! In: requests below `/git/`. Out: what `git` answers. Never: the protocol itself, which is `engines/git`.

use crate::routes::allowed;
use crate::{Problem, Server};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use slipway_git::{Endpoint, Pusher, Service};
use slipway_model::ProjectName;

/// Any request below `/git/PROJECT.git/`.
pub async fn git(
    State(server): State<Server>,
    Path((folder, rest)): Path<(String, String)>,
    request: Request,
) -> Response {
    match serve(&server, &folder, &rest, request).await {
        Ok(response) => response,
        Err(problem) => refused(problem),
    }
}

async fn serve(server: &Server, folder: &str, rest: &str, request: Request) -> Result<Response, Problem> {
    let text = folder.strip_suffix(".git").unwrap_or(folder);
    let project = ProjectName::parse(text).map_err(|error| Problem::bad(error.to_string()))?;
    let endpoint = Endpoint::parse(request.method(), rest, request.uri().query());
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let verb = match endpoint.service() {
        Service::UploadPack => "pull",
        Service::ReceivePack => "push",
    };
    // A browser sends its cookie to whoever asks for it: Git is spoken with tokens only.
    let caller = allowed(server, request.headers(), verb, Some(&project), "POST")?;
    let name = slipway_git::ProjectName::parse(project.as_str()).map_err(|error| Problem::bad(error.to_string()))?;
    if !server.parts.git.exists(&name) {
        make(server, &caller, &project, &name, verb).await?;
    }
    let (parts, body) = request.into_parts();
    let pusher = Pusher { name: caller.name };
    Ok(server.parts.git.serve(&name, endpoint, &parts.headers, Body::new(body), &pusher).await.into_response())
}

/// A push to an unknown name makes the project, when the token may do that.
async fn make(
    server: &Server,
    caller: &crate::Caller,
    project: &ProjectName,
    name: &slipway_git::ProjectName,
    verb: &str,
) -> Result<(), Problem> {
    if verb != "push" || project == &crate::auth::system() {
        return Err(Problem::not_found(format!("there is no project `{project}`")).hint("push to it to make it"));
    }
    if !caller.may("admin", Some(project)) {
        return Err(Problem::not_found(format!(
            "there is no project `{project}`, and `{}` may not make one",
            caller.name
        ))
        .hint("ask somebody with the right `admin` to push first"));
    }
    server.parts.git.create(name).await.map_err(|error| Problem::broken(error.to_string()))
}

/// Git shows the body of an error only as text, and asks for a password only with this header.
fn refused(problem: Problem) -> Response {
    let status = http::StatusCode::from_u16(problem.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let text = if problem.hint.is_empty() {
        format!("{}\n", problem.detail)
    } else {
        format!("{}\nhint: {}\n", problem.detail, problem.hint)
    };
    let mut response = (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    if status == http::StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Basic realm=\"slipway\""));
    }
    response
}
