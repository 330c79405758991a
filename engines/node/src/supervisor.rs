//! Owns all lanes: what is wished, what is there, what is routed. One task, one message at a time.
//!
//! In: wishes, tales of instances, questions. Out: orders to instances, the proxy's table (replaced as a whole, so
//! that instances and traffic change as one), and what is seen. Never waits for an instance or for the link; the
//! only thing it waits for is a wish on its way to disk.

use crate::adopt::Found;
use crate::decide::{self, Have, Phase, Role};
use crate::lane::{LaneNow, Unit, is_empty};
use crate::life::{Begin, Common, Life, Order, Tale};
use crate::listeners::Listeners;
use crate::meta::Meta;
use crate::protocol::Refusal;
use crate::state::{LaneState, StateFolder};
use crate::table::{self, Route};
use crate::traffic::now;
use slipway_model::instance::{InstanceSpec, LaneSeen, LaneWish};
use slipway_model::{Digest, InstanceId, Lane, ReleaseId};
use slipway_ports::NodeEvent;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Adopted instances that were ready are looked at before the sockets serve again; no longer than this.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What the supervisor is told and asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Take this wish.
    Wish(Box<LaneWish>, oneshot::Sender<Result<(), Refusal>>),
    /// How is this lane?
    Observe(Lane, oneshot::Sender<Option<LaneSeen>>),
    /// Which instances of this release are ready?
    Ready(Lane, ReleaseId, oneshot::Sender<Vec<InstanceId>>),
    /// Something happened to an instance.
    Tale(InstanceId, Tale),
    /// Requests to this release fail.
    Doubt(Lane, ReleaseId),
    /// Say how every lane is.
    ShowAll,
    /// Stop every instance; the wishes stay. Answered when all are gone.
    StopEverything(oneshot::Sender<()>),
}

pub(crate) struct Supervisor {
    common: Arc<Common>,
    states: Arc<StateFolder>,
    listeners: Listeners,
    lanes: BTreeMap<Lane, LaneNow>,
    inbox: mpsc::Receiver<Message>,
    own: mpsc::Sender<Message>,
    outbox: mpsc::Sender<NodeEvent>,
    lives: JoinSet<()>,
    born: u64,
    /// Everything is to stop, and who waits for it.
    stopping: Option<Vec<oneshot::Sender<()>>>,
    /// Adopted instances that were ready and were not looked at yet.
    unseen: HashSet<InstanceId>,
}

/// What a supervisor needs from outside.
pub(crate) struct Surroundings {
    pub(crate) common: Arc<Common>,
    pub(crate) states: Arc<StateFolder>,
    pub(crate) listeners: Listeners,
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) own: mpsc::Sender<Message>,
    pub(crate) outbox: mpsc::Sender<NodeEvent>,
}

impl Supervisor {
    /// Takes over what is stored and what was found.
    pub(crate) fn new(around: Surroundings, stored: Vec<LaneState>, found: Vec<Found>) -> Supervisor {
        let Surroundings { common, states, listeners, inbox, own, outbox } = around;
        let mut supervisor = Supervisor {
            common,
            states,
            listeners,
            lanes: BTreeMap::new(),
            inbox,
            own,
            outbox,
            lives: JoinSet::new(),
            born: 0,
            stopping: None,
            unseen: HashSet::new(),
        };
        for state in stored {
            supervisor.lanes.insert(state.wish.lane.clone(), LaneNow::new(state));
        }
        for one in found {
            supervisor.adopt(one);
        }
        supervisor.name_images();
        let lanes: Vec<Lane> = supervisor.lanes.keys().cloned().collect();
        for lane in lanes {
            supervisor.bind(&lane);
            supervisor.reconcile(&lane);
        }
        supervisor.clean_images();
        supervisor
    }

