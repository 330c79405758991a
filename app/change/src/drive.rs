//! The loop: reads the journal from its cursor, hands orders to stages, at least once, serialised per aggregate.
//!
//! In: facts, node events, due timers. Out: calls of stages. Never: waits for one aggregate in another's turn.

use crate::begun::{Asked, Open};
use crate::queue::{Progress, Queues};
use crate::road::{Aggregate, Order, aggregate, next};
use crate::timers::{Purpose, Timers};
use futures::FutureExt;
use slipway_feedback::Projection;
use slipway_image::Building;
use slipway_jobs::Jobs;
use slipway_model::fact::Fact;
use slipway_model::instance::LaneSeen;
use slipway_model::traffic::LaneTraffic;
use slipway_model::{Lane, ProjectName};
use slipway_plan::Plans;
use slipway_ports::{Clock, Intent, Store, StoreError};
use slipway_release::Releases;
use slipway_rollout::drive::Rollouts;
use slipway_source::Source;
use slipway_verify::Verify;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::broadcast;

/// The cursor's name in the journal.
const CURSOR: &str = "road";
/// Facts read at once.
const BATCH: usize = 500;
/// Facts that a slow reader may lag behind before it has to read the journal instead.
const LIVE: usize = 4096;
/// Without a new fact for so long, the cursor is saved.
const QUIET_MS: u64 = 500;
/// First and longest pause before something that failed for the machine's sake is tried again.
const AGAIN_MS: (u64, u64) = (100, 10_000);

/// The stages and what the loop itself needs.
pub struct Stages {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Stage 1.
    pub source: Source,
    /// Stage 2.
    pub plans: Plans,
    /// Stage 3.
    pub jobs: Jobs,
    /// Stage 4.
    pub images: Building,
    /// Stage 5.
    pub releases: Releases,
    /// Stage 6.
    pub rollouts: Rollouts,
    /// Stage 7.
    pub verify: Verify,
    /// Told about failures that a person running the server should see.
    pub complain: Box<dyn Fn(&str) + Send + Sync>,
}

pub(crate) enum Work {
    Order(u64, ProjectName, Order),
    Seen(Box<LaneSeen>),
    Traffic(Box<LaneTraffic>),
    Timer(Lane, Purpose),
    Resume(Lane),
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Work::Order(..) => "an order",
            Work::Seen(_) => "what a node saw",
            Work::Traffic(_) => "what a proxy counted",
            Work::Timer(..) => "a timer",
            Work::Resume(_) => "a rollout that goes on",
        }
    }
}

pub(crate) struct Inner {
    pub stages: Stages,
    pub projection: RwLock<Projection>,
    pub live: broadcast::Sender<Arc<Fact>>,
    queues: Queues<Work>,
    pub(crate) progress: Progress,
    /// What is being tried again, by its number.
    troubles: Mutex<BTreeMap<u64, String>>,
    pub timers: Timers,
}

/// The road. Cloning shares it.
#[derive(Clone)]
pub struct Road {
    pub(crate) inner: Arc<Inner>,
}

impl Road {
    /// A road over these stages; nothing moves until [`Road::run`].
    #[must_use]
    pub fn new(stages: Stages) -> Road {
        let timers = Timers::new(stages.clock.clone());
        let (live, _) = broadcast::channel(LIVE);
        let inner = Inner {
            stages,
            projection: RwLock::default(),
            live,
            queues: Queues::default(),
            progress: Progress::default(),
            troubles: Mutex::default(),
            timers,
        };
        Road { inner: Arc::new(inner) }
    }

