//! One service in one environment as people see it.
//!
//! In: facts of the lane, what its node sees, what the proxy counts. Out: a [`LaneView`]. Never: a decision.

use crate::change::rollout_view;
use slipway_model::fact::{Body, Candidate, Fact, Gate, RolloutMoved};
use slipway_model::instance::{InstanceSeen, InstanceState, LaneSeen};
use slipway_model::release::Release;
use slipway_model::rollout::Phase;
use slipway_model::traffic::{LaneTraffic, percentile};
use slipway_model::view::{HistoryLine, InstanceView, LaneView, ReleaseView, TrafficView, Waiting};
use slipway_model::{At, ChangeId, CommitId, Lane, ReleaseId};
use std::collections::BTreeMap;

/// Rollouts remembered per lane for the history.
const HISTORY: usize = 500;
/// Ends of instances remembered per lane.
const ENDED: usize = 10;

/// What is known of a lane.
#[derive(Debug, Clone)]
pub struct LaneState {
    /// The lane.
    pub lane: Lane,
    /// The newest rollout.
    pub moved: Option<(RolloutMoved, At)>,
    /// The candidate and the newest answer to it.
    pub gate: Option<(Candidate, Gate, At)>,
    /// What serves.
    pub current: Option<ReleaseId>,
    /// Commits that are held, and why.
    pub held: Vec<(CommitId, String)>,
    /// When secrets of the environment were last set or removed, by name.
    pub secrets: BTreeMap<String, At>,
    /// What the node sees.
    pub seen: Option<LaneSeen>,
    /// What the proxy counted.
    pub traffic: Option<LaneTraffic>,
    /// Instances that ended by themselves or had to be killed, oldest first.
    pub ended: Vec<(At, InstanceSeen)>,
    /// Rollouts, oldest first.
    pub history: Vec<HistoryLine>,
}

