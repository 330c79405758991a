//! One lane on the fake node.

use super::Happening;
use super::behaviour::{Behaviour, Readiness};
use crate::fakes::chance::Chance;
use slipway_model::instance::{Exit, InstanceSeen, InstanceState, LaneSeen, LaneWish};
use slipway_model::traffic::{LaneTraffic, ReleaseTraffic};
use slipway_model::{At, Digest, InstanceId, Lane, ReleaseId};
use std::collections::BTreeMap;

/// How long an instance finishes its requests, and how long it takes to end.
const DRAIN_MS: u64 = 40;
const STOP_MS: u64 = 20;
/// How long an instance that ends at its start lives, and the first pause before it is started again.
const EXIT_MS: u64 = 50;
const BACK_OFF_MS: u64 = 100;
/// Until it is known that one which never gets ready will not.
const STUCK_MS: u64 = 5_000;

/// One instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its id.
    pub id: InstanceId,
    /// Its release.
    pub release: ReleaseId,
    /// Its image.
    pub image: Digest,
    /// The digest of its specification.
    pub spec: Digest,
    /// Where it is.
    pub state: InstanceState,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it was ready at any time.
    pub was_ready: bool,
    /// Whether routing may use it once it is ready.
    pub serves: bool,
    /// When its state changes by itself.
    pub next_ms: Option<u64>,
    /// How its last process ended.
    pub exit: Option<Exit>,
    /// Why it is not ready.
    pub reason: String,
    /// It will not become ready by waiting longer.
    pub stuck: bool,
}

impl Running {
    /// Whether it counts: neither going nor gone.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, InstanceState::Draining | InstanceState::Stopping | InstanceState::Stopped)
    }

    /// Whether it would answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, InstanceState::Ready | InstanceState::Retiring)
    }

    /// Whether users reach it.
    #[must_use]
    pub fn is_in_routing(&self) -> bool {
        self.state == InstanceState::Ready
    }
}

/// One lane on the node.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneModel {
    /// The lane.
    pub lane: Lane,
    /// What is wished.
    pub wish: Option<LaneWish>,
    /// When routing will be as wished; `None` once it is.
    pub routing_ms: Option<u64>,
    /// Instances, oldest first.
    pub instances: Vec<Running>,
    /// Shares as routed now.
    pub weights: Vec<(ReleaseId, u32)>,
    /// What users got.
    pub counts: BTreeMap<ReleaseId, ReleaseTraffic>,
    started: u64,
}

impl LaneModel {
    pub(super) fn new(lane: &Lane) -> LaneModel {
        LaneModel {
            lane: lane.clone(),
            wish: None,
            routing_ms: None,
            instances: Vec::new(),
            weights: Vec::new(),
            counts: BTreeMap::new(),
            started: 0,
        }
    }

