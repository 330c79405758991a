//! The journal in memory, with the meaning of the real one and faults at will.
//!
//! In: appends; which of them shall fail and how. Out: the Store port. Never: a fact changed, a number given twice.

use super::chance::Chance;
use super::life::Life;
use crate::store::Appended;
use crate::{Append, Clock, Fut, Intent, Store, StoreError};
use slipway_model::fact::{Body, FACT_VERSION};
use slipway_model::{ChangeId, Fact, ProjectName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// What happens to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreFault {
    /// The disk is full: nothing is recorded, and the caller is told.
    Full,
    /// The process dies before anything is recorded.
    DiesBefore,
    /// It is recorded, and the process dies before it is told.
    DiesAfter,
}

impl StoreFault {
    /// All of them.
    pub const ALL: [StoreFault; 3] = [StoreFault::Full, StoreFault::DiesBefore, StoreFault::DiesAfter];
}

/// A fault that waits for its append.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Armed {
    point: Option<String>,
    skip: u64,
    fault: StoreFault,
}

#[derive(Default)]
struct Inner {
    facts: Vec<Fact>,
    streams: BTreeMap<(ProjectName, String), Vec<usize>>,
    changes: BTreeMap<(ProjectName, ChangeId), Vec<usize>>,
    intents: Vec<(Intent, bool)>,
    names: BTreeSet<(ProjectName, String, String)>,
    rows: BTreeMap<(ProjectName, &'static str, String), serde_json::Value>,
    cursors: BTreeMap<String, u64>,
    counters: BTreeMap<(ProjectName, String), u64>,
    armed: Vec<Armed>,
    fired: BTreeMap<(String, StoreFault), u64>,
    pace: Option<Chance>,
    holder: Option<Life>,
}

/// The journal in memory.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    died: Notify,
}

impl MemoryStore {
    /// An empty journal that answers at once.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> MemoryStore {
        MemoryStore { inner: Mutex::default(), newest: watch::Sender::new(0), clock, died: Notify::new() }
    }

    /// The same, answering after a moment by chance, so that callers interleave.
    #[must_use]
    pub fn with_pace(self, chance: Chance) -> MemoryStore {
        self.lock().pace = Some(chance);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who dies of a fault from now on.
    pub fn held_by(&self, life: &Life) {
        self.lock().holder = Some(life.clone());
    }

    /// Lets an append fail: the one after `skip` others, of all or of those at one point ([`point`]).
    pub fn arm(&self, point: Option<&str>, skip: u64, fault: StoreFault) {
        self.lock().armed.push(Armed { point: point.map(ToOwned::to_owned), skip, fault });
    }

    /// No fault waits any more.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// Faults that happened, by point.
    #[must_use]
    pub fn fired(&self) -> BTreeMap<(String, StoreFault), u64> {
        self.lock().fired.clone()
    }

    /// Returns once a process died of a fault.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// Looks at all facts.
    pub fn look<T>(&self, look: impl FnOnce(&[Fact]) -> T) -> T {
        look(&self.lock().facts)
    }

    /// Intents that are not acknowledged.
    #[must_use]
    pub fn open(&self) -> Vec<Intent> {
        self.lock().intents.iter().filter(|(_, done)| !done).map(|(intent, _)| intent.clone()).collect()
    }

    fn moment(&self) -> u64 {
        self.lock().pace.as_mut().map_or(0, |chance| chance.below(4))
    }

    async fn pause(&self) {
        match self.moment() {
            0 => {}
            1 => tokio::task::yield_now().await,
            ms => self.clock.sleep(ms - 1).await,
        }
    }

    async fn hurry(&self) {
        if self.moment() == 1 {
            tokio::task::yield_now().await;
        }
    }

    fn fault(&self, point: &str) -> Option<StoreFault> {
        let mut inner = self.lock();
        let index = inner.armed.iter_mut().position(|armed| {
            let meant = armed.point.as_deref().is_none_or(|wanted| wanted == point);
            let now = meant && armed.skip == 0;
            armed.skip -= u64::from(meant && armed.skip > 0);
            now
        })?;
        let fault = inner.armed.remove(index).fault;
        *inner.fired.entry((point.to_owned(), fault)).or_default() += 1;
        Some(fault)
    }

    async fn die<T>(&self) -> T {
        if let Some(life) = &self.lock().holder {
            life.end();
        }
        self.died.notify_one();
        std::future::pending().await
    }

    fn record(&self, append: &Append) -> Result<Appended, StoreError> {
        let mut inner = self.lock();
        let appended = inner.append(append, self.clock.now())?;
        let newest = inner.facts.len() as u64;
        drop(inner);
        if !appended.facts.is_empty() {
            self.newest.send_replace(newest);
        }
        Ok(appended)
    }
}

