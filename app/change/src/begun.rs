//! What a start finds begun and not ended is begun again, but not for ever: it may be what ended the server.
//!
//! In: plans and image builds that are open at a start. Out: each begun again, with a count of the deaths that it was
//! begun at; from the second death on one after the other; at the third its change fails, and all else goes on. Never: a
//! write for what is begun for the first time.

use crate::drive::{Road, Work};
use crate::road::{Order, aggregate};
use serde::{Deserialize, Serialize};
use slipway_model::fact::{Body, ChangeInfo, ChangeState, Fact, stream};
use slipway_model::{ChangeId, NewFact, ProjectName};
use slipway_ports::{Append, Intent, StoreError};
use std::collections::BTreeMap;

/// So many deaths are one thing's own doing.
const DEATHS_MAX: u64 = 3;
/// So long what may be at fault has the server for itself: most of it ends at once, and its neighbours wait meanwhile.
const TURN_MS: u64 = 10 * 60_000;
/// Where the counts are kept.
const INDEX: &str = "begun";
/// The cursor that says up to which fact the last server came that left of its own will.
const LEFT: &str = "left";

/// Something that was begun and not ended.
#[derive(Debug, Clone)]
pub(crate) enum Open {
    /// The plan of a change, with the number of the fact that asked for it.
    Plan(u64, ProjectName, Box<ChangeInfo>),
    /// An image that is built in this process.
    Image(Intent),
}

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    /// Deaths at which it was begun.
    deaths: u64,
    /// Whether it is begun now.
    begun: bool,
}

impl Open {
    fn key(&self) -> String {
        match self {
            Open::Plan(_, _, info) => format!("plan/{}", info.id),
            Open::Image(intent) => format!("image/{}", intent.id),
        }
    }

    /// An append to the stream of its change that sets its count.
    fn append(&self, count: Option<Count>) -> Append {
        let (project, stream) = match self {
            Open::Plan(_, project, info) => (project, stream::change(&info.id)),
            Open::Image(intent) => (&intent.project, intent.stream.clone()),
        };
        let value = count.and_then(|count| serde_json::to_value(count).ok());
        Append::to(project, stream).row(INDEX, self.key(), value)
    }
}

/// Plans that were asked for, as facts are read in their order.
#[derive(Default)]
pub(crate) struct Asked(BTreeMap<ChangeId, Open>);

impl Asked {
    /// A plan is asked for.
    pub(crate) fn add(&mut self, n: u64, project: &ProjectName, info: Box<ChangeInfo>) {
        self.0.insert(info.id.clone(), Open::Plan(n, project.clone(), info));
    }

    /// The number of the fact that asked for the plan that this fact brings.
    pub(crate) fn answered(&mut self, fact: &Fact) -> Option<u64> {
        let is_answer = matches!(fact.body, Body::PlanMade { .. } | Body::ChangeEnded { .. });
        match self.0.remove(fact.change.as_ref().filter(|_| is_answer)?)? {
            Open::Plan(n, ..) => Some(n),
            Open::Image(_) => None,
        }
    }

    /// Those that have no answer.
    pub(crate) fn open(self) -> Vec<Open> {
        self.0.into_values().collect()
    }
}

impl Road {
    /// Notes that the server ends of its own will: what is open then did not end it.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let newest = *self.stages().store.newest().borrow();
        self.stages().store.set_cursor(LEFT, newest).await
    }

    /// Begins again what is open, in the background; `read` is the newest fact.
    pub(crate) async fn begin_again(&self, open: Vec<Open>, read: u64) -> Result<(), StoreError> {
        if open.is_empty() {
            return Ok(());
        }
        let store = &self.stages().store;
        let died = store.cursor(LEFT).await? != read;
        if !died {
            // What is begun now may be the end before anything new is recorded.
            store.set_cursor(LEFT, 0).await?;
        }
        let mut suspects = Vec::new();
        for open in open {
            let Count { deaths, begun } = self.count(&open).await?;
            let deaths = deaths + u64::from(died && begun);
            match deaths {
                0 => drop(self.spawn_again(open, None)),
                1 => drop(self.spawn_again(open, Some(deaths))),
                _ => suspects.push((deaths, open)),
            }
        }
        // Those that were there at fewer deaths first: when their turn is over, they are at no further one.
        suspects.sort_by_key(|(deaths, _)| *deaths);
        let road = self.clone();
        tokio::spawn(async move { road.one_by_one(suspects).await });
        Ok(())
    }

    async fn one_by_one(&self, suspects: Vec<(u64, Open)>) {
        for (deaths, open) in &suspects {
            self.note(open, Some(Count { deaths: *deaths, begun: false })).await;
        }
        for (deaths, open) in suspects {
            if deaths >= DEATHS_MAX {
                self.insist(&open.key(), || async { self.give_up(&open).await.map_err(|error| error.to_string()) })
                    .await;
                continue;
            }
            tokio::select! {
                biased;
                _ = self.spawn_again(open, Some(deaths)) => {}
                () = self.stages().clock.sleep(TURN_MS) => {}
            }
        }
    }

    /// Begins it; its count is there as long as it is open.
    fn spawn_again(&self, open: Open, deaths: Option<u64>) -> tokio::task::JoinHandle<()> {
        let road = self.clone();
        tokio::spawn(async move {
            if let Some(deaths) = deaths {
                road.note(&open, Some(Count { deaths, begun: true })).await;
            }
            match &open {
                Open::Plan(n, project, info) => {
                    let order = Order::Plan(info.clone());
                    road.push(aggregate(project, &order), Work::Order(*n, project.clone(), order));
                    road.inner.progress.carried_out(*n).await;
                }
                Open::Image(intent) => road.performed(intent.clone()).await,
            }
            if deaths.is_some() {
                road.note(&open, None).await;
            }
        })
    }

    async fn count(&self, open: &Open) -> Result<Count, StoreError> {
        let Append { project, .. } = open.append(None);
        let row = self.stages().store.row(&project, INDEX, &open.key()).await?;
        // Without a count it was begun once, by the server that is not there any more.
        Ok(row.and_then(|value| serde_json::from_value(value).ok()).unwrap_or(Count { deaths: 0, begun: true }))
    }

    /// Sets or removes its count. Where nothing can be recorded it goes on all the same: that is told by all else.
    async fn note(&self, open: &Open, count: Option<Count>) {
        if let Err(error) = self.stages().store.append(open.append(count)).await {
            (self.stages().complain)(&format!("{}: counting its beginnings: {error}", open.key()));
        }
    }

    async fn give_up(&self, open: &Open) -> Result<(), StoreError> {
        let ended = |what: &str| format!("{what} ended the server {DEATHS_MAX} times, so it is not tried again");
        let asks = "`logs/serve.log` in the data folder says how; please report it";
        match open {
            Open::Plan(n, _, info) => {
                let reason = format!("{}; {asks}, and push another commit to go on", ended("making its plan"));
                (self.stages().complain)(&format!("{}: {reason}", open.key()));
                let body = Body::ChangeEnded { state: ChangeState::Failed, reason };
                let append = open.append(None).fact(NewFact::new(Some(info.id.clone()), body));
                self.stages().store.append(append).await?;
                self.inner.progress.end(*n);
            }
            Open::Image(intent) => {
                let reason = format!("{}; {asks}; `slipway retry` tries once more", ended("building it"));
                (self.stages().complain)(&format!("{}: {reason}", open.key()));
                self.stages().images.give_up(intent, reason, open.append(None)).await?;
            }
        }
        Ok(())
    }
}
