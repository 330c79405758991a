//! Takes what a job leaves: looks for what it promised, keeps artifacts and outputs.
//!
//! In: the workspace as the job left it, its definition. Out: blobs, or why the job has failed after all.
//! Never: follows a link of the job's; keeps more than the limits.

use crate::archive::pack;
use crate::error::WorkerError;
use crate::handover::{OUTPUTS, named};
use crate::options::JobLimits;
use crate::select::{names_something, select};
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use slipway_blobs::{BlobError, Blobs, Lease, Writer};
use slipway_model::Digest;
use slipway_model::job::{Artifact, JobDef};
use slipway_sandbox::Merged;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// What was kept.
#[derive(Default)]
pub(crate) struct Collected {
    pub artifacts: Vec<Artifact>,
    pub outputs: BTreeMap<String, Digest>,
    /// Hold the blobs until the outcome is recorded.
    pub leases: Vec<Lease>,
}

/// Why something was not kept.
pub(crate) enum Problem {
    /// The job's fault.
    Job(String),
    /// The machine's.
    Machine(WorkerError),
}

impl From<WorkerError> for Problem {
    fn from(error: WorkerError) -> Problem {
        Problem::Machine(error)
    }
}

/// Keeps artifacts and outputs. With `promised`, something missing is the job's fault.
pub(crate) fn collect(
    job: &JobDef,
    merged: &Merged,
    shared: &Path,
    blobs: &Blobs,
    limits: &JobLimits,
    promised: bool,
) -> Result<Collected, Problem> {
    let mut collected = Collected::default();
    if promised {
        for pattern in &job.produces {
            let found = names_something(merged, pattern).map_err(|error| unreadable(job, pattern, &error))?;
            if !found {
                return Err(Problem::Job(format!("job `{}` promised `{pattern}` and did not make it", job.key)));
            }
        }
    }
    for (name, artifact) in &job.artifacts {
        let selected = select(merged, &artifact.paths).map_err(|error| unreadable(job, name, &error))?;
        if selected.is_empty() {
            if promised {
                let paths = artifact.paths.join(", ");
                let text = format!("job `{}` promised artifact `{name}` (`{paths}`) and did not make it", job.key);
                return Err(Problem::Job(text));
            }
            continue;
        }
        let what = format!("artifact `{name}` of job `{}`", job.key);
        let mut limited = Limited::new(blobs, &what, limits.artifact_bytes)?;
        pack(merged, &selected, &mut limited).map_err(|error| limited.failed(error))?;
        let stored = limited.commit()?;
        let digest = named(&stored.digest)?;
        collected.artifacts.push(Artifact { name: name.clone(), digest, size_bytes: stored.size_bytes });
        collected.leases.push(stored.lease);
    }
    collect_outputs(job, shared, blobs, limits, &mut collected)?;
    Ok(collected)
}

fn unreadable(job: &JobDef, name: &str, error: &io::Error) -> Problem {
    Problem::Job(format!("`{name}` of job `{}` cannot be read: {error}", job.key))
}

fn collect_outputs(
    job: &JobDef,
    shared: &Path,
    blobs: &Blobs,
    limits: &JobLimits,
    collected: &mut Collected,
) -> Result<(), Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = |error: io::Error| Problem::Machine(WorkerError::file("read", shared)(error));
    let shared_folder = openat(CWD, shared, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    // The job may have put something else in its place.
    let Ok(folder) = openat(&shared_folder, OUTPUTS, flags | OFlags::NOFOLLOW, Mode::empty()) else {
        return Ok(());
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() > limits.outputs {
            return Err(Problem::Job(format!("job `{}` has more than {} outputs", job.key, limits.outputs)));
        }
    }
    names.sort();
    for name in names {
        let what = format!("output `{name}` of job `{}`", job.key);
        if name.len() > 100 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(Problem::Job(format!("{what}: a name has up to 100 letters, digits, `.`, `_` and `-`")));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = openat2(&folder, &name, flags, Mode::empty(), resolve).map(File::from).map_err(io::Error::from);
        let regular = opened.and_then(|file| Ok(file.metadata()?.is_file().then_some(file)));
        let Ok(Some(file)) = regular else {
            return Err(Problem::Job(format!("{what} is not a plain file")));
        };
        let mut limited = Limited::new(blobs, &what, limits.output_bytes)?;
        copy(file, &mut limited).map_err(|error| limited.failed(error))?;
        let stored = limited.commit()?;
        collected.outputs.insert(name, named(&stored.digest)?);
        collected.leases.push(stored.lease);
    }
    Ok(())
}

fn copy(mut from: File, into: &mut Limited) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => into.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A blob that refuses to become larger than it may.
struct Limited {
    what: String,
    writer: Writer,
    limit: u64,
    is_over: bool,
}

impl Limited {
    fn new(blobs: &Blobs, what: &str, limit: u64) -> Result<Limited, Problem> {
        // The store quotes the name that it is given.
        let writer = blobs.writer(what.replace('`', "")).map_err(|source| blob_failed(what, source))?;
        Ok(Limited { what: what.to_owned(), writer, limit, is_over: false })
    }

    fn commit(self) -> Result<slipway_blobs::Stored, Problem> {
        let what = self.what;
        self.writer.commit().map_err(|source| blob_failed(&what, source))
    }

    fn failed(&self, error: io::Error) -> Problem {
        if self.is_over {
            return Problem::Job(format!("{} is larger than {} MiB", self.what, self.limit.div_ceil(1 << 20)));
        }
        match BlobError::from_io(error) {
            Ok(source) => blob_failed(&self.what, source),
            Err(error) => Problem::Job(format!("{} cannot be read: {error}", self.what)),
        }
    }
}

fn blob_failed(what: &str, source: BlobError) -> Problem {
    let what = match source {
        // It names what there is no room for by itself.
        BlobError::DiskFull { .. } => "what a job made cannot be stored".to_owned(),
        _ => format!("{what} cannot be stored"),
    };
    Problem::Machine(WorkerError::Blob { what, source })
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writer.size_bytes() + bytes.len() as u64 > self.limit {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.writer.append(bytes).map_err(BlobError::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