    /// The stages.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.inner.stages
    }

    /// Looks at the projection.
    pub fn look<T>(&self, look: impl FnOnce(&Projection) -> T) -> T {
        look(&self.inner.projection.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Facts as they happen from now on. Whoever lags too far behind reads the journal.
    #[must_use]
    pub fn live(&self) -> broadcast::Receiver<Arc<Fact>> {
        self.inner.live.subscribe()
    }

    /// Drives for ever. First everything that a crash interrupted goes on.
    ///
    /// # Errors
    /// When the journal cannot be read; nothing can be done without it.
    pub async fn run(&self) -> Result<(), StoreError> {
        let mut newest = self.inner.stages.store.newest();
        let mut done = self.inner.stages.store.cursor(CURSOR).await?;
        let mut read = self.recover(done).await?;
        let timers = self.clone();
        let timer_task = tokio::spawn(async move { timers.wake_lanes().await });
        let result = loop {
            match self.read_on(&mut read).await {
                Ok(()) => {}
                Err(error) => break Err(error),
            }
            // The cursor only spares work after a crash: a change on its way must not wait for the disk because of it.
            tokio::select! {
                biased;
                changed = newest.changed() => if changed.is_err() {
                    break Ok(());
                },
                saved = self.save_cursor_when_quiet(read, done) => done = saved,
            }
        };
        timer_task.abort();
        result
    }

    /// After a quiet moment saves how far everything is carried out; with nothing to save it waits for ever. Dropping
    /// it in between loses nothing but the saving.
    async fn save_cursor_when_quiet(&self, read: u64, saved: u64) -> u64 {
        if saved >= read {
            return std::future::pending().await;
        }
        self.inner.stages.clock.sleep(QUIET_MS).await;
        let done = self.inner.progress.done(read);
        if done > saved
            && let Err(error) = self.inner.stages.store.set_cursor(CURSOR, done).await
        {
            (self.inner.stages.complain)(&format!("cursor: {error}"));
            return saved;
        }
        done
    }

    async fn read_on(&self, read: &mut u64) -> Result<(), StoreError> {
        loop {
            let facts = self.inner.stages.store.since(*read, BATCH).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            *read = last.n;
            for fact in facts {
                let n = fact.n;
                self.hand_out(&fact);
                self.project(fact);
                self.inner.progress.shown(n);
            }
        }
    }

    fn project(&self, fact: Fact) {
        self.inner.projection.write().unwrap_or_else(PoisonError::into_inner).apply(&fact);
        // No receiver is no fault.
        let _ = self.inner.live.send(Arc::new(fact));
    }

    fn hand_out(&self, fact: &Fact) {
        let orders = next(fact);
        self.inner.progress.begin(fact.n, orders.len());
        for order in orders {
            let aggregate = aggregate(&fact.project, &order);
            self.push(aggregate, Work::Order(fact.n, fact.project.clone(), order));
        }
    }

    /// The same at a start; a plan that is still to be made is left to [`Road::begin_again`].
    fn hand_out_again(&self, fact: &Fact, asked: &mut Asked) {
        match next(fact).as_slice() {
            [Order::Plan(info)] => {
                self.inner.progress.begin(fact.n, 1);
                asked.add(fact.n, &fact.project, info.clone());
            }
            _ => self.hand_out(fact),
        }
    }

    pub(crate) fn push(&self, aggregate: Aggregate, work: Work) {
        if self.inner.queues.push(&aggregate, work) {
            let road = self.clone();
            tokio::spawn(async move { road.work_off(aggregate).await });
        }
    }

    async fn work_off(&self, aggregate: Aggregate) {
        while let Some(work) = self.inner.queues.pop(&aggregate) {
            let what = work.name();
            // A bug in one piece of work must not stop what comes behind it.
            if let Err(said) = unharmed(self.carry_out(work)).await {
                (self.inner.stages.complain)(&format!("{what}: {said}"));
            }
        }
    }

    async fn carry_out(&self, work: Work) {
        match work {
            Work::Order(n, project, order) => {
                self.insist(&order, || self.obey(&project, &order)).await;
                self.inner.progress.end(n);
            }
            Work::Seen(seen) => self.seen(*seen).await,
            Work::Traffic(traffic) => self.traffic(*traffic).await,
            Work::Timer(lane, purpose) => self.woken(&lane, purpose).await,
            Work::Resume(lane) => self.resume(&lane).await,
        }
    }

    /// Repeats until it is done: orders are idempotent, and an order that is lost would stop its aggregate for ever.
    pub(crate) async fn insist<F, R>(&self, what: &(dyn std::fmt::Debug + Send + Sync), mut attempt: F)
    where
        F: FnMut() -> R,
        R: Future<Output = Result<(), String>>,
    {
        let (mut pause, longest) = AGAIN_MS;
        let mut in_trouble = None;
        while let Err(error) = unharmed(attempt()).await.and_then(|done| done) {
            // Only who failed is put in words, and not with all it carries.
            let what: String = format!("{what:?}").chars().take(80).collect();
            (self.inner.stages.complain)(&format!("{what}: {error}; again in {pause} ms"));
            in_trouble = Some(Trouble::set(&self.inner, in_trouble, error));
            self.inner.stages.clock.sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// What the machine fails at now and tries again, where there is such a thing: whoever waits is told.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let troubles = self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.values().next().cloned()
    }

    /// Performs a recorded intent in the background, over all attempts that follow from it.
    pub(crate) fn perform(&self, intent: Intent) {
        let road = self.clone();
        tokio::spawn(async move { road.performed(intent).await });
    }

    /// The same, in this task.
    pub(crate) async fn performed(&self, intent: Intent) {
        let mut open = Some(intent);
        while let Some(intent) = open.take() {
            let following = std::sync::Mutex::new(None);
            let what = format!("{} {}", intent.stage, intent.name);
            self.insist(&what, || async {
                let next = self.perform_once(&intent).await.map_err(|error| error.to_string())?;
                *following.lock().unwrap_or_else(PoisonError::into_inner) = next;
                Ok(())
            })
            .await;
            open = following.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
    }

    async fn perform_once(&self, intent: &Intent) -> Result<Option<Intent>, StoreError> {
        let stages = &self.inner.stages;
        match intent.stage.as_str() {
            slipway_jobs::drive::STAGE => stages.jobs.perform(intent).await,
            slipway_image::drive::STAGE => stages.images.perform(intent).await.map(|()| None),
            other => Err(StoreError::Broken(format!(
                "intent {} is of stage `{other}`, which this release does not have",
                intent.id
            ))),
        }
    }

    /// Everything that was under way: facts not handed out, intents not acknowledged, rollouts that wait.
    async fn recover(&self, done: u64) -> Result<u64, StoreError> {
        // Read before anything is handed out: what begins from here on is performed by whoever begins it.
        let intents = self.inner.stages.store.open_intents().await?;
        let (mut read, mut asked) = (0, Asked::default());
        loop {
            let facts = self.inner.stages.store.since(read, BATCH).await?;
            let Some(last) = facts.last() else { break };
            read = last.n;
            for fact in facts {
                if let Some(n) = asked.answered(&fact) {
                    self.inner.progress.end(n);
                }
                if fact.n > done {
                    self.hand_out_again(&fact, &mut asked);
                }
                self.project(fact);
            }
        }
        self.inner.progress.shown(read);
        let is_here = |intent: &Intent| intent.stage == slipway_image::drive::STAGE;
        let (here, elsewhere): (Vec<Intent>, Vec<Intent>) = intents.into_iter().partition(is_here);
        for intent in elsewhere {
            self.perform(intent);
        }
        self.begin_again(asked.open().into_iter().chain(here.into_iter().map(Open::Image)).collect(), read).await?;
        for lane in self.lanes() {
            self.push(Aggregate::Lane(lane.clone()), Work::Resume(lane));
        }
        Ok(read)
    }

    pub(crate) fn lanes(&self) -> Vec<Lane> {
        self.look(|projection| {
            projection
                .projects
                .values()
                .flat_map(|project| project.lanes.values().map(|lane| lane.lane.clone()))
                .collect()
        })
    }

    async fn wake_lanes(&self) {
        loop {
            for (lane, purpose) in self.inner.timers.next().await {
                self.push(Aggregate::Lane(lane.clone()), Work::Timer(lane, purpose));
            }
        }
    }
}

/// Something that is being tried again; it is over when this is dropped.
struct Trouble<'a> {
    inner: &'a Inner,
    number: u64,
}

impl<'a> Trouble<'a> {
    fn set(inner: &'a Inner, known: Option<Trouble<'a>>, error: String) -> Trouble<'a> {
        let mut troubles = inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let next = troubles.keys().last().map_or(0, |last| last + 1);
        // Made only where there is none yet: dropping another one here would wait for this very lock.
        let trouble = known.unwrap_or_else(|| Trouble { inner, number: next });
        troubles.insert(trouble.number, error);
        trouble
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Carries something out; where a bug panics, says what it said.
async fn unharmed<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let caught = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    caught.map_err(|said| {
        let text = said.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| said.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("a bug in Slipway: {text}; please report it")
    })
}

#[cfg(test)]
mod tests {
    use super::unharmed;

    #[tokio::test]
    async fn a_bug_in_one_piece_of_work_is_an_error_and_not_the_end_of_what_comes_behind_it() {
        let said = unharmed(async { panic!("out of range") }).await.map(|(): ()| ());
        assert_eq!(said, Err("a bug in Slipway: out of range; please report it".to_owned()));
        assert_eq!(unharmed(async { 7 }).await, Ok(7));
    }
}
