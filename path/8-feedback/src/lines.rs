//! What a `git push` prints: one short line per fact, in order, until all is decided.
//!
//! In: the facts of one change, in order. Out: lines without the leading `slipway`, and whether it is over. Never:
//! waits, prints, colours.

use crate::change::name_of;
use crate::due::Due;
use slipway_model::fact::{Body, ChangeInfo, ChangeState, Command, Fact, Gate, RolloutMoved};
use slipway_model::plan::{Decision, Plan};
use slipway_model::release::Release;
use slipway_model::rollout::Phase;
use slipway_model::time::words;
use slipway_model::{Actor, At, EnvironmentName, ItemId, Lane};
use std::collections::{BTreeMap, BTreeSet};

/// Lines of one fact, and whether that was the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Lines to print, each whole.
    pub lines: Vec<String>,
    /// Set once all is decided or waits: the exit code of a command that waited.
    pub over: Option<i32>,
}

/// How a lane stands for the pusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneEnd {
    /// It asks; there is no answer yet.
    Asked,
    /// It follows another environment: nobody and no clock is waited for.
    Behind,
    /// It was let in, and is under way.
    Open,
    Live,
    Waits,
    Bad,
}

/// Follows one change.
#[derive(Debug, Clone)]
pub struct Follow {
    since: At,
    info: Option<ChangeInfo>,
    running: BTreeMap<String, (At, String)>,
    lanes: BTreeMap<Lane, LaneEnd>,
    environments: Vec<EnvironmentName>,
    due: Due,
    steps_said: BTreeMap<Lane, usize>,
    planned: bool,
    ended: Option<ChangeState>,
    quiet: bool,
    /// Reasons that a line gave already: an end does not repeat them.
    reasons_said: BTreeSet<String>,
}

impl Follow {
    /// Follows from this moment.
    #[must_use]
    pub fn new(since: At) -> Follow {
        Follow {
            since,
            info: None,
            running: BTreeMap::new(),
            lanes: BTreeMap::new(),
            environments: Vec::new(),
            due: Due::default(),
            steps_said: BTreeMap::new(),
            planned: false,
            ended: None,
            quiet: false,
            reasons_said: BTreeSet::new(),
        }
    }

    /// For somebody who sees last words only: those then carry the whole reason.
    #[must_use]
    pub fn quietly(self, quiet: bool) -> Follow {
        Follow { quiet, ..self }
    }

    fn line(&self, at: At, text: &str) -> String {
        let seconds = at.since_ms(self.since);
        format!("{:>7}  {text}", format!("{}.{}s", seconds / 1000, seconds % 1000 / 100))
    }

    fn more(text: &str) -> String {
        format!("         {text}")
    }

