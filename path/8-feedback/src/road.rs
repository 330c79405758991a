//! The road of one change: stations, a lane for each service, the time in each, the longest wait named (R075).
//!
//! In: a change's view, the environments that it leads to. Out: what a picture of it shows. Never: a picture.

use slipway_model::fact::{ChangeState, SUPERSEDED};
use slipway_model::time::words;
use slipway_model::view::{ChangeView, GateView, JobView, RolloutView, SpanView};
use slipway_model::{At, EnvironmentName, ServiceName};

/// How a station stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was passed.
    Done,
    /// Something of it happens now.
    Moving,
    /// It waits.
    Waiting,
    /// It ended here.
    Failed,
    /// It was taken back from here.
    Back,
    /// It was not needed, or somebody else went in its place.
    Passed,
    /// It was not reached.
    Ahead,
}

/// One station of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// `Plan`, `Jobs`, `Image`, `Release`, or an environment.
    pub name: String,
    /// How it stands.
    pub mark: Mark,
    /// In a word or two: `4 passed`, `r41`, `5xx 23 %`.
    pub detail: String,
    /// Time in which something was done; absent when nothing was.
    pub work_ms: Option<u64>,
    /// Time that passed before it in waiting.
    pub wait_ms: u64,
    /// For what, when anything was waited for.
    pub waited_for: String,
    /// What serves again, and how long that took, where it bends back.
    pub back: Option<(Option<String>, Option<u64>)>,
}

/// A service on its way, or the jobs that belong to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoadLane {
    /// The service.
    pub service: Option<ServiceName>,
    /// Its stations in order.
    pub stations: Vec<Station>,
}

/// The road of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Road {
    /// Services that something is done about.
    pub lanes: Vec<RoadLane>,
    /// Those that are not affected.
    pub not_affected: Vec<ServiceName>,
    /// From the push to the end, or to now.
    pub all_ms: u64,
    /// Of it, the time in which anything was being done.
    pub work_ms: u64,
    /// The longest single wait: for what, and how long.
    pub longest: Option<(String, u64)>,
}

/// The road of a change that leads to these environments.
#[must_use]
pub fn road(view: &ChangeView, environments: &[EnvironmentName], now: At) -> Road {
    let mut named: Vec<&ServiceName> = view.plan.items.iter().filter_map(|item| item.service.as_ref()).collect();
    named.sort();
    named.dedup();
    let (affected, rest): (Vec<&ServiceName>, Vec<&ServiceName>) =
        named.into_iter().partition(|service| is_affected(view, service));
    let counts = (affected.len(), affected.len() + rest.len());
    let places = places(view, environments);
    let mut lanes: Vec<RoadLane> = Vec::new();
    let own: Vec<&JobView> = view.jobs.iter().filter(|job| job.service.is_none()).collect();
    if own.iter().any(|job| job.attempt > 0 || job.result == "queued") {
        lanes.push(RoadLane { service: None, stations: vec![plan(view, counts, now), jobs(view, &own, now)] });
    }
    lanes.extend(affected.into_iter().map(|service| lane(view, service, counts, &places, now)));
    let end = view.timings.get("to_end").map_or(now, |ms| view.received.plus_ms(*ms));
    Road {
        lanes,
        not_affected: rest.into_iter().cloned().collect(),
        all_ms: end.since_ms(view.received),
        work_ms: covered(work(view, end)),
        longest: longest(view, end),
    }
}

/// The word for how a change ended: one that a newer one overtook did not pass anything.
#[must_use]
pub fn word(view: &ChangeView) -> &'static str {
    let overtaken = |gate: &GateView| gate.state == "failed" && is_superseded(gate);
    let was_in = view.rollouts.iter().any(|rollout| rollout.phase != "dropped");
    match view.state {
        ChangeState::Passed if !was_in && view.gates.iter().any(overtaken) => "superseded",
        state => state.word(),
    }
}

