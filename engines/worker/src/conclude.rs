//! From the end of a sandbox to the outcome on disk.
//!
//! In: what the run left in its folder. Out: the outcome, synced, and the log where it is kept. May be begun again after a crash at any
//! point and comes to the same: what it reads is removed last.

use crate::collect::{Collected, Problem, collect};
use crate::counts::CountReader;
use crate::error::{WorkerError, whole};
use crate::first_error::ErrorReader;
use crate::folder::{Claim, Ending, Folder, State};
use crate::judge::{Judged, judge, usage};
use crate::logs;
use crate::options::JobLimits;
use slipway_blobs::Blobs;
use slipway_model::job::{JobDef, JobOutcome, JobResult, TestCount, Usage};
use slipway_sandbox::{Attached, ExitRecord, Merged, Stream, attach, read_log_from};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From SIGKILL to the end of everything inside.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// Read at once.
const LOG_READ_BYTES: usize = 256 * 1024;

/// Where things lie.
pub(crate) struct Places<'a> {
    pub work: &'a Path,
    pub logs: &'a Path,
    pub blobs: &'a Blobs,
    pub limits: &'a JobLimits,
}

/// What is known of the end of a sandbox.
pub(crate) enum End {
    /// Its folder tells how.
    Seen,
    /// Nobody could attend it any more, for this reason; it is ended here.
    Unattended(String),
    /// A worker was killed; of the sandbox nothing is left, and none can come.
    Lost(Claim),
}

/// Concludes a run. Gives also what is to be removed when nobody waits for it.
///
/// # Errors
/// When the outcome cannot be written; nothing is removed then.
pub(crate) fn conclude(
    places: &Places<'_>,
    folder: &Folder,
    state: &State,
    end: End,
) -> Result<(JobOutcome, Vec<PathBuf>), WorkerError> {
    let ending = folder.ending()?;
    let (judged, record) = match &end {
        End::Seen => judged(folder, state, ending.as_ref()),
        End::Unattended(reason) => {
            end_for_good(folder);
            (Judged::lost(reason), None)
        }
        End::Lost(_) => (without_shim(folder, ending.as_ref()), None),
    };
    let mut outcome = start_of(judged, record.as_ref(), state);
    let collected = keep(places, folder, state, record.as_ref(), &mut outcome);
    let decides = record.as_ref().map_or(0, |record| record.steps.len().saturating_sub(1));
    let log = read(&log_folder(places, folder, state), decides);
    outcome.tests = log.tests;
    outcome.first_error = first_error(&outcome, log.error);
    logs::keep(places.logs, &state.request.project, &state.request.run, &folder.sandbox(), state)?;
    folder.write_outcome(&outcome)?;
    // Held until here: from now on whoever records the outcome is responsible.
    drop(collected);
    let mut removable = Vec::new();
    if let End::Lost(claim) = end {
        removable.extend(folder.bar_sandbox(places.work)?);
        drop(claim);
    }
    removable.extend(folder.discard_contents(places.work));
    Ok((outcome, removable))
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

fn without_shim(folder: &Folder, ending: Option<&Ending>) -> Judged {
    let has_begun = std::fs::read_dir(folder.sandbox()).is_ok_and(|mut entries| entries.next().is_some());
    match ending {
        Some(ending) => Judged::unstarted(ending),
        None if has_begun => Judged::lost("its sandbox was killed from outside"),
        None => Judged::lost("its worker was killed while it started the sandbox"),
    }
}

/// A sandbox that nobody could attend must not outlive its run.
fn end_for_good(folder: &Folder) {
    if let Ok(Attached::Running(shim)) = attach(&folder.sandbox())
        && shim.kill().is_ok()
    {
        // Longer than the kernel takes; what still lives then is beyond us.
        let _ = shim.wait(KILL_LIMIT);
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
