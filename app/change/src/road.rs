//! The road on one screen: which order follows from which fact.
//!
//! In: one fact. Out: orders. Pure and exhaustive: a new kind of fact does not compile until its place is here.
//!
//! ```text
//!  push ─▶ ChangeReceived ─▶ PlanMade ─▶ Advance ─┬▶ JobStarted ─▶ JobEnded ──┐
//!                                          ▲      ├▶ ImageStarted ▶ ImageBuilt ┤
//!                                          │      └▶ ReleaseMade ──────────────┤
//!                                          └───────────────────────────────────┘
//!  ReleaseMade ─▶ ReleaseQueued ─▶ ReleaseGated ─▶ RolloutPhase … ─▶ Succeeded ─▶ gates of the next environment
//!                                                   │  ▲        └──▶ RolledBack ─▶ HoldSet
//!                                     VerdictWanted ▼  │
//!                                                 VerdictGiven
//! ```

use slipway_model::fact::{Body, Candidate, ChangeInfo, Command, Fact, Gate, NEEDS, RolloutMoved};
use slipway_model::release::Release;
use slipway_model::rollout::Phase;
use slipway_model::verdict::Verdict;
use slipway_model::{Actor, ChangeId, Lane, ProjectName, RolloutId};

/// What a stage is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// `plan`: make the plan of a change.
    Plan(Box<ChangeInfo>),
    /// `plan`, `jobs`, `image`, `release`: start what is ready; say when the change is over.
    Advance(ChangeId),
    /// `release`: let a release ask to enter its environments.
    Queue(ChangeId, Box<Release>),
    /// `release`: end the holds that this change names as fixed, where it makes no release of its own.
    EndHolds(ChangeId),
    /// `release`: ask a lane's gates.
    Gate(Lane),
    /// `release`: ask the gates of this service in all other environments.
    GateOthers(Lane),
    /// `release`: what was taken back in a lane is not "released" any more; the same content asks again.
    Forget(Lane),
    /// `rollout`: begin what is pending in a lane, if its turn has come.
    Begin(Lane),
    /// `verify`: judge a step of a lane's rollout.
    Judge(Lane, RolloutId, u32),
    /// `rollout`: a verdict on a step of this rollout was given.
    Verdict(Lane, RolloutId, u32, Box<Verdict>),
    /// `verify`: keep the evidence of a rollout that failed.
    Capture(Box<RolloutMoved>),
    /// `rollout`: the evidence of this rollout is kept.
    Captured(Lane, RolloutId),
    /// `verify`: nothing is judged in this lane any more.
    StopJudging(Box<RolloutMoved>),
    /// A person's command, handed to the stage it is for.
    Obey(u64, Option<ChangeId>, Box<Command>, Actor),
    /// `plan`: see whether the change is over.
    Settle(ChangeId),
}

/// The orders that follow from a fact.
#[must_use]
pub fn next(fact: &Fact) -> Vec<Order> {
    let advance = || fact.change.iter().cloned().map(Order::Advance).collect();
    let settle = || fact.change.iter().cloned().map(Order::Settle);
    match &fact.body {
        Body::ChangeReceived(info) if info.skip.is_some() => Vec::new(),
        Body::ChangeReceived(info) => vec![Order::Plan(Box::new(info.clone()))],
        Body::PlanMade { .. } => {
            fact.change.iter().cloned().flat_map(|id| [Order::EndHolds(id.clone()), Order::Advance(id)]).collect()
        }
        Body::JobEnded { .. } | Body::ImageBuilt(_) | Body::ImageFailed { .. } => advance(),
        Body::ReleaseMade { release, .. } => {
            let queue = fact.change.iter().map(|change| Order::Queue(change.clone(), release.clone()));
            queue.chain(fact.change.iter().cloned().map(Order::Advance)).collect()
        }
        Body::ReleaseQueued(Candidate { lane, .. }) => vec![Order::Gate(lane.clone())],
        Body::ReleaseGated { candidate, gate: Gate::Open { .. } } => vec![Order::Begin(candidate.lane.clone())],
        // Its own content is good: it asks again with the next change that brings what it needs.
        Body::ReleaseGated { candidate, gate: Gate::Refused { reason, .. } } if reason.starts_with(NEEDS) => {
            let lane = &candidate.lane;
            [Order::Forget(lane.clone()), Order::GateOthers(lane.clone())].into_iter().chain(settle()).collect()
        }
        Body::ReleaseGated { candidate, gate: Gate::Identical { .. } | Gate::Refused { .. } } => {
            [Order::GateOthers(candidate.lane.clone())].into_iter().chain(settle()).collect()
        }
        Body::ReleaseGated { gate: Gate::Wait { .. }, .. } => settle().collect(),
        Body::RolloutPhase(moved) => [rollout(moved), settle().collect()].concat(),
        Body::VerdictWanted { lane, rollout, step } => vec![Order::Judge(lane.clone(), rollout.clone(), *step)],
        Body::VerdictGiven { lane, rollout, step, verdict } => {
            vec![Order::Verdict(lane.clone(), rollout.clone(), *step, verdict.clone())]
        }
        Body::EvidenceKept { lane, rollout, .. } => vec![Order::Captured(lane.clone(), rollout.clone())],
        Body::HoldSet { lane, .. } => vec![Order::Forget(lane.clone())],
        Body::HoldReleased { lane, .. } => vec![Order::Gate(lane.clone())],
        Body::CommandGiven(command) => match consent(&fact.project, command) {
            Some(lane) => vec![Order::Gate(lane)],
            None => vec![Order::Obey(fact.n, fact.change.clone(), Box::new(command.clone()), fact.actor.clone())],
        },
        Body::ChangeEnded { .. }
        | Body::JobStarted { .. }
        | Body::ImageStarted { .. }
        | Body::InstanceState { .. }
        | Body::NoticeSent { .. } => Vec::new(),
    }
}

