//! One change as people see it, folded from its facts.
//!
//! In: facts. Out: a [`ChangeView`]. Never: state that is not in the view.

use crate::lines::plain;
use crate::spans;
use slipway_model::fact::{Body, Candidate, ChangeInfo, ChangeState, Fact, Gate};
use slipway_model::job::JobOutcome;
use slipway_model::plan::{Decision, Item, ItemSpec, Plan};
use slipway_model::release::{Origin, Release};
use slipway_model::view::{ChangeView, GateView, JobView, PlanItemView, PlanView, ReleaseView, RolloutView, Waiting};
use slipway_model::{At, ItemId, Lane, RunId};
use std::collections::{BTreeMap, BTreeSet};

/// A job that is to run.
const QUEUED: &str = "queued";
/// A job that does not run because of what it needs.
const BLOCKED: &str = "blocked";

/// A fresh view of a change.
#[must_use]
pub fn received(info: &ChangeInfo, at: At) -> ChangeView {
    ChangeView {
        id: info.id.clone(),
        commit: info.commit.clone(),
        subject: info.subject.clone(),
        branch: info.branch.clone(),
        event: info.event.clone(),
        author: info.author.clone(),
        state: ChangeState::Queued,
        reason: String::new(),
        received: at,
        waiting: None,
        plan: PlanView::default(),
        jobs: Vec::new(),
        images: Vec::new(),
        releases: Vec::new(),
        gates: Vec::new(),
        rollouts: Vec::new(),
        timings: BTreeMap::new(),
        spans: Vec::new(),
    }
}

/// Takes one fact of the change.
pub fn apply(view: &mut ChangeView, fact: &Fact) {
    spans::apply(view, fact);
    match &fact.body {
        Body::PlanMade { plan } => planned(view, plan, fact.at),
        Body::JobStarted { item, run, attempt } => job_started(view, fact.at, item, run, *attempt),
        Body::JobEnded { item, outcome, .. } => job_ended(view, fact.at, item, outcome),
        Body::ImageStarted { .. } => view.state = ChangeState::Running,
        Body::ImageBuilt(image) => {
            view.images.retain(|known| known.item != image.item);
            view.images.push(image.clone());
        }
        Body::ImageFailed { reason, .. } => view.reason.clone_from(reason),
        Body::ReleaseMade { release, origin, .. } => released(view, release, origin),
        Body::ReleaseGated { candidate, gate } => {
            let what = format!("{} {} r{}", candidate.lane.environment, candidate.lane.service, candidate.number);
            gated(view, &what, gate, fact.at);
            let seen = gate_view(candidate, gate, fact.at);
            view.gates.retain(|known| (&known.environment, &known.service) != (&seen.environment, &seen.service));
            view.gates.push(seen);
        }
        Body::RolloutPhase(moved) => {
            rollout(view, fact, moved);
            view.waiting = None;
            if view.state == ChangeState::Waiting {
                view.state = ChangeState::Running;
            }
        }
        Body::EvidenceKept { rollout, evidence, .. } => {
            if let Some(seen) = view.rollouts.iter_mut().find(|seen| &seen.id == rollout) {
                seen.evidence = Some((**evidence).clone());
            }
        }
        Body::VerdictGiven { rollout, verdict, .. } => {
            if let Some(seen) = view.rollouts.iter_mut().find(|seen| &seen.id == rollout) {
                seen.verdict = Some((**verdict).clone());
            }
        }
        Body::HoldSet { lane, .. } => held(view, lane),
        Body::ChangeEnded { state, reason } => ended(view, *state, reason, fact.at),
        Body::CommandGiven(command) if command.verb == "retry" => {
            view.state = ChangeState::Running;
            view.reason.clear();
            for job in view.jobs.iter_mut().filter(|job| job.result == BLOCKED) {
                job.result = QUEUED.into();
                job.reason.clear();
            }
        }
        Body::ChangeReceived(_)
        | Body::ReleaseQueued(_)
        | Body::VerdictWanted { .. }
        | Body::InstanceState { .. }
        | Body::HoldReleased { .. }
        | Body::CommandGiven(_)
        | Body::NoticeSent { .. } => {}
    }
}

