//! Manifests by tag and digest.
//!
//! In: GET, HEAD and PUT of a manifest. Out: its bytes, exactly as they were pushed.
//! Never: a manifest whose parts are not here; a tag that is moved (R125); `latest` (R123).

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use slipway_blobs::{Digest, Lease};

use crate::blob::{built, read_digest};
use crate::body::collect;
use crate::index::{ManifestRecord, Published};
use crate::reply::Refusal;
use crate::route::{Answer, blocking};
use crate::{Registry, Repository, Tag};

const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// The last part of a manifest's address.
enum Reference {
    Tag(Tag),
    Digest(Digest),
}

fn read_reference(text: &str) -> Result<Reference, Box<Refusal>> {
    match text.contains(':') {
        true => read_digest(text).map(Reference::Digest),
        false => {
            let tag = text.parse().map_err(|error| Refusal::name("TAG_INVALID", error))?;
            Ok(Reference::Tag(tag))
        }
    }
}

pub(crate) async fn get(registry: &Registry, parts: &Parts, repository: Repository, reference: &str) -> Answer {
    let wanted = read_reference(reference)?;
    let of = registry.clone();
    let limit = registry.inner.limits.manifest_bytes_max as u64;
    let unknown = {
        let reference: String = reference.chars().take(200).collect();
        let message = format!("there is no manifest `{reference}` in `{repository}`");
        move || Refusal::not_found("MANIFEST_UNKNOWN", message.clone())
    };
    let (record, bytes) = blocking(move || {
        let digest = match wanted {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) => {
                let found = of.inner.index.get_tag(&repository, &tag).map_err(Refusal::index)?;
                found.ok_or_else(&unknown)?
            }
        };
        let record = of.inner.index.get_manifest(&repository, &digest).map_err(Refusal::index)?;
        let record = record.ok_or_else(&unknown)?;
        let bytes = of.inner.blobs.read(&digest, limit)?;
        Ok((record, bytes))
    })
    .await?;
    let response = Response::builder()
        .header(CONTENT_TYPE, record.media_type)
        .header(CONTENT_LENGTH, bytes.len())
        .header("docker-content-digest", record.digest.to_string());
    match parts.method {
        Method::HEAD => built(response, Body::empty()),
        _ => built(response, Body::from(bytes)),
    }
}

pub(crate) async fn put(
    registry: &Registry,
    parts: &Parts,
    body: Body,
    repository: Repository,
    reference: &str,
) -> Answer {
    let wanted = read_reference(reference)?;
    let limits = &registry.inner.limits;
    let bytes = collect(body, limits.manifest_bytes_max, limits.body_idle).await?;
    let media_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let read = read(&bytes, media_type).map_err(|message| Refusal::bad("MANIFEST_INVALID", message))?;
    let of = registry.clone();
    let name = repository.clone();
    let digest = blocking(move || of.store(&name, &wanted, &read, &bytes)).await?;
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(LOCATION, format!("/v2/{repository}/manifests/{digest}"))
        .header("docker-content-digest", digest.to_string())
        .header(CONTENT_LENGTH, 0);
    built(response, Body::empty())
}

impl Registry {
    fn store(
        &self,
        repository: &Repository,
        wanted: &Reference,
        read: &Read,
        bytes: &Bytes,
    ) -> Result<Digest, Box<Refusal>> {
        let digest = Digest::of(bytes);
        let tags = match wanted {
            Reference::Tag(tag) => vec![tag.clone()],
            Reference::Digest(announced) if *announced == digest => Vec::new(),
            Reference::Digest(announced) => {
                let message = format!("the address says `{announced}`, the manifest hashes to `{digest}`");
                return Err(Refusal::bad("DIGEST_INVALID", message));
            }
        };
        // Held until the index refers to them.
        let leases = self.lease_parts(repository, read)?;
        let stored = self.inner.blobs.put_bytes(format!("manifest for {repository}"), bytes)?;
        let record = read.record(digest, bytes.len());
        let published = self.inner.index.publish(repository, &record, &tags).map_err(Refusal::index)?;
        drop((leases, stored));
        match published {
            Published::New | Published::Same => {
                self.inner.held.release(repository, &read.references);
                Ok(digest)
            }
            Published::TagTaken { tag, holds } => {
                let message = format!(
                    "tag `{tag}` of `{repository}` names `{holds}` and tags never change; push under a new tag"
                );
                let detail = json!({ "tag": tag, "holds": holds, "pushed": digest });
                Err(Refusal::new(StatusCode::CONFLICT, "TAG_INVALID", message).detail(detail))
            }
        }
    }

