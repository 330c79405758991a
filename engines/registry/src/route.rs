//! Reads addresses and hands requests on.
//!
//! In: requests under `/v2`. Out: responses. Never: a handler before leave was given.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::any;
use http::header::{ALLOW, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::auth::Action;
use crate::reply::Refusal;
use crate::{Registry, Repository, blob, listing, manifest, upload};

/// Answers of the registry: a response, or a refusal in a box (it is large and rare).
pub(crate) type Answer = Result<Response, Box<Refusal>>;

/// The registry's routes, from `/v2/` on. Merge it into the server's router as it is.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/v2", any(serve))
        .route("/v2/", any(serve))
        .route("/v2/{*rest}", any(serve))
        .with_state(registry)
}

/// What an address names.
enum Target {
    Root,
    Catalog,
    Tags(Repository),
    Manifest(Repository, String),
    Blob(Repository, String),
    Uploads(Repository),
    Upload(Repository, String),
}

async fn serve(State(registry): State<Registry>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = answer(&registry, parts, body).await;
    let mut response = answer.unwrap_or_else(|refusal| refusal.into_response());
    let version = HeaderValue::from_static("registry/2.0");
    let name = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(name, version);
    response
}

async fn answer(registry: &Registry, parts: Parts, body: Body) -> Answer {
    let action = match parts.method {
        Method::GET | Method::HEAD => Action::Pull,
        _ => Action::Push,
    };
    let target = read_target(parts.uri.path());
    // Strangers learn nothing about addresses either.
    let repository = target.as_ref().ok().and_then(Target::repository);
    let allowed = registry.inner.authorize.allow(&parts, repository, action);
    allowed.map_err(Refusal::challenge)?;
    let method = parts.method.clone();
    match (method, target?) {
        (Method::GET | Method::HEAD, Target::Root) => Ok(Response::new(Body::from("{}"))),
        (Method::GET, Target::Catalog) => listing::catalog(registry, &parts).await,
        (Method::GET, Target::Tags(repository)) => listing::tags(registry, &parts, repository).await,
        (Method::GET | Method::HEAD, Target::Manifest(repository, reference)) => {
            manifest::get(registry, &parts, repository, &reference).await
        }
        (Method::PUT, Target::Manifest(repository, reference)) => {
            manifest::put(registry, &parts, body, repository, &reference).await
        }
        (Method::GET | Method::HEAD, Target::Blob(repository, digest)) => {
            blob::get(registry, &parts, repository, &digest).await
        }
        (Method::POST, Target::Uploads(repository)) => upload::post(registry, &parts, body, repository).await,
        (Method::GET, Target::Upload(repository, id)) => upload::status(registry, &repository, &id),
        (Method::PATCH, Target::Upload(repository, id)) => upload::patch(registry, &parts, body, repository, id).await,
        (Method::PUT, Target::Upload(repository, id)) => upload::put(registry, &parts, body, repository, id).await,
        (Method::DELETE, Target::Upload(repository, id)) => upload::delete(registry, &repository, &id),
        (_, target) => Err(target.unsupported()),
    }
}

impl Target {
    fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Root | Self::Catalog => None,
            Self::Tags(repository)
            | Self::Uploads(repository)
            | Self::Manifest(repository, _)
            | Self::Blob(repository, _)
            | Self::Upload(repository, _) => Some(repository),
        }
    }

    fn unsupported(&self) -> Box<Refusal> {
        let (allow, message) = match self {
            Self::Root => ("GET, HEAD", "this address can only be read"),
            Self::Catalog | Self::Tags(_) => ("GET", "this address can only be read"),
            Self::Manifest(..) => (
                "GET, HEAD, PUT",
                "images are not deleted over this protocol; `slipway image rm` obeys what runs and what may be rolled back to",
            ),
            Self::Blob(..) => ("GET, HEAD", "blobs are removed by the clean-up when nothing refers to them"),
            Self::Uploads(_) => ("POST", "an upload begins with POST"),
            Self::Upload(..) => ("GET, PATCH, PUT, DELETE", "an upload goes on with PATCH and ends with PUT"),
        };
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).header(ALLOW, allow)
    }
}

fn read_target(path: &str) -> Result<Target, Box<Refusal>> {
    let path = decode(path).ok_or_else(|| Refusal::bad("NAME_INVALID", "the address is not UTF-8"))?;
    let rest = path.strip_prefix("/v2").unwrap_or(&path);
    let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    let named = |parts: &[&str]| -> Result<Repository, Box<Refusal>> {
        let name = parts.join("/");
        name.parse().map_err(|error| Refusal::name("NAME_INVALID", error))
    };
    Ok(match parts.as_slice() {
        [""] => Target::Root,
        ["_catalog"] => Target::Catalog,
        [name @ .., "tags", "list"] => Target::Tags(named(name)?),
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => Target::Uploads(named(name)?),
        [name @ .., "blobs", "uploads", id] => Target::Upload(named(name)?, (*id).to_owned()),
        [name @ .., "blobs", digest] => Target::Blob(named(name)?, (*digest).to_owned()),
        [name @ .., "manifests", reference] => Target::Manifest(named(name)?, (*reference).to_owned()),
        // Also `referrers`: 404 tells clients to use the tag scheme instead.
        _ => return Err(Refusal::not_found("UNSUPPORTED", "there is nothing at this address")),
    })
}

/// Replaces `%3A` and the like (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The query of a request; the last one of a name counts.
pub(crate) fn query(parts: &Parts) -> Result<HashMap<String, String>, Box<Refusal>> {
    let read = Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
    read.map(|query| query.0).map_err(|_| Refusal::bad("UNSUPPORTED", "the query cannot be read"))
}

/// Runs what blocks on the disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Box<Refusal>> + Send + 'static,
) -> Result<T, Box<Refusal>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Refusal::failed(error)),
    }
}
