//! Logs of runs: where they lie, while they run and afterwards.
//!
//! In: a run, a position. Out: lines with the names of their steps. Never: more on disk than the limit; a log that is half moved.

use crate::error::WorkerError;
use crate::folder::{State, folder_name};
use serde::{Deserialize, Serialize};
use slipway_model::{ProjectName, RunId};
use slipway_ports::LogLine;
use slipway_sandbox::{LogChunk, Stream};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Beside the log: how its numbers are to be read.
const ABOUT_FILE: &str = "about.json";
/// The name under which the worker itself speaks.
const OWN_STEP: &str = "slipway";

/// What a kept log needs to be read.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    /// Names of the steps, by number.
    pub steps: Vec<String>,
    /// What people must know about how it ran.
    pub notes: Vec<String>,
}

impl About {
    pub fn of(state: &State) -> About {
        About {
            steps: state.request.job.steps.iter().map(|step| step.name.clone()).collect(),
            notes: state.notes.clone(),
        }
    }

    /// Lines with names; before the first, what people must know.
    pub fn lines(&self, chunk: LogChunk, from: u64) -> Vec<LogLine> {
        let at_ms = chunk.lines.first().map_or(0, |line| line.at_ms);
        let own = |text: &String| LogLine { at_ms, step: OWN_STEP.to_owned(), error: false, text: text.clone() };
        let mut lines: Vec<LogLine> = if from == 0 { self.notes.iter().map(own).collect() } else { Vec::new() };
        lines.extend(chunk.lines.into_iter().map(|line| LogLine {
            at_ms: line.at_ms,
            step: match line.stream {
                Stream::Out | Stream::Err => self.steps.get(line.step).cloned().unwrap_or_default(),
                Stream::Note => OWN_STEP.to_owned(),
            },
            error: line.stream == Stream::Err,
            text: line.text,
        }));
        lines
    }
}

/// Where the log of an ended run is.
pub(crate) fn folder(logs: &Path, project: &ProjectName, run: &RunId) -> PathBuf {
    logs.join(project.as_str()).join(folder_name(run))
}

/// What belongs to a kept log.
pub(crate) fn about(folder: &Path) -> About {
    let bytes = fs::read(folder.join(ABOUT_FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Moves the log of an ended run to where it is kept; it appears there whole. Repeating it changes nothing.
pub(crate) fn keep(
    logs: &Path,
    project: &ProjectName,
    run: &RunId,
    sandbox: &Path,
    state: &State,
) -> Result<(), WorkerError> {
    let place = folder(logs, project, run);
    if place.exists() {
        return Ok(());
    }
    // A dot: no run's folder begins with one.
    let moving = logs.join(project.as_str()).join(format!(".{}", folder_name(run)));
    let failed = |error| WorkerError::file("keep the log in", &place)(error);
    fs::create_dir_all(&moving).map_err(failed)?;
    let about = serde_json::to_vec(&About::of(state)).map_err(|error| failed(error.into()))?;
    fs::write(moving.join(ABOUT_FILE), about).map_err(failed)?;
    for name in log_files(sandbox).map_err(failed)? {
        let (from, to) = (sandbox.join(&name), moving.join(&name));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(&from, &to).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    fs::rename(&moving, &place).map_err(failed)
}

fn log_files(sandbox: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let listing = match fs::read_dir(sandbox) {
        Ok(listing) => listing,
        // It never came to have one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text == "log" || text.strip_prefix("log.").is_some_and(|number| number.parse::<u64>().is_ok()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes the oldest logs beyond the limit.
pub(crate) fn trim(logs: &Path, limit_bytes: u64) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for project in folders(logs)? {
        for run in folders(&project)? {
            let mut bytes = 0;
            for entry in fs::read_dir(&run)?.flatten() {
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
            let at = fs::metadata(&run).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            kept.push((at, bytes, run));
        }
    }
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, run) in kept {
        if total <= limit_bytes {
            break;
        }
        fs::remove_dir_all(&run)?;
        total -= bytes;
    }
    Ok(())
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(of) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let folders = listing.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}
