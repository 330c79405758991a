//! One job in this process, for `slipway run`: the same code as on a worker.
//!
//! In: a request with a folder in `tree`, a worker in this process. Out: its lines as they come, its outcome. Never: a server.

use crate::wire::{Answer, Ask};
use crate::worker::Worker;
use slipway_model::job::JobOutcome;
use slipway_ports::{LogLine, RunRequest, RunnerError};
use std::path::PathBuf;

/// One answer; asked again until the end.
const LIMIT_MS: u64 = 60_000;

/// Runs a job on the folder that its request names and calls `on_line` for every line, in order. Dropping the future leaves
/// the job to the worker: see [`Worker::lose_all`].
///
/// # Errors
/// When the request names no folder, or the worker cannot take it.
pub async fn run_here(
    worker: &Worker,
    request: RunRequest,
    mut on_line: impl FnMut(&LogLine),
) -> Result<JobOutcome, RunnerError> {
    let failed = |what: String| RunnerError { what };
    let tree = request.tree.clone().map(PathBuf::from);
    let tree = tree.ok_or_else(|| failed(format!("job `{}` was given no folder to run on", request.job.key)))?;
    let (project, run) = (request.project.clone(), request.run.clone());
    if let Answer::Failed { what } = worker.answer(Ask::Start { request: Box::new(request), tree }).await {
        return Err(failed(what));
    }
    let mut from = 0;
    loop {
        let ask = Ask::Log { project: project.clone(), run: run.clone(), from, limit_ms: LIMIT_MS };
        match worker.answer(ask).await {
            Answer::Log(page) => {
                page.lines.iter().for_each(&mut on_line);
                from = page.next;
                if page.ended {
                    break;
                }
            }
            Answer::Failed { what } => return Err(failed(what)),
            Answer::Running { .. } | Answer::Waiting | Answer::Runs | Answer::Ended { .. } | Answer::Unknown => break,
        }
    }
    loop {
        match worker.answer(Ask::Wait { run: run.clone(), limit_ms: LIMIT_MS }).await {
            Answer::Ended { outcome } => return Ok(*outcome),
            Answer::Failed { what } => return Err(failed(what)),
            Answer::Unknown => return Err(failed(format!("run `{run}` is not known any more"))),
            Answer::Running { .. } | Answer::Waiting | Answer::Runs | Answer::Log(_) => {}
        }
    }
}
