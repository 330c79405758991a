//! Logs of jobs (kept by the worker) and services (kept by the node) as one source.

use crate::exit::chain;
use slipway_model::{At, Lane, ProjectName, ReleaseId, RunId};
use slipway_node::{LogsWanted, NodeClient};
use slipway_ports::Fut;
use slipway_server::LogSource;
use slipway_worker::WorkerClient;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines that wait for a reader.
const LINES: usize = 1024;

/// Logs of this machine's worker and node.
pub struct LocalLogs {
    /// Jobs.
    pub worker: WorkerClient,
    /// Services.
    pub node: NodeClient,
}

impl LogSource for LocalLogs {
    fn job(&self, project: &ProjectName, run: &RunId, follow: bool) -> Fut<'_, Result<mpsc::Receiver<String>, String>> {
        let (project, run) = (project.clone(), run.clone());
        Box::pin(async move {
            let (lines, taken) = mpsc::channel(LINES);
            let worker = self.worker.clone();
            let first = worker.log(&project, &run, 0, Duration::ZERO).await.map_err(|error| chain(&error))?;
            tokio::spawn(async move {
                let mut page = first;
                loop {
                    for line in page.lines {
                        let mark = if line.error { "!" } else { " " };
                        let text = format!("{} {} {mark} {}", At(line.at_ms), line.step, line.text);
                        if lines.send(text).await.is_err() {
                            return;
                        }
                    }
                    let wait = if follow { Duration::from_secs(30) } else { Duration::ZERO };
                    let from = page.next;
                    if page.ended {
                        return;
                    }
                    match worker.log(&project, &run, from, wait).await {
                        Ok(next) if !follow && next.lines.is_empty() => return,
                        Ok(next) => page = next,
                        Err(_) => return,
                    }
                }
            });
            Ok(taken)
        })
    }

    fn service(
        &self,
        lane: &Lane,
        release: Option<&ReleaseId>,
        tail: usize,
        follow: bool,
    ) -> Fut<'_, Result<mpsc::Receiver<String>, String>> {
        let wanted =
            LogsWanted { lane: lane.clone(), release: release.cloned(), follow, since: None, tail: Some(tail) };
        Box::pin(async move {
            let (lines, taken) = mpsc::channel(LINES);
            let mut stream = self.node.logs(wanted).await.map_err(|error| chain(&error))?;
            tokio::spawn(async move {
                while let Some(page) = stream.next().await {
                    for line in page {
                        let text = format!(
                            "{} {} r{} {} {} {}",
                            line.at, line.service, line.number, line.release, line.instance, line.text
                        );
                        if lines.send(text).await.is_err() {
                            return;
                        }
                    }
                }
            });
            Ok(taken)
        })
    }
}
