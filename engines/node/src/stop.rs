//! Stops one process of an instance that routing has left already.
//!
//! In: a running shim. Out: its exit. In this order: open requests end (`drain_ms`), `stop.before` runs inside or is
//! asked and ends (the grace limits it), the signal is sent, the grace passes, SIGKILL. Every wait has its deadline.

use crate::inside::Door;
use crate::life::Common;
use crate::meta::Meta;
use crate::{http, probe, wake};
use slipway_model::instance::InstanceSpec;
use slipway_sandbox::{ExitRecord, SandboxError, Shim};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Beyond the grace, for the kernel to end what was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(30);
const TERM: i32 = 15;

/// A process with the descriptor that announces its end.
pub(crate) struct Process {
    pub(crate) shim: Arc<Shim>,
    ended: AsyncFd<OwnedFd>,
}

impl Process {
    /// Must be called within a tokio runtime.
    pub(crate) fn of(shim: Shim) -> Result<Process, SandboxError> {
        let failed = |source| SandboxError::Io { what: format!("wait for the end of `{}`", shim.id()), source };
        let ended = wake::on(shim.ended_fd()?).map_err(failed)?;
        Ok(Process { shim: Arc::new(shim), ended })
    }

    /// Returns when the process has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        // An error means that the runtime ends; then nobody asks any more.
        let _ = self.ended.readable().await;
    }

    /// The record of a process that has ended; `Gone` when its shim was killed.
    pub(crate) async fn record(&self) -> Result<ExitRecord, SandboxError> {
        self.ask(Shim::record).await
    }

    /// Asks the shim something on a thread that may block.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shim) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let shim = Arc::clone(&self.shim);
        let asked = tokio::task::spawn_blocking(move || question(&shim)).await;
        asked.unwrap_or_else(|_| Err(SandboxError::Spec("the question broke off".into())))
    }
}

/// Lets open requests end.
pub(crate) async fn drain(common: &Common, meta: &Meta, spec: &InstanceSpec, process: &Process) {
    let within = Duration::from_millis(spec.drain_ms);
    tokio::select! {
        // Requests that are left at the deadline have had their time.
        _ = common.proxy.drained(meta.id.as_str(), within) => {}
        () = process.ended() => {}
    }
}

/// From `stop.before` to the end.
pub(crate) async fn stop(meta: &Meta, spec: &InstanceSpec, process: &Process, door: &Door) {
    let grace = Duration::from_millis(spec.stop.grace_ms);
    // Whatever comes of it: the instance is stopped now.
    tokio::select! {
        () = before(meta, spec, process, door) => {}
        () = process.ended() => return,
    }
    let signal = meta.stop_signal;
    let sent = if signal == TERM {
        // The shim itself keeps the grace, so that it is kept even without this node.
        process.ask(move |shim| shim.stop(grace)).await
    } else {
        process.ask(move |shim| shim.signal(signal)).await
    };
    if sent.is_ok() {
        let patience = if signal == TERM { grace + KILLED_WITHIN } else { grace };
        if tokio::time::timeout(patience, process.ended()).await.is_ok() {
            return;
        }
    }
    kill(process).await;
}

/// `stop.before`: a command inside, or a request to the instance.
async fn before(meta: &Meta, spec: &InstanceSpec, process: &Process, door: &Door) {
    if let Some(argv) = spec.stop.before.clone().filter(|argv| !argv.is_empty()) {
        let command = probe::beside(meta, argv, spec.stop.grace_ms);
        let _ = process.ask(move |shim| shim.exec(command)).await;
    }
    if let Some(request) = &spec.stop.before_request {
        let limit = Duration::from_millis(spec.stop.grace_ms.max(1));
        let asking = async {
            let stream = door.connect().await.ok()?;
            http::request(stream, &request.method, &request.path, limit).await.ok()
        };
        let _ = tokio::time::timeout(limit, asking).await;
    }
}

/// At once.
pub(crate) async fn kill(process: &Process) {
    // An error means that it is gone already.
    let _ = process.ask(|shim| shim.kill()).await;
    let _ = tokio::time::timeout(KILLED_WITHIN, process.ended()).await;
}
