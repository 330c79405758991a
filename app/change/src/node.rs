//! What nodes report, given to the stages that wait for it.
//!
//! In: node events, due timers. Out: calls of `rollout` and `verify`; `instance.state` facts for instances that
//! ended by themselves or had to be killed. Never: an event of one lane before an earlier one of the same lane.

use crate::drive::{Road, Work};
use crate::road::Aggregate;
use crate::timers::Purpose;
use slipway_model::fact::{Body, stream};
use slipway_model::instance::{InstanceSeen, InstanceState, LaneSeen};
use slipway_model::traffic::LaneTraffic;
use slipway_model::{Lane, NewFact};
use slipway_ports::{Append, NodeEvent};
use slipway_rollout::Event;
use std::sync::PoisonError;

impl Road {
    /// Takes an event of a node.
    pub fn node_event(&self, event: NodeEvent) {
        match event {
            NodeEvent::Seen(seen) => self.push(Aggregate::Lane(seen.lane.clone()), Work::Seen(Box::new(seen))),
            NodeEvent::Traffic(traffic) => {
                self.push(Aggregate::Lane(traffic.lane.clone()), Work::Traffic(Box::new(traffic)))
            }
            NodeEvent::Connected { up: true } => {
                for lane in self.lanes() {
                    self.push(Aggregate::Lane(lane.clone()), Work::Resume(lane));
                }
            }
            NodeEvent::Connected { up: false } => {}
        }
    }

    pub(crate) async fn seen(&self, seen: LaneSeen) {
        let lane = seen.lane.clone();
        let ended = self.newly_ended(&seen);
        self.inner.projection.write().unwrap_or_else(PoisonError::into_inner).seen(seen.clone());
        for instance in ended {
            let body = Body::InstanceState { lane: lane.clone(), instance: Box::new(instance) };
            let append = Append::to(&lane.project, stream::verdict(&lane)).fact(NewFact::new(None, body));
            if let Err(error) = self.inner.stages.store.append(append).await {
                (self.inner.stages.complain)(&format!("instance state of {lane}: {error}"));
            }
        }
        match self.inner.stages.rollouts.seen(seen).await {
            Ok(wake) => self.inner.timers.set(&lane, Purpose::Rollout, wake),
            Err(error) => self.complain_and_retry(&lane, &error),
        }
    }

    /// Instances that ended by themselves since the last look (R302), or had to be killed when told to end (R273).
    fn newly_ended(&self, seen: &LaneSeen) -> Vec<InstanceSeen> {
        self.look(|projection| {
            let project = projection.projects.get(&seen.lane.project);
            let key = (seen.lane.environment.clone(), seen.lane.service.clone());
            let before = project.and_then(|project| project.lanes.get(&key)).and_then(|lane| lane.seen.as_ref());
            let known = |instance: &InstanceSeen| {
                before.and_then(|before| before.instances.iter().find(|known| known.id == instance.id))
            };
            let fell = |instance: &InstanceSeen| instance.restarts > known(instance).map_or(0, |known| known.restarts);
            let resisted = |instance: &InstanceSeen| {
                instance.state == InstanceState::Stopped
                    && !instance.reason.is_empty()
                    && known(instance).is_none_or(|known| known.state != InstanceState::Stopped)
            };
            let newly = |instance: &&InstanceSeen| instance.exit.is_some() && (fell(instance) || resisted(instance));
            seen.instances.iter().filter(newly).cloned().collect()
        })
    }

    pub(crate) async fn traffic(&self, traffic: LaneTraffic) {
        let lane = traffic.lane.clone();
        self.inner.projection.write().unwrap_or_else(PoisonError::into_inner).traffic(traffic.clone());
        if !self.inner.stages.verify.is_watched(&lane) {
            return;
        }
        match self.inner.stages.verify.traffic(traffic).await {
            Ok(wake) => self.inner.timers.set(&lane, Purpose::Judge, wake),
            Err(error) => self.complain_and_retry(&lane, &error),
        }
    }

    pub(crate) async fn woken(&self, lane: &Lane, purpose: Purpose) {
        let woken = match purpose {
            Purpose::Rollout => self.deliver(lane, Event::Timer).await,
            Purpose::Judge => match self.inner.stages.verify.look(lane, None).await {
                Ok(wake) => {
                    self.inner.timers.set(lane, Purpose::Judge, wake);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(error) = woken {
            (self.inner.stages.complain)(&format!("{lane}: {error}"));
            self.inner.timers.set(lane, purpose, Some(self.inner.stages.clock.monotonic_ms() + 1000));
        }
    }

    pub(crate) async fn resume(&self, lane: &Lane) {
        if let Err(error) = self.deliver(lane, Event::Resumed).await {
            (self.inner.stages.complain)(&format!("resuming {lane}: {error}"));
            return;
        }
        if let Ok(Some(seen)) = self.observe(lane).await {
            self.seen(seen).await;
        }
        self.recapture(lane).await;
    }

    // A crash between `Capturing` and its evidence: nobody else asks for it again.
    async fn recapture(&self, lane: &Lane) {
        let key = (lane.environment.clone(), lane.service.clone());
        let moved = self.look(|projection| {
            let state = projection.projects.get(&lane.project)?.lanes.get(&key)?;
            state.moved.as_ref().map(|(moved, _)| moved.clone())
        });
        if let Some(moved) = moved.filter(|moved| moved.phase == slipway_model::rollout::Phase::Capturing)
            && let Err(error) = self.capture(&moved).await
        {
            (self.inner.stages.complain)(&format!("evidence of {lane}: {error}"));
        }
    }

    pub(crate) async fn deliver(&self, lane: &Lane, event: Event) -> Result<(), String> {
        let wake = self.inner.stages.rollouts.deliver(lane, event).await.map_err(|error| explained(&error))?;
        self.inner.timers.set(lane, Purpose::Rollout, wake);
        Ok(())
    }

    fn complain_and_retry(&self, lane: &Lane, error: &dyn std::error::Error) {
        (self.inner.stages.complain)(&format!("{lane}: {}", explained(error)));
        self.inner.timers.set(lane, Purpose::Rollout, Some(self.inner.stages.clock.monotonic_ms() + 1000));
    }
}

/// An error with its causes in one line.
pub(crate) fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