fn job_started(view: &mut ChangeView, at: At, item: &ItemId, run: &RunId, attempt: u32) {
    view.state = ChangeState::Running;
    view.timings.entry("to_first_job".into()).or_insert_with(|| at.since_ms(view.received));
    let free = spans::free_since(view, item);
    if let Some(job) = job_mut(view, item) {
        job.id = run.to_string();
        job.result = "running".into();
        job.attempt = attempt;
        job.reason.clear();
        job.queued_ms = at.since_ms(job.ended.unwrap_or(free));
        (job.started, job.ended) = (Some(at), None);
    }
}

fn released(view: &mut ChangeView, release: &Release, origin: &Origin) {
    view.releases.retain(|known| known.id != release.id);
    view.releases.push(ReleaseView {
        id: release.id.clone(),
        number: release.number,
        image: release.bundle.image.clone(),
        tag: origin.tag.clone(),
        commit: origin.commit.clone(),
    });
}

fn held(view: &mut ChangeView, lane: &Lane) {
    let here = |seen: &&mut RolloutView| seen.environment == lane.environment && seen.service == lane.service;
    if let Some(held) = view.rollouts.iter_mut().rev().find(here) {
        held.held = true;
    }
}

fn ended(view: &mut ChangeView, state: ChangeState, reason: &str, at: At) {
    view.state = state;
    view.reason = reason.to_owned();
    view.waiting = None;
    view.timings.insert("to_end".into(), at.since_ms(view.received));
    stopped_jobs(view, state);
}

/// Jobs that will not run any more because the change has ended say so, and what they needed.
fn stopped_jobs(view: &mut ChangeView, state: ChangeState) {
    let passed: BTreeSet<ItemId> = view.jobs.iter().filter(|job| satisfies(&job.result)).map(item_of).collect();
    for job in view.jobs.iter_mut().filter(|job| job.result == QUEUED) {
        let id = item_of(job);
        let item = view.plan.items.iter().find(|item| item.id == id);
        let is_job = |need: &&ItemId| need.0.starts_with("job:");
        let missing = item.and_then(|item| item.needs.iter().filter(is_job).find(|need| !passed.contains(*need)));
        job.result = if state == ChangeState::Cancelled { "cancelled" } else { BLOCKED }.into();
        job.reason =
            missing.map_or_else(|| "the change ended before".into(), |need| format!("{} did not pass", name_of(need)));
    }
}

fn item_of(job: &JobView) -> ItemId {
    ItemId(format!("job:{}", job.name))
}

fn satisfies(result: &str) -> bool {
    matches!(result, "passed" | "neutral" | "reused" | "not-affected")
}

fn planned(view: &mut ChangeView, plan: &Plan, at: At) {
    view.timings.insert("to_plan".into(), at.since_ms(view.received));
    view.state = ChangeState::Running;
    view.plan = plan_view(plan);
    view.jobs = plan.items.iter().filter_map(|item| planned_job(item, at)).collect();
}

/// A plan as people see it.
#[must_use]
pub fn plan_view(plan: &Plan) -> PlanView {
    let items = plan
        .items
        .iter()
        .map(|item| PlanItemView {
            id: item.id.clone(),
            kind: item.spec.kind().into(),
            name: name_of(&item.id),
            service: item.service.clone(),
            decision: item.decision.word().into(),
            reason: plain(&item.reason),
            needs: item.needs.clone(),
        })
        .collect();
    PlanView { items, warnings: plan.warnings.clone(), saved_ms: plan.saved_ms }
}

fn planned_job(item: &Item, _at: At) -> Option<JobView> {
    let ItemSpec::Job(job) = &item.spec else { return None };
    let result = match item.decision {
        Decision::Run => QUEUED,
        Decision::Reused | Decision::NotAffected | Decision::FailedBefore => item.decision.word(),
    };
    let mut view = JobView {
        id: item.id.to_string(),
        name: name_of(&item.id),
        service: item.service.clone(),
        kind: job.kind.clone(),
        result: result.into(),
        reason: item.reason.clone(),
        attempt: 0,
        queued_ms: 0,
        set_up_ms: 0,
        run_ms: 0,
        started: None,
        ended: None,
        exit_code: None,
        step: None,
        command: None,
        first_error: Vec::new(),
        usage: slipway_model::job::Usage::default(),
        artifacts: Vec::new(),
        tests: None,
    };
    if let Some(outcome) = item.previous.as_ref().and_then(|previous| previous.outcome.as_ref()) {
        view.tests = outcome.tests;
        view.artifacts.clone_from(&outcome.artifacts);
    }
    Some(view)
}

