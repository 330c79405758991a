//! Pushing blobs: at once, in one piece after POST, in pieces, or by naming another repository.
//!
//! In: POST, PATCH, PUT, GET and DELETE under `blobs/uploads/`. Out: the blob in the store, held for
//! the manifest to come. Never: a piece that does not continue where the last one ended.
//!
//! OCI distribution specification, "Pushing blobs".

use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use slipway_blobs::{Digest, Writer};
use tokio::sync::OwnedMutexGuard;

use crate::auth::Action;
use crate::blob::{built, read_digest};
use crate::body::receive;
use crate::reply::Refusal;
use crate::route::{Answer, blocking, query};
use crate::sessions::NoSession;
use crate::{Registry, Repository};

pub(crate) async fn post(registry: &Registry, parts: &Parts, body: Body, repository: Repository) -> Answer {
    let query = query(parts)?;
    if let Some(digest) = query.get("mount") {
        let digest = read_digest(digest)?;
        let from = query.get("from").and_then(|from| from.parse::<Repository>().ok());
        let may_read = |from: &Repository| registry.inner.authorize.allow(parts, Some(from), Action::Pull).is_ok();
        let from = from.filter(may_read);
        if mount(registry, from, repository.clone(), digest).await? {
            return created(&repository, &digest);
        }
        // "If the registry cannot mount, it answers as if an upload was to begin."
    }
    let name = format!("push to {repository}");
    let of = registry.clone();
    let writer = blocking(move || Ok(of.inner.blobs.writer(name)?)).await?;
    if let Some(digest) = query.get("digest") {
        let digest = read_digest(digest)?;
        let of = registry.clone();
        let (writer, received) = unless_dropped(async move { receive(body, writer, &of.inner.limits).await }).await?;
        received?;
        if let Some(writer) = writer {
            commit(registry, repository.clone(), writer, digest).await?;
        }
        return created(&repository, &digest);
    }
    let limits = &registry.inner.limits;
    let id = registry.inner.sessions.begin(&repository, writer, Instant::now(), limits);
    match id {
        Some(id) => accepted(&repository, &id, 0),
        None => {
            let message = format!("{} uploads are under way already; try again later", limits.uploads_max);
            Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message))
        }
    }
}

pub(crate) fn status(registry: &Registry, repository: &Repository, id: &str) -> Answer {
    let upload = open(registry, repository, id)?;
    let size = upload.as_ref().map_or(0, Writer::size_bytes);
    let response = progress(repository, id, size).status(StatusCode::NO_CONTENT);
    built(response, Body::empty())
}

pub(crate) fn delete(registry: &Registry, repository: &Repository, id: &str) -> Answer {
    drop(open(registry, repository, id)?);
    registry.inner.sessions.end(id);
    built(Response::builder().status(StatusCode::NO_CONTENT), Body::empty())
}

pub(crate) async fn patch(
    registry: &Registry,
    parts: &Parts,
    body: Body,
    repository: Repository,
    id: String,
) -> Answer {
    let upload = open(registry, &repository, &id)?;
    check_range(parts, &upload, &repository, &id)?;
    let (_, size) = append(registry, upload, body, &id).await?;
    accepted(&repository, &id, size)
}

pub(crate) async fn put(registry: &Registry, parts: &Parts, body: Body, repository: Repository, id: String) -> Answer {
    let query = query(parts)?;
    let Some(digest) = query.get("digest") else {
        return Err(Refusal::bad("DIGEST_INVALID", "the end of an upload needs `?digest=`"));
    };
    let digest = read_digest(digest)?;
    let upload = open(registry, &repository, &id)?;
    check_range(parts, &upload, &repository, &id)?;
    let (mut upload, _) = append(registry, upload, body, &id).await?;
    let writer = upload.take();
    registry.inner.sessions.end(&id);
    let writer = writer.ok_or_else(|| unknown(&id))?;
    commit(registry, repository.clone(), writer, digest).await?;
    created(&repository, &digest)
}

type Open = OwnedMutexGuard<Option<Writer>>;

fn open(registry: &Registry, repository: &Repository, id: &str) -> Result<Open, Box<Refusal>> {
    let opened = registry.inner.sessions.open(repository, id, Instant::now());
    opened.map_err(|error| match error {
        NoSession::Unknown => unknown(id),
        NoSession::Busy => {
            let message = "another request is writing to this upload";
            Refusal::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message)
        }
    })
}

