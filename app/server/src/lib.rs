//! One address for everything that people and tools use: API, Git, registry, pages, events, metrics.
//!
//! In: HTTP requests with tokens, hook calls of pushes. Out: views, lines, commands to the road. Never: a decision
//! about a change; an answer to somebody without the right that the table asks for.

mod api;
pub mod auth;
mod back;
mod came;
mod commands;
mod consent;
mod events;
mod git;
mod known;
pub mod listen;
mod logs;
mod metrics;
mod openapi;
mod pages;
mod problem;
pub mod push;
pub mod routes;
pub mod secrets;
mod what;
mod why;

pub use auth::{Auth, Caller, TokenRecord};
pub use problem::Problem;
pub use push::serve_hooks;
pub use secrets::SealedSecrets;

use slipway_change::Road;
use slipway_model::{Lane, ReleaseId, RunId};
use slipway_ports::Fut;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines of logs, wherever they are kept. The channel ends with the log (or never, when following).
pub trait LogSource: Send + Sync {
    /// The log of a job's run.
    fn job(
        &self,
        project: &slipway_model::ProjectName,
        run: &RunId,
        follow: bool,
    ) -> Fut<'_, Result<mpsc::Receiver<String>, String>>;
    /// The log of a lane's instances, of one release or of all: the last `tail` lines, then what comes when following.
    fn service(
        &self,
        lane: &Lane,
        release: Option<&ReleaseId>,
        tail: usize,
        follow: bool,
    ) -> Fut<'_, Result<mpsc::Receiver<String>, String>>;
}

/// What a clean-up did.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Swept {
    /// Blobs that something refers to.
    pub kept: u64,
    /// Blobs that nothing refers to, and that are young or in use.
    pub spared: u64,
    /// Blobs that are gone.
    pub removed: u64,
    /// What that gave back.
    pub removed_bytes: u64,
}

/// Removes what nothing refers to any more.
pub type CleanUp = Arc<dyn Fn() -> Fut<'static, Result<Swept, String>> + Send + Sync>;

/// Says which parts of the platform are not connected.
pub type Away = Arc<dyn Fn() -> Vec<&'static str> + Send + Sync>;

/// What the server is made of.
pub struct Parts {
    /// The road.
    pub road: Road,
    /// Git hosting.
    pub git: slipway_git::Git,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Secrets.
    pub secrets: Arc<SealedSecrets>,
    /// Logs.
    pub logs: Arc<dyn LogSource>,
    /// The registry's routes, mounted as they are.
    pub registry: axum::Router,
    /// The clean-up that also runs by itself.
    pub clean_up: CleanUp,
    /// Parts of the platform that are not connected now: `node`, `worker`.
    pub away: Away,
    /// A lane's address for people.
    pub url: Arc<dyn Fn(&Lane) -> String + Send + Sync>,
    /// The data folder, whose disk has to have room.
    pub data: std::path::PathBuf,
    /// This server's own address, `http://127.0.0.1:8400`.
    pub address: String,
    /// Host names it answers to, beside loopback ones.
    pub hosts: Vec<String>,
}

/// The server. Cloning shares it.
#[derive(Clone)]
pub struct Server {
    pub(crate) parts: Arc<Parts>,
}

impl Server {
    /// A server over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Server {
        Server { parts: Arc::new(parts) }
    }

    /// All its routes.
    pub fn router(&self) -> axum::Router {
        routes::router(self)
    }

    pub(crate) fn road(&self) -> &Road {
        &self.parts.road
    }

    pub(crate) fn now(&self) -> slipway_model::At {
        self.parts.road.stages().clock.now()
    }
}