    /// Works until the senders are gone, or [`Leave`] comes. Dropping the future leaves every instance alone.
    pub(crate) async fn run(mut self, mut leave: oneshot::Receiver<Leave>) {
        let open_at = Instant::now() + LOOK_WITHIN;
        loop {
            if !self.listeners.is_open() && self.unseen.is_empty() {
                self.listeners.open();
            }
            tokio::select! {
                biased;
                leave = &mut leave => {
                    if let Ok(leave) = leave {
                        self.listeners.shut_down(leave.within).await;
                        let _ = leave.done.send(());
                    }
                    return;
                }
                () = tokio::time::sleep_until(open_at), if !self.listeners.is_open() => self.unseen.clear(),
                Some(_) = self.lives.join_next(), if !self.lives.is_empty() => {}
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Wish(wish, answer) => {
                let taken = self.wish(*wish).await;
                let _ = answer.send(taken);
            }
            Message::Observe(lane, answer) => {
                let seen = self.lanes.get(&lane).map(|now| self.seen(&lane, now));
                let _ = answer.send(seen);
            }
            Message::Ready(lane, release, answer) => {
                let units = self.lanes.get(&lane).map_or(&[][..], |now| &now.units);
                let ready = units.iter().filter(|unit| unit.phase == Phase::Ready && unit.meta.release == release);
                let _ = answer.send(ready.map(|unit| unit.meta.id.clone()).collect());
            }
            Message::Tale(id, tale) => self.tale(&id, tale),
            Message::Doubt(lane, release) => {
                let units = self.lanes.get(&lane).map_or(&[][..], |now| &now.units);
                for unit in units.iter().filter(|unit| unit.meta.release == release) {
                    let _ = unit.orders.send(Order::Doubt);
                }
            }
            Message::ShowAll => {
                let lanes: Vec<Lane> = self.lanes.keys().cloned().collect();
                lanes.iter().for_each(|lane| self.show(lane));
            }
            Message::StopEverything(answer) => {
                self.stopping.get_or_insert_default().push(answer);
                let lanes: Vec<Lane> = self.lanes.keys().cloned().collect();
                lanes.iter().for_each(|lane| self.reconcile(lane));
                self.answer_if_all_stopped();
            }
        }
    }

    async fn wish(&mut self, wish: LaneWish) -> Result<(), Refusal> {
        let wish = decide::normalise(wish);
        let lane = wish.lane.clone();
        if let Some(known) = self.lanes.get(&lane).map(|now| &now.state.wish) {
            if wish.epoch < known.epoch {
                return Err(Refusal::Stale { given: wish.epoch, current: known.epoch });
            }
            if *known == wish {
                return Ok(());
            }
        }
        if let Some(reason) = decide::refuse(&wish).or_else(|| self.host_conflict(&wish)) {
            return Err(Refusal::Refused { reason });
        }
        let had = self.lanes.get(&lane).map_or(0, |now| now.state.port);
        let port = if is_empty(&wish) { had } else { self.port(&wish, had)? };
        let state = LaneState::new(wish, port);
        let (states, stored) = (Arc::clone(&self.states), state.clone());
        let storing = tokio::task::spawn_blocking(move || states.store(&stored)).await;
        storing
            .unwrap_or_else(|_| Err("the storing broke off".into()))
            .map_err(|reason| Refusal::Refused { reason })?;
        if is_empty(&state.wish) {
            self.listeners.close(&lane);
        }
        match self.lanes.get_mut(&lane) {
            Some(now) => now.state = state,
            None => {
                self.lanes.insert(lane.clone(), LaneNow::new(state));
            }
        }
        self.name_images();
        self.hand_out_specs(&lane);
        self.reconcile(&lane);
        self.clean_images();
        Ok(())
    }

    fn port(&mut self, wish: &LaneWish, had: u16) -> Result<u16, Refusal> {
        self.listeners.lane(&wish.lane, wish.port, had).map_err(|reason| Refusal::Refused { reason })
    }

    /// One host name reaches one lane.
    fn host_conflict(&self, wish: &LaneWish) -> Option<String> {
        let others = self.lanes.iter().filter(|(lane, _)| **lane != wish.lane);
        let mut claims = others.flat_map(|(lane, now)| now.state.wish.hosts.iter().map(move |host| (host, lane)));
        let (host, lane) = claims.find(|(host, _)| wish.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))?;
        Some(format!("host name `{host}` of `{}` belongs to `{lane}` already", wish.lane))
    }

    /// Gives a stored lane its port again.
    fn bind(&mut self, lane: &Lane) {
        let Some(now) = self.lanes.get_mut(lane).filter(|now| !is_empty(&now.state.wish)) else { return };
        match self.listeners.lane(lane, now.state.wish.port, now.state.port) {
            Ok(port) => now.state.port = port,
            Err(trouble) => now.trouble = Some(trouble),
        }
    }