    /// Takes one fact of the change. `url` gives a lane's address.
    pub fn take(&mut self, fact: &Fact, url: &dyn Fn(&Lane) -> String) -> Said {
        let lines = match &fact.body {
            Body::ChangeReceived(info) => {
                self.info = Some(info.clone());
                Vec::new()
            }
            Body::PlanMade { plan } => self.planned(plan),
            Body::JobStarted { item, .. } => {
                self.due.began(item);
                self.running.insert(name_of(item), (fact.at, String::new()));
                Vec::new()
            }
            Body::JobEnded { item, outcome, .. } => self.job_ended(fact.at, item, outcome),
            Body::ImageStarted { item, .. } => {
                self.due.began(item);
                self.running.insert(format!("image {}", name_of(item)), (fact.at, String::new()));
                Vec::new()
            }
            Body::ImageBuilt(image) => {
                self.running.remove(&format!("image {}", image.service));
                let mut lines = vec![
                    self.line(fact.at, &columns(&format!("image {}", image.service), "built", &image_text(image))),
                ];
                lines.extend(image.warnings.iter().map(|warning| Follow::more(&format!("warning: {warning}"))));
                lines
            }
            Body::ImageFailed { item, reason, .. } => {
                self.due.failed(item);
                self.running.remove(&format!("image {}", name_of(item)));
                let mut texts = reason.lines();
                let first = texts.next().unwrap_or_default();
                self.reasons_said.insert(first.to_owned());
                let mut lines =
                    vec![self.line(fact.at, &columns(&format!("image {}", name_of(item)), "failed", first))];
                lines.extend(texts.map(Follow::more));
                lines
            }
            Body::ReleaseMade { item, release, .. } => {
                self.due.made(item);
                self.asks(release);
                Vec::new()
            }
            Body::ReleaseQueued(candidate) => {
                self.lanes.insert(candidate.lane.clone(), LaneEnd::Asked);
                Vec::new()
            }
            Body::ReleaseGated { candidate, gate } => self.gated(fact.at, &candidate.lane, candidate.number, gate, url),
            Body::RolloutPhase(moved) => self.moved(fact.at, moved, url),
            Body::ChangeEnded { state, reason } => self.change_ended(fact.at, *state, reason),
            Body::VerdictWanted { .. }
            | Body::VerdictGiven { .. }
            | Body::EvidenceKept { .. }
            | Body::InstanceState { .. }
            | Body::HoldSet { .. }
            | Body::HoldReleased { .. }
            | Body::NoticeSent { .. } => Vec::new(),
            Body::CommandGiven(command) => {
                // What failed runs once more: its end is still to come.
                self.ended = self.ended.filter(|_| command.verb != "retry");
                vec![self.line(fact.at, &given(command, &fact.actor))]
            }
        };
        Said { lines, over: self.over() }
    }

    fn planned(&mut self, plan: &Plan) -> Vec<String> {
        self.planned = true;
        let Some(info) = &self.info else { return Vec::new() };
        self.environments = plan.environments.iter().map(|policy| policy.name.clone()).collect();
        self.due = Due::of(plan);
        let mut lines = vec![Follow::more(&format!(
            "change {} on {} by {}: {}",
            info.commit.short(),
            info.branch,
            info.author,
            headline(plan)
        ))];
        lines.extend(plan.warnings.iter().map(|warning| Follow::more(warning)));
        for item in plan.items.iter().filter(|item| item.decision == Decision::FailedBefore) {
            lines.push(Follow::more(&columns(&name_of(&item.id), "failed", &item.reason)));
            self.reasons_said.insert(item.reason.clone());
        }
        if plan.saved_ms > 0 {
            lines.push(Follow::more(&format!("{} saved by results of the same content", words(plan.saved_ms))));
        }
        lines
    }

    // It is queued for each environment in a moment: until then nobody may think that all is decided.
    fn asks(&mut self, release: &Release) {
        let bundle = &release.bundle;
        for environment in self.environments.iter().filter(|name| bundle.environment(name).is_some()) {
            let lane = Lane {
                project: bundle.project.clone(),
                environment: environment.clone(),
                service: bundle.service.clone(),
            };
            self.lanes.entry(lane).or_insert(LaneEnd::Asked);
        }
    }

    fn job_ended(&mut self, at: At, item: &ItemId, outcome: &slipway_model::job::JobOutcome) -> Vec<String> {
        let name = name_of(item);
        self.running.remove(&name);
        let title = match name.split_once('/') {
            Some((service, job)) => format!("{job} {service}"),
            None => name.clone(),
        };
        let mut text = format!("took {}", words(outcome.set_up_ms + outcome.run_ms));
        if let Some(tests) = outcome.tests {
            text.push_str(&format!("   {} tests", tests.passed + tests.failed));
            if tests.failed > 0 {
                text.push_str(&format!(", {} failed", tests.failed));
            }
            if tests.skipped > 0 {
                text.push_str(&format!(", {} skipped", tests.skipped));
            }
        }
        let mut lines = vec![self.line(at, &columns(&title, outcome.result.word(), &text))];
        if !outcome.result.satisfies() {
            self.due.failed(item);
            if let (Some(step), Some(code)) = (&outcome.step, outcome.exit_code) {
                lines.push(Follow::more(&format!("step `{step}` ended with exit code {code}")));
                // A reason that says more, the signal that killed it for one, is still to be said.
                self.reasons_said.insert(format!("step `{step}` exited with {code}"));
            } else if !outcome.reason.is_empty() {
                lines.push(Follow::more(&outcome.reason));
                self.reasons_said.insert(outcome.reason.lines().next().unwrap_or_default().to_owned());
            }
            // Where nothing was printed, the reason stands in for the first error: it was said.
            let errors = outcome.first_error.iter().filter(|error| **error != outcome.reason);
            lines.extend(errors.take(5).map(|error| Follow::more(&format!("  {error}"))));
            lines.push(Follow::more(&format!("next: slipway logs {name}    slipway run {name}")));
        }
        lines
    }

