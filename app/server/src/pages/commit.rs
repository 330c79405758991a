//! One commit on the road: what it is, how it stands in one sentence, the road, then what is behind it.
//!
//! In: a change's view. Out: the page. Never: an act; each problem shows the command that mends it.

use super::frame::{Look, Place, page};
use super::words::{Tone, ago, command, errors, mark, milliseconds, pill, since, spoken, tone, took};
use super::{road as picture, sign};
use crate::Server;
use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use slipway_feedback::road::{self, is_bad};
use slipway_model::fact::ChangeState;
use slipway_model::policy::VerifyPolicy;
use slipway_model::verdict::{Evidence, Figures, VerdictKind};
use slipway_model::view::{ChangeView, GateView, JobView, RolloutView, Status};
use slipway_model::{At, EnvironmentName, ProjectName};

/// Failed jobs that are told whole; the list has them all.
const TOLD: usize = 5;
/// A longer list is laid out only where it comes into view.
const LONG: usize = 40;
/// Lines of evidence that are shown of each kind.
const LINES: usize = 12;

/// `GET /p/{project}/c/{commit}`.
pub async fn commit(State(server): State<Server>, Path((name, text)): Path<(String, String)>, look: Look) -> Response {
    let Ok(project) = ProjectName::parse(&name) else { return sign::no_project(&look, &name) };
    let view = match server.find_change(&project, &text).await {
        Ok(view) => view,
        Err(problem) => return sign::nothing(&look, &problem.detail, "slipway status"),
    };
    let seen = Seen::of(&server, &project, view).await;
    let place = Place {
        title: format!("{} {}", seen.view.commit.short(), seen.view.subject),
        project: Some(project),
        crumbs: vec![(seen.view.branch.clone(), String::new()), (seen.view.commit.short().to_owned(), String::new())],
        every_seconds: Some(if seen.view.state.is_final() { 30 } else { 2 }),
    };
    let now = server.now();
    page(&server, &look, &place, body(&seen, now))
}

/// A change with what the page needs beside it.
struct Seen {
    project: ProjectName,
    view: ChangeView,
    environments: Vec<EnvironmentName>,
    status: Option<Status>,
    policies: Vec<VerifyPolicy>,
}

impl Seen {
    async fn of(server: &Server, project: &ProjectName, view: ChangeView) -> Seen {
        let status = server.status(project, 0).await;
        let (environments, policies) = server.road().look(|projection| {
            let Some(state) = projection.projects.get(project) else { return (Vec::new(), Vec::new()) };
            let plan = state.plans.get(&view.id);
            let planned = |name: &&EnvironmentName| {
                plan.is_some_and(|plan| plan.environments.iter().any(|policy| &policy.name == *name))
            };
            let policy = |rollout: &RolloutView| {
                let is_it = |release: &&slipway_model::release::Release| {
                    release.bundle.service == rollout.service && format!("r{}", release.number) == rollout.to
                };
                let release = state.releases.values().find(is_it)?;
                release.bundle.environment(&rollout.environment).map(|config| config.verify.clone())
            };
            let policies = view.rollouts.iter().map(|rollout| policy(rollout).unwrap_or_default()).collect();
            (state.order.iter().filter(planned).cloned().collect(), policies)
        });
        Seen { project: project.clone(), view, environments, status, policies }
    }
}

fn body(seen: &Seen, now: At) -> Markup {
    let view = &seen.view;
    let road = road::road(view, &seen.environments, now);
    let failed: Vec<&JobView> = view.jobs.iter().filter(|job| is_bad(job)).collect();
    html! {
        (head(seen, now))
        (picture::picture(&road))
        @for job in failed.iter().take(TOLD) { (failure(seen, job)) }
        @if failed.is_empty() { (reason(view)) }
        @for (rollout, policy) in view.rollouts.iter().zip(&seen.policies).rev() { (rollout_panels(seen, rollout, policy, now)) }
        (gates(view, now))
        (jobs(seen, now))
        (plan(view))
    }
}