impl Inner {
    fn append(&mut self, append: &Append, at: slipway_model::At) -> Result<Appended, StoreError> {
        let key = (append.project.clone(), append.stream.clone());
        let found = self.streams.get(&key).map_or(0, |stream| stream.len() as u64);
        if let Some(expected) = append.expected
            && expected != found
        {
            return Err(StoreError::Conflict { stream: append.stream.clone(), expected, found });
        }
        let mut appended = Appended::default();
        for (index, new) in append.facts.iter().enumerate() {
            let place = self.facts.len();
            let fact = Fact {
                n: place as u64 + 1,
                v: FACT_VERSION,
                at,
                project: append.project.clone(),
                stream: append.stream.clone(),
                version: found + index as u64 + 1,
                change: new.change.clone(),
                actor: new.actor.clone(),
                body: new.body.clone(),
            };
            self.streams.entry(key.clone()).or_default().push(place);
            if let Some(change) = &fact.change {
                self.changes.entry((append.project.clone(), change.clone())).or_default().push(place);
            }
            appended.facts.push(fact.clone());
            self.facts.push(fact);
        }
        for new in &append.intents {
            // The same name in the same stream is the same decision.
            if self.names.insert((append.project.clone(), append.stream.clone(), new.name.clone())) {
                let intent = Intent {
                    id: self.intents.len() as u64 + 1,
                    project: append.project.clone(),
                    stream: append.stream.clone(),
                    stage: new.stage.clone(),
                    name: new.name.clone(),
                    body: new.body.clone(),
                };
                self.intents.push((intent.clone(), false));
                appended.intents.push(intent);
            }
        }
        for row in &append.index {
            let key = (append.project.clone(), row.index, row.key.clone());
            match &row.value {
                Some(value) => drop(self.rows.insert(key, value.clone())),
                None => drop(self.rows.remove(&key)),
            }
        }
        for (intent, done) in &mut self.intents {
            *done |= append.done.contains(&intent.id);
        }
        Ok(appended)
    }

    fn facts_at(&self, places: Option<&Vec<usize>>, after: usize) -> Vec<Fact> {
        let places = places.map(Vec::as_slice).unwrap_or_default();
        places.iter().skip(after).filter_map(|place| self.facts.get(*place).cloned()).collect()
    }
}

/// The name of an append as a fault point: what it records first, rollouts by their phase.
#[must_use]
pub fn point(append: &Append) -> String {
    let Some(first) = append.facts.first() else {
        return if append.index.is_empty() { "nothing".into() } else { "rows".into() };
    };
    match &first.body {
        Body::RolloutPhase(moved) => format!("rollout.phase/{}", moved.phase.word()),
        Body::ReleaseGated { gate, .. } => {
            use slipway_model::fact::Gate;
            let word = match gate {
                Gate::Open { .. } => "open",
                Gate::Wait { .. } => "wait",
                Gate::Refused { .. } => "refused",
                Gate::Identical { .. } => "identical",
            };
            format!("release.gated/{word}")
        }
        body => kind(body).to_owned(),
    }
}