    fn lease_parts(&self, repository: &Repository, read: &Read) -> Result<Vec<Lease>, Box<Refusal>> {
        let mut leases = Vec::new();
        for part in &read.parts {
            let digest = &part.digest;
            let is_known = match read.is_index {
                true => self.inner.index.get_manifest(repository, digest).map_err(Refusal::index)?.is_some(),
                false => self.sees(repository, digest)?,
            };
            let lease = if is_known { self.inner.blobs.lease(digest)? } else { None };
            let Some(lease) = lease else {
                let message = format!("`{digest}` is named by the manifest and not in `{repository}`; push it first");
                return Err(Refusal::not_found("MANIFEST_BLOB_UNKNOWN", message).detail(json!({ "digest": digest })));
            };
            let size = self.inner.blobs.size(digest)?;
            if size != part.size {
                let message = format!("`{digest}` has {size} bytes, the manifest says {}", part.size);
                return Err(Refusal::bad("MANIFEST_INVALID", message));
            }
            leases.push(lease);
        }
        Ok(leases)
    }
}

/// What the registry needs to know of a manifest.
pub(crate) struct Read {
    media_type: String,
    is_index: bool,
    parts: Vec<Part>,
    pub(crate) references: Vec<Digest>,
}

impl Read {
    pub(crate) fn record(&self, digest: Digest, size: usize) -> ManifestRecord {
        ManifestRecord {
            digest,
            media_type: self.media_type.clone(),
            size_bytes: size as u64,
            references: self.references.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Part {
    digest: Digest,
    size: u64,
    #[serde(rename = "mediaType", default)]
    media_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
    manifests: Option<Vec<Part>>,
}

/// Reads a manifest; the error is for whoever pushed it.
pub(crate) fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Read, String> {
    const PARTS_MAX: usize = 10_000;
    let document: Document = serde_json::from_slice(bytes).map_err(|error| format!("this is no manifest: {error}"))?;
    if document.schema_version != 2 {
        return Err(format!("schema version {} is not supported, only 2", document.schema_version));
    }
    let content_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    let media_type = match (document.media_type.as_deref(), content_type) {
        (Some(inside), Some(outside)) if inside != outside => {
            return Err(format!("the manifest says `{inside}`, the request `{outside}`"));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
        (None, None) => return Err("neither the manifest nor the request says its media type".to_owned()),
    };
    let is_index = INDEXES.contains(&media_type.as_str());
    if !is_index && !IMAGES.contains(&media_type.as_str()) {
        return Err(format!("media type `{media_type}` is not supported"));
    }
    // A document that is both can be read as either (CVE-2021-41190).
    let mut parts = match (is_index, document.config, document.layers, document.manifests) {
        (true, None, None, Some(manifests)) => manifests,
        (false, Some(config), Some(mut layers), None) => {
            layers.push(config);
            layers
        }
        _ => return Err(format!("this is not what a `{media_type}` looks like")),
    };
    if parts.len() > PARTS_MAX {
        return Err(format!("it has more than {PARTS_MAX} parts"));
    }
    // Layers that are fetched from elsewhere are nobody's to push.
    parts.retain(|part| !part.media_type.contains(".foreign.") && !part.media_type.contains(".nondistributable."));
    let mut references: Vec<Digest> = parts.iter().map(|part| part.digest).collect();
    references.sort();
    references.dedup();
    Ok(Read { media_type, is_index, parts, references })
}
