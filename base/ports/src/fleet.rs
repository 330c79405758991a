//! The fleet and traffic ports: instances on nodes, routing to them, and what they answered.
//!
//! Both are level-triggered: a wish is the whole of what shall be, with a fencing epoch; repeating it changes nothing.

use crate::Fut;
use serde::{Deserialize, Serialize};
use slipway_model::Lane;
use slipway_model::instance::{LaneSeen, LaneWish};
use slipway_model::policy::Smoke;
use slipway_model::traffic::LaneTraffic;

/// Why a wish was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FleetError {
    /// A later holder of the lane has spoken.
    #[error("wish with epoch {given} for `{lane}` is stale: epoch {current} was seen")]
    Stale {
        /// The lane.
        lane: String,
        /// The epoch given.
        given: u64,
        /// The epoch that the node knows.
        current: u64,
    },
    /// No node is connected.
    #[error("no node is connected; instances keep running, changes wait until it is back")]
    NoNode,
    /// The node cannot do it.
    #[error("{0}")]
    Refused(String),
}

/// What a node says without being asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum NodeEvent {
    /// Something of a lane changed; the whole lane as it is now.
    Seen(LaneSeen),
    /// New counts (at most every few milliseconds while requests come).
    Traffic(LaneTraffic),
    /// The node came or went.
    Connected {
        /// Whether it is there now.
        up: bool,
    },
}

/// What a smoke request got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smoked {
    /// The instance asked.
    pub instance: String,
    /// `GET /health`.
    pub request: String,
    /// The status; 0 when no answer came.
    pub status: u16,
    /// How long it took.
    pub latency_us: u64,
    /// The beginning of the answer, or why none came.
    pub body: String,
}

/// Instances.
pub trait Fleet: Send + Sync {
    /// States the whole wish for a lane; returns once the node has stored it.
    fn wish(&self, wish: LaneWish) -> Fut<'_, Result<(), FleetError>>;
    /// The lane as the node sees it now.
    fn observe(&self, lane: &Lane) -> Fut<'_, Result<Option<LaneSeen>, FleetError>>;
    /// Sends requests to every ready instance of a release, inside, without the proxy.
    fn smoke(
        &self,
        lane: &Lane,
        release: &slipway_model::ReleaseId,
        requests: Vec<Smoke>,
    ) -> Fut<'_, Result<Vec<Smoked>, FleetError>>;
    /// The newest log lines of a release's instances in a lane.
    fn log_tail(&self, lane: &Lane, release: &slipway_model::ReleaseId, lines: usize) -> Fut<'_, Vec<String>>;
}

/// Routing. Weights travel in the same wish, so that instances and traffic change as one.
pub trait Traffic: Send + Sync {
    /// The counts of a lane now.
    fn counts(&self, lane: &Lane) -> Fut<'_, Option<LaneTraffic>>;
}

/// Counts as a source for verdicts; the built-in proxy is one, Prometheus another later.
pub trait Metrics: Traffic {}
impl<T: Traffic + ?Sized> Metrics for T {}
