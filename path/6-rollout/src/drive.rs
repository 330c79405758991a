//! Drives the machine: load → decide → record → perform.
//!
//! In: a lane and an event. Out: facts in the lane's stream, wishes to the fleet. Never: performs what is not
//! recorded; decides on a version of the lane that is not the newest.
//!
//! Everything of one lane is serialised here by the lane's lock; lanes do not wait for each other.

use crate::decide::{Event, Intent, Now, Step, step};
use crate::record::{LaneRecord, State};
use crate::wish;
use slipway_model::fact::{Body, Candidate, RolloutMoved, stream};
use slipway_model::instance::{LaneSeen, LaneWish};
use slipway_model::policy::VerifyPolicy;
use slipway_model::release::Release;
use slipway_model::rollout::{Phase, Purpose, ReleaseRef, RolloutHead};
use slipway_model::{Lane, NewFact, ReleaseId, RolloutId};
use slipway_ports::{Append, Clock, Fleet, FleetError, Images, Secrets, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A machine that still moves after so many steps on one event is looping.
const STEPS_MAX: usize = 64;

/// Why a lane could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal did not take or give it.
    #[error("lane `{lane}`")]
    Store {
        /// The lane.
        lane: Lane,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A release that the lane names is not known.
    #[error("lane `{lane}` names release `{release}`, which is not in the journal")]
    NoRelease {
        /// The lane.
        lane: Lane,
        /// The release.
        release: ReleaseId,
    },
}

/// The machine's one function; replaced only to prove that a broken one is noticed.
pub type StepFn = Arc<dyn Fn(State, &Event, Now) -> Step + Send + Sync>;

/// Host names of a lane, first the one to show.
pub type Hosts = Arc<dyn Fn(&Lane) -> Vec<String> + Send + Sync>;

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Instances and routing.
    pub fleet: Arc<dyn Fleet>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Secret values.
    pub secrets: Arc<dyn Secrets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Host names of a lane, first the one to show.
    pub hosts: Hosts,
}

#[derive(Default)]
struct LaneActor {
    record: LaneRecord,
    loaded: bool,
    seen: Option<LaneSeen>,
    /// A turn ended in an error: what it recorded may not be performed yet, so the next one begins as after a restart.
    interrupted: bool,
}

/// The stage.
pub struct Rollouts {
    ports: Ports,
    step: StepFn,
    lanes: Mutex<BTreeMap<Lane, Arc<tokio::sync::Mutex<LaneActor>>>>,
}

impl Rollouts {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Rollouts {
        Rollouts::stepping_by(ports, Arc::new(step))
    }

    /// The same, moved by another function.
    #[must_use]
    pub fn stepping_by(ports: Ports, step: StepFn) -> Rollouts {
        Rollouts { ports, step, lanes: Mutex::default() }
    }