    fn gated(&mut self, at: At, lane: &Lane, number: u64, gate: &Gate, url: &dyn Fn(&Lane) -> String) -> Vec<String> {
        let title = format!("{} {} r{number}", lane.environment, lane.service);
        match gate {
            Gate::Open { .. } => {
                self.lanes.insert(lane.clone(), LaneEnd::Open);
                Vec::new()
            }
            Gate::Wait { who: None, until: None, .. } => {
                self.lanes.insert(lane.clone(), LaneEnd::Behind);
                Vec::new()
            }
            Gate::Wait { reason, next, .. } => {
                self.lanes.insert(lane.clone(), LaneEnd::Waits);
                let mut lines = vec![self.line(at, &format!("WAITING {title}: {reason}"))];
                lines.extend(next.as_ref().map(|next| Follow::more(&format!("next: {next}"))));
                lines
            }
            Gate::Refused { reason, next } => {
                self.lanes.insert(lane.clone(), LaneEnd::Bad);
                let mut lines = vec![self.line(at, &format!("REFUSED {title}: {reason}"))];
                lines.extend(next.as_ref().map(|next| Follow::more(&format!("next: {next}"))));
                lines
            }
            Gate::Identical { reason } => {
                self.lanes.insert(lane.clone(), LaneEnd::Live);
                vec![
                    self.line(at, &format!("LIVE {title}   {}", url(lane))),
                    Follow::more(&format!("identical: {reason}")),
                ]
            }
        }
    }

    fn moved(&mut self, at: At, moved: &RolloutMoved, url: &dyn Fn(&Lane) -> String) -> Vec<String> {
        let lane = &moved.head.lane;
        let title = format!("{} {} r{}", lane.environment, lane.service, moved.head.to.number);
        let waiting = format!("rollout {} {}", lane.environment, lane.service);
        let before = self.lanes.get(lane).copied();
        match moved.phase {
            Phase::Baking => {
                self.running.remove(&waiting);
                self.lanes.insert(lane.clone(), LaneEnd::Live);
                vec![self.line(at, &format!("LIVE {title}   {}", url(lane)))]
            }
            Phase::RolledBack => {
                self.running.remove(&waiting);
                self.lanes.insert(lane.clone(), LaneEnd::Bad);
                self.rolled_back(at, moved)
            }
            Phase::NeedsHuman => {
                self.running.remove(&waiting);
                self.lanes.insert(lane.clone(), LaneEnd::Bad);
                let mut lines = vec![self.line(at, &format!("FAILED {title}: {}", moved.reason))];
                lines.push(Follow::more(&format!("next: slipway why {}@r{}", lane.service, moved.head.to.number)));
                lines
            }
            Phase::Dropped => {
                self.running.remove(&waiting);
                self.lanes.insert(lane.clone(), LaneEnd::Bad);
                vec![self.line(at, &format!("NOT STARTED {title}: {}", moved.reason))]
            }
            // It served already when its turn came.
            Phase::Succeeded if before == Some(LaneEnd::Open) => {
                self.lanes.insert(lane.clone(), LaneEnd::Live);
                vec![self.line(at, &format!("LIVE {title}   {}", url(lane)))]
            }
            Phase::Succeeded | Phase::Contracting => Vec::new(),
            Phase::Returning => {
                self.lanes.insert(lane.clone(), LaneEnd::Open);
                self.running.insert(waiting, (at, moved.reason.clone()));
                Vec::new()
            }
            Phase::Stepping => {
                self.lanes.insert(lane.clone(), LaneEnd::Open);
                // A step is recorded when traffic has moved and again when it is judged; it is said once.
                if self.steps_said.insert(lane.clone(), moved.steps.len()) == Some(moved.steps.len()) {
                    return Vec::new();
                }
                vec![
                    self.line(
                        at,
                        &columns(&format!("rollout {}", lane.service), lane.environment.as_str(), &moved.reason),
                    ),
                ]
            }
            Phase::Queued
            | Phase::Gated
            | Phase::Prepared
            | Phase::Expanded
            | Phase::Provisioning
            | Phase::Probing
            | Phase::Promoting
            | Phase::Capturing
            | Phase::Restoring => {
                if before != Some(LaneEnd::Open) {
                    self.lanes.insert(lane.clone(), LaneEnd::Open);
                }
                // How long it takes is counted from its beginning; what it is at, is the newest word.
                self.running.entry(waiting).or_insert((at, String::new())).1.clone_from(&moved.reason);
                Vec::new()
            }
        }
    }