fn job_ended(view: &mut ChangeView, at: At, item: &ItemId, outcome: &JobOutcome) {
    let Some(job) = job_mut(view, item) else { return };
    job.ended = Some(at);
    job.result = outcome.result.word().into();
    job.reason.clone_from(&outcome.reason);
    job.set_up_ms = outcome.set_up_ms;
    job.run_ms = outcome.run_ms;
    job.exit_code = outcome.exit_code;
    job.step.clone_from(&outcome.step);
    job.command.clone_from(&outcome.command);
    job.first_error.clone_from(&outcome.first_error);
    job.usage = outcome.usage;
    job.artifacts.clone_from(&outcome.artifacts);
    job.tests = outcome.tests;
}

fn job_mut<'a>(view: &'a mut ChangeView, item: &ItemId) -> Option<&'a mut JobView> {
    let name = name_of(item);
    view.jobs.iter_mut().find(|job| job.name == name)
}

fn gated(view: &mut ChangeView, what: &str, gate: &Gate, at: At) {
    match gate {
        Gate::Wait { reason, who, until, next } if who.is_some() || until.is_some() => {
            view.state = ChangeState::Waiting;
            view.waiting = Some(Waiting {
                what: format!("{what}: {reason}"),
                who: who.clone(),
                since: at,
                until: *until,
                next: next.clone(),
            });
        }
        Gate::Refused { reason, .. } => view.reason = format!("{what}: {reason}"),
        Gate::Open { .. } | Gate::Identical { .. } | Gate::Wait { .. } => view.waiting = None,
    }
}

/// How a release stands before an environment, for people (R167).
#[must_use]
pub fn gate_view(candidate: &Candidate, gate: &Gate, at: At) -> GateView {
    let (state, reasons, next) = match gate {
        Gate::Open { passed } => ("passed", passed.clone(), None),
        Gate::Identical { reason } => ("passed", vec![reason.clone()], None),
        Gate::Wait { reason, next, .. } => ("open", vec![reason.clone()], next.clone()),
        Gate::Refused { reason, next } => ("failed", vec![reason.clone()], next.clone()),
    };
    GateView {
        environment: candidate.lane.environment.clone(),
        service: candidate.lane.service.clone(),
        release: format!("r{}", candidate.number),
        state: state.into(),
        reasons,
        next,
        at,
    }
}

fn rollout(view: &mut ChangeView, fact: &Fact, moved: &slipway_model::fact::RolloutMoved) {
    let seen = rollout_view(moved, fact.at);
    match view.rollouts.iter_mut().find(|known| known.id == seen.id) {
        Some(known) => {
            let (started, held) = (known.started, known.held);
            let (evidence, verdict) = (known.evidence.take(), known.verdict.take());
            *known = RolloutView { started, held, evidence, verdict, ..seen };
        }
        None => view.rollouts.push(seen),
    }
    if moved.phase == slipway_model::rollout::Phase::Baking {
        view.timings.entry("to_live".into()).or_insert_with(|| fact.at.since_ms(view.received));
    }
}

/// A rollout as people see it.
#[must_use]
pub fn rollout_view(moved: &slipway_model::fact::RolloutMoved, at: At) -> RolloutView {
    RolloutView {
        id: moved.head.id.clone(),
        environment: moved.head.lane.environment.clone(),
        service: moved.head.lane.service.clone(),
        from: moved.head.from.as_ref().map(|from| format!("r{}", from.number)),
        to: format!("r{}", moved.head.to.number),
        strategy: "rolling".into(),
        phase: moved.phase.word().into(),
        reason: moved.reason.clone(),
        held: false,
        by: moved.head.by.clone(),
        started: at,
        ended: moved.phase.is_final().then_some(at),
        steps: moved.steps.clone(),
        incident: moved.incident,
        verdict: None,
        evidence: None,
    }
}

/// The name under which people know an item: `api/test`.
#[must_use]
pub fn name_of(item: &ItemId) -> String {
    item.0.split_once(':').map_or(item.0.as_str(), |(_, name)| name).to_owned()
}
