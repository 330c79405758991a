//! Hands a job what the jobs before it made.
//!
//! In: digests of outputs and artifacts, the content store. Out: files in the folder that the steps see.
//! Never: a job's own checkout; a file that differs from its digest.

use crate::archive::unpack;
use crate::error::WorkerError;
use slipway_blobs::{BlobError, Blobs};
use slipway_model::Digest;
use slipway_ports::RunRequest;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

/// Below the shared folder: where the job writes its outputs.
pub(crate) const OUTPUTS: &str = "outputs";
/// Where outputs of others are.
pub(crate) const INPUTS: &str = "inputs";
/// Where artifacts of others are.
pub(crate) const ARTIFACTS: &str = "artifacts";
/// What the job says about itself.
pub(crate) const SUMMARY: &str = "summary.md";

/// Fills the shared folder of a run that is about to start.
pub(crate) fn hand_over(shared: &Path, request: &RunRequest, blobs: &Blobs) -> Result<(), WorkerError> {
    for folder in [OUTPUTS, INPUTS, ARTIFACTS] {
        let path = shared.join(folder);
        fs::create_dir_all(&path).map_err(WorkerError::file("make", &path))?;
    }
    let summary = shared.join(SUMMARY);
    File::create(&summary).map_err(WorkerError::file("make", &summary))?;
    for (job, outputs) in &request.outputs {
        let folder = shared.join(INPUTS).join(plain(job)?);
        fs::create_dir_all(&folder).map_err(WorkerError::file("make", &folder))?;
        for (key, digest) in outputs {
            let what = format!("output `{key}` of job `{job}`");
            copy(blobs, digest, &folder.join(plain(key)?)).map_err(|error| missing(&what, digest, error))?;
        }
    }
    for (job, artifacts) in &request.artifacts {
        let folder = shared.join(ARTIFACTS).join(plain(job)?);
        fs::create_dir_all(&folder).map_err(WorkerError::file("make", &folder))?;
        for artifact in artifacts {
            let what = format!("artifact `{}` of job `{job}`", artifact.name);
            let unpacked = open(blobs, &artifact.digest).and_then(|reader| unpack(reader, &folder));
            unpacked.map_err(|error| missing(&what, &artifact.digest, error))?;
        }
    }
    Ok(())
}

fn open(blobs: &Blobs, digest: &Digest) -> io::Result<slipway_blobs::Reader> {
    blobs.open_verified(&stored(digest)).map_err(BlobError::into_io)
}

fn copy(blobs: &Blobs, digest: &Digest, path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::copy(&mut open(blobs, digest)?, &mut file).map(drop)
}

fn missing(what: &str, digest: &Digest, error: io::Error) -> WorkerError {
    let whole = crate::error::whole(&error);
    match error.kind() {
        io::ErrorKind::NotFound => {
            WorkerError::Unable(format!("{what} is no longer in the content store ({digest}); run that job again"))
        }
        _ => WorkerError::Unable(format!("{what} cannot be handed over: {whole}")),
    }
}

/// A name that stays in its folder; a job's may have its service in front.
fn plain(name: &str) -> Result<&Path, WorkerError> {
    let path = Path::new(name);
    let inside = !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(path) } else { Err(WorkerError::Unable(format!("`{name}` is no name of a job or output"))) }
}

/// The store's form of a digest.
pub(crate) fn stored(digest: &Digest) -> slipway_blobs::Digest {
    let parsed = digest.as_str().parse();
    // Both types have the same rule; bytes of zeros are in no store.
    parsed.unwrap_or(slipway_blobs::Digest::from_bytes([0; 32]))
}

/// Our form of the store's digest.
pub(crate) fn named(digest: &slipway_blobs::Digest) -> Result<Digest, WorkerError> {
    Digest::parse(&digest.to_string()).map_err(|error| WorkerError::Unable(error.to_string()))
}