    fn rolled_back(&self, at: At, moved: &RolloutMoved) -> Vec<String> {
        let lane = &moved.head.lane;
        let to = moved.head.to.number;
        // Some reasons are sentences of their own about the release: `it could not be started`.
        let reason = moved.reason.strip_prefix("it ").unwrap_or(&moved.reason);
        let mut lines =
            vec![self.line(at, &format!("ROLLED BACK {} {}: r{to} {reason}", lane.environment, lane.service))];
        if let Some(from) = &moved.head.from {
            let later = match (moved.incident.recognised, moved.incident.rolled_back) {
                (Some(recognised), Some(back)) => format!(", {} later", words(back.since_ms(recognised))),
                _ => String::new(),
            };
            lines.push(Follow::more(&format!(
                "r{} serves again{later}    next: slipway why {}@r{to}",
                from.number, lane.service
            )));
        }
        let short = moved.head.commit.short();
        lines.push(Follow::more(&format!(
            "{short} is held here: revert it, push the fix with `-o fixes={short}`, or `slipway unhold {short}`"
        )));
        lines
    }

    fn change_ended(&mut self, at: At, state: ChangeState, reason: &str) -> Vec<String> {
        let first = self.ended.is_none();
        self.ended = Some(state);
        match state {
            ChangeState::Failed if !self.planned => {
                let mut lines = vec![self.line(at, "FAILED")];
                lines.extend(reason.lines().map(Follow::more));
                lines
            }
            ChangeState::Failed => vec![self.line(at, &format!("FAILED {}", self.failure(reason)))],
            ChangeState::Skipped => vec![Follow::more(&format!("SKIPPED {reason}; it counts as not passed"))],
            ChangeState::Cancelled => vec![self.line(at, &format!("CANCELLED {reason}"))],
            // Its release went nowhere: a newer one took its place.
            ChangeState::Passed if first && !reason.is_empty() => vec![self.line(at, &format!("PASSED, {reason}"))],
            ChangeState::Passed if first => vec![self.line(at, "PASSED")],
            ChangeState::Passed | ChangeState::Live | ChangeState::RolledBack => Vec::new(),
            ChangeState::Queued | ChangeState::Running | ChangeState::Waiting => Vec::new(),
        }
    }

    /// What failed, and why unless a line said so already.
    fn failure(&self, reason: &str) -> String {
        let first = plain(reason.lines().next().unwrap_or_default());
        match first.split_once(": ") {
            Some((what, why)) if !self.quiet && self.reasons_said.contains(why) => what.to_owned(),
            _ => first,
        }
    }

