//! What the stage knows of one lane, folded from the facts of the lane and of its rollouts.
//!
//! In: facts. Out: the candidate, its gate, approvals, holds, what succeeded. Never: anything not in facts.

use slipway_model::fact::{Body, Candidate, Command, Fact, Gate, RolloutMoved, SUPERSEDED};
use slipway_model::rollout::{Phase, Purpose, ReleaseRef};
use slipway_model::{Actor, At, CommitId, ReleaseId};
use std::collections::BTreeMap;

/// Nobody waits for a release after which so many others were made.
const ASKED_KEPT: usize = 256;

/// A hold on a commit in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The commit.
    pub commit: CommitId,
    /// Why.
    pub reason: String,
}

/// One lane as the gates see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneRecord {
    /// The lane stream's version.
    pub version: u64,
    /// The version of the rollouts' stream.
    pub rollout_version: u64,
    /// The newest candidate that was not settled.
    pub candidate: Option<Candidate>,
    /// Who asked, the oldest first; of each change the newest, and only so many as somebody may still wait for.
    pub asked: Vec<Candidate>,
    /// The newest answer to it.
    pub gate: Option<Gate>,
    /// The number of that answer.
    pub gate_n: u64,
    /// The number of the fact that ended the newest rollout.
    pub ended_n: u64,
    /// Who was let in and has not begun yet.
    pub opened: Option<Candidate>,
    /// The number of the answer that let it in.
    pub opened_n: u64,
    /// The number of the fact that began the newest rollout.
    pub began_n: u64,
    /// Who was refused, or passed over by a newer one.
    pub superseded: Vec<Candidate>,
    /// Who approved it, and when.
    pub approvals: Vec<(Actor, At)>,
    /// Who rejected it and why.
    pub rejected: Option<(Actor, String)>,
    /// Active holds.
    pub holds: Vec<Hold>,
    /// What serves.
    pub current: Option<ReleaseRef>,
    /// The commit of what serves.
    pub current_commit: Option<CommitId>,
    /// Releases that succeeded here, oldest first.
    pub succeeded: Vec<ReleaseRef>,
    /// How each release's newest rollout here ended or stands.
    pub phases: BTreeMap<ReleaseId, (Phase, String)>,
    /// Whether a rollout is under way.
    pub moving: bool,
    /// Whether it is not known yet which release it ends on.
    pub unsettled: bool,
}

impl LaneRecord {
    /// Takes one fact of either stream.
    pub fn apply(&mut self, fact: &Fact) {
        match &fact.body {
            Body::ReleaseQueued(candidate) => self.queued(candidate),
            Body::ReleaseGated { candidate, gate } => self.gated(candidate, gate, fact.n),
            Body::HoldSet { commit, reason, .. } => {
                self.holds.retain(|hold| &hold.commit != commit);
                self.holds.push(Hold { commit: commit.clone(), reason: reason.clone() });
            }
            Body::HoldReleased { commit, .. } => self.holds.retain(|hold| &hold.commit != commit),
            Body::CommandGiven(command) => self.command(command, fact),
            Body::RolloutPhase(moved) => self.moved(moved, fact.n),
            _ => {}
        }
        let own = fact.stream.starts_with("lane/");
        *(if own { &mut self.version } else { &mut self.rollout_version }) = fact.version;
    }

    fn queued(&mut self, candidate: &Candidate) {
        // What was approved is the content: the same release that asks once more is still approved by them.
        let same = self.candidate.as_ref().is_some_and(|waiting| waiting.release == candidate.release);
        let passed_over = matches!(&self.gate, Some(Gate::Refused { reason, .. }) if reason.starts_with(SUPERSEDED));
        if !(same && (self.is_waiting() || passed_over)) {
            self.approvals.clear();
        }
        self.candidate = Some(candidate.clone());
        self.asked.retain(|earlier| earlier.change != candidate.change);
        self.asked.push(candidate.clone());
        let too_many = self.asked.len().saturating_sub(ASKED_KEPT);
        self.asked.drain(..too_many);
        (self.gate, self.rejected) = (None, None);
    }

