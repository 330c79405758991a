//! What control plane and node say to each other over the link.
//!
//! In/out: plain data. Fields are only added, each with a default, so that N and N−1 understand each other.

use serde::{Deserialize, Serialize};
use slipway_model::instance::LaneWish;
use slipway_model::policy::Smoke;
use slipway_model::{At, InstanceId, Lane, ReleaseId, ServiceName};
use slipway_ports::NodeEvent;

/// What the control plane asks of a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// A wish. Answer: `Result<(), Refusal>`.
    Wish {
        /// The wish, secrets included.
        wish: LaneWish,
    },
    /// Answer: `Option<LaneSeen>`.
    Observe {
        /// The lane.
        lane: Lane,
    },
    /// Answer: `Vec<Smoked>`.
    Smoke {
        /// The lane.
        lane: Lane,
        /// Whose instances.
        release: ReleaseId,
        /// In this order, to each.
        requests: Vec<Smoke>,
    },
    /// Answer: `Vec<String>`.
    LogTail {
        /// The lane.
        lane: Lane,
        /// Whose instances.
        release: ReleaseId,
        /// How many lines.
        lines: usize,
    },
    /// Answer: `Option<LaneTraffic>`.
    Counts {
        /// The lane.
        lane: Lane,
    },
    /// Answer: `()`; then lines come as [`Say::Log`] until the end is said.
    Logs {
        /// The caller's number for this stream.
        stream: u64,
        /// Which lines.
        wanted: LogsWanted,
    },
    /// Ends a stream. Answer: `()`.
    LogsEnd {
        /// Its number.
        stream: u64,
    },
    /// Drain and stop every instance; the wishes stay. Answer, when all is stopped: `()`.
    StopEverything,
}

/// Why a wish was not taken.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Refusal {
    /// A later epoch was seen.
    Stale {
        /// The epoch given.
        given: u64,
        /// The epoch known.
        current: u64,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What a node says without being asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(crate) enum Say {
    /// Something of a lane.
    Event {
        /// What.
        event: NodeEvent,
    },
    /// Lines of a stream.
    Log {
        /// Its number.
        stream: u64,
        /// The lines.
        lines: Vec<LogLine>,
        /// Whether these are the last.
        end: bool,
    },
}

/// Which log lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsWanted {
    /// The lane.
    pub lane: Lane,
    /// Of this release only.
    #[serde(default)]
    pub release: Option<ReleaseId>,
    /// Whether to go on with what comes.
    #[serde(default)]
    pub follow: bool,
    /// Not older than this.
    #[serde(default)]
    pub since: Option<At>,
    /// At most so many of those that are there already, the newest.
    #[serde(default)]
    pub tail: Option<usize>,
}

/// One line of an instance (R160: release and service stand on every line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: At,
    /// The service.
    pub service: ServiceName,
    /// The release's id.
    pub release: ReleaseId,
    /// The release's number.
    pub number: u64,
    /// The instance.
    pub instance: InstanceId,
    /// `out`, `err`, or `note` for the node's own words.
    pub stream: String,
    /// What it says, masked.
    pub text: String,
}

impl LogLine {
    /// As one line of text.
    #[must_use]
    pub fn text_line(&self) -> String {
        format!("{} {}@r{} {} {} {}", self.at, self.service, self.number, self.release, self.instance, self.text)
    }
}
