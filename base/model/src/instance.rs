//! Instances: running copies of a service.
//!
//! In: nothing. Out: what a node is asked to run and what it reports. Never starts anything.

use crate::id::{Digest, InstanceId, Lane, ReleaseId, Secret};
use crate::release::{Health, Places, Resources, Stop};
use crate::time::At;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a lane shall look like on its node; the whole wish, never a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneWish {
    /// The lane.
    pub lane: Lane,
    /// Fencing: a wish with a lower epoch than the last one is refused.
    pub epoch: u64,
    /// Releases with instances; a release that is not named has none.
    pub slots: Vec<Slot>,
    /// Shares of traffic, in any unit; only ready serving instances get any.
    pub weights: Vec<(ReleaseId, u32)>,
    /// Host names that reach this lane.
    pub hosts: Vec<String>,
    /// The port of its own on the node's address; 0 picks a free one, which stays.
    pub port: u16,
    /// What to say while nothing is ready.
    pub notice: String,
}

/// Instances of one release in a lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The release.
    pub release: ReleaseId,
    /// Its number, for logs and names.
    pub number: u64,
    /// Instances that serve (once ready).
    pub serving: u32,
    /// Instances that are kept alive but withdrawn from routing.
    pub retiring: u32,
    /// How each runs.
    pub spec: InstanceSpec,
    /// Where that stands in the file, for explanations; changes nothing that runs.
    #[serde(default)]
    pub places: Places,
}

/// How an instance runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The image's manifest.
    pub image: Digest,
    /// Command instead of the image's own.
    pub command: Option<Vec<String>>,
    /// Configuration, without what the node itself adds (`PORT`, `SLIPWAY_*`).
    pub env: BTreeMap<String, String>,
    /// Secret files under `/run/secrets`.
    pub secrets: BTreeMap<String, Secret>,
    /// The port it listens on.
    pub port: u16,
    /// Readiness.
    pub health: Health,
    /// How it is stopped.
    pub stop: Stop,
    /// How long its requests in flight may take when withdrawn.
    pub drain_ms: u64,
    /// How long it may take to become ready.
    pub ready_ms: u64,
    /// Limits.
    pub resources: Resources,
}

/// The life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Its process starts or is not yet ready.
    Starting,
    /// It passed its readiness check and may get traffic.
    Ready,
    /// It was ready and is not any more.
    Unready,
    /// It ended by itself and waits to be started again.
    BackingOff,
    /// Withdrawn from routing, kept alive until the verdict.
    Retiring,
    /// Finishing its requests.
    Draining,
    /// Got its signal.
    Stopping,
    /// Gone.
    Stopped,
}

impl InstanceState {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            InstanceState::Starting => "starting",
            InstanceState::Ready => "ready",
            InstanceState::Unready => "unready",
            InstanceState::BackingOff => "backing-off",
            InstanceState::Retiring => "retiring",
            InstanceState::Draining => "draining",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
        }
    }
}

/// What a node sees of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSeen {
    /// Its id, unique over all time.
    pub id: InstanceId,
    /// The release it runs.
    pub release: ReleaseId,
    /// The image it really runs.
    pub image: Digest,
    /// Digest of the specification it was started with.
    pub spec: Digest,
    /// Where it is.
    pub state: InstanceState,
    /// Since when.
    pub since: At,
    /// How often it was started again.
    pub restarts: u32,
    /// From start to ready, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// Why it is not ready, from what was seen, ending in what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// It will not become ready by waiting longer: `reason` says what was seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stuck: bool,
    /// The exit of its last process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Whether the memory limit killed it.
    pub out_of_memory: bool,
    /// When.
    pub at: At,
    /// Its last line.
    pub last_line: String,
}

/// What a node sees of one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneSeen {
    /// The lane.
    pub lane: Lane,
    /// The epoch of the wish it works on.
    pub epoch: u64,
    /// Whether routing is as that wish says.
    pub routed: bool,
    /// Its instances.
    pub instances: Vec<InstanceSeen>,
    /// Shares of traffic as routed now.
    pub weights: Vec<(ReleaseId, u32)>,
    /// Addresses that reach it.
    pub addresses: Vec<String>,
}

impl InstanceSpec {
    /// A digest over everything but the values of secrets, so that "what runs" can be compared (R310): what began with an
    /// older value of a secret is what was intended then.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut named = self.clone();
        named.secrets.values_mut().for_each(|value| value.0.clear());
        Digest::of(&serde_json::to_vec(&named).unwrap_or_default())
    }
}
