//! The route table: every path with its method and the verb that the table of rights knows.
//!
//! In: nothing. Out: the router. Never: a path that is not in [`TABLE`]; a handler that is reached without the right.

use crate::{Caller, Problem, Server};
use crate::{api, commands, events, git, logs, metrics, openapi, pages, why};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use http::{HeaderMap, StatusCode, header};
use slipway_model::ProjectName;
use std::collections::BTreeMap;

/// Open to everybody: says nothing about anything.
pub const OPEN: &str = "open";

/// A tree of 100,000 files, listed, with its manifests.
const TREE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// The path with parameters.
    pub path: &'static str,
    /// The verb of `slipway_change::rights`, or [`OPEN`].
    pub verb: &'static str,
    /// What it does, for the OpenAPI document.
    pub what: &'static str,
}

const fn route(method: &'static str, path: &'static str, verb: &'static str, what: &'static str) -> Route {
    Route { method, path, verb, what }
}

/// All routes but the registry's, which asks through its own hook, and Git's, which asks by service.
pub const TABLE: [Route; 37] = [
    route("GET", "/healthz", OPEN, "alive"),
    route("GET", "/readyz", OPEN, "able to work"),
    route("GET", "/metrics", "metrics", "figures in Prometheus' text format"),
    route("GET", "/", "page", "home"),
    route("GET", "/login", OPEN, "sign in with a one-time code"),
    route("GET", "/p/{project}", "page", "one project"),
    route("GET", "/p/{project}/history", "page", "what was deployed when, with filter and search"),
    route("GET", "/p/{project}/e/{environment}", "page", "one environment"),
    route("GET", "/p/{project}/s/{service}", "page", "one service"),
    route("GET", "/p/{project}/c/{commit}", "page", "one commit on the road"),
    route("GET", "/p/{project}/c/{commit}/job/{*job}", "page", "a job with its log"),
    route("GET", "/p/{project}/c/{commit}/log/{*job}", "logs", "lines of a job for its page, as they come"),
    route("GET", "/live", "page", "what keeps a page alive"),
    route("GET", "/assets/{build}/{file}", OPEN, "files of the pages"),
    route("GET", "/theme", OPEN, "light or dark, in this browser"),
    route("GET", "/api/v1/openapi.json", OPEN, "this document"),
    route("GET", "/api/v1/events", "events", "the event log as server-sent events, resumable by `after`"),
    route("GET", "/api/v1/whoami", "status", "the caller's name and rights"),
    route("POST", "/api/v1/login", "status", "a one-time link for a browser"),
    route("GET", "/api/v1/projects", "status", "projects"),
    route("POST", "/api/v1/projects", "admin", "make a project"),
    route("GET", "/api/v1/projects/{project}/status", "status", "where things are"),
    route("GET", "/api/v1/projects/{project}/changes/{change}", "status", "one change, by id or commit"),
    route("GET", "/api/v1/projects/{project}/plan", "plan", "what would happen for a commit"),
    route("POST", "/api/v1/projects/{project}/plan", "plan", "what a push of a tree would do"),
    route("GET", "/api/v1/projects/{project}/history", "history", "what was deployed when, by whom"),
    route("GET", "/api/v1/projects/{project}/why", "why", "why something ran, waits, failed or was taken back"),
    route("GET", "/api/v1/projects/{project}/logs", "logs", "lines of a job or service"),
    route("GET", "/api/v1/projects/{project}/releases", "status", "releases of all services"),
    route("POST", "/api/v1/projects/{project}/commands", "status", "a command; the verb needs its own right"),
    route("GET", "/api/v1/projects/{project}/secrets", "secret", "names and versions of secrets"),
    route("PUT", "/api/v1/projects/{project}/secrets", "secret", "set a secret"),
    route("DELETE", "/api/v1/projects/{project}/secrets", "secret", "remove a secret"),
    route("POST", "/api/v1/clean-up", "admin", "remove what nothing refers to any more"),
    route("GET", "/api/v1/tokens", "admin", "tokens, without their values"),
    route("POST", "/api/v1/tokens", "admin", "make a token"),
    route("DELETE", "/api/v1/tokens/{id}", "admin", "remove a token"),
];

