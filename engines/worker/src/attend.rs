//! Attends a running sandbox to its end.
//!
//! In: a living shim, wishes to end it, the job's limit. Out: that nothing of it runs any more. Never: polls.

use crate::error::WorkerError;
use crate::folder::Ending;
use crate::job::Job;
use crate::prepare::KILL_GRACE_MS;
use crate::readable::Readable;
use slipway_sandbox::{SandboxError, Shim};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// From the wish to the end: the grace, then what the kernel may take to end everything.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Returns when the run has ended, by itself or because it was asked to.
///
/// # Errors
/// When its shim cannot be asked, or nothing ends it.
pub(crate) async fn attend(job: &Job, shim: &Arc<Shim>, left: Duration) -> Result<(), WorkerError> {
    let failed =
        |source| WorkerError::Sandbox { what: format!("the sandbox of `{}` cannot be attended", job.run), source };
    let ended: OwnedFd = match shim.ended_fd() {
        Ok(ended) => ended,
        Err(SandboxError::Gone { .. }) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let unwatched = |source: io::Error| WorkerError::File { action: "watch", path: shim.dir().to_owned(), source };
    let ended = Readable::of(ended).map_err(unwatched)?;
    let ending = tokio::select! {
        biased;
        readable = ended.wait() => return readable.map_err(unwatched),
        ending = job.wanted_ended() => ending,
        () = tokio::time::sleep(left) => Ending::TimedOut,
    };
    job.end(ending.clone());
    // Before the signal: after a crash here the exit record alone would not say why.
    job.folder.write_ending(&job.ending().unwrap_or(ending))?;
    let stopping = Arc::clone(shim);
    let stopped = tokio::task::spawn_blocking(move || stopping.stop(Duration::from_millis(KILL_GRACE_MS))).await;
    match stopped {
        Ok(Ok(()) | Err(SandboxError::Gone { .. })) => {}
        Ok(Err(error)) => return Err(failed(error)),
        Err(_) => return Err(WorkerError::Unable("the worker is stopping".into())),
    }
    match tokio::time::timeout(END_LIMIT, ended.wait()).await {
        Ok(readable) => readable.map_err(unwatched),
        Err(_) => Err(WorkerError::Unable(format!("the sandbox of `{}` did not end within {END_LIMIT:?}", job.run))),
    }
}
