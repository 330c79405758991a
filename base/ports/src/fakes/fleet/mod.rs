//! A node in memory: instances that start, become ready, crash and stop, and users that ask them.
//!
//! In: wishes, behaviours of images, faults at will. Out: the Fleet and Traffic ports, node events, every happening
//! told to who watches. Never: traffic to an instance that is not ready; a stop before routing is as wished.

mod behaviour;
mod lane;
mod users;

pub use behaviour::{Behaviour, Readiness};
pub use lane::{LaneModel, Running};

use super::chance::Chance;
use crate::{Fleet, FleetError, Fut, NodeEvent, Smoked, Traffic};
use slipway_model::instance::{LaneSeen, LaneWish};
use slipway_model::policy::Smoke;
use slipway_model::traffic::LaneTraffic;
use slipway_model::{At, Digest, Lane, ReleaseId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Time between two rounds of requests.
const ROUND_MS: u64 = 150;
/// The node's wall clock begins like everybody's.
const EPOCH_MS: u64 = 1_772_366_400_000;

/// What happens on the node, told before the next thing happens.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A wish was taken; the lane is as it was before.
    Wished {
        /// The lane with its wish until now.
        lane: &'a LaneModel,
        /// The new wish.
        wish: &'a LaneWish,
    },
    /// The lane changed.
    Changed(&'a LaneModel),
    /// The node begins to drain and stop an instance.
    Stopping {
        /// The lane.
        lane: &'a LaneModel,
        /// The instance.
        instance: &'a Running,
    },
    /// Requests came that no ready instance could take.
    Unserved {
        /// The lane.
        lane: &'a LaneModel,
        /// How many.
        requests: u64,
    },
}

type Observer = Box<dyn Fn(&Happening<'_>) + Send + Sync>;
type Sink = Box<dyn Fn(NodeEvent) + Send + Sync>;

struct Inner {
    lanes: BTreeMap<Lane, LaneModel>,
    behaviours: BTreeMap<Digest, Behaviour>,
    load: u64,
    chance: Chance,
    linked: bool,
    runs: bool,
    next_round_ms: u64,
    users: bool,
}

/// A node in memory.
pub struct FakeFleet {
    inner: Mutex<Inner>,
    observer: Observer,
    sink: Mutex<Option<Sink>>,
    began: Instant,
    changed: Notify,
}

impl FakeFleet {
    /// A node without lanes; `observer` sees everything that happens on it.
    #[must_use]
    pub fn new(chance: Chance, observer: impl Fn(&Happening<'_>) + Send + Sync + 'static) -> FakeFleet {
        let inner = Inner {
            lanes: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            load: 0,
            chance,
            linked: true,
            runs: true,
            next_round_ms: 0,
            users: true,
        };
        FakeFleet {
            inner: Mutex::new(inner),
            observer: Box::new(observer),
            sink: Mutex::default(),
            began: Instant::now(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How an image behaves once it runs.
    pub fn behaves(&self, image: &Digest, behaviour: Behaviour) {
        self.lock().behaviours.insert(image.clone(), behaviour);
    }

    /// How many requests users send to each lane in each round.
    pub fn load_all(&self, requests: u64) {
        self.lock().load = requests;
    }

    /// Who gets the node's events from now on.
    pub fn tell(&self, sink: impl Fn(NodeEvent) + Send + Sync + 'static) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sink));
    }

    /// Looks at the lanes.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<Lane, LaneModel>) -> T) -> T {
        look(&self.lock().lanes)
    }

    /// Cuts or restores the connection to the control plane. Instances and users do not notice.
    pub fn link(&self, up: bool) {
        let was = std::mem::replace(&mut self.lock().linked, up);
        if was != up {
            self.send(vec![NodeEvent::Connected { up }]);
        }
    }

    /// Ends or starts the node's process. Instances live on; users wait; nothing is started or stopped meanwhile.
    pub fn process(&self, up: bool) {
        self.lock().runs = up;
        self.link(up);
        self.changed.notify_one();
    }

    /// Ends the process of one instance that is ready, by chance.
    pub fn crash_one(&self) {
        let events = {
            let now = self.now_ms();
            let mut inner = self.lock();
            let Inner { lanes, chance, .. } = &mut *inner;
            let mut all: Vec<&mut LaneModel> = lanes.values_mut().filter(|lane| lane.has_ready()).collect();
            let index = usize::try_from(chance.below(all.len() as u64)).unwrap_or(0);
            match all.get_mut(index) {
                Some(lane) => {
                    lane.crash(now, chance);
                    self.after(lane, now)
                }
                None => Vec::new(),
            }
        };
        self.send(events);
    }

    /// No more requests from now on.
    pub fn quiet(&self) {
        self.lock().users = false;
    }

    /// Lives: carries out wishes and sends requests, until dropped.
    pub async fn live(&self) {
        loop {
            let events = self.advance();
            self.send(events);
            let due = self.due_ms();
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(self.began + Duration::from_millis(due)) => {}
            }
        }
    }

    fn due_ms(&self) -> u64 {
        let now = self.now_ms();
        let inner = self.lock();
        if !inner.runs {
            return now + 10_000;
        }
        let soonest = inner.lanes.values().filter_map(LaneModel::due_ms).min().unwrap_or(now + 10_000);
        let round = if inner.users { inner.next_round_ms } else { now + 10_000 };
        soonest.min(round).max(now + 1)
    }

    fn advance(&self) -> Vec<NodeEvent> {
        let now = self.now_ms();
        let mut events = Vec::new();
        let mut inner = self.lock();
        if !inner.runs {
            return events;
        }
        let Inner { lanes, behaviours, load, chance, next_round_ms, users, .. } = &mut *inner;
        for lane in lanes.values_mut() {
            if lane.advance(now, behaviours, chance, &|happening| (self.observer)(happening)) {
                events.extend(self.after(lane, now));
            }
        }
        if *users && *next_round_ms <= now {
            *next_round_ms = now + ROUND_MS;
            for lane in lanes.values_mut() {
                let at = At(EPOCH_MS + now);
                let unserved = users::round(lane, *load, behaviours, chance, at);
                if unserved > 0 {
                    (self.observer)(&Happening::Unserved { lane, requests: unserved });
                }
                if *load > unserved {
                    events.push(NodeEvent::Traffic(lane.traffic(at)));
                }
            }
        }
        events
    }

    fn after(&self, lane: &LaneModel, now: u64) -> Vec<NodeEvent> {
        (self.observer)(&Happening::Changed(lane));
        vec![NodeEvent::Seen(lane.seen(At(EPOCH_MS + now)))]
    }

    fn send(&self, events: Vec<NodeEvent>) {
        let linked = self.lock().linked;
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sink) = &*sink else { return };
        for event in events {
            if linked || matches!(event, NodeEvent::Connected { .. }) {
                sink(event);
            }
        }
    }

    fn is_linked(&self) -> Result<(), FleetError> {
        if self.lock().linked { Ok(()) } else { Err(FleetError::NoNode) }
    }

    fn take(&self, wish: LaneWish) -> Result<(), FleetError> {
        self.is_linked()?;
        let now = self.now_ms();
        let mut inner = self.lock();
        let Inner { lanes, chance, .. } = &mut *inner;
        let lane = lanes.entry(wish.lane.clone()).or_insert_with(|| LaneModel::new(&wish.lane));
        let current = lane.epoch();
        if wish.epoch < current {
            return Err(FleetError::Stale { lane: wish.lane.to_string(), given: wish.epoch, current });
        }
        (self.observer)(&Happening::Wished { lane, wish: &wish });
        lane.wish(wish, now + chance.between(1, 5));
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    fn answers(&self, lane: &Lane, release: &ReleaseId, requests: &[Smoke]) -> Result<Vec<Smoked>, FleetError> {
        self.is_linked()?;
        let mut inner = self.lock();
        let Inner { lanes, behaviours, chance, .. } = &mut *inner;
        let Some(lane) = lanes.get(lane) else { return Ok(Vec::new()) };
        Ok(users::smoke(lane, release, requests, behaviours, chance))
    }
}

impl Fleet for FakeFleet {
    fn wish(&self, wish: LaneWish) -> Fut<'_, Result<(), FleetError>> {
        Box::pin(async move { self.take(wish) })
    }

    fn observe(&self, lane: &Lane) -> Fut<'_, Result<Option<LaneSeen>, FleetError>> {
        let at = At(EPOCH_MS + self.now_ms());
        let seen = self.is_linked().map(|()| self.look(|lanes| lanes.get(lane).map(|lane| lane.seen(at))));
        Box::pin(std::future::ready(seen))
    }

    fn smoke(
        &self,
        lane: &Lane,
        release: &ReleaseId,
        requests: Vec<Smoke>,
    ) -> Fut<'_, Result<Vec<Smoked>, FleetError>> {
        let (lane, release) = (lane.clone(), release.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            self.answers(&lane, &release, &requests)
        })
    }

    fn log_tail(&self, _lane: &Lane, release: &ReleaseId, _lines: usize) -> Fut<'_, Vec<String>> {
        let line = format!("{release} said something at api/app:1");
        Box::pin(std::future::ready(vec![line]))
    }
}

impl Traffic for FakeFleet {
    fn counts(&self, lane: &Lane) -> Fut<'_, Option<LaneTraffic>> {
        let at = At(EPOCH_MS + self.now_ms());
        let counts = self.look(|lanes| lanes.get(lane).map(|lane| lane.traffic(at)));
        Box::pin(std::future::ready(counts))
    }
}