    fn over(&self) -> Option<i32> {
        if let Some(state) = self.ended {
            return match state {
                ChangeState::Live | ChangeState::Passed | ChangeState::Skipped => Some(0),
                ChangeState::Failed | ChangeState::RolledBack | ChangeState::Cancelled => Some(1),
                ChangeState::Queued | ChangeState::Running | ChangeState::Waiting => None,
            };
        }
        let has = |end: LaneEnd| self.lanes.values().any(|lane| *lane == end);
        let settled = self.planned && self.due.is_empty() && self.running.is_empty();
        // A lane behind another environment only follows what waits.
        let decided = !has(LaneEnd::Asked) && !has(LaneEnd::Open);
        (settled && decided && has(LaneEnd::Waits)).then_some(4)
    }

    /// What runs and for how long: said after ten silent seconds.
    #[must_use]
    pub fn heartbeat(&self, now: At) -> String {
        let running: Vec<String> = self
            .running
            .iter()
            .map(|(name, (since, at))| {
                let at = if at.is_empty() { String::new() } else { format!(" ({at})") };
                format!("{name} for {}{at}", words(now.since_ms(*since)))
            })
            .take(4)
            .collect();
        let is_live = self.lanes.values().any(|lane| matches!(lane, LaneEnd::Live));
        let text = match (running.is_empty(), is_live) {
            (false, _) => running.join(", "),
            (true, true) => "is live and watched for a while".to_owned(),
            (true, false) => "waits for a decision".to_owned(),
        };
        self.line(now, &format!("... {text}"))
    }
}

/// Whether a line tells how something ended or that it waits: its first word is in capitals.
#[must_use]
pub fn is_last_word(line: &str) -> bool {
    let word = line.get(9..).unwrap_or_default().split(' ').next().unwrap_or_default();
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// What somebody did about the change: `kim: retry api/test`.
pub(crate) fn given(command: &Command, actor: &Actor) -> String {
    let what = match (&command.item, &command.service, &command.environment) {
        (Some(item), ..) => name_of(item),
        (None, Some(service), Some(environment)) => format!("{service} in {environment}"),
        _ if matches!(command.verb.as_str(), "retry" | "cancel") => "the change".into(),
        _ => command.what.clone(),
    };
    let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
    format!("{actor}: {} {what}{why}", command.verb)
}

/// A reason with the names that people know: `job:api/test: failed` is about `job api/test`.
#[must_use]
pub fn plain(reason: &str) -> String {
    let id = ["job:", "image:", "release:"].into_iter().find(|kind| reason.starts_with(kind));
    match id.and_then(|kind| Some((kind.strip_suffix(':')?, reason.strip_prefix(kind)?))) {
        Some((kind, rest)) => format!("{kind} {rest}"),
        None => reason.to_owned(),
    }
}

fn columns(what: &str, word: &str, rest: &str) -> String {
    format!("{what:<16} {word:<8} {rest}")
}

fn image_text(image: &slipway_model::fact::ImageBuilt) -> String {
    let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000);
    let grew = match image.grew_bytes {
        Some(grew) if grew.unsigned_abs() >= 100_000 => {
            format!(" ({}{})", if grew > 0 { "+" } else { "-" }, megabytes(grew.unsigned_abs()))
        }
        _ => String::new(),
    };
    let same = if image.reused { "  same content as before" } else { "" };
    format!("{}  {} MB{grew}{same}", image.reference, megabytes(image.size_bytes))
}

/// `api changed, web not affected`.
#[must_use]
pub fn headline(plan: &Plan) -> String {
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for item in &plan.items {
        let name = item.service.as_ref().map_or_else(|| "the repository".to_owned(), ToString::to_string);
        *names.entry(name).or_default() |= item.decision == Decision::Run;
    }
    let list = |wanted: bool, word: &str| {
        let chosen: Vec<&str> =
            names.iter().filter(|(_, runs)| **runs == wanted).map(|(name, _)| name.as_str()).collect();
        match chosen.len() {
            0 => None,
            1..=4 => Some(format!("{} {word}", chosen.join(", "))),
            count => Some(format!("{count} services {word}")),
        }
    };
    let parts: Vec<String> = [list(true, "changed"), list(false, "not affected")].into_iter().flatten().collect();
    if parts.is_empty() { "nothing to do".into() } else { parts.join(", ") }
}