impl LaneState {
    /// A lane of which nothing is known.
    #[must_use]
    pub fn new(lane: &Lane) -> LaneState {
        LaneState {
            lane: lane.clone(),
            moved: None,
            gate: None,
            current: None,
            held: Vec::new(),
            secrets: BTreeMap::new(),
            seen: None,
            traffic: None,
            ended: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Takes one fact that names this lane.
    pub fn apply(&mut self, fact: &Fact) {
        match &fact.body {
            Body::ReleaseQueued(candidate) => {
                self.gate = Some((candidate.clone(), queued(), fact.at));
            }
            // Who is told that a newer release goes in its place does not ask any more.
            Body::ReleaseGated { candidate, gate }
                if self.gate.as_ref().is_none_or(|(asking, ..)| asking == candidate) =>
            {
                self.gate = Some((candidate.clone(), gate.clone(), fact.at));
            }
            Body::HoldSet { commit, reason, .. } => {
                self.held.retain(|(held, _)| held != commit);
                self.held.push((commit.clone(), reason.clone()));
            }
            Body::HoldReleased { commit, .. } => self.held.retain(|(held, _)| held != commit),
            Body::RolloutPhase(moved) => self.moved(moved, fact),
            Body::InstanceState { instance, .. } => {
                self.ended.push((fact.at, (**instance).clone()));
                if self.ended.len() > ENDED {
                    self.ended.remove(0);
                }
            }
            _ => {}
        }
    }

    /// Instances that ended by themselves or had to be killed, for people: when, which, how.
    #[must_use]
    pub fn endings(&self) -> Vec<String> {
        let line = |(at, instance): &(At, InstanceSeen)| {
            let said = if instance.reason.is_empty() {
                instance.exit.as_ref().map_or_else(String::new, |exit| format!("exited with code {}", exit.code))
            } else {
                instance.reason.clone()
            };
            format!("{at} {} of {}: {said}", instance.id, instance.release)
        };
        self.ended.iter().map(line).collect()
    }

    /// Why the new instances of the rollout under way are not ready, where that is known.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        let moved = self.moved.as_ref().map(|(moved, _)| moved).filter(|moved| !moved.phase.is_final())?;
        let new = |instance: &&InstanceSeen| instance.release == moved.head.to.id && !instance.reason.is_empty();
        let instance = self.seen.as_ref()?.instances.iter().filter(new).find(|i| i.state != InstanceState::Ready)?;
        Some(format!("{} {}: {}", self.lane.environment, self.lane.service, instance.reason))
    }

    /// The change whose rollout was the newest here.
    #[must_use]
    pub fn change(&self) -> Option<&ChangeId> {
        self.moved.as_ref().and_then(|(moved, _)| moved.head.change.as_ref())
    }

    fn moved(&mut self, moved: &RolloutMoved, fact: &Fact) {
        let began = match &self.moved {
            Some((before, began)) if before.head.id == moved.head.id => *began,
            _ => fact.at,
        };
        match moved.phase {
            Phase::Baking | Phase::Contracting | Phase::Succeeded => self.current = Some(moved.head.to.id.clone()),
            Phase::RolledBack | Phase::Returning | Phase::NeedsHuman => {
                self.current = moved.head.from.as_ref().map(|from| from.id.clone());
            }
            _ => {}
        }
        let line = HistoryLine {
            at: began,
            lane: moved.head.lane.clone(),
            release: format!("r{}", moved.head.to.number),
            release_id: moved.head.to.id.clone(),
            commit: moved.head.commit.clone(),
            by: moved.head.by.clone(),
            result: moved.phase.word().into(),
            reason: moved.reason.clone(),
            took_ms: fact.at.since_ms(began),
        };
        let same = self.moved.as_ref().is_some_and(|(before, _)| before.head.id == moved.head.id);
        if same && !self.history.is_empty() {
            self.history.pop();
        }
        self.history.push(line);
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        self.moved = Some((moved.clone(), began));
    }

    /// The lane for people. `url` is its address as known without the node.
    #[must_use]
    pub fn view(&self, releases: &BTreeMap<ReleaseId, Release>, url: &str) -> LaneView {
        let mut addresses = self.seen.as_ref().map(|seen| seen.addresses.clone()).unwrap_or_default();
        if !url.is_empty() && !addresses.iter().any(|address| address == url) {
            addresses.insert(0, url.to_owned());
        }
        LaneView {
            name: self.lane.service.clone(),
            url: addresses.first().cloned().unwrap_or_default(),
            addresses,
            release: self.current.as_ref().and_then(|id| releases.get(id)).map(release_view),
            phase: self.phase(),
            waiting: self.waiting(),
            instances: self.instances(),
            traffic: self.shares(),
            held: self.held.iter().map(|(commit, _)| commit.clone()).collect(),
            stale_secrets: self.stale_secrets(releases),
            rollout: self.rollout().filter(|rollout| rollout.ended.is_none()),
        }
    }

    fn stale_secrets(&self, releases: &BTreeMap<ReleaseId, Release>) -> Vec<String> {
        let began = self.moved.as_ref().map_or(At(0), |(_, began)| *began);
        let serving = self.current.as_ref().and_then(|id| releases.get(id));
        let config = serving.and_then(|release| release.bundle.environment(&self.lane.environment));
        let has = |name: &&String| self.secrets.get(*name).is_some_and(|set| *set > began);
        config.map(|config| config.secrets.iter().filter(has).cloned().collect()).unwrap_or_default()
    }

    fn phase(&self) -> String {
        match (&self.moved, &self.gate) {
            (Some((moved, began)), Some((_, gate, asked))) if moved.phase.is_final() && asked > began => {
                gate_word(gate, moved.phase.word())
            }
            (Some((moved, _)), _) => moved.phase.word().to_owned(),
            (None, Some((_, gate, _))) => gate_word(gate, "queued"),
            (None, None) => "empty".into(),
        }
    }

    fn waiting(&self) -> Option<Waiting> {
        let (candidate, gate, since) = self.gate.as_ref()?;
        match gate {
            Gate::Wait { reason, who, until, next } => Some(Waiting {
                what: format!("r{}: {reason}", candidate.number),
                who: who.clone(),
                since: *since,
                until: *until,
                next: next.clone(),
            }),
            Gate::Open { .. } | Gate::Refused { .. } | Gate::Identical { .. } => None,
        }
    }

    fn instances(&self) -> Vec<InstanceView> {
        let Some(seen) = &self.seen else { return Vec::new() };
        seen.instances
            .iter()
            .map(|instance| InstanceView {
                id: instance.id.to_string(),
                release: instance.release.clone(),
                state: instance.state,
                address: instance.id.to_string(),
                since: instance.since,
                restarts: instance.restarts,
                ready_ms: instance.ready_ms,
                reason: instance.reason.clone(),
            })
            .collect()
    }

    fn shares(&self) -> Vec<TrafficView> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let all: u32 = seen.weights.iter().map(|(_, weight)| *weight).sum();
        seen.weights
            .iter()
            .map(|(release, weight)| {
                let counts = self.traffic.as_ref().and_then(|traffic| traffic.releases.get(release));
                TrafficView {
                    release: release.clone(),
                    weight: (weight * 100).checked_div(all).unwrap_or(0),
                    ready: self.ready(release),
                    requests: counts.map_or(0, |counts| counts.all.requests),
                    errors: counts.map_or(0, |counts| counts.all.errors),
                    p95_us: counts.map_or(0, |counts| percentile(&counts.latency, 95)),
                }
            })
            .collect()
    }

    fn ready(&self, release: &ReleaseId) -> u32 {
        let instances = self.seen.iter().flat_map(|seen| &seen.instances);
        let ready =
            instances.filter(|instance| &instance.release == release && instance.state == InstanceState::Ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// The newest rollout for people.
    #[must_use]
    pub fn rollout(&self) -> Option<slipway_model::view::RolloutView> {
        self.moved.as_ref().map(|(moved, began)| rollout_view(moved, *began))
    }
}

/// The gate of who has asked and was not answered yet.
#[must_use]
pub fn queued() -> Gate {
    Gate::Wait { reason: "asked just now".into(), who: None, until: None, next: None }
}

fn gate_word(gate: &Gate, otherwise: &str) -> String {
    match gate {
        Gate::Wait { .. } => "waiting".into(),
        Gate::Refused { .. } => "refused".into(),
        Gate::Identical { .. } | Gate::Open { .. } => otherwise.to_owned(),
    }
}

fn release_view(release: &Release) -> ReleaseView {
    ReleaseView {
        id: release.id.clone(),
        number: release.number,
        image: release.bundle.image.clone(),
        tag: release.origin.tag.clone(),
        commit: release.origin.commit.clone(),
    }
}
