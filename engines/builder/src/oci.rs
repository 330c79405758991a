//! What an image is made of in the store (OCI image specification 1.1).
//!
//! In: documents of images, ours and those of others. Out: their parts, as far as builder and node need them.
//! Never: a map in another order than that of its keys, so that the same image is the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use slipway_blobs::{BlobError, Blobs, Digest};

/// `application/vnd.oci.image.manifest.v1+json`
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.index.v1+json`
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.config.v1+json`
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar+gzip`
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// `application/vnd.oci.image.layer.v1.tar`
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Larger manifests and configurations are no honest ones; registries have the same limit.
pub const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Linux mounts at most 500 layers over each other.
const LAYERS_MAX: usize = 400;

/// Operating system and processor, in the words of OCI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned() }
    }
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// In an index: for which platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST`]; old images leave it out.
    #[serde(default)]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// The document that a manifest's `config` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// RFC 3339; the epoch, unless the build was told another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// How to run it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ImageConfig,
    /// The uncompressed layers.
    pub rootfs: RootFs,
    /// Which instruction made which layer.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// The layers of an image by the digest of their uncompressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The lowest first.
    pub diff_ids: Vec<Digest>,
}

/// One instruction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub user: String,
    /// `8080/tcp` and nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program when there is no entry point.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Folders that base images want to have kept.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, Nothing>,
    /// Where the program starts; empty is `/`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end; empty is SIGTERM.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub stop_signal: String,
}

/// `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Docker writes `null` where nothing is said.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A layer as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerBlob {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) is_gzip: bool,
}

/// An image that was found in the store.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: Image,
    pub(crate) layers: Vec<LayerBlob>,
}

/// Why an image in the store is of no use.
#[derive(Debug)]
pub(crate) enum LoadError {
    Store(BlobError),
    Bad(String),
}

impl From<BlobError> for LoadError {
    fn from(error: BlobError) -> Self {
        Self::Store(error)
    }
}

/// Reads an image's documents; of an index, those for `platform`.
pub(crate) fn load(blobs: &Blobs, manifest: &Digest, platform: &Platform) -> Result<Loaded, LoadError> {
    let mut bytes = blobs.read(manifest, DOCUMENT_BYTES_MAX)?;
    if let Some(inner) = choose(&bytes, platform)? {
        bytes = blobs.read(&inner, DOCUMENT_BYTES_MAX)?;
    }
    let manifest: Manifest = read_json(&bytes, "manifest")?;
    let bytes = blobs.read(&manifest.config.digest, DOCUMENT_BYTES_MAX)?;
    let image: Image = read_json(&bytes, "configuration")?;
    let (count, named) = (manifest.layers.len(), image.rootfs.diff_ids.len());
    if count != named {
        return Err(LoadError::Bad(format!("it has {count} layers and names {named}")));
    }
    if count > LAYERS_MAX {
        return Err(LoadError::Bad(format!("it has {count} layers, more than {LAYERS_MAX}")));
    }
    let layers = manifest.layers.iter().zip(&image.rootfs.diff_ids);
    let layers = layers.map(|(layer, diff_id)| layer_blob(layer, *diff_id)).collect::<Result<_, _>>()?;
    Ok(Loaded { image, layers })
}

/// The manifest for the platform, if the document is an index.
pub(crate) fn choose(bytes: &[u8], platform: &Platform) -> Result<Option<Digest>, LoadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        #[serde(default)]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let kind: Kind = read_json(bytes, "manifest")?;
    let is_index = kind.media_type == INDEX || kind.media_type == DOCKER_INDEX;
    if !is_index && kind.manifests.is_none() {
        return Ok(None);
    }
    let index: Index = read_json(bytes, "index")?;
    let fits = index.manifests.iter().find(|entry| entry.platform.as_ref() == Some(platform));
    let digest = fits.map(|entry| entry.digest);
    let (os, architecture) = (&platform.os, &platform.architecture);
    digest.map(Some).ok_or_else(|| LoadError::Bad(format!("it has no image for {os}/{architecture}")))
}

fn layer_blob(layer: &Descriptor, diff_id: Digest) -> Result<LayerBlob, LoadError> {
    let is_gzip = match layer.media_type.as_str() {
        LAYER_GZIP | DOCKER_LAYER_GZIP => true,
        LAYER | DOCKER_LAYER => false,
        other => {
            let message = format!("layers of type `{other}` are not yet supported");
            return Err(LoadError::Bad(message));
        }
    };
    Ok(LayerBlob { digest: layer.digest, diff_id, size_bytes: layer.size, is_gzip })
}

fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|error| LoadError::Bad(format!("its {what} cannot be read: {error}")))
}

/// Seconds since 1970 as RFC 3339 (days to a date after Howard Hinnant's `civil_from_days`).
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn the_nulls_of_docker_are_read_as_nothing() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=1"],"Healthcheck":{}},
                       "rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        assert_eq!(image.config.env, ["A=1"]);
        assert!(image.config.cmd.is_empty() && image.history.is_empty());
    }
}