/// The kind of a fact as in the event stream.
#[must_use]
pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::ChangeReceived(_) => "change.received",
        Body::PlanMade { .. } => "plan.made",
        Body::ChangeEnded { .. } => "change.ended",
        Body::JobStarted { .. } => "job.started",
        Body::JobEnded { .. } => "job.ended",
        Body::ImageStarted { .. } => "image.started",
        Body::ImageBuilt(_) => "image.built",
        Body::ImageFailed { .. } => "image.failed",
        Body::ReleaseMade { .. } => "release.made",
        Body::ReleaseQueued(_) => "release.queued",
        Body::ReleaseGated { .. } => "release.gated",
        Body::RolloutPhase(_) => "rollout.phase",
        Body::VerdictWanted { .. } => "verdict.wanted",
        Body::VerdictGiven { .. } => "verdict.given",
        Body::EvidenceKept { .. } => "evidence.kept",
        Body::InstanceState { .. } => "instance.state",
        Body::HoldSet { .. } => "hold.set",
        Body::HoldReleased { .. } => "hold.released",
        Body::CommandGiven(_) => "command.given",
        Body::NoticeSent { .. } => "notice.sent",
    }
}

impl Store for MemoryStore {
    fn append(&self, append: Append) -> Fut<'_, Result<Appended, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            match self.fault(&point(&append)) {
                None => {
                    let appended = self.record(&append)?;
                    self.hurry().await;
                    Ok(appended)
                }
                Some(StoreFault::Full) => Err(StoreError::Full { path: "slipway.db".into() }),
                Some(StoreFault::DiesBefore) => self.die().await,
                Some(StoreFault::DiesAfter) => match self.record(&append) {
                    Ok(_) => self.die().await,
                    Err(error) => Err(error),
                },
            }
        })
    }

    fn load(&self, project: &ProjectName, stream: &str, after: u64) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        let key = (project.clone(), stream.to_owned());
        Box::pin(async move {
            self.hurry().await;
            let inner = self.lock();
            Ok(inner.facts_at(inner.streams.get(&key), usize::try_from(after).unwrap_or(usize::MAX)))
        })
    }

    fn since(&self, n: u64, limit: usize) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(async move {
            self.hurry().await;
            let from = usize::try_from(n).unwrap_or(usize::MAX);
            Ok(self.lock().facts.iter().skip(from).take(limit).cloned().collect())
        })
    }

    fn of_change(&self, project: &ProjectName, change: &ChangeId) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        let key = (project.clone(), change.clone());
        Box::pin(async move {
            self.hurry().await;
            let inner = self.lock();
            Ok(inner.facts_at(inner.changes.get(&key), 0))
        })
    }

    fn open_intents(&self) -> Fut<'_, Result<Vec<Intent>, StoreError>> {
        Box::pin(async move {
            self.hurry().await;
            Ok(self.open())
        })
    }

    fn row(
        &self,
        project: &ProjectName,
        index: &'static str,
        key: &str,
    ) -> Fut<'_, Result<Option<serde_json::Value>, StoreError>> {
        let key = (project.clone(), index, key.to_owned());
        Box::pin(async move {
            self.hurry().await;
            Ok(self.lock().rows.get(&key).cloned())
        })
    }

    fn rows(
        &self,
        project: &ProjectName,
        index: &'static str,
        prefix: &str,
    ) -> Fut<'_, Result<Vec<(String, serde_json::Value)>, StoreError>> {
        let (project, prefix) = (project.clone(), prefix.to_owned());
        Box::pin(async move {
            let inner = self.lock();
            let mine = inner
                .rows
                .iter()
                .filter(|((of, name, key), _)| *of == project && *name == index && key.starts_with(&prefix));
            Ok(mine.map(|((_, _, key), value)| (key.clone(), value.clone())).collect())
        })
    }

    fn cursor(&self, name: &str) -> Fut<'_, Result<u64, StoreError>> {
        let found = self.lock().cursors.get(name).copied().unwrap_or(0);
        Box::pin(async move { Ok(found) })
    }

    fn set_cursor(&self, name: &str, n: u64) -> Fut<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.lock().cursors.insert(name, n);
            Ok(())
        })
    }

    fn next(&self, project: &ProjectName, counter: &str) -> Fut<'_, Result<u64, StoreError>> {
        let key = (project.clone(), counter.to_owned());
        Box::pin(async move {
            self.hurry().await;
            let mut inner = self.lock();
            let next = inner.counters.entry(key).or_default();
            *next += 1;
            Ok(*next)
        })
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}