fn handler(route: &Route) -> Option<MethodRouter<Server>> {
    Some(match (route.method, route.path) {
        ("GET", "/healthz") => get(api::healthy),
        ("GET", "/readyz") => get(api::ready),
        ("GET", "/metrics") => get(metrics::metrics),
        ("GET", "/") => get(pages::home),
        ("GET", "/login") => get(pages::login),
        ("GET", "/p/{project}") => get(pages::project),
        ("GET", "/p/{project}/history") => get(pages::history),
        ("GET", "/p/{project}/e/{environment}") => get(pages::environment),
        ("GET", "/p/{project}/s/{service}") => get(pages::service),
        ("GET", "/p/{project}/c/{commit}") => get(pages::commit),
        ("GET", "/p/{project}/c/{commit}/job/{*job}") => get(pages::job),
        ("GET", "/p/{project}/c/{commit}/log/{*job}") => get(pages::stream),
        ("GET", "/live") => get(pages::live),
        ("GET", "/assets/{build}/{file}") => get(pages::asset),
        ("GET", "/theme") => get(pages::theme),
        ("GET", "/api/v1/openapi.json") => get(openapi::document),
        ("GET", "/api/v1/events") => get(events::events),
        ("GET", "/api/v1/whoami") => get(api::whoami),
        ("POST", "/api/v1/login") => post(api::login),
        ("GET", "/api/v1/projects") => get(api::projects),
        ("POST", "/api/v1/projects") => post(api::make_project),
        ("GET", "/api/v1/projects/{project}/status") => get(api::status),
        ("GET", "/api/v1/projects/{project}/changes/{change}") => get(api::change),
        ("GET", "/api/v1/projects/{project}/plan") => get(api::plan),
        ("POST", "/api/v1/projects/{project}/plan") => {
            post(api::plan_tree).layer(DefaultBodyLimit::max(TREE_BYTES_MAX))
        }
        ("GET", "/api/v1/projects/{project}/history") => get(api::history),
        ("GET", "/api/v1/projects/{project}/why") => get(why::why),
        ("GET", "/api/v1/projects/{project}/logs") => get(logs::logs),
        ("GET", "/api/v1/projects/{project}/releases") => get(api::releases),
        ("POST", "/api/v1/projects/{project}/commands") => post(commands::command),
        ("GET", "/api/v1/projects/{project}/secrets") => get(api::secrets),
        ("PUT", "/api/v1/projects/{project}/secrets") => put(api::set_secret),
        ("DELETE", "/api/v1/projects/{project}/secrets") => delete(api::remove_secret),
        ("POST", "/api/v1/clean-up") => post(api::clean_up),
        ("GET", "/api/v1/tokens") => get(api::tokens),
        ("POST", "/api/v1/tokens") => post(api::make_token),
        ("DELETE", "/api/v1/tokens/{id}") => delete(api::remove_token),
        _ => return None,
    })
}

/// The router over the table.
pub fn router(server: &Server) -> Router {
    let mut router = Router::new();
    for entry in &TABLE {
        let Some(handler) = handler(entry) else { continue };
        let guard = from_fn_with_state((server.clone(), *entry), guard);
        router = router.route(entry.path, handler.route_layer(guard));
    }
    router
        .route("/git/{project}/{*rest}", axum::routing::any(git::git))
        .fallback(|| async {
            Problem::not_found("there is nothing at this address").hint("GET /api/v1/openapi.json lists what there is")
        })
        .with_state(server.clone())
        .merge(server.parts.registry.clone())
        .layer(from_fn_with_state(server.clone(), host))
}

/// A request is only answered under a name this server was told it has: a page on another name that resolves here
/// (DNS rebinding) gets nothing.
async fn host(State(server): State<Server>, request: Request, next: Next) -> Response {
    let name = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_ours(name, &server.parts.hosts) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", format!("this server is not called `{name}`"))
        .hint("call it by its address, or start it with `--http` on the name it has")
        .into_response()
}

/// Whether a Host header names this server.
#[must_use]
pub fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || name == "localhost" || hosts.contains(&name)
}

async fn guard(
    State((server, route)): State<(Server, Route)>,
    Path(parameters): Path<BTreeMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Response {
    if route.verb == OPEN {
        return next.run(request).await;
    }
    let project = parameters.get("project").and_then(|name| ProjectName::parse(name).ok());
    match allowed(&server, request.headers(), route.verb, project.as_ref(), route.method) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) if is_page(&route) => {
            let look = pages::Look::of(request.headers());
            if problem.status == 401 { pages::sign_in(&look) } else { pages::refused(&look, &problem) }
        }
        Err(problem) => problem.into_response(),
    }
}

/// Whether a person reads the answer, and no script.
fn is_page(route: &Route) -> bool {
    route.verb == "page" && route.path != "/live"
}

/// The caller, if they may.
pub(crate) fn allowed(
    server: &Server,
    headers: &HeaderMap,
    verb: &str,
    project: Option<&ProjectName>,
    method: &str,
) -> Result<Caller, Problem> {
    let Some(caller) = server.parts.auth.caller(headers, server.now()) else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "no valid token")
            .hint("set SLIPWAY_TOKEN, or read the first token from `token` in the data folder"));
    };
    if caller.browser && method != "GET" {
        return Err(Problem::new(StatusCode::FORBIDDEN, "browser", "a browser's session may only look")
            .hint("use the command that the page shows"));
    }
    if !caller.may(verb, project) {
        let needed =
            slipway_change::rights::needed(verb).map(|right| format!("{right:?}").to_lowercase()).unwrap_or_default();
        let act = match verb {
            "secret" => "handle secrets",
            "admin" => "administer",
            "page" | "status" => "look",
            verb => verb,
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, "right", format!("`{}` may not {act} here", caller.name))
            .hint(format!("it needs the right `{needed}`: `slipway token add NAME --rights {needed}`")));
    }
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_handler_and_a_right() {
        for route in &TABLE {
            assert!(handler(route).is_some(), "{route:?}");
            assert!(route.verb == OPEN || slipway_change::rights::needed(route.verb).is_some(), "{route:?}");
        }
    }

    #[test]
    fn only_its_own_names_are_answered() {
        let hosts = ["ci.example.com".to_owned()];
        for good in ["127.0.0.1:8400", "localhost", "[::1]:80", "CI.example.com:443"] {
            assert!(is_ours(good, &hosts), "{good}");
        }
        for bad in ["evil.example.com", "10.0.0.1", "", "localhost.evil.com:80"] {
            assert!(!is_ours(bad, &hosts), "{bad}");
        }
    }
}