    fn moved(&mut self, moved: &RolloutMoved, n: u64) {
        if !self.moving {
            self.began_n = n;
        }
        self.moving = !moved.phase.is_final();
        if !self.moving {
            self.ended_n = n;
        }
        self.unsettled = self.moving && !matches!(moved.phase, Phase::Baking | Phase::Contracting);
        let begun = |opened: &Candidate| {
            opened.release == moved.head.to.id
                && opened.commit == moved.head.commit
                && opened.change == moved.head.change
        };
        // An earlier rollout of the same release that goes back is not the one that was let in now.
        if self.began_n > self.opened_n && self.opened.as_ref().is_some_and(begun) {
            self.opened = None;
        }
        self.phases.insert(moved.head.to.id.clone(), (moved.phase, moved.reason.clone()));
        match moved.phase {
            Phase::Succeeded => {
                self.current = Some(moved.head.to.clone());
                self.current_commit = Some(moved.head.commit.clone());
                // New instances of a release stand for it: nobody wants to go back from them to the older ones.
                let renewed =
                    moved.head.from.as_ref().filter(|_| moved.head.purpose == Purpose::Refresh).map(|from| &from.id);
                self.succeeded.retain(|known| known.id != moved.head.to.id && Some(&known.id) != renewed);
                self.succeeded.push(moved.head.to.clone());
            }
            // From the last step on the new release serves; what asks next is compared with it.
            Phase::Baking | Phase::Contracting => {
                self.current = Some(moved.head.to.clone());
                self.current_commit = Some(moved.head.commit.clone());
            }
            Phase::RolledBack | Phase::NeedsHuman | Phase::Returning => {
                if self.current.as_ref() == Some(&moved.head.to) {
                    self.current_commit = None;
                }
                self.current = moved.head.from.clone();
            }
            _ => {}
        }
    }

    fn gated(&mut self, candidate: &Candidate, gate: &Gate, n: u64) {
        let is_newest = self.candidate.as_ref() == Some(candidate);
        match gate {
            Gate::Open { .. } => (self.opened, self.opened_n) = (Some(candidate.clone()), n),
            Gate::Refused { .. } => {
                if self.opened.as_ref() == Some(candidate) {
                    self.opened = None;
                }
                self.superseded.push(candidate.clone());
            }
            Gate::Wait { .. } | Gate::Identical { .. } => {
                if self.opened.as_ref() == Some(candidate) {
                    self.opened = None;
                }
            }
        }
        if is_newest {
            self.gate = Some(gate.clone());
            self.gate_n = n;
        }
    }

    /// Whether this candidate asked already and was passed over.
    #[must_use]
    pub fn asked_before(&self, candidate: &Candidate) -> bool {
        candidate.change.is_some() && self.superseded.contains(candidate)
    }

    fn command(&mut self, command: &Command, fact: &Fact) {
        let meant = |candidate: &Candidate| {
            command.release.as_ref().is_none_or(|release| release == &candidate.release)
                && command.commit.as_ref().is_none_or(|commit| commit == &candidate.commit)
        };
        if !self.candidate.as_ref().is_some_and(meant) {
            return;
        }
        match command.verb.as_str() {
            "approve" => self.approvals.push((fact.actor.clone(), fact.at)),
            "reject" => self.rejected = Some((fact.actor.clone(), command.reason.clone())),
            _ => {}
        }
    }

    /// The newest release that succeeded here and is not the one given.
    #[must_use]
    pub fn rollback_target(&self, serving: Option<&ReleaseId>) -> Option<&ReleaseRef> {
        self.succeeded.iter().rev().find(|release| Some(&release.id) != serving)
    }

    /// Whether the candidate's answer may still be another one: it waits, or it was let in and has not begun, so that
    /// a hold that was set meanwhile still counts.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.is_waiting() || (self.candidate.is_some() && self.opened == self.candidate)
    }

    /// Whether the candidate still waits for an answer that may change.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.candidate.is_some() && matches!(self.gate, None | Some(Gate::Wait { .. }))
    }
}