    /// The epoch of the wish; 0 without one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.wish.as_ref().map_or(0, |wish| wish.epoch)
    }

    /// Instances of a release that count.
    #[must_use]
    pub fn alive(&self, release: &ReleaseId) -> usize {
        self.instances.iter().filter(|one| &one.release == release && one.is_alive()).count()
    }

    /// Instances of a release that users reach.
    #[must_use]
    pub fn ready_in_routing(&self, release: &ReleaseId) -> usize {
        self.instances.iter().filter(|one| &one.release == release && one.is_in_routing()).count()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.instances.iter().any(Running::is_ready)
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.instances.iter().filter_map(|one| one.next_ms).chain(self.routing_ms).min()
    }

    pub(super) fn wish(&mut self, wish: LaneWish, routing_ms: u64) {
        let same = self.wish.as_ref().is_some_and(|before| {
            before.epoch == wish.epoch && before.slots == wish.slots && before.weights == wish.weights
        });
        if !same {
            self.routing_ms = Some(routing_ms);
        }
        self.wish = Some(wish);
    }

    pub(super) fn crash(&mut self, now: u64, chance: &mut Chance) {
        let mut ready: Vec<&mut Running> = self.instances.iter_mut().filter(|one| one.is_ready()).collect();
        let index = usize::try_from(chance.below(ready.len() as u64)).unwrap_or(0);
        if let Some(one) = ready.get_mut(index) {
            end(one, 139, now);
        }
    }

    /// Goes on to this moment. Returns whether anything changed.
    pub(super) fn advance(
        &mut self,
        now: u64,
        behaviours: &BTreeMap<Digest, Behaviour>,
        chance: &mut Chance,
        tell: &dyn Fn(&Happening<'_>),
    ) -> bool {
        let mut changed = self.start_missing(now, behaviours, chance);
        if self.routing_ms.is_some_and(|at| at <= now) {
            self.routing_ms = None;
            self.weights = self.wish.as_ref().map(|wish| wish.weights.clone()).unwrap_or_default();
            self.assign();
            self.stop_extra(now, tell);
            changed = true;
        }
        for one in &mut self.instances {
            if one.next_ms.is_some_and(|at| at <= now) {
                go_on(one, now, behaviours);
                changed = true;
            }
        }
        self.instances.retain(|one| one.state != InstanceState::Stopped);
        let instances = &self.instances;
        self.counts.retain(|release, _| instances.iter().any(|one| &one.release == release));
        if changed {
            self.assign();
        }
        changed
    }

    fn start_missing(&mut self, now: u64, behaviours: &BTreeMap<Digest, Behaviour>, chance: &mut Chance) -> bool {
        let Some(wish) = self.wish.clone() else { return false };
        let mut changed = false;
        for slot in &wish.slots {
            let wanted = (slot.serving + slot.retiring) as usize;
            for _ in self.alive(&slot.release)..wanted {
                self.started += 1;
                let name = format!("{}-{}-{}", self.lane.service, slot.release, self.started);
                let mut one = Running {
                    id: InstanceId::parse(&name).unwrap_or_else(|_| unreachable!("names and ids are tokens")),
                    release: slot.release.clone(),
                    image: slot.spec.image.clone(),
                    spec: slot.spec.digest(),
                    state: InstanceState::Starting,
                    restarts: 0,
                    was_ready: false,
                    serves: false,
                    next_ms: None,
                    exit: None,
                    reason: String::new(),
                    stuck: false,
                };
                start(&mut one, now + chance.below(20), behaviours);
                self.instances.push(one);
                changed = true;
            }
        }
        changed
    }

    /// Gives each instance its part: those that are or were ready serve first, then the older.
    fn assign(&mut self) {
        let Some(wish) = &self.wish else { return };
        for slot in &wish.slots {
            let mut mine: Vec<&mut Running> =
                self.instances.iter_mut().filter(|one| one.release == slot.release && one.is_alive()).collect();
            mine.sort_by_key(|one| (!one.is_ready(), !one.serves));
            for (place, one) in mine.into_iter().enumerate() {
                // Before routing is as wished nobody is withdrawn, and nobody is added to it.
                if self.routing_ms.is_none() || !one.was_ready {
                    one.serves = place < slot.serving as usize;
                }
                if one.is_ready() {
                    one.state = if one.serves { InstanceState::Ready } else { InstanceState::Retiring };
                }
            }
        }
    }

    fn stop_extra(&mut self, now: u64, tell: &dyn Fn(&Happening<'_>)) {
        let wish = self.wish.clone();
        let wanted = |release: &ReleaseId| {
            let slots = wish.iter().flat_map(|wish| &wish.slots);
            slots.filter(|slot| &slot.release == release).map(|slot| (slot.serving + slot.retiring) as usize).sum()
        };
        loop {
            let extra = self
                .instances
                .iter()
                .enumerate()
                .filter(|(_, one)| one.is_alive() && self.alive(&one.release) > wanted(&one.release))
                // Who does not serve goes first, of them the youngest.
                .min_by_key(|(index, one)| (one.serves, one.is_ready(), std::cmp::Reverse(*index)))
                .map(|(index, _)| index);
            let Some(index) = extra else { return };
            if let Some(one) = self.instances.get(index) {
                tell(&Happening::Stopping { lane: self, instance: one });
            }
            if let Some(one) = self.instances.get_mut(index) {
                one.state = InstanceState::Draining;
                one.next_ms = Some(now + DRAIN_MS);
            }
        }
    }

    /// The lane as the node reports it.
    #[must_use]
    pub fn seen(&self, at: At) -> LaneSeen {
        LaneSeen {
            lane: self.lane.clone(),
            epoch: self.epoch(),
            routed: self.routing_ms.is_none(),
            instances: self
                .instances
                .iter()
                .map(|one| InstanceSeen {
                    id: one.id.clone(),
                    release: one.release.clone(),
                    image: one.image.clone(),
                    spec: one.spec.clone(),
                    state: one.state,
                    since: at,
                    restarts: one.restarts,
                    ready_ms: None,
                    reason: one.reason.clone(),
                    stuck: one.stuck,
                    exit: one.exit.clone(),
                })
                .collect(),
            weights: self.weights.clone(),
            addresses: Vec::new(),
        }
    }

    pub(super) fn traffic(&self, at: At) -> LaneTraffic {
        LaneTraffic { lane: self.lane.clone(), at, releases: self.counts.clone() }
    }
}

fn start(one: &mut Running, now: u64, behaviours: &BTreeMap<Digest, Behaviour>) {
    one.state = InstanceState::Starting;
    let (next, reason) = match behaviours.get(&one.image).cloned().unwrap_or_default().ready {
        Readiness::After(ms) => (Some(now + ms), ""),
        // Of half of the images it can be seen that waiting is of no use; the other half runs into the deadline.
        Readiness::Never => {
            let is_seen = one.image.to_string().bytes().last().is_some_and(|digit| digit % 2 == 0);
            (is_seen.then_some(now + STUCK_MS), "nothing listens on PORT 8080")
        }
        Readiness::Exits(_) => (Some(now + EXIT_MS), ""),
    };
    one.next_ms = next;
    one.reason = reason.to_owned();
    one.stuck = false;
}

fn end(one: &mut Running, code: i32, now: u64) {
    one.restarts += 1;
    one.state = InstanceState::BackingOff;
    one.exit = Some(Exit { code, out_of_memory: false, at: At(now), last_line: "it ended".into() });
    one.reason = format!("ended with exit code {code}; last line: \"it ended\"");
    one.next_ms = Some(now + BACK_OFF_MS * u64::from(one.restarts));
}

fn go_on(one: &mut Running, now: u64, behaviours: &BTreeMap<Digest, Behaviour>) {
    match one.state {
        InstanceState::Starting => match behaviours.get(&one.image).cloned().unwrap_or_default().ready {
            Readiness::Exits(code) => end(one, code, now),
            Readiness::Never => {
                one.stuck = true;
                one.next_ms = None;
            }
            Readiness::After(_) => {
                one.state = InstanceState::Ready;
                one.was_ready = true;
                one.next_ms = None;
                one.reason.clear();
            }
        },
        InstanceState::BackingOff => start(one, now, behaviours),
        InstanceState::Draining => {
            one.state = InstanceState::Stopping;
            one.next_ms = Some(now + STOP_MS);
        }
        InstanceState::Stopping => {
            one.state = InstanceState::Stopped;
            one.next_ms = None;
        }
        InstanceState::Ready | InstanceState::Unready | InstanceState::Retiring | InstanceState::Stopped => {
            one.next_ms = None;
        }
    }
}