    fn adopt(&mut self, found: Found) {
        let Found { meta, begin } = found;
        let (lane, id) = (meta.lane.clone(), meta.id.clone());
        let wished =
            self.lanes.get(&lane).and_then(|now| now.state.wish.slots.iter().find(|s| s.release == meta.release));
        // Without a wish it will be stopped; its secrets are not needed for that.
        let spec = wished.map_or_else(|| meta.spec.clone(), |slot| slot.spec.clone());
        if matches!(begin, Begin::Adopted(_)) && meta.ready {
            self.unseen.insert(id);
        }
        let unit = self.enter(meta, spec, begin);
        if !self.lanes.contains_key(&lane) {
            let nothing = LaneWish {
                lane: lane.clone(),
                epoch: 0,
                slots: Vec::new(),
                weights: Vec::new(),
                hosts: Vec::new(),
                port: 0,
                notice: String::new(),
            };
            self.lanes.insert(lane.clone(), LaneNow::new(LaneState::new(nothing, 0)));
        }
        if let Some(now) = self.lanes.get_mut(&lane) {
            now.units.push(unit);
        }
    }

    /// Lets a life begin.
    fn enter(&mut self, meta: Meta, spec: InstanceSpec, begin: Begin) -> Unit {
        self.born += 1;
        let (orders, taken) = mpsc::unbounded_channel();
        let digest = spec.digest();
        let life = Life {
            common: Arc::clone(&self.common),
            meta: meta.clone(),
            spec,
            orders: taken,
            supervisor: self.own.clone(),
            falls: 0,
        };
        self.lives.spawn(life.run(begin));
        Unit {
            meta,
            phase: Phase::Starting,
            role: Role::Serving,
            born: self.born,
            since: now(),
            reason: String::new(),
            orders,
            spec: digest,
            stuck: false,
        }
    }

    /// Processes that are started from now on get the newest specification; running ones keep theirs.
    fn hand_out_specs(&mut self, lane: &Lane) {
        let Some(now) = self.lanes.get_mut(lane) else { return };
        for slot in &now.state.wish.slots {
            let digest = slot.spec.digest();
            let is_other = |unit: &Unit| unit.spec != digest || unit.meta.places != slot.places;
            for unit in now.units.iter_mut().filter(|u| u.meta.release == slot.release && is_other(u)) {
                (unit.spec, unit.meta.places) = (digest.clone(), slot.places.clone());
                let _ = unit.orders.send(Order::Spec(Box::new(slot.spec.clone()), slot.places.clone()));
            }
        }
    }

    /// Makes a lane as its wish says: withdraws first, routes, and only then stops.
    fn reconcile(&mut self, lane: &Lane) {
        let Some(lane_now) = self.lanes.get(lane) else { return };
        let mut plan = decide::plan(&lane_now.state.wish, &lane_now.have());
        if self.stopping.is_some() {
            let staying = plan.roles.drain(..).map(|(id, _)| id);
            plan.stop.extend(staying);
            plan.start.clear();
        }
        let mut started = Vec::new();
        let mut trouble = None;
        for (index, count) in &plan.start {
            let Some(slot) = lane_now.state.wish.slots.get(*index) else { continue };
            for _ in 0..*count {
                match Meta::new(lane, slot, now()) {
                    Ok(meta) => started.push((meta, slot.spec.clone())),
                    Err(why) => trouble = Some(why),
                }
            }
        }
        let started: Vec<Unit> = started.into_iter().map(|(meta, spec)| self.enter(meta, spec, Begin::Fresh)).collect();
        let Some(lane_now) = self.lanes.get_mut(lane) else { return };
        lane_now.units.extend(started);
        lane_now.trouble = trouble;
        for unit in &mut lane_now.units {
            if let Some((_, role)) = plan.roles.iter().find(|(id, _)| *id == unit.meta.id)
                && unit.role != *role
            {
                (unit.role, unit.since) = (*role, now());
            }
            if plan.stop.contains(&unit.meta.id) {
                unit.turn(Phase::Draining, String::new());
            }
        }
        lane_now.give_places();
        self.route();
        let stopping = self.lanes.get(lane).map_or(&[][..], |now| &now.units);
        for unit in stopping.iter().filter(|unit| plan.stop.contains(&unit.meta.id)) {
            let _ = unit.orders.send(Order::Stop);
        }
        self.show(lane);
    }