    fn actor(&self, lane: &Lane) -> Arc<tokio::sync::Mutex<LaneActor>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane.clone()).or_default().clone()
    }

    /// Begins the rollout that is pending in the lane, if its turn has come. A rollback takes back what runs first.
    ///
    /// # Errors
    /// When the journal fails or does not know the release.
    pub async fn begin(&self, lane: &Lane) -> Result<Option<u64>, DriveError> {
        let actor = self.actor(lane);
        let mut actor = actor.lock().await;
        self.load(lane, &mut actor).await?;
        if actor.interrupted {
            self.turn(lane, &mut actor, Event::Continue).await?;
        }
        let Some((candidate, gate_n)) = actor.record.pending().cloned() else {
            return Ok(deadline(&actor));
        };
        if let Some(state) = &actor.record.state
            && !state.phase.is_final()
        {
            let event = match (state.phase, candidate.purpose) {
                (Phase::Baking, Purpose::Deploy | Purpose::Refresh) => Event::Superseded,
                (_, Purpose::Rollback) => Event::Abort {
                    reason: format!("was taken back by {}, who wants r{}", candidate.by, candidate.number),
                },
                (_, Purpose::Deploy | Purpose::Refresh) => return Ok(deadline(&actor)),
            };
            // Its end is a fact that asks the gates again, and then begins what still may.
            self.turn(lane, &mut actor, event).await?;
            return Ok(deadline(&actor));
        }
        let mut state = self.first_state(lane, &actor.record, &candidate).await?;
        state.gate_n = gate_n;
        self.start(lane, &mut actor, state).await?;
        Ok(deadline(&actor))
    }

    /// Gives an event to the lane's rollout. Returns the monotonic time at which it wants to be woken.
    ///
    /// # Errors
    /// When the journal fails or does not know a release.
    pub async fn deliver(&self, lane: &Lane, event: Event) -> Result<Option<u64>, DriveError> {
        let actor = self.actor(lane);
        let mut actor = actor.lock().await;
        self.load(lane, &mut actor).await?;
        self.turn(lane, &mut actor, event).await?;
        Ok(deadline(&actor))
    }

    /// The node reports a lane.
    ///
    /// # Errors
    /// When the journal fails or does not know a release.
    pub async fn seen(&self, seen: LaneSeen) -> Result<Option<u64>, DriveError> {
        let lane = seen.lane.clone();
        let actor = self.actor(&lane);
        let mut actor = actor.lock().await;
        self.load(&lane, &mut actor).await?;
        actor.seen = Some(seen);
        self.turn(&lane, &mut actor, Event::Continue).await?;
        Ok(deadline(&actor))
    }

    /// The lane as its node sees it now; `None` when the node does not know it.
    ///
    /// # Errors
    /// When no node is connected.
    pub async fn observe(&self, lane: &Lane) -> Result<Option<LaneSeen>, FleetError> {
        self.ports.fleet.observe(lane).await
    }

    /// The lane's record as known now.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn record(&self, lane: &Lane) -> Result<LaneRecord, DriveError> {
        let actor = self.actor(lane);
        let mut actor = actor.lock().await;
        self.load(lane, &mut actor).await?;
        Ok(actor.record.clone())
    }

    async fn load(&self, lane: &Lane, actor: &mut LaneActor) -> Result<(), DriveError> {
        let failed = |source| DriveError::Store { lane: lane.clone(), source };
        if !actor.loaded {
            let own = stream::rollout(lane);
            actor.record = LaneRecord::default();
            for fact in self.ports.store.load(&lane.project, &own, 0).await.map_err(failed)? {
                actor.record.apply(&fact);
            }
            actor.loaded = true;
        }
        // The lane's stream is the release stage's: read what it added.
        let after = actor.record.lane_version;
        for fact in self.ports.store.load(&lane.project, &stream::lane(lane), after).await.map_err(failed)? {
            actor.record.apply(&fact);
        }
        Ok(())
    }

    async fn first_state(&self, lane: &Lane, record: &LaneRecord, candidate: &Candidate) -> Result<State, DriveError> {
        let to = self.release(lane, &candidate.release).await?;
        let from = record
            .current()
            .cloned()
            .filter(|from| from.id != candidate.release || candidate.purpose == Purpose::Refresh);
        let old = match &from {
            Some(from) => Some(self.release(lane, &from.id).await?),
            None => None,
        };
        let head = RolloutHead {
            id: RolloutId::parse(&format!("{}-{}-{}", lane.environment, lane.service, record.version + 1))
                .unwrap_or_else(|_| unreachable!("names are tokens")),
            lane: lane.clone(),
            from,
            to: ReleaseRef { id: candidate.release.clone(), number: candidate.number },
            purpose: candidate.purpose,
            commit: candidate.commit.clone(),
            change: candidate.change.clone(),
            by: candidate.by.clone(),
        };
        let serves_already = head.from.is_none() && record.current().is_some_and(|current| current.id == head.to.id);
        let mut state = State::new(head, wish::policy(&to, old.as_ref(), &lane.environment));
        if serves_already {
            // What went before it in this lane ended on this very release: there is nothing to move.
            state.phase = Phase::Succeeded;
            state.reason = "it serves already".into();
            state.new_serving = state.policy.desired;
            state.weights = (1, 0);
        }
        Ok(state)
    }

    async fn start(&self, lane: &Lane, actor: &mut LaneActor, mut state: State) -> Result<(), DriveError> {
        state.wish_epoch = actor.record.version + 1;
        let event = if state.phase.is_final() { Event::Resumed } else { Event::Continue };
        self.record_states(lane, actor, vec![(state, Vec::new())]).await?;
        self.turn(lane, actor, event).await
    }

    async fn turn(&self, lane: &Lane, actor: &mut LaneActor, event: Event) -> Result<(), DriveError> {
        let begins = if std::mem::replace(&mut actor.interrupted, true) { vec![Event::Resumed] } else { Vec::new() };
        for event in begins.into_iter().chain([event]) {
            self.steps(lane, actor, event).await?;
        }
        actor.interrupted = false;
        Ok(())
    }

    /// Steps until nothing moves any more, recording each state before anything of it is performed.
    async fn steps(&self, lane: &Lane, actor: &mut LaneActor, event: Event) -> Result<(), DriveError> {
        let mut events = vec![event];
        for _ in 0..STEPS_MAX {
            let Some(event) = events.pop() else {
                return Ok(());
            };
            let Some(before) = actor.record.state.clone() else {
                return Ok(());
            };
            let Step { state, intents } = (self.step)(before.clone(), &event, self.now());
            let moved = !state.same_record(&before);
            if !moved && intents.is_empty() && state == before {
                if event == Event::Continue
                    && let Some(seen) = self.seen_event(lane, actor).await?
                {
                    events.push(seen);
                }
                continue;
            }
            self.advance(lane, actor, &before, state, &intents, moved).await?;
            if !actor.record.state.as_ref().is_some_and(|state| state.phase.is_final()) {
                events.push(Event::Continue);
            }
            events.extend(self.perform(lane, actor, &intents).await?);
        }
        Ok(())
    }

    async fn advance(
        &self,
        lane: &Lane,
        actor: &mut LaneActor,
        before: &State,
        mut state: State,
        intents: &[Intent],
        moved: bool,
    ) -> Result<(), DriveError> {
        let judged = intents.contains(&Intent::Judge);
        if !moved && !judged {
            actor.record.state = Some(state);
            return Ok(());
        }
        if !state.same_wish(before) {
            state.wish_epoch = actor.record.version + 1;
        }
        let mut extra = Vec::new();
        if judged {
            let (rollout, step) = (state.head.id.clone(), state.step);
            extra.push(Body::VerdictWanted { rollout, lane: lane.clone(), step });
        }
        if intents.contains(&Intent::Hold) {
            let (commit, reason) = (state.head.commit.clone(), state.reason.clone());
            extra.push(Body::HoldSet { lane: lane.clone(), commit, reason });
        }
        self.record_states(lane, actor, vec![(state, extra)]).await
    }

    async fn record_states(
        &self,
        lane: &Lane,
        actor: &mut LaneActor,
        states: Vec<(State, Vec<Body>)>,
    ) -> Result<(), DriveError> {
        let mut append = Append::to(&lane.project, stream::rollout(lane)).expecting(actor.record.version);
        let mut last = None;
        for (state, extra) in states {
            let change = state.head.change.clone();
            append = append.fact(NewFact::new(change.clone(), Body::RolloutPhase(Box::new(moved(&state)))));
            for body in extra {
                append = append.fact(NewFact::new(change.clone(), body));
            }
            last = Some(state);
        }
        let appended = match self.ports.store.append(append).await {
            Ok(appended) => appended,
            Err(source) => {
                // The disk is full, or another holder of the journal wrote: what is known here is stale.
                actor.loaded = false;
                return Err(DriveError::Store { lane: lane.clone(), source });
            }
        };
        for fact in &appended.facts {
            actor.record.apply(fact);
        }
        actor.record.state = last;
        Ok(())
    }

    async fn perform(&self, lane: &Lane, actor: &mut LaneActor, intents: &[Intent]) -> Result<Vec<Event>, DriveError> {
        let mut events = Vec::new();
        let Some(state) = actor.record.state.clone() else {
            return Ok(events);
        };
        for intent in intents {
            match intent {
                Intent::Wish => self.send_wish(lane, &state).await?,
                Intent::Prepare => events.push(Event::Prepared(self.prepare(lane, &state).await?)),
                Intent::Smoke => {
                    events.push(Event::Smoked(self.smoke(lane, &state.head.to.id, &state.policy.verify).await))
                }
                Intent::SmokeOld => {
                    let Some(from) = &state.head.from else {
                        continue;
                    };
                    events.push(Event::OldSmoked(self.smoke(lane, &from.id, &state.policy.verify).await));
                }
                // Recorded as facts in `advance`; the road hands them on.
                Intent::Judge | Intent::Capture | Intent::Hold => {}
            }
        }
        Ok(events)
    }

    async fn send_wish(&self, lane: &Lane, state: &State) -> Result<(), DriveError> {
        let wish = self.wish_of(lane, state).await?;
        match self.ports.fleet.wish(wish).await {
            // No node: its coming back delivers `Resumed`, which states the wish again. Stale: a later holder of the
            // lane has spoken, and that is right.
            Ok(()) | Err(FleetError::NoNode | FleetError::Stale { .. } | FleetError::Refused(_)) => Ok(()),
        }
    }

    async fn wish_of(&self, lane: &Lane, state: &State) -> Result<LaneWish, DriveError> {
        let to = self.release(lane, &state.head.to.id).await?;
        let from = match &state.head.from {
            Some(from) => Some(self.release(lane, &from.id).await?),
            None => None,
        };
        let mut slots = Vec::new();
        if state.new_serving + state.new_retiring > 0 {
            slots.push(wish::slot(&to, lane, self.secrets(lane, &to).await, state.new_serving, state.new_retiring));
        }
        if let Some(from) = from.filter(|_| state.old_serving + state.old_retiring > 0) {
            slots.push(wish::slot(&from, lane, self.secrets(lane, &from).await, state.old_serving, state.old_retiring));
        }
        Ok(LaneWish {
            lane: lane.clone(),
            epoch: state.wish_epoch,
            slots,
            weights: wish::weights(state),
            hosts: (self.ports.hosts)(lane),
            port: 0,
            notice: crate::explain::notice(state),
        })
    }

    async fn prepare(&self, lane: &Lane, state: &State) -> Result<Result<(), String>, DriveError> {
        let to = self.release(lane, &state.head.to.id).await?;
        if !self.ports.images.exists(&to.bundle.image).await {
            let (number, image) = (to.number, &to.bundle.image);
            return Ok(Err(format!(
                "image `{image}` of r{number} is not in the registry any more; a push of the same content builds it again"
            )));
        }
        Ok(Ok(()))
    }

    async fn smoke(&self, lane: &Lane, release: &ReleaseId, policy: &VerifyPolicy) -> Result<(), String> {
        match self.ports.fleet.smoke(lane, release, policy.smoke.clone()).await {
            Ok(answers) => wish::smoke_failure(&answers).map_or(Ok(()), Err),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn secrets(&self, lane: &Lane, release: &Release) -> BTreeMap<String, slipway_model::Secret> {
        let mut values = BTreeMap::new();
        let names =
            release.bundle.environment(&lane.environment).map(|config| config.secrets.clone()).unwrap_or_default();
        for name in names {
            if let Ok(Some(value)) = self.ports.secrets.value(&lane.project, Some(&lane.environment), &name).await {
                values.insert(name, value);
            }
        }
        values
    }

    async fn release(&self, lane: &Lane, id: &ReleaseId) -> Result<Release, DriveError> {
        let row = self.ports.store.row(&lane.project, "release", &format!("{}/{id}", lane.service)).await;
        let value = row.map_err(|source| DriveError::Store { lane: lane.clone(), source })?;
        value
            .and_then(|value| serde_json::from_value(value).ok())
            .ok_or_else(|| DriveError::NoRelease { lane: lane.clone(), release: id.clone() })
    }

    async fn seen_event(&self, lane: &Lane, actor: &LaneActor) -> Result<Option<Event>, DriveError> {
        let (Some(seen), Some(state)) = (&actor.seen, &actor.record.state) else {
            return Ok(None);
        };
        if state.phase.is_final() {
            return Ok(None);
        }
        let proof = if state.phase == Phase::Promoting {
            let wanted = self.wish_of(lane, state).await?;
            wish::proof(&wanted, seen)
        } else {
            Ok(())
        };
        Ok(Some(Event::Seen { lane: seen.clone(), wish_epoch: state.wish_epoch, proof }))
    }

    fn now(&self) -> Now {
        Now { wall: self.ports.clock.now(), mono_ms: self.ports.clock.monotonic_ms() }
    }
}

fn deadline(actor: &LaneActor) -> Option<u64> {
    actor.record.state.as_ref().filter(|state| !state.phase.is_final()).and_then(|state| state.deadline_ms)
}

fn moved(state: &State) -> RolloutMoved {
    RolloutMoved {
        head: state.head.clone(),
        phase: state.phase,
        reason: state.reason.clone(),
        waits_until: None,
        steps: state.steps.clone(),
        weights: wish::weights(state),
        incident: state.incident,
        smoke_only: state.smoke_only,
        record: serde_json::to_value(state).unwrap_or_default(),
    }
}
