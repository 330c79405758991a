//! What the terminal of `slipway up` shows: one short line per event that somebody may want to know of.
//!
//! In: any fact. Out: a line, or nothing for what is only a step on the way. Never: what a push says in more detail.

use crate::change::name_of;
use crate::lines::{given, plain};
use slipway_model::fact::{Body, Candidate, ChangeState, Fact, Gate, RolloutMoved};
use slipway_model::rollout::Phase;
use slipway_model::{At, ChangeId, CommitId};
use std::collections::VecDeque;

/// Changes whose commits are remembered, so that their ends can name them.
const CHANGES: usize = 200;

/// Makes the lines.
#[derive(Debug, Clone, Default)]
pub struct Ticker {
    commits: VecDeque<(ChangeId, CommitId)>,
}

impl Ticker {
    /// The line of a fact, with its time (UTC) and its project.
    pub fn take(&mut self, fact: &Fact) -> Option<String> {
        if let Body::ChangeReceived(info) = &fact.body {
            self.commits.push_back((info.id.clone(), info.commit.clone()));
            if self.commits.len() > CHANGES {
                self.commits.pop_front();
            }
        }
        let text = match &fact.body {
            Body::ChangeEnded { state, reason } => ended(&self.name(fact), *state, reason),
            _ => text(fact),
        }?;
        Some(format!("{} {}  {text}", clock(fact.at), fact.project))
    }

    /// The change's commit as people write it; one that came before this began has only its id.
    fn name(&self, fact: &Fact) -> String {
        let of = fact.change.as_ref();
        let known = self.commits.iter().rev().find(|(change, _)| Some(change) == of);
        match (known, of) {
            (Some((_, commit)), _) => commit.short().to_owned(),
            (None, Some(change)) => format!("change {change}"),
            (None, None) => "a change".to_owned(),
        }
    }
}

fn clock(at: At) -> String {
    let text = at.to_string();
    text.get(11..19).unwrap_or(&text).to_owned()
}

fn text(fact: &Fact) -> Option<String> {
    match &fact.body {
        Body::ChangeReceived(info) => {
            Some(format!("change {} on {} by {}: {}", info.commit.short(), info.branch, info.author, info.subject))
        }
        Body::JobEnded { item, outcome, .. } if !outcome.result.satisfies() => {
            Some(format!("job {} {}: {}", name_of(item), outcome.result.word(), first(&outcome.reason)))
        }
        Body::ImageFailed { item, reason, .. } => Some(format!("image {} failed: {}", name_of(item), first(reason))),
        Body::ReleaseGated { candidate, gate } => gated(candidate, gate),
        Body::RolloutPhase(moved) => self::moved(moved),
        Body::CommandGiven(command) => Some(given(command, &fact.actor)),
        Body::InstanceState { lane, instance } if !instance.reason.is_empty() => {
            Some(format!("instance {} of {} in {}: {}", instance.id, lane.service, lane.environment, instance.reason))
        }
        Body::ChangeEnded { .. }
        | Body::JobEnded { .. }
        | Body::InstanceState { .. }
        | Body::PlanMade { .. }
        | Body::JobStarted { .. }
        | Body::ImageStarted { .. }
        | Body::ImageBuilt(_)
        | Body::ReleaseMade { .. }
        | Body::ReleaseQueued(_)
        | Body::VerdictWanted { .. }
        | Body::VerdictGiven { .. }
        | Body::EvidenceKept { .. }
        | Body::HoldSet { .. }
        | Body::HoldReleased { .. }
        | Body::NoticeSent { .. } => None,
    }
}

fn gated(candidate: &Candidate, gate: &Gate) -> Option<String> {
    let title = format!("{} {} r{}", candidate.lane.environment, candidate.lane.service, candidate.number);
    match gate {
        Gate::Wait { who: None, until: None, .. } | Gate::Open { .. } | Gate::Identical { .. } => None,
        Gate::Wait { reason, .. } => Some(format!("WAITING {title}: {reason}")),
        Gate::Refused { reason, .. } => Some(format!("REFUSED {title}: {reason}")),
    }
}

fn moved(moved: &RolloutMoved) -> Option<String> {
    let (lane, number) = (&moved.head.lane, moved.head.to.number);
    let title = format!("{} {}", lane.environment, lane.service);
    let reason = moved.reason.strip_prefix("it ").unwrap_or(&moved.reason);
    match moved.phase {
        Phase::Baking => Some(format!("LIVE {title} r{number}")),
        Phase::RolledBack => Some(format!("ROLLED BACK {title}: r{number} {reason}")),
        Phase::NeedsHuman => Some(format!("FAILED {title} r{number}: {}", moved.reason)),
        Phase::Dropped => Some(format!("NOT STARTED {title} r{number}: {}", moved.reason)),
        Phase::Queued
        | Phase::Gated
        | Phase::Prepared
        | Phase::Expanded
        | Phase::Provisioning
        | Phase::Probing
        | Phase::Stepping
        | Phase::Promoting
        | Phase::Contracting
        | Phase::Succeeded
        | Phase::Returning
        | Phase::Capturing
        | Phase::Restoring => None,
    }
}

fn ended(what: &str, state: ChangeState, reason: &str) -> Option<String> {
    match state {
        ChangeState::Failed => Some(format!("FAILED {what}: {}", plain(first(reason)))),
        ChangeState::Cancelled => Some(format!("CANCELLED {what}")),
        ChangeState::Passed => Some(format!("PASSED {what}")),
        // A rollout said it, or nothing happened.
        ChangeState::Live
        | ChangeState::RolledBack
        | ChangeState::Skipped
        | ChangeState::Queued
        | ChangeState::Running
        | ChangeState::Waiting => None,
    }
}

fn first(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