fn head(seen: &Seen, now: At) -> Markup {
    let view = &seen.view;
    let word = word_now(seen);
    html! {
        div class="title" {
            h1 { (view.subject) }
            p class="soft" {
                (view.author) " · " code { (view.commit.short()) } " on " (view.branch) " · pushed " (ago(view.received, now))
            }
            p class="verdict" role="status" { (mark(word)) " " span { (verdict(seen, now)) } }
            @if let Some(next) = next(view) { p class="next" { span class="soft" { "next: " } (command(&next)) } }
        }
    }
}

/// What went live and serves nowhere any more was live.
fn word_now(seen: &Seen) -> &'static str {
    match &seen.status {
        Some(status) => super::home::word_now(status, &seen.view),
        None => road::word(&seen.view),
    }
}

/// The one command that goes on from here.
fn next(view: &ChangeView) -> Option<String> {
    let waiting = view.waiting.as_ref().and_then(|waiting| waiting.next.clone());
    let of_gate = || view.gates.iter().find_map(|gate| gate.next.clone());
    let of_state = || match view.state {
        ChangeState::Failed => {
            let job = view.jobs.iter().find(|job| is_bad(job));
            Some(job.map_or_else(
                || format!("slipway why {}", view.commit.short()),
                |job| format!("slipway run {}", job.name),
            ))
        }
        ChangeState::RolledBack => Some(format!("git revert {}", view.commit.short())),
        _ => None,
    };
    waiting.or_else(of_gate).or_else(of_state)
}

/// How it stands, in one sentence.
fn verdict(seen: &Seen, now: At) -> Markup {
    let view = &seen.view;
    let back = view.rollouts.iter().rev().find(|rollout| rollout.phase == "rolled-back");
    match (view.state, &view.waiting, back) {
        (ChangeState::RolledBack, _, Some(rollout)) => taken_back(rollout),
        (_, Some(waiting), _) => html! { "Waits for " (since(waiting.since, now)) ": " (waiting.what) },
        (ChangeState::Queued, ..) => html! { "It was recorded and is being planned." },
        (ChangeState::Running, ..) => running(view, now),
        (ChangeState::Live, ..) => live(view),
        (ChangeState::Passed, ..) if road::word(view) == "superseded" => {
            let mut reasons = view.gates.iter().filter(|gate| road::is_superseded(gate)).flat_map(|gate| &gate.reasons);
            html! { "It never went in: " (reasons.next().cloned().unwrap_or_default()) "." }
        }
        (ChangeState::Passed, ..) if view.releases.is_empty() => {
            html! { (if view.reason.is_empty() { "All checks passed; nothing of it has to be deployed." } else { view.reason.as_str() }) }
        }
        _ => html! { (slipway_feedback::lines::plain(view.reason.lines().next().unwrap_or_default())) },
    }
}

fn taken_back(rollout: &RolloutView) -> Markup {
    let incident = &rollout.incident;
    let took_ms = incident.recognised.zip(incident.rolled_back).map(|(seen, done)| done.since_ms(seen));
    html! {
        (rollout.environment) " " (rollout.service) ": " (rollout.to) " " (rollout.reason) "; "
        @if let Some(from) = &rollout.from { b { (from) " serves again" } } @else { b { "nothing serves" } }
        @if let Some(ms) = took_ms { ", " (took(ms)) " later" } "."
        @if rollout.held { " This commit is held." }
    }
}

fn running(view: &ChangeView, now: At) -> Markup {
    let moving = view.rollouts.iter().rev().find(|rollout| rollout.ended.is_none());
    let running: Vec<&JobView> = view.jobs.iter().filter(|job| job.result == "running").collect();
    html! {
        @match (moving, running.as_slice()) {
            (Some(rollout), _) => {
                (rollout.to) " goes into " (rollout.environment) " for " (since(rollout.started, now)) ": "
                (slipway_feedback::why::meaning(&rollout.phase).unwrap_or(&rollout.phase))
            }
            (None, [one]) => { "Job " (one.name) " runs" @if let Some(started) = one.started { " for " (since(started, now)) } }
            (None, []) => { "Under way." }
            (None, many) => { (many.len()) " jobs run." }
        }
    }
}

