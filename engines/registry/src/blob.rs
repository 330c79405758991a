//! Blobs by digest.
//!
//! In: GET and HEAD of a blob, with or without a range. Out: its bytes from the file.
//! Never: a blob that the repository does not refer to and that was not just pushed to it.

use std::ops::RangeInclusive;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::request::Parts;
use http::{Method, StatusCode};
use slipway_blobs::Digest;

use crate::reply::Refusal;
use crate::route::{Answer, blocking};
use crate::{Registry, Repository, body};

pub(crate) async fn get(registry: &Registry, parts: &Parts, repository: Repository, digest: &str) -> Answer {
    let digest = read_digest(digest)?;
    let is_head = parts.method == Method::HEAD;
    let of = registry.clone();
    let (file, size) = blocking(move || {
        if !of.sees(&repository, &digest)? {
            return Err(Refusal::blob_unknown(&digest));
        }
        let lease = of.inner.blobs.lease(&digest)?.ok_or_else(|| Refusal::blob_unknown(&digest))?;
        let opened = (of.inner.blobs.open_file(&digest)?, of.inner.blobs.size(&digest)?);
        if is_head {
            // A push asks so before it leaves the blob out.
            of.inner.held.hold(&repository, lease, Instant::now(), &of.inner.limits);
        }
        Ok(opened)
    })
    .await?;
    let response = Response::builder()
        .header("docker-content-digest", digest.to_string())
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes");
    if is_head {
        return built(response.header(CONTENT_LENGTH, size), Body::empty());
    }
    let range = parts.headers.get(RANGE).and_then(|value| value.to_str().ok());
    match range.map_or(Wanted::Whole, |range| read_range(range, size)) {
        Wanted::Whole => {
            let body = body::of_file(file, 0, size).await.map_err(Refusal::failed)?;
            built(response.header(CONTENT_LENGTH, size), body)
        }
        Wanted::Part(range) => {
            let (start, end) = range.into_inner();
            let body = body::of_file(file, start, end - start + 1).await.map_err(Refusal::failed)?;
            let response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {start}-{end}/{size}"))
                .header(CONTENT_LENGTH, end - start + 1);
            built(response, body)
        }
        Wanted::Nothing => {
            let message = format!("the blob has only {size} bytes");
            Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
                .header(CONTENT_RANGE, &format!("bytes */{size}")))
        }
    }
}

impl Registry {
    /// Whether the repository has the blob: a manifest names it, or it was just pushed there.
    pub(crate) fn sees(&self, repository: &Repository, digest: &Digest) -> Result<bool, Box<Refusal>> {
        if self.inner.held.holds(repository, digest, Instant::now()) {
            return Ok(true);
        }
        self.inner.index.has_blob(repository, digest).map_err(Refusal::index)
    }
}

pub(crate) fn read_digest(text: &str) -> Result<Digest, Box<Refusal>> {
    text.parse().map_err(|error: slipway_blobs::ParseDigestError| Refusal::bad("DIGEST_INVALID", error.to_string()))
}

pub(crate) fn built(response: http::response::Builder, body: Body) -> Answer {
    response.body(body).map_err(Refusal::failed)
}

enum Wanted {
    Whole,
    Part(RangeInclusive<u64>),
    Nothing,
}

/// One range of bytes (RFC 9110, section 14.1.2). What cannot be read, and several ranges, are
/// ignored, as the section says.
fn read_range(text: &str, size: u64) -> Wanted {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    let range = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => Some((first, size.saturating_sub(1))),
        (Ok(first), last) => last.parse().ok().map(|last: u64| (first, last.min(size.saturating_sub(1)))),
        (Err(_), last) if first.trim().is_empty() => {
            let length = last.parse::<u64>().ok();
            length.map(|length| match length {
                0 => (size, size),
                length => (size.saturating_sub(length), size.saturating_sub(1)),
            })
        }
        (Err(_), _) => None,
    };
    match range {
        None => Wanted::Whole,
        Some((first, _)) if first >= size => Wanted::Nothing,
        Some((first, last)) if first <= last => Wanted::Part(first..=last),
        Some(_) => Wanted::Whole,
    }
}
