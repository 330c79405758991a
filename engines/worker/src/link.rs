//! The line to a worker in another process, over the link.
//!
//! In: connections, one after the other. Out: answers; a question that comes while no worker is connected waits for one.
//! Never: a question to two connections at once.

use crate::error::WorkerError;
use crate::options::WorkerOptions;
use crate::wire::{Answer, Ask, Line, LineError};
use crate::worker::Worker;
use slipway_link::{Dialler, Hello, Inbox, Incoming, Kind, LinkError, Peer};
use slipway_ports::Fut;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Questions of one connection that are answered at once; further ones wait.
const QUESTIONS_MAX: usize = 1024;

/// How a worker process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Go on.
    No,
    /// Leave the jobs running; the next worker on this folder goes on with them.
    LeaveJobs,
    /// End every job as lost, then go.
    EndJobs,
}

/// The line of the control plane. It is given each connection that a worker makes.
#[derive(Clone, Default)]
pub struct LinkLine {
    peer: Arc<watch::Sender<Option<Peer>>>,
}

impl LinkLine {
    /// A line without a connection.
    #[must_use]
    pub fn new() -> LinkLine {
        LinkLine::default()
    }

    /// From now on this connection is asked. The worker asks nothing itself, so its inbox is not needed.
    pub fn connected(&self, peer: Peer) {
        self.peer.send_replace(Some(peer));
    }

    /// Whether a worker is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.peer.borrow().as_ref().is_some_and(Peer::is_up)
    }
}

impl Line for LinkLine {
    fn ask(&self, ask: Ask, limit: Duration) -> Fut<'_, Result<Answer, LineError>> {
        Box::pin(async move {
            let until = Instant::now() + limit;
            let mut peers = self.peer.subscribe();
            let up = peers.wait_for(|peer| peer.as_ref().is_some_and(Peer::is_up));
            let peer = match tokio::time::timeout_at(until, up).await {
                Ok(Ok(peer)) => peer.clone(),
                Ok(Err(_)) | Err(_) => None,
            };
            let Some(peer) = peer else { return Err(LineError::Gone) };
            Ok(peer.call(&ask, until.saturating_duration_since(Instant::now())).await?)
        })
    }
}

impl Worker {
    /// A worker process: takes over what a former one left, then serves the control plane behind the socket until told to
    /// end. Dials again whenever the connection is lost; jobs go on meanwhile.
    ///
    /// # Errors
    /// When the worker's folder cannot be used.
    pub async fn run(
        options: WorkerOptions,
        socket: &Path,
        mut shutdown: watch::Receiver<Shutdown>,
    ) -> Result<(), WorkerError> {
        let worker = Worker::open(options).await?;
        let mut dialler = Dialler::new(socket, Hello::new(Kind::Worker, "local"));
        let how = loop {
            let (peer, inbox) = tokio::select! {
                how = wanted(&mut shutdown) => break how,
                connection = dialler.connect() => connection,
            };
            tokio::select! {
                how = wanted(&mut shutdown) => {
                    if how == Shutdown::EndJobs {
                        worker.end_jobs().await;
                    }
                    // First: who still asks shall wait for the next worker.
                    peer.end();
                    break how;
                }
                () = worker.serve(inbox) => {}
            }
        };
        if how == Shutdown::EndJobs {
            worker.end_jobs().await;
        }
        worker.abandon();
        Ok(())
    }

    async fn end_jobs(&self) {
        self.lose_all("its worker was stopped");
        self.idle().await;
    }

    /// Answers what comes on one connection, until it ends.
    pub async fn serve(&self, mut inbox: Inbox) {
        let places = Arc::new(tokio::sync::Semaphore::new(QUESTIONS_MAX));
        while let Some(incoming) = inbox.next().await {
            // The control plane says nothing without a question yet; a later one may.
            let Incoming::Call(call) = incoming else { continue };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let worker = self.clone();
            tokio::spawn(async move {
                match call.read::<Ask>() {
                    Ok(ask) => {
                        let answer = tokio::select! {
                            biased;
                            () = worker.inner.abandoned() => return,
                            answer = worker.answer(ask) => answer,
                        };
                        call.answer(&answer).await;
                    }
                    Err(error) => call.fail(&error.to_string()).await,
                }
                drop(place);
            });
        }
    }
}

async fn wanted(shutdown: &mut watch::Receiver<Shutdown>) -> Shutdown {
    match shutdown.wait_for(|how| *how != Shutdown::No).await {
        Ok(how) => *how,
        // Whoever could say so is gone.
        Err(_) => Shutdown::LeaveJobs,
    }
}

/// Whether the other side may have done what was asked is not known after any of these; all questions may be repeated.
impl From<LinkError> for LineError {
    fn from(error: LinkError) -> LineError {
        if error.is_lost() { LineError::Gone } else { LineError::Broken(crate::error::whole(&error)) }
    }
}