fn live(view: &ChangeView) -> Markup {
    let ends =
        view.rollouts.iter().filter(|rollout| matches!(rollout.phase.as_str(), "succeeded" | "baking" | "contracting"));
    let said: Vec<String> =
        ends.map(|rollout| format!("{} {} {}", rollout.environment, rollout.service, rollout.to)).collect();
    let after = view.timings.get("to_live").map(|ms| took(*ms));
    html! {
        @if said.is_empty() { "It serves." } @else { "Went live: " (said.join(", ")) @if let Some(after) = after { ", " (after) " after the push" } "." }
    }
}

/// A failed job: the first error on top (R066), then what to do.
fn failure(seen: &Seen, job: &JobView) -> Markup {
    let address = super::job::address(&seen.project, &seen.view, &job.name);
    html! {
        section class="card bad" aria-label={ "job " (job.name) } {
            div class="head" { h2 { "Job " (job.name) " " (mark(&job.result)) } p { a href=(address) { "The whole log" } } }
            @if !job.first_error.is_empty() {
                pre class="err" tabindex="0" aria-label="first error" { @for line in &job.first_error { (super::ansi::html(line)) "\n" } }
            } @else { p { (job.reason) } }
            @if let (Some(step), Some(run)) = (&job.step, &job.command) {
                p class="soft" { "step " b { (step) } ": " code { (run) } @if let Some(code) = job.exit_code { " ended with exit code " (code) } }
            }
            p { (command(&format!("slipway run {}", job.name))) " " (command(&format!("slipway logs {}", job.name))) }
        }
    }
}

/// Why it ended, where no job is to blame.
fn reason(view: &ChangeView) -> Markup {
    let bad = view.state == ChangeState::Failed && !view.reason.is_empty();
    html! { @if bad { section class="card bad" aria-label="why it failed" { h2 { "Why it failed" } pre class="err" tabindex="0" { (slipway_feedback::lines::plain(&view.reason)) } } } }
}

fn rollout_panels(seen: &Seen, rollout: &RolloutView, policy: &VerifyPolicy, now: At) -> Markup {
    let judged = rollout.verdict.as_ref();
    let figures =
        judged.map(|verdict| &verdict.figures).or(rollout.evidence.as_ref().map(|evidence| &evidence.figures));
    html! {
        div class="pair" {
            section class="card" aria-label={ "rollout " (rollout.environment) " " (rollout.service) } {
                div class="head" {
                    h2 { a href={ "/p/" (seen.project) "/s/" (rollout.service) "?env=" (rollout.environment) } { (rollout.environment) " " (rollout.service) } " " (attempt(rollout)) }
                    p class="soft" { "by " (rollout.by) ", " (ago(rollout.started, now)) }
                }
                @if let Some(figures) = figures { (beside(rollout, figures, policy)) }
                @if let Some(verdict) = judged { p class="soft" { (judgement(verdict.kind)) " " (verdict.sentence) } }
                @if !rollout.reason.is_empty() && judged.is_none_or(|verdict| verdict.sentence != rollout.reason) { p { (rollout.reason) } }
                (steps(rollout))
            }
            @if let Some(evidence) = &rollout.evidence { (evidence_panel(rollout, evidence)) }
        }
    }
}

/// How the attempt ended; never how what serves now stands.
fn attempt(rollout: &RolloutView) -> Markup {
    match rollout.phase.as_str() {
        "rolled-back" => pill("↩", Tone::Bad, &format!("{} was taken back", rollout.to)),
        "succeeded" | "contracting" => pill("✓", Tone::Good, &format!("{} went live", rollout.to)),
        "baking" => pill("✓", Tone::Good, &format!("{} is live and watched", rollout.to)),
        phase => pill(tone(phase).sign(), tone(phase), &format!("{} {}", rollout.to, spoken(phase))),
    }
}