    fn tale(&mut self, id: &InstanceId, tale: Tale) {
        self.unseen.remove(id);
        let found = self.lanes.iter_mut().find_map(|(lane, now)| {
            let unit = now.units.iter_mut().find(|unit| unit.meta.id == *id)?;
            Some((lane.clone(), unit))
        });
        let Some((lane, unit)) = found else { return };
        let leaving = unit.phase.is_leaving();
        match tale {
            Tale::Looked => return,
            Tale::Started(meta) => unit.meta = *meta,
            Tale::Reason(reason, stuck) => (unit.reason, unit.stuck) = (reason, stuck),
            Tale::Ready(meta) => {
                unit.meta = *meta;
                unit.unless_leaving(Phase::Ready, String::new());
            }
            Tale::Unready(reason) => unit.unless_leaving(Phase::Unready, reason),
            Tale::Ended(meta, reason) => {
                unit.meta = *meta;
                unit.unless_leaving(Phase::BackingOff, reason);
            }
            Tale::Stopping => unit.turn(Phase::Stopping, String::new()),
            Tale::Stopped(exit) => {
                unit.meta.exit = exit.or(unit.meta.exit.take());
                // What it said about its end, if anything.
                let reason = std::mem::take(&mut unit.reason);
                unit.turn(Phase::Stopped, reason);
            }
        }
        let stopped = unit.phase == Phase::Stopped;
        if leaving || stopped {
            self.route();
            self.show(&lane);
        } else {
            self.reconcile(&lane);
        }
        if stopped {
            if let Some(now) = self.lanes.get_mut(&lane) {
                now.units.retain(|unit| unit.phase != Phase::Stopped);
            }
            self.reconcile(&lane);
            self.answer_if_all_stopped();
        }
    }

    fn answer_if_all_stopped(&mut self) {
        if let Some(waiting) = &mut self.stopping
            && self.lanes.values().all(|now| now.units.is_empty())
        {
            // It stays so: only a next node starts them again.
            waiting.drain(..).for_each(|waiting| {
                let _ = waiting.send(());
            });
        }
    }

    /// Gives the proxy all routes in one step, if they are others.
    fn route(&mut self) {
        for now in self.lanes.values_mut() {
            let have = now.have();
            now.weights = decide::effective_weights(&now.state.wish, &have);
            let serves = now.weights.iter().any(|(_, weight)| *weight > 0);
            now.down_since = (!serves).then(|| now.down_since.unwrap_or_else(self::now));
        }
        let instances: Vec<Vec<Have>> = self.lanes.values().map(LaneNow::have).collect();
        let lanes = self.lanes.iter().filter(|(_, now)| !is_empty(&now.state.wish) || !now.units.is_empty());
        let lanes: Vec<_> = lanes.collect();
        let routes = self.lanes.iter().zip(&instances).map(|((lane, now), instances)| Route {
            lane,
            hosts: &now.state.wish.hosts,
            port: now.state.port,
            weights: &now.weights,
            instances,
            notice: &now.state.wish.notice,
            down_since: now.down_since,
        });
        let shown: HashSet<&Lane> = lanes.into_iter().map(|(lane, _)| lane).collect();
        let table = table::table(routes.filter(|route| shown.contains(route.lane)));
        let applied = if *self.common.proxy.table() == table { Ok(()) } else { self.common.proxy.apply(table) };
        for now in self.lanes.values_mut() {
            now.routed = applied.is_ok() && decide::is_routed(&now.state.wish, &now.weights);
            if let Err(error) = &applied {
                now.trouble = Some(format!("routing could not be changed: {error}"));
            }
        }
    }

    fn show(&self, lane: &Lane) {
        if let Some(now) = self.lanes.get(lane) {
            // Full: the link is slow or down; when it is up, everything is shown again.
            let _ = self.outbox.try_send(NodeEvent::Seen(self.seen(lane, now)));
        }
    }

    fn seen(&self, lane: &Lane, now: &LaneNow) -> LaneSeen {
        LaneSeen {
            lane: lane.clone(),
            epoch: now.state.wish.epoch,
            routed: now.routed,
            instances: now.units.iter().map(|unit| unit.seen(now.trouble.as_deref())).collect(),
            weights: now.weights.clone(),
            addresses: self.listeners.addresses(lane, &now.state.wish.hosts),
        }
    }

    /// Says which images wishes and instances name.
    fn name_images(&self) {
        let wished =
            self.lanes.values().flat_map(|now| now.state.wish.slots.iter().map(|slot| slot.spec.image.clone()));
        let running = self.lanes.values().flat_map(|now| now.units.iter().map(|unit| unit.meta.image.clone()));
        let named: HashSet<Digest> = wished.chain(running).collect();
        self.common.starter.images.name(named);
    }

    fn clean_images(&mut self) {
        let common = Arc::clone(&self.common);
        self.lives.spawn_blocking(move || common.starter.images.clean());
    }
}

/// How a supervisor is told to leave the instances alone and end.
#[derive(Debug)]
pub(crate) struct Leave {
    /// For open requests.
    pub(crate) within: Duration,
    /// Told when they have ended.
    pub(crate) done: oneshot::Sender<()>,
}
