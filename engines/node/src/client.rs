//! The control plane's side of a node.
//!
//! In: the ports' calls. Out: the same over the link, and the stream of [`NodeEvent`]s. Never keeps a wish: while no
//! node is there, a call fails with `NoNode`, and the caller states its wish again when one comes.

use crate::client_logs::{LogStream, Streams};
use crate::protocol::{Ask, LogsWanted, Refusal, Say};
use slipway_link::{Inbox, Incoming, LinkError, Peer};
use slipway_model::instance::{LaneSeen, LaneWish};
use slipway_model::policy::Smoke;
use slipway_model::traffic::LaneTraffic;
use slipway_model::{Lane, ReleaseId};
use slipway_ports::fleet::Smoked;
use slipway_ports::{Fleet, FleetError, Fut, NodeEvent, Traffic};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait to be taken; above it the node waits.
const EVENTS: usize = 1_024;
/// For what the node does at once, an fsync included.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// For one smoke request on the node's side, and the rest.
const SMOKE_LIMIT: Duration = Duration::from_secs(6);
/// For draining and stopping everything.
const STOP_LIMIT: Duration = Duration::from_secs(15 * 60);

/// One node, connected or not. Cheap to clone.
#[derive(Clone)]
pub struct NodeClient {
    shared: Arc<Shared>,
}

struct Shared {
    events: mpsc::Sender<NodeEvent>,
    peer: Mutex<Option<Peer>>,
    counts: Mutex<HashMap<Lane, LaneTraffic>>,
    streams: Streams,
}

impl NodeClient {
    /// No node is connected yet; what nodes say comes out of the receiver.
    #[must_use]
    pub fn new() -> (NodeClient, mpsc::Receiver<NodeEvent>) {
        let (events, taken) = mpsc::channel(EVENTS);
        let shared = Shared { events, peer: Mutex::default(), counts: Mutex::default(), streams: Streams::default() };
        (NodeClient { shared: Arc::new(shared) }, taken)
    }

    /// Serves one connection of a node to its end. A newer connection takes the place of an older one.
    pub async fn serve(&self, peer: Peer, mut inbox: Inbox) {
        let older = lock(&self.shared.peer).replace(peer.clone());
        if let Some(older) = older {
            older.end();
        }
        // A restarted node counts anew.
        lock(&self.shared.counts).clear();
        if self.shared.events.send(NodeEvent::Connected { up: true }).await.is_err() {
            return;
        }
        while let Some(incoming) = inbox.next().await {
            match incoming {
                Incoming::Event(event) => match event.read::<Say>() {
                    Ok(say) => self.hear(say).await,
                    // A newer node says more than this version understands.
                    Err(_) => continue,
                },
                Incoming::Call(call) => call.fail("the control plane answers no questions of nodes").await,
            }
        }
        let current = {
            let mut current = lock(&self.shared.peer);
            // It may have been replaced meanwhile.
            let own = current.as_ref().is_some_and(|current| !current.is_up());
            if own {
                *current = None;
            }
            own
        };
        if current {
            self.shared.streams.end_all();
            let _ = self.shared.events.send(NodeEvent::Connected { up: false }).await;
        }
    }

    async fn hear(&self, say: Say) {
        match say {
            Say::Event { event } => {
                if let NodeEvent::Traffic(traffic) = &event {
                    lock(&self.shared.counts).insert(traffic.lane.clone(), traffic.clone());
                }
                let _ = self.shared.events.send(event).await;
            }
            Say::Log { stream, lines, end } => self.shared.streams.hear(stream, lines, end).await,
        }
    }

    /// Whether a node is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.shared.peer).as_ref().is_some_and(Peer::is_up)
    }

    /// Log lines of a lane, those that are there and, when asked, those that come. Dropping the stream ends it.
    ///
    /// # Errors
    /// When no node is connected.
    pub async fn logs(&self, wanted: LogsWanted) -> Result<LogStream, FleetError> {
        let peer = self.peer()?;
        let stream = self.shared.streams.open(peer.clone());
        let ask = Ask::Logs { stream: stream.number(), wanted };
        peer.call::<_, ()>(&ask, ANSWER_LIMIT).await.map_err(fleet_error)?;
        Ok(stream)
    }

    /// Drains and stops every instance; the wishes stay, so that the next node starts them again. Returns when all
    /// are gone.
    ///
    /// # Errors
    /// When no node is connected, or it did not get done.
    pub async fn stop_everything(&self) -> Result<(), FleetError> {
        self.ask(&Ask::StopEverything, STOP_LIMIT).await
    }

    fn peer(&self) -> Result<Peer, FleetError> {
        lock(&self.shared.peer).clone().filter(Peer::is_up).ok_or(FleetError::NoNode)
    }

    async fn ask<A: serde::de::DeserializeOwned>(&self, ask: &Ask, limit: Duration) -> Result<A, FleetError> {
        self.peer()?.call(ask, limit).await.map_err(fleet_error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fleet_error(error: LinkError) -> FleetError {
    if error.is_lost() { FleetError::NoNode } else { FleetError::Refused(error.to_string()) }
}

impl Fleet for NodeClient {
    fn wish(&self, wish: LaneWish) -> Fut<'_, Result<(), FleetError>> {
        Box::pin(async move {
            let lane = wish.lane.to_string();
            match self.ask::<Result<(), Refusal>>(&Ask::Wish { wish }, ANSWER_LIMIT).await? {
                Ok(()) => Ok(()),
                Err(Refusal::Stale { given, current }) => Err(FleetError::Stale { lane, given, current }),
                Err(Refusal::Refused { reason }) => Err(FleetError::Refused(reason)),
            }
        })
    }

    fn observe(&self, lane: &Lane) -> Fut<'_, Result<Option<LaneSeen>, FleetError>> {
        let ask = Ask::Observe { lane: lane.clone() };
        Box::pin(async move { self.ask(&ask, ANSWER_LIMIT).await })
    }

    fn smoke(
        &self,
        lane: &Lane,
        release: &ReleaseId,
        requests: Vec<Smoke>,
    ) -> Fut<'_, Result<Vec<Smoked>, FleetError>> {
        let limit = SMOKE_LIMIT * u32::try_from(requests.len() + 1).unwrap_or(u32::MAX);
        let ask = Ask::Smoke { lane: lane.clone(), release: release.clone(), requests };
        Box::pin(async move { self.ask(&ask, limit).await })
    }

    fn log_tail(&self, lane: &Lane, release: &ReleaseId, lines: usize) -> Fut<'_, Vec<String>> {
        let ask = Ask::LogTail { lane: lane.clone(), release: release.clone(), lines };
        Box::pin(async move { self.ask(&ask, ANSWER_LIMIT).await.unwrap_or_default() })
    }
}

impl Traffic for NodeClient {
    fn counts(&self, lane: &Lane) -> Fut<'_, Option<LaneTraffic>> {
        let lane = lane.clone();
        Box::pin(async move {
            if !self.is_connected() {
                return None;
            }
            let pushed = lock(&self.shared.counts).get(&lane).cloned();
            match pushed {
                Some(counts) => Some(counts),
                None => self.ask(&Ask::Counts { lane }, ANSWER_LIMIT).await.ok().flatten(),
            }
        })
    }
}
