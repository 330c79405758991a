//! Which points of the machine and of the journal were passed.
//!
//! In: every step of the machine, every fault of the journal. Out: counts. Never: changes a step.

use slipway_model::rollout::Phase;
use slipway_ports::fakes::StoreFault;
use slipway_rollout::drive::StepFn;
use slipway_rollout::{Event, Now, State};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All phases.
pub const PHASES: [Phase; 17] = [
    Phase::Queued,
    Phase::Gated,
    Phase::Prepared,
    Phase::Expanded,
    Phase::Provisioning,
    Phase::Probing,
    Phase::Stepping,
    Phase::Promoting,
    Phase::Baking,
    Phase::Contracting,
    Phase::Succeeded,
    Phase::Returning,
    Phase::Capturing,
    Phase::Restoring,
    Phase::RolledBack,
    Phase::NeedsHuman,
    Phase::Dropped,
];

/// The kinds of events that a rollout gets.
pub const EVENTS: [&str; 19] = [
    "continue",
    "resumed",
    "seen",
    "seen-otherwise",
    "prepared",
    "not-prepared",
    "smoked",
    "not-smoked",
    "old-smoked",
    "old-not-smoked",
    "pass",
    "insufficient",
    "inconclusive",
    "unavailable",
    "fail",
    "captured",
    "timer",
    "abort",
    "superseded",
];

/// The kind of an event.
#[must_use]
pub fn kind(event: &Event) -> &'static str {
    use slipway_model::verdict::VerdictKind;
    match event {
        Event::Continue => "continue",
        Event::Resumed => "resumed",
        Event::Seen { proof: Ok(()), .. } => "seen",
        Event::Seen { proof: Err(_), .. } => "seen-otherwise",
        Event::Prepared(Ok(())) => "prepared",
        Event::Prepared(Err(_)) => "not-prepared",
        Event::Smoked(Ok(())) => "smoked",
        Event::Smoked(Err(_)) => "not-smoked",
        Event::OldSmoked(Ok(())) => "old-smoked",
        Event::OldSmoked(Err(_)) => "old-not-smoked",
        Event::Verdict { kind, .. } => match kind {
            VerdictKind::Pass => "pass",
            VerdictKind::Insufficient => "insufficient",
            VerdictKind::Inconclusive => "inconclusive",
            VerdictKind::Unavailable => "unavailable",
            VerdictKind::Fail => "fail",
        },
        Event::Captured => "captured",
        Event::Timer => "timer",
        Event::Abort { .. } => "abort",
        Event::Superseded => "superseded",
    }
}

/// A step of the machine: from where, by what, to where.
pub type Move = (&'static str, &'static str, &'static str);

/// Counts of what was passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Steps of the machine.
    pub moves: BTreeMap<Move, u64>,
    /// Faults of the journal by point.
    pub faults: BTreeMap<(String, StoreFault), u64>,
}

impl Coverage {
    /// Adds another history's.
    pub fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.moves {
            *self.moves.entry(*key).or_default() += count;
        }
        for (key, count) in &other.faults {
            *self.faults.entry(key.clone()).or_default() += count;
        }
    }

    /// How often a phase got an event, wherever it led.
    #[must_use]
    pub fn given(&self, phase: Phase, event: &str) -> u64 {
        let same = self.moves.iter().filter(|((from, by, _), _)| *from == phase.word() && *by == event);
        same.map(|(_, count)| count).sum()
    }
}

/// Counts the steps of one history.
#[derive(Clone, Default)]
pub struct Recorder {
    moves: Arc<Mutex<BTreeMap<Move, u64>>>,
}

impl Recorder {
    /// The same function, counted.
    #[must_use]
    pub fn around(&self, step: StepFn) -> StepFn {
        let moves = self.moves.clone();
        Arc::new(move |state: State, event: &Event, now: Now| {
            let (from, by) = (state.phase.word(), kind(event));
            let next = step(state, event, now);
            let mut moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
            *moves.entry((from, by, next.state.phase.word())).or_default() += 1;
            next
        })
    }

    /// What was counted.
    #[must_use]
    pub fn moves(&self) -> BTreeMap<Move, u64> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