fn unknown(id: &str) -> Box<Refusal> {
    let id: String = id.chars().take(64).collect();
    let message = format!("there is no upload `{id}` here; begin a new one");
    Refusal::not_found("BLOB_UPLOAD_UNKNOWN", message)
}

/// Adds the body to the upload. It goes on when the client is gone, so that what came is kept.
async fn append(registry: &Registry, mut upload: Open, body: Body, id: &str) -> Result<(Open, u64), Box<Refusal>> {
    let Some(writer) = upload.take() else {
        return Err(unknown(id));
    };
    let of = registry.clone();
    let ended = id.to_owned();
    let received = unless_dropped(async move {
        let (writer, received) = receive(body, writer, &of.inner.limits).await;
        if writer.is_none() {
            of.inner.sessions.end(&ended);
        }
        *upload = writer;
        (upload, received)
    });
    let (upload, received) = received.await?;
    received?;
    let size = upload.as_ref().map_or(0, Writer::size_bytes);
    Ok((upload, size))
}

/// A request whose client goes away is dropped in the middle; this is not.
async fn unless_dropped<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Box<Refusal>> {
    tokio::spawn(work).await.map_err(Refusal::failed)
}

/// A piece with `Content-Range: START-END` has to begin where the last one ended.
fn check_range(parts: &Parts, upload: &Open, repository: &Repository, id: &str) -> Result<(), Box<Refusal>> {
    let Some(range) = parts.headers.get(CONTENT_RANGE) else {
        return Ok(());
    };
    let size = upload.as_ref().map_or(0, Writer::size_bytes);
    let range = range.to_str().ok().and_then(|range| {
        let (start, end) = range.split_once('-')?;
        Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()?))
    });
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let fits = |(start, end): (u64, u64)| {
        let is_length = |length| end.checked_sub(start).and_then(|less| less.checked_add(1)) == Some(length);
        start == size && end >= start && length.is_none_or(is_length)
    };
    if range.is_some_and(fits) {
        return Ok(());
    }
    let message = format!("the upload has {size} bytes; the next piece has to begin there");
    Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
        .header(LOCATION, &location(repository, id))
        .header(RANGE, &range_text(size)))
}

async fn mount(
    registry: &Registry,
    from: Option<Repository>,
    to: Repository,
    digest: Digest,
) -> Result<bool, Box<Refusal>> {
    let of = registry.clone();
    blocking(move || {
        let is_there = of.sees(&to, &digest)?;
        let may = match from {
            Some(from) if !is_there => of.sees(&from, &digest)?,
            Some(_) | None => is_there,
        };
        if !may {
            return Ok(false);
        }
        let Some(lease) = of.inner.blobs.lease(&digest)? else {
            return Ok(false);
        };
        of.inner.held.hold(&to, lease, Instant::now(), &of.inner.limits);
        Ok(true)
    })
    .await
}

async fn commit(
    registry: &Registry,
    repository: Repository,
    writer: Writer,
    digest: Digest,
) -> Result<(), Box<Refusal>> {
    let of = registry.clone();
    blocking(move || {
        let stored = writer.commit_as(&digest)?;
        of.inner.held.hold(&repository, stored.lease, Instant::now(), &of.inner.limits);
        Ok(())
    })
    .await
}

fn created(repository: &Repository, digest: &Digest) -> Answer {
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(LOCATION, format!("/v2/{repository}/blobs/{digest}"))
        .header("docker-content-digest", digest.to_string())
        .header(CONTENT_LENGTH, 0);
    built(response, Body::empty())
}

fn accepted(repository: &Repository, id: &str, size: u64) -> Answer {
    let response = progress(repository, id, size).status(StatusCode::ACCEPTED).header(CONTENT_LENGTH, 0);
    built(response, Body::empty())
}

fn progress(repository: &Repository, id: &str, size: u64) -> http::response::Builder {
    Response::builder()
        .header(LOCATION, location(repository, id))
        .header(RANGE, range_text(size))
        .header("docker-upload-uuid", id)
}

fn location(repository: &Repository, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// The specification has no word for "nothing yet"; every registry says `0-0`.
fn range_text(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}