/// Where a command changes only what a gate sees: the gate is asked again.
fn consent(project: &ProjectName, command: &Command) -> Option<Lane> {
    let is_one = matches!(command.verb.as_str(), "approve" | "reject" | "secret");
    let (environment, service) = (command.environment.clone()?, command.service.clone()?);
    is_one.then(|| Lane { project: project.clone(), environment, service })
}

fn rollout(moved: &RolloutMoved) -> Vec<Order> {
    let lane = &moved.head.lane;
    let over = || {
        vec![
            Order::StopJudging(Box::new(moved.clone())),
            Order::Gate(lane.clone()),
            Order::Begin(lane.clone()),
            Order::GateOthers(lane.clone()),
        ]
    };
    match moved.phase {
        Phase::Capturing => vec![Order::StopJudging(Box::new(moved.clone())), Order::Capture(Box::new(moved.clone()))],
        Phase::Returning => vec![Order::StopJudging(Box::new(moved.clone()))],
        // Who was let in meanwhile is asked again before its turn: what serves, or what is held, is another now.
        Phase::Baking => vec![Order::Gate(lane.clone()), Order::Begin(lane.clone())],
        Phase::Succeeded | Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped => over(),
        Phase::Queued
        | Phase::Gated
        | Phase::Prepared
        | Phase::Expanded
        | Phase::Provisioning
        | Phase::Probing
        | Phase::Stepping
        | Phase::Promoting
        | Phase::Contracting
        | Phase::Restoring => Vec::new(),
    }
}

/// What an order is serialised by: orders of one aggregate are carried out one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// One change.
    Change(ProjectName, ChangeId),
    /// One service in one environment.
    Lane(Lane),
    /// A project's commands.
    Commands(ProjectName),
}

/// The aggregate of an order.
#[must_use]
pub fn aggregate(project: &ProjectName, order: &Order) -> Aggregate {
    match order {
        Order::Plan(info) => Aggregate::Change(project.clone(), info.id.clone()),
        Order::Advance(change) | Order::Queue(change, _) | Order::Settle(change) | Order::EndHolds(change) => {
            Aggregate::Change(project.clone(), change.clone())
        }
        Order::Gate(lane)
        | Order::GateOthers(lane)
        | Order::Forget(lane)
        | Order::Begin(lane)
        | Order::Judge(lane, ..)
        | Order::Verdict(lane, ..)
        | Order::Captured(lane, _) => Aggregate::Lane(lane.clone()),
        Order::Capture(moved) | Order::StopJudging(moved) => Aggregate::Lane(moved.head.lane.clone()),
        // What is held while it is let in either begins before the hold is there, or sees it.
        Order::Obey(_, _, command, _) => match (&command.environment, &command.service) {
            (Some(environment), Some(service)) if matches!(command.verb.as_str(), "hold" | "unhold") => {
                let (environment, service) = (environment.clone(), service.clone());
                Aggregate::Lane(Lane { project: project.clone(), environment, service })
            }
            _ => Aggregate::Commands(project.clone()),
        },
    }
}
