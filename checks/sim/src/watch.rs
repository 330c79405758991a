//! Checks the invariants of a rollout while a history happens.
//!
//! In: every happening on the node, every fact. Out: what was violated, with when and where. Never: changes anything.

mod facts;
mod needs;
mod node;

use slipway_model::fact::Fact;
use slipway_model::rollout::Phase;
use slipway_model::verdict::VerdictKind;
use slipway_model::{CommitId, Lane, ProjectName, ReleaseId, RolloutId};
use slipway_ports::fakes::{FakeRepository, Happening, MemoryStore};
use slipway_rollout::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What must hold whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No traffic to what was never ready.
    ReadyTraffic,
    /// Capacity is at least desired − maxUnavailable.
    Capacity,
    /// Serving instances are at most desired + maxSurge.
    Total,
    /// Retiring instances have a limit of their own.
    Retiring,
    /// On failure and abort traffic moves before anything stops.
    TrafficFirst,
    /// An older commit never replaces a newer one without an explicit rollback; of one change, who is needed goes first.
    Order,
    /// Evidence exists before a failed instance is removed.
    Evidence,
    /// Every wait has a deadline and a printable reason.
    Waits,
    /// One rollout at a time in a lane.
    OneOwner,
    /// Epochs only grow, and one epoch is one wish.
    Epochs,
    /// Insufficient never becomes Pass, and what was judged by smoke requests alone says so.
    NeverPass,
    /// An old instance is stopped only after the verdict of its step.
    AfterVerdict,
    /// A commit that was taken back is held.
    Hold,
    /// In the end everything is final or waits for a person, and runs as it was decided.
    Settles,
}

/// All of them.
pub const INVARIANTS: [Invariant; 14] = [
    Invariant::ReadyTraffic,
    Invariant::Capacity,
    Invariant::Total,
    Invariant::Retiring,
    Invariant::TrafficFirst,
    Invariant::Order,
    Invariant::Evidence,
    Invariant::Waits,
    Invariant::OneOwner,
    Invariant::Epochs,
    Invariant::NeverPass,
    Invariant::AfterVerdict,
    Invariant::Hold,
    Invariant::Settles,
];

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was violated.
    pub invariant: Invariant,
    /// The number of the newest fact then.
    pub n: u64,
    /// In words.
    pub what: String,
}

#[derive(Default)]
struct LaneWatch {
    state: Option<State>,
    verdicts: BTreeMap<(RolloutId, u32), BTreeSet<Kind>>,
    evidence: BTreeSet<RolloutId>,
    /// Which commit each release stands for here, by its newest rollout.
    commits: BTreeMap<ReleaseId, CommitId>,
    holds: BTreeSet<CommitId>,
    /// A commit whose hold must be the next fact.
    owed: Option<CommitId>,
    /// The rollout of the wish before.
    wished: Option<RolloutId>,
    /// The release that had all traffic last.
    top: Option<ReleaseId>,
}

/// Verdict kinds in an order, which the model's do not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pass,
    Insufficient,
    Inconclusive,
    Unavailable,
    Fail,
}

fn kind(kind: VerdictKind) -> Kind {
    match kind {
        VerdictKind::Pass => Kind::Pass,
        VerdictKind::Insufficient => Kind::Insufficient,
        VerdictKind::Inconclusive => Kind::Inconclusive,
        VerdictKind::Unavailable => Kind::Unavailable,
        VerdictKind::Fail => Kind::Fail,
    }
}

#[derive(Default)]
struct Inner {
    read: usize,
    lanes: BTreeMap<Lane, LaneWatch>,
    needs: needs::Needs,
    violations: Vec<Violation>,
}

/// Who checks.
pub struct Watch {
    store: Arc<MemoryStore>,
    repository: Arc<FakeRepository>,
    project: ProjectName,
    inner: Mutex<Inner>,
}

impl Watch {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(store: Arc<MemoryStore>, repository: Arc<FakeRepository>, project: ProjectName) -> Watch {
        Watch { store, repository, project, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happens on the node.
    pub fn happening(&self, happening: &Happening<'_>) {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        let n = inner.read as u64;
        let lane = match happening {
            Happening::Wished { lane, .. }
            | Happening::Changed(lane)
            | Happening::Stopping { lane, .. }
            | Happening::Unserved { lane, .. } => lane.lane.clone(),
        };
        let mut found = Vec::new();
        let watch = inner.lanes.entry(lane.clone()).or_default();
        match happening {
            Happening::Wished { lane, wish } => node::wished(watch, lane, wish, &mut found),
            Happening::Changed(lane) => node::changed(self, watch, lane, &mut found),
            Happening::Stopping { .. } | Happening::Unserved { .. } => {}
        }
        inner.violations.extend(found.into_iter().map(|(invariant, what)| Violation {
            invariant,
            n,
            what: format!("{lane}: {what}"),
        }));
    }

    /// Reads the facts that came since, and says what was violated so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        inner.violations.clone()
    }

    /// Whether anything was violated.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let mut inner = self.lock();
        self.catch_up(&mut inner);
        inner.violations.is_empty()
    }

    /// Records a violation that somebody else found.
    pub fn violated(&self, invariant: Invariant, what: String) {
        let mut inner = self.lock();
        let n = inner.read as u64;
        inner.violations.push(Violation { invariant, n, what });
    }

    fn catch_up(&self, inner: &mut Inner) {
        self.store.look(|facts| {
            for fact in facts.get(inner.read..).unwrap_or_default() {
                inner.read += 1;
                self.take(inner, fact);
            }
        });
    }

    fn take(&self, inner: &mut Inner, fact: &Fact) {
        if let Some(what) = inner.needs.take(fact) {
            inner.violations.push(Violation { invariant: Invariant::Order, n: fact.n, what });
        }
        let Some(lane) = slipway_feedback::project::lane_of(&fact.body).cloned() else { return };
        let mut found = Vec::new();
        let watch = inner.lanes.entry(lane.clone()).or_default();
        facts::take(self, watch, fact, &mut found);
        inner.violations.extend(found.into_iter().map(|(invariant, what)| Violation {
            invariant,
            n: fact.n,
            what: format!("{lane}: {what}"),
        }));
    }

    /// Whether `older` is a proper ancestor of `newer`.
    fn is_older(&self, older: &CommitId, newer: &CommitId) -> bool {
        older != newer && self.repository.is_ancestor(&self.project, older, newer)
    }
}

/// Phases in which something is waited for.
fn waits(phase: Phase) -> bool {
    match phase {
        Phase::Gated
        | Phase::Provisioning
        | Phase::Probing
        | Phase::Stepping
        | Phase::Promoting
        | Phase::Baking
        | Phase::Returning
        | Phase::Capturing
        | Phase::Restoring => true,
        Phase::Queued
        | Phase::Prepared
        | Phase::Expanded
        | Phase::Contracting
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::NeedsHuman
        | Phase::Dropped => false,
    }
}