/// Whether a gate says no only because a newer release went in its place.
#[must_use]
pub fn is_superseded(gate: &GateView) -> bool {
    gate.reasons.iter().any(|reason| reason.starts_with(SUPERSEDED))
}

fn is_affected(view: &ChangeView, service: &ServiceName) -> bool {
    let items = view.plan.items.iter().filter(|item| item.service.as_ref() == Some(service));
    items.into_iter().any(|item| item.decision == "run" || item.decision == "failed-before")
        || view.rollouts.iter().any(|rollout| &rollout.service == service)
        || view.gates.iter().any(|gate| &gate.service == service && gate.state == "open")
}

/// The environments on the way; those that something was seen of, too, when the plan is not known any more.
fn places(view: &ChangeView, environments: &[EnvironmentName]) -> Vec<EnvironmentName> {
    let mut places = environments.to_vec();
    let gates = view.gates.iter().map(|gate| &gate.environment);
    for seen in gates.chain(view.rollouts.iter().map(|rollout| &rollout.environment)) {
        if !places.contains(seen) {
            places.push(seen.clone());
        }
    }
    places
}

fn lane(
    view: &ChangeView,
    service: &ServiceName,
    counts: (usize, usize),
    places: &[EnvironmentName],
    now: At,
) -> RoadLane {
    let own: Vec<&JobView> = view.jobs.iter().filter(|job| job.service.as_ref() == Some(service)).collect();
    let mut stations = vec![plan(view, counts, now)];
    if !own.is_empty() {
        stations.push(jobs(view, &own, now));
    }
    stations.push(image(view, service, now));
    stations.push(release(view, service));
    stations.extend(places.iter().map(|place| environment(view, service, place, now)));
    RoadLane { service: Some(service.clone()), stations }
}

fn station(name: &str, mark: Mark, detail: String, work_ms: Option<u64>) -> Station {
    Station { name: name.into(), mark, detail, work_ms, wait_ms: 0, waited_for: String::new(), back: None }
}

fn plan(view: &ChangeView, (affected, all): (usize, usize), now: At) -> Station {
    match view.timings.get("to_plan") {
        Some(ms) => station("Plan", Mark::Done, format!("{affected} of {all}"), Some(*ms)),
        None if view.state.is_final() => station("Plan", Mark::Failed, "no plan".into(), None),
        None => station("Plan", Mark::Moving, "being made".into(), Some(now.since_ms(view.received))),
    }
}

/// Whether a job did not go well.
#[must_use]
pub fn is_bad(job: &JobView) -> bool {
    matches!(job.result.as_str(), "failed" | "timed-out" | "lost" | "failed-before")
}

fn jobs(view: &ChangeView, own: &[&JobView], now: At) -> Station {
    let count = |test: &dyn Fn(&JobView) -> bool| own.iter().filter(|job| test(job)).count();
    let bad = count(&is_bad);
    let open = count(&|job| matches!(job.result.as_str(), "running" | "queued"));
    let running = count(&|job| job.result == "running");
    let ran = count(&|job| job.attempt > 0);
    let all = own.len();
    let (mark, detail) = match () {
        () if bad > 0 => (Mark::Failed, format!("{bad} of {all} failed")),
        () if running > 0 => (Mark::Moving, format!("{} of {all} done", all - open)),
        () if open > 0 => (Mark::Waiting, format!("{} of {all} done", all - open)),
        () if ran == 0 => (Mark::Passed, "not affected".into()),
        () if count(&|job| job.result == "cancelled" || job.result == "blocked") > 0 => {
            (Mark::Failed, "did not run".into())
        }
        () => (Mark::Done, format!("{ran} passed")),
    };
    let stretches = own.iter().filter_map(|job| Some((job.started?, job.ended.unwrap_or(now))));
    let work = covered(stretches.collect());
    let first = own.iter().filter_map(|job| Some((job.started?, job.queued_ms))).min();
    let mut station = station("Jobs", mark, detail, (ran > 0).then_some(work));
    if view.state.is_final() && mark == Mark::Waiting {
        station.mark = Mark::Ahead;
    }
    station.wait_ms = first.map_or(0, |(_, queued)| queued);
    station.waited_for = if station.wait_ms > 0 { "a free place".into() } else { String::new() };
    station
}