fn judgement(kind: VerdictKind) -> Markup {
    match kind {
        VerdictKind::Pass => pill("✓", Tone::Good, "pass"),
        VerdictKind::Fail => pill("✕", Tone::Bad, "fail"),
        VerdictKind::Insufficient => pill("–", Tone::Soft, "insufficient"),
        VerdictKind::Inconclusive => pill("–", Tone::Soft, "inconclusive"),
        VerdictKind::Unavailable => pill("–", Tone::Soft, "nothing could be measured"),
    }
}

/// Old and new side by side, with the limits.
fn beside(rollout: &RolloutView, figures: &Figures, policy: &VerifyPolicy) -> Markup {
    let (old, new) = (&figures.old, &figures.new);
    let weight = rollout.steps.last().map_or(100, |step| step.weight.min(100));
    let back = rollout.phase == "rolled-back";
    let bad = new.errors > 0 && back;
    let limit = format!("{}.{} % more", policy.errors_basis_points / 100, policy.errors_basis_points % 100 / 10);
    html! {
        table class="beside" {
            caption class="hid" { "old and new release side by side" }
            thead { tr { th scope="col" { span class="hid" { "figure" } } th scope="col" { (rollout.from.as_deref().unwrap_or("nothing")) " (before)" } th scope="col" { (rollout.to) " (this)" } th scope="col" { "limit" } } }
            tbody {
                tr { th scope="row" { "Traffic" }
                    td { (100 - weight) " %" @if back { " → " b { "100 %" } } }
                    td { (weight) " %" @if back { " → " b { "0 %" } } } td {} }
                tr { th scope="row" { "Requests" } td { (old.requests) } td { (new.requests) } td class="soft" { "≥ " (policy.requests) } }
                tr { th scope="row" { "5xx" } td { (errors(old.errors, old.requests)) }
                    td { @if bad { b class="bad" { "✕ " (errors(new.errors, new.requests)) } } @else { (errors(new.errors, new.requests)) } } td class="soft" { (limit) } }
                tr { th scope="row" { "p95" } td { (milliseconds(old.p95_us)) } td { (milliseconds(new.p95_us)) } td class="soft" { "+" (policy.p95_percent) " %" } }
            }
        }
    }
}

fn steps(rollout: &RolloutView) -> Markup {
    html! {
        @if !rollout.steps.is_empty() {
            ol class="steps" {
                @for step in &rollout.steps {
                    li { "step " (step.name) " at " (step.weight) " %: " @match step.verdict { Some(kind) => (judgement(kind)), None => { "not judged yet" } } }
                }
            }
        }
    }
}

fn evidence_panel(rollout: &RolloutView, evidence: &Evidence) -> Markup {
    let why = format!("slipway why {}@{}", rollout.service, rollout.to);
    html! {
        section class="card" aria-label="evidence" {
            h2 { "Evidence, kept before anything was stopped" }
            @if !evidence.samples.is_empty() {
                table {
                    thead { tr { th scope="col" { "request" } th scope="col" { "answer" } th scope="col" { "began with" } } }
                    tbody { @for sample in evidence.samples.iter().rev().take(3) {
                        tr { td { code { (sample.request) } } td { span class="bad" { "✕ " (sample.status) } } td class="soft" { (clipped(sample.body.trim(), 80)) } }
                    } }
                }
            }
            @if !evidence.urls.is_empty() { p { "Fails: " @for url in evidence.urls.iter().take(3) { code { (url) } " " } } }
            @if !evidence.log.is_empty() {
                pre tabindex="0" aria-label="last lines of the failing instances" { @for line in evidence.log.iter().rev().take(LINES).rev() { (super::ansi::html(line)) "\n" } }
            }
            @if !evidence.code_lines.is_empty() { p { "Probable change: " b { (evidence.code_lines.join(", ")) } } }
            @if !evidence.commits.is_empty() {
                details { summary { (counted(evidence.commits.len(), "commit")) " since the good release, " (counted(evidence.files.len(), "file")) }
                    ul { @for (id, subject) in evidence.commits.iter().take(LINES) { li { code { (id.short()) } " " (subject) } } }
                    ul { @for file in evidence.files.iter().take(LINES) { li { code { (file) } } } }
                }
            }
            @if rollout.held { p { "Its commit is held here until it is reverted, fixed (" code { "Slipway-Fixes:" } ") or let in with " code { "slipway unhold" } "." } }
            p { span class="soft" { "the same in a terminal " } (command(&why)) }
        }
    }
}

