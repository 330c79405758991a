//! From the end of a sandbox to the outcome on disk.
//!
//! In: what the run left in its folder. Out: the outcome, synced, and the log where it is kept. May be begun again after a crash at any
//! point and comes to the same: what it reads is removed last.

use crate::collect::{Collected, Problem, collect};
use crate::counts::CountReader;
use crate::error::{WorkerError, whole};
use crate::first_error::ErrorReader;
use crate::folder::{Ending, Folder, State};
use crate::judge::{Judged, judge, usage};
use crate::logs;
use crate::options::JobLimits;
use slipway_blobs::Blobs;
use slipway_model::job::{JobDef, JobOutcome, JobResult, TestCount, Usage};
use slipway_sandbox::{Attached, ExitRecord, Merged, Stream, attach, read_log_from};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Read at once.
const LOG_READ_BYTES: usize = 256 * 1024;

/// Where things lie.
pub(crate) struct Places<'a> {
    pub work: &'a Path,
    pub logs: &'a Path,
    pub blobs: &'a Blobs,
    pub limits: &'a JobLimits,
}

/// Concludes a run whose sandbox is no longer alive (or, with a reason, cannot be trusted any more). Gives also what is
/// to be removed when nobody waits for it.
///
/// # Errors
/// When the outcome cannot be written; nothing is removed then.
pub(crate) fn conclude(
    places: &Places<'_>,
    folder: &Folder,
    state: &State,
    lost: Option<String>,
) -> Result<(JobOutcome, Vec<PathBuf>), WorkerError> {
    let ending = folder.ending()?;
    let (judged, record) = match lost {
        Some(reason) => (Judged::lost(reason), None),
        None => judged(folder, state, ending.as_ref()),
    };
    let mut outcome = start_of(judged, record.as_ref(), state);
    let collected = keep(places, folder, state, record.as_ref(), &mut outcome);
    let decides = record.as_ref().map_or(0, |record| record.steps.len().saturating_sub(1));
    let log = read(&log_folder(places, folder, state), decides);
    outcome.tests = log.tests;
    if outcome.result != JobResult::Passed {
        outcome.first_error = first_error(&outcome, log.error);
    }
    logs::keep(places.logs, &state.request.project, &state.request.run, &folder.sandbox(), state)?;
    folder.write_outcome(&outcome)?;
    // Held until here: from now on whoever records the outcome is responsible.
    drop(collected);
    Ok((outcome, folder.discard_contents(places.work)))
}

/// An outcome of a run that never got a sandbox.
pub(crate) fn unstarted(judged: Judged) -> JobOutcome {
    let reason = judged.reason.clone();
    JobOutcome {
        result: judged.result,
        first_error: if judged.result == JobResult::Cancelled { Vec::new() } else { vec![reason] },
        reason: judged.reason,
        step: None,
        command: None,
        exit_code: judged.exit_code,
        artifacts: Vec::new(),
        outputs: BTreeMap::new(),
        usage: Usage::default(),
        set_up_ms: 0,
        run_ms: 0,
        tests: None,
    }
}

fn judged(folder: &Folder, state: &State, ending: Option<&Ending>) -> (Judged, Option<ExitRecord>) {
    match attach(&folder.sandbox()) {
        Ok(Attached::Ended(record)) => {
            let judged = judge(&record, ending, &state.request.job, state.memory_bytes);
            (judged, Some(record))
        }
        Ok(Attached::Lost { panic: Some(text) }) => (Judged::lost(format!("its shim failed: {}", text.trim())), None),
        Ok(Attached::Lost { panic: None }) => (Judged::lost("its sandbox was killed from outside"), None),
        Ok(Attached::Running(_)) => (Judged::lost("its sandbox did not end"), None),
        Err(error) => (Judged::lost(whole(&error)), None),
    }
}

fn start_of(judged: Judged, record: Option<&ExitRecord>, state: &State) -> JobOutcome {
    let step = judged.step.and_then(|index| state.request.job.steps.get(index));
    let began = record.map(|record| record.started_ms);
    JobOutcome {
        step: step.map(|step| step.name.clone()),
        command: step.map(|step| step.run.clone()),
        exit_code: judged.exit_code,
        usage: record.map(usage).unwrap_or_default(),
        set_up_ms: began.map_or(0, |began| began.saturating_sub(state.begun_ms)),
        run_ms: record.map_or(0, |record| record.ended_ms.saturating_sub(record.started_ms)),
        ..unstarted(Judged { step: None, ..judged })
    }
}

/// Keeps what the job left; something that it promised and did not make turns a pass into a failure.
fn keep(
    places: &Places<'_>,
    folder: &Folder,
    state: &State,
    record: Option<&ExitRecord>,
    outcome: &mut JobOutcome,
) -> Option<Collected> {
    let promised = match outcome.result {
        JobResult::Passed => true,
        // What a failed job left is often what explains it.
        JobResult::Failed | JobResult::Neutral if record.is_some() => false,
        JobResult::Failed | JobResult::Neutral | JobResult::TimedOut | JobResult::Cancelled | JobResult::Lost => {
            return None;
        }
    };
    let merged = Merged::workspace(&folder.sandbox(), &state.tree);
    let job: &JobDef = &state.request.job;
    match collect(job, &merged, &folder.shared(), places.blobs, places.limits, promised) {
        Ok(collected) => {
            outcome.artifacts = collected.artifacts.clone();
            outcome.outputs = collected.outputs.clone();
            Some(collected)
        }
        Err(_) if outcome.result == JobResult::Failed => None,
        Err(Problem::Job(reason)) => {
            outcome.result = JobResult::Failed;
            outcome.reason = reason;
            None
        }
        Err(Problem::Machine(error)) => {
            outcome.result = JobResult::Lost;
            outcome.reason = error.whole();
            None
        }
    }
}

/// What the log says where a step failed; otherwise the reason itself is the error.
fn first_error(outcome: &JobOutcome, said: Vec<String>) -> Vec<String> {
    let by_step = outcome.step.is_some() && outcome.exit_code.is_some();
    match outcome.result {
        JobResult::Passed | JobResult::Cancelled | JobResult::Neutral => Vec::new(),
        JobResult::Failed | JobResult::TimedOut if by_step && !said.is_empty() => said,
        JobResult::TimedOut if !said.is_empty() => said,
        JobResult::Failed | JobResult::TimedOut | JobResult::Lost => vec![outcome.reason.clone()],
    }
}

/// The sandbox's folder, or where a conclusion that did not come to its end has put the log.
fn log_folder(places: &Places<'_>, folder: &Folder, state: &State) -> PathBuf {
    let kept = logs::folder(places.logs, &state.request.project, &state.request.run);
    if kept.exists() { kept } else { folder.sandbox() }
}

struct Read {
    tests: Option<TestCount>,
    error: Vec<String>,
}

/// One pass over the log, in pieces.
fn read(folder: &Path, step: usize) -> Read {
    let mut counts = CountReader::default();
    let mut errors = ErrorReader::default();
    let mut position = 0;
    // A log that cannot be read explains nothing, but it must not lose the result.
    while let Ok(chunk) = read_log_from(folder, position, LOG_READ_BYTES) {
        if chunk.next == position {
            break;
        }
        position = chunk.next;
        for line in chunk.lines.iter().filter(|line| line.stream != Stream::Note) {
            counts.line(&line.text);
            if line.step == step {
                errors.line(&line.text);
            }
        }
    }
    Read { tests: counts.finish(), error: errors.finish() }
}
