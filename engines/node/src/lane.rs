//! A lane and its instances, as the supervisor holds them in memory.
//!
//! In: what instances tell. Out: what is seen of them. Never sends, waits or stores anything.

use crate::decide::{Have, Phase, Role};
use crate::life::Order;
use crate::meta::Meta;
use crate::state::LaneState;
use crate::traffic::now;
use slipway_model::instance::{InstanceSeen, InstanceState, LaneWish};
use slipway_model::{At, Digest, ReleaseId};
use tokio::sync::mpsc;

/// One instance.
pub(crate) struct Unit {
    pub(crate) meta: Meta,
    pub(crate) phase: Phase,
    pub(crate) role: Role,
    pub(crate) born: u64,
    pub(crate) since: At,
    pub(crate) reason: String,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    /// The digest of the newest specification it was given.
    pub(crate) spec: Digest,
    /// It will not become ready by waiting longer.
    pub(crate) stuck: bool,
}

/// One lane.
pub(crate) struct LaneNow {
    pub(crate) state: LaneState,
    pub(crate) units: Vec<Unit>,
    pub(crate) weights: Vec<(ReleaseId, u32)>,
    pub(crate) routed: bool,
    /// Since when nothing is ready.
    pub(crate) down_since: Option<At>,
    /// Why instances cannot be started at all, or routing not be changed.
    pub(crate) trouble: Option<String>,
}

impl LaneNow {
    pub(crate) fn new(state: LaneState) -> LaneNow {
        LaneNow { state, units: Vec::new(), weights: Vec::new(), routed: false, down_since: None, trouble: None }
    }

    pub(crate) fn have(&self) -> Vec<Have> {
        self.units.iter().map(Unit::have).collect()
    }

    /// Instances in the order in which they were made, whatever happened to them since.
    pub(crate) fn give_places(&mut self) {
        self.units.sort_by_key(|unit| unit.born);
    }
}

impl Unit {
    pub(crate) fn have(&self) -> Have {
        Have {
            id: self.meta.id.clone(),
            release: self.meta.release.clone(),
            phase: self.phase,
            role: self.role,
            born: self.born,
        }
    }

    pub(crate) fn turn(&mut self, phase: Phase, reason: String) {
        if self.phase != phase {
            (self.phase, self.since) = (phase, now());
        }
        self.reason = reason;
        self.stuck = false;
    }

    /// What a process tells of itself changes nothing about its leaving.
    pub(crate) fn unless_leaving(&mut self, phase: Phase, reason: String) {
        if !self.phase.is_leaving() {
            self.turn(phase, reason);
        }
    }

    pub(crate) fn seen(&self, trouble: Option<&str>) -> InstanceSeen {
        let state = match (self.phase, self.role) {
            (Phase::Starting, _) => InstanceState::Starting,
            (Phase::Ready, Role::Serving) => InstanceState::Ready,
            (Phase::Ready, Role::Retiring) => InstanceState::Retiring,
            (Phase::Unready, _) => InstanceState::Unready,
            (Phase::BackingOff, _) => InstanceState::BackingOff,
            (Phase::Draining, _) => InstanceState::Draining,
            (Phase::Stopping, _) => InstanceState::Stopping,
            (Phase::Stopped, _) => InstanceState::Stopped,
        };
        let reason = if self.reason.is_empty() { trouble.unwrap_or_default() } else { &self.reason };
        InstanceSeen {
            id: self.meta.id.clone(),
            release: self.meta.release.clone(),
            image: self.meta.image.clone(),
            spec: self.meta.spec_digest.clone(),
            state,
            since: self.since,
            restarts: self.meta.restarts,
            ready_ms: self.meta.ready_ms,
            reason: reason.to_owned(),
            stuck: self.stuck,
            exit: self.meta.exit.clone(),
        }
    }
}

/// Nothing runs and nothing is reached.
pub(crate) fn is_empty(wish: &LaneWish) -> bool {
    wish.slots.is_empty() && wish.hosts.is_empty()
}