/// `1 commit`, `2 commits`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The beginning of a text.
fn clipped(text: &str, signs: usize) -> String {
    match text.char_indices().nth(signs) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn gates(view: &ChangeView, now: At) -> Markup {
    let open: Vec<&GateView> = view.gates.iter().filter(|gate| gate.state != "passed").collect();
    html! {
        @if !open.is_empty() {
            section class="card" aria-labelledby="gates-title" {
                h2 id="gates-title" { "Before environments" }
                ul class="list" { @for gate in open { li {
                    @if road::is_superseded(gate) { (pill("–", Tone::Soft, "superseded")) } @else if gate.state == "open" { (pill("◷", Tone::Wait, "waits")) } @else { (pill("✕", Tone::Bad, "refused")) }
                    " " b { (gate.environment) " " (gate.service) " " (gate.release) } ": " (gate.reasons.join("; ")) " " span class="soft" { (ago(gate.at, now)) }
                    @if let Some(next) = &gate.next { " " (command(next)) }
                } } }
            }
        }
    }
}

fn jobs(seen: &Seen, now: At) -> Markup {
    let mut listed: Vec<&JobView> = seen.view.jobs.iter().collect();
    let rank = |job: &JobView| match job.result.as_str() {
        _ if is_bad(job) => 0,
        "running" => 1,
        "queued" => 2,
        _ if job.attempt > 0 => 3,
        _ => 4,
    };
    listed.sort_by_key(|job| rank(job));
    html! {
        @if !listed.is_empty() {
            section class={ "card" @if listed.len() > LONG { " long" } } aria-labelledby="jobs-title" {
                h2 id="jobs-title" { "Jobs" }
                table class="jobs" {
                    thead { tr { th scope="col" { "job" } th scope="col" { "result" } th scope="col" { "took" } th scope="col" { "tests" } th scope="col" { "waited" } } }
                    tbody { @for job in listed { (job_row(seen, job, now)) } }
                }
            }
        }
    }
}

fn job_row(seen: &Seen, job: &JobView, now: At) -> Markup {
    let ran = job.attempt > 0;
    html! {
        tr {
            td { @if ran { a href=(super::job::address(&seen.project, &seen.view, &job.name)) { (job.name) } } @else { (job.name) } }
            td { (mark(&job.result)) @if job.attempt > 1 { " attempt " (job.attempt) } }
            td data-label="took" { @match (job.started, job.ended) { (Some(started), None) => (since(started, now)), (Some(started), Some(ended)) => (took(ended.since_ms(started))), _ => {} } }
            td data-label="tests" { @if let Some(tests) = &job.tests { (tests.passed) @if tests.failed > 0 { ", " b class="bad" { "✕ " (tests.failed) " failed" } } @if tests.skipped > 0 { ", " (tests.skipped) " skipped" } } }
            td class="soft" data-label="waited" { @if job.queued_ms >= 100 { (took(job.queued_ms)) } }
        }
    }
}

fn plan(view: &ChangeView) -> Markup {
    html! {
        @for warning in &view.plan.warnings { p class="note" { (pill("◷", Tone::Wait, "note")) " " (warning) } }
        @if !view.plan.items.is_empty() {
            details class="card" {
                summary { "Plan: " (view.plan.items.iter().filter(|item| item.decision == "run").count()) " of " (view.plan.items.len()) " things to do, and why" }
                table {
                    thead { tr { th scope="col" { "what" } th scope="col" { "decision" } th scope="col" { "because" } } }
                    tbody { @for item in &view.plan.items { tr { td { (item.kind) " " (item.name) } td { (spoken(&item.decision)) } td class="soft" { (item.reason) } } } }
                }
            }
        }
    }
}