fn image(view: &ChangeView, service: &ServiceName, now: At) -> Station {
    let span = view.spans.iter().rev().find(|span| span.station == "image" && span.service.as_ref() == Some(service));
    let built = view.images.iter().find(|image| &image.service == service);
    let work = span.map(|span| span.to.unwrap_or(now).since_ms(span.from));
    match (built, span) {
        (Some(image), _) if image.reused => station("Image", Mark::Done, "the same".into(), work),
        (Some(image), _) => station("Image", Mark::Done, megabytes(image.size_bytes), work.or(Some(image.took_ms))),
        (None, Some(span)) if span.to.is_none() => station("Image", Mark::Moving, "being built".into(), work),
        (None, Some(_)) => station("Image", Mark::Failed, "not built".into(), work),
        (None, None) if view.releases.is_empty() || ends_before(view) => {
            station("Image", Mark::Ahead, String::new(), None)
        }
        (None, None) => station("Image", Mark::Passed, "not affected".into(), None),
    }
}

fn ends_before(view: &ChangeView) -> bool {
    view.jobs.iter().any(is_bad)
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{} kB", bytes.div_ceil(1_000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

fn release(view: &ChangeView, service: &ServiceName) -> Station {
    let span = view.spans.iter().rev().find(|span| span.station == "release" && span.service.as_ref() == Some(service));
    let number = |station: &SpanView| station.service.as_ref() == Some(service);
    let Some(span) = span.filter(|span| number(span)) else {
        return station("Release", Mark::Ahead, String::new(), None);
    };
    let work = span.to.map(|to| to.since_ms(span.from));
    let of_gates = view.gates.iter().find(|gate| &gate.service == service).map(|gate| gate.release.clone());
    let of_rollouts = view.rollouts.iter().find(|rollout| &rollout.service == service).map(|seen| seen.to.clone());
    let only = view.releases.first().filter(|_| view.releases.len() == 1).map(|made| format!("r{}", made.number));
    station("Release", Mark::Done, of_rollouts.or(of_gates).or(only).unwrap_or_default(), work)
}

fn environment(view: &ChangeView, service: &ServiceName, place: &EnvironmentName, now: At) -> Station {
    let here = |span: &&SpanView| {
        span.station == "gate" && span.service.as_ref() == Some(service) && span.environment.as_ref() == Some(place)
    };
    let length = |span: &SpanView| span.to.unwrap_or(now).since_ms(span.from);
    let waits: Vec<&SpanView> = view.spans.iter().filter(here).collect();
    let gate = view.gates.iter().rev().find(|gate| &gate.environment == place && &gate.service == service);
    let rollout = view.rollouts.iter().rev().find(|seen| &seen.environment == place && &seen.service == service);
    let mut station = match (rollout, gate) {
        (Some(rollout), _) => rolled(rollout, place, now),
        (None, Some(gate)) => gated(gate, place),
        (None, None) => station(place.as_str(), Mark::Ahead, String::new(), None),
    };
    station.wait_ms = waits.iter().map(|span| length(span)).sum();
    let longest = waits.iter().max_by_key(|span| length(span));
    station.waited_for = longest.and_then(|span| span.waits_for.clone()).unwrap_or_default();
    station
}

fn gated(gate: &GateView, place: &EnvironmentName) -> Station {
    let (mark, detail) = match gate.state.as_str() {
        "open" => (Mark::Waiting, "waits"),
        "failed" if is_superseded(gate) => (Mark::Passed, "superseded"),
        "failed" => (Mark::Failed, "refused"),
        _ => (Mark::Passed, "runs already"),
    };
    station(place.as_str(), mark, detail.into(), None)
}

fn rolled(rollout: &RolloutView, place: &EnvironmentName, now: At) -> Station {
    let (mark, detail) = match rollout.phase.as_str() {
        "succeeded" | "contracting" => (Mark::Done, format!("{} live", rollout.to)),
        "baking" => (Mark::Done, format!("{} live, watched", rollout.to)),
        "rolled-back" | "returning" | "capturing" | "restoring" => (Mark::Back, failure(rollout)),
        "needs-human" => (Mark::Failed, "needs a person".into()),
        "dropped" => (Mark::Passed, "not started".into()),
        _ => (Mark::Moving, moving(rollout)),
    };
    let work = rollout.ended.unwrap_or(now).since_ms(rollout.started);
    let back = (mark == Mark::Back).then(|| {
        let incident = &rollout.incident;
        let took = incident.recognised.zip(incident.rolled_back).map(|(seen, done)| done.since_ms(seen));
        (rollout.from.clone(), took)
    });
    Station { back, ..station(place.as_str(), mark, detail, Some(work)) }
}

fn moving(rollout: &RolloutView) -> String {
    match rollout.steps.last() {
        Some(step) => format!("{}, {} %", step.name, step.weight),
        None => rollout.phase.clone(),
    }
}

/// The figure that decided, else the word.
fn failure(rollout: &RolloutView) -> String {
    let figures = rollout.verdict.as_ref().map(|verdict| verdict.figures.new);
    match figures.filter(|seen| seen.errors > 0 && seen.requests > 0) {
        Some(seen) => format!("5xx {} %", seen.errors.saturating_mul(100).div_ceil(seen.requests)),
        None => "taken back".into(),
    }
}

fn work(view: &ChangeView, end: At) -> Vec<(At, At)> {
    let jobs = view.jobs.iter().filter_map(|job| Some((job.started?, job.ended.unwrap_or(end))));
    let spans = view.spans.iter().filter(|span| span.waits_for.is_none());
    let spans = spans.map(|span| (span.from, span.to.unwrap_or(end)));
    let rollouts = view.rollouts.iter().map(|rollout| (rollout.started, rollout.ended.unwrap_or(end)));
    jobs.chain(spans).chain(rollouts).collect()
}

/// How much time these stretches cover together.
fn covered(mut stretches: Vec<(At, At)>) -> u64 {
    stretches.sort();
    let (mut covered, mut until) = (0, At(0));
    for (from, to) in stretches {
        let from = from.max(until);
        covered += to.since_ms(from);
        until = until.max(to);
    }
    covered
}

fn longest(view: &ChangeView, end: At) -> Option<(String, u64)> {
    let gates = view.spans.iter().filter_map(|span| {
        let why = span.waits_for.as_ref()?;
        let place = span.environment.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        Some((format!("{place}{why}"), span.to.unwrap_or(end).since_ms(span.from)))
    });
    let jobs = view.jobs.iter().filter(|job| job.attempt > 0);
    let jobs = jobs.map(|job| (format!("a free place for {}", job.name), job.queued_ms));
    gates.chain(jobs).filter(|(_, ms)| *ms > 0).max_by_key(|(_, ms)| *ms)
}

/// The sum of it in one line: `8m 41s in all, 31.0s work, 8m 10s waiting; longest: production: approval, 7m 52s`.
#[must_use]
pub fn sum(road: &Road) -> String {
    let waiting = road.all_ms.saturating_sub(road.work_ms);
    let longest = road.longest.as_ref().map(|(why, ms)| format!("; longest: {why}, {}", words(*ms)));
    format!(
        "{} in all, {} work, {} waiting{}",
        words(road.all_ms),
        words(road.work_ms),
        words(waiting),
        longest.unwrap_or_default()
    )
}
