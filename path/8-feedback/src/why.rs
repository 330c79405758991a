//! `slipway why`: why something ran, waits, failed, was skipped, was taken back.
//!
//! In: views and plans. Out: lines that end in what to do. Never: guesses.

use crate::change::name_of;
use crate::lines::plain;
use slipway_model::plan::{Decision, Item};
use slipway_model::time::words;
use slipway_model::verdict::VerdictKind;
use slipway_model::view::{ChangeView, GateView, JobView, RolloutView};
use std::collections::BTreeMap;

/// Why a change stands as it does.
#[must_use]
pub fn change(view: &ChangeView) -> Vec<String> {
    let mut lines = vec![format!("{} {} on {}: {}", view.commit.short(), view.subject, view.branch, view.state.word())];
    // A job that failed tells it below, with more.
    let told = view
        .jobs
        .iter()
        .any(|job| !job.reason.is_empty() && view.reason == format!("job:{}: {}", job.name, job.reason));
    if !view.reason.is_empty() && !told {
        lines.extend(view.reason.lines().map(|line| format!("  {}", plain(line))));
    }
    if let Some(waiting) = &view.waiting {
        lines.push(format!("  waits: {}", waiting.what));
        lines.extend(waiting.next.as_ref().map(|next| format!("  next: {next}")));
    }
    for job in
        view.jobs.iter().filter(|job| matches!(job.result.as_str(), "failed" | "timed-out" | "lost" | "failed-before"))
    {
        lines.extend(self::job(job));
    }
    lines.extend(view.gates.iter().map(gate));
    for rollout in &view.rollouts {
        lines.extend(self::rollout(rollout));
    }
    lines
}

/// How a release stands before an environment, in one line.
#[must_use]
pub fn gate(gate: &GateView) -> String {
    let next = gate.next.as_ref().map(|next| format!("    next: {next}")).unwrap_or_default();
    let reasons = gate.reasons.join("; ");
    format!("gate {} {} {}: {}: {reasons}{next}", gate.environment, gate.service, gate.release, gate.state)
}

/// Why a job ended as it did: stage, step, command, exit code and the first error lines (R066).
#[must_use]
pub fn job(job: &JobView) -> Vec<String> {
    let mut lines = vec![format!(
        "job {}: {}{}",
        job.name,
        job.result,
        if job.reason.is_empty() { String::new() } else { format!(", {}", job.reason) }
    )];
    if let (Some(step), Some(command)) = (&job.step, &job.command) {
        let code = job.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
        lines.push(format!("  step {step}: {command}{code}"));
    }
    let errors = job.first_error.iter().filter(|line| **line != job.reason);
    lines.extend(errors.map(|line| format!("    {line}")));
    lines
}

/// What a phase, or a lane's state, means: for those who read its word for the first time.
#[must_use]
pub fn meaning(phase: &str) -> Option<&'static str> {
    Some(match phase {
        "queued" | "gated" | "prepared" | "expanded" => "nothing was started yet",
        "provisioning" => "new instances are being started",
        "probing" => "new instances are asked whether they are ready",
        "stepping" => "traffic moves to the new release and is judged",
        "promoting" => "the new release takes all traffic",
        "baking" => "it serves everything and is watched",
        "contracting" => "it serves everything; the old instances go",
        "returning" | "capturing" | "restoring" => "traffic goes back to the release before",
        "rolled-back" => "the release before serves again",
        "needs-human" => "nothing to go back to, or that failed too",
        "dropped" => "it was not started",
        "waiting" => "it asks to come in",
        "refused" => "it may not come in",
        _ => return None,
    })
}

fn judged(verdict: Option<VerdictKind>) -> &'static str {
    match verdict {
        None => "not judged yet",
        Some(VerdictKind::Pass) => "pass",
        Some(VerdictKind::Fail) => "fail",
        Some(VerdictKind::Insufficient) => "insufficient: too few requests to judge, only the smoke requests count",
        Some(VerdictKind::Inconclusive) => "inconclusive: the requests do not tell good from bad",
        Some(VerdictKind::Unavailable) => "unavailable: nothing could be measured",
    }
}

/// Why a rollout is where it is, with its evidence.
#[must_use]
pub fn rollout(rollout: &RolloutView) -> Vec<String> {
    let from = rollout.from.clone().unwrap_or_else(|| "nothing".into());
    let means = meaning(&rollout.phase).map(|means| format!(" ({means})")).unwrap_or_default();
    let mut lines = vec![format!(
        "rollout {} {} {from} -> {}: {}{means}",
        rollout.environment, rollout.service, rollout.to, rollout.phase
    )];
    lines.push(format!("  by {}, {}", rollout.by, rollout.started));
    if !rollout.reason.is_empty() {
        lines.push(format!("  because {}", rollout.reason));
    }
    for step in &rollout.steps {
        lines.push(format!("  step {} at {} %: {}", step.name, step.weight, judged(step.verdict)));
    }
    let incident = &rollout.incident;
    if let Some(recognised) = incident.recognised {
        lines.push(format!("  recognised   {recognised}"));
        let after = |what: &str, at: Option<slipway_model::At>| {
            at.map(|at| format!("  {what:<12} {} later", words(at.since_ms(recognised))))
        };
        lines.extend(after("reported", incident.reported));
        lines.extend(after("rolled back", incident.rolled_back));
        lines.extend(after("recovered", incident.recovered));
    }
    if let Some(evidence) = &rollout.evidence {
        lines.extend(self::evidence(evidence));
    }
    if rollout.held {
        lines.push(
            "  its commit is held here until it is reverted, fixed (`Slipway-Fixes:`, `-o fixes=`) or `slipway unhold`"
                .into(),
        );
    }
    lines
}

fn evidence(evidence: &slipway_model::verdict::Evidence) -> Vec<String> {
    let mut lines = Vec::new();
    let list = |lines: &mut Vec<String>, title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(format!("  {title}:"));
            lines.extend(items.into_iter().map(|item| format!("    {item}")));
        }
    };
    list(&mut lines, "failing", evidence.urls.clone());
    let samples = evidence.samples.iter().rev().take(3).map(|sample| {
        format!(
            "{} {} -> {} from {}: {}",
            sample.at,
            sample.request,
            sample.status,
            sample.instance,
            sample.body.trim()
        )
    });
    list(&mut lines, "samples", samples.collect());
    list(&mut lines, "log", evidence.log.iter().rev().take(8).rev().cloned().collect());
    list(&mut lines, "code", evidence.code_lines.clone());
    list(
        &mut lines,
        "commits since the good release",
        evidence.commits.iter().map(|(id, subject)| format!("{} {subject}", id.short())).collect(),
    );
    list(&mut lines, "changed files", evidence.files.iter().take(20).cloned().collect());
    if !evidence.image.is_empty() {
        lines.push(format!("  build: {}", evidence.image));
    }
    lines
}

/// Why an item ran or did not: file by file what differs from the same item of an earlier plan.
#[must_use]
pub fn item(item: &Item, before: Option<&Item>) -> Vec<String> {
    let (kind, name) = (item.spec.kind(), name_of(&item.id));
    let mut lines = vec![format!("{kind} {name}: {}, {}", item.decision.word(), plain(&item.reason))];
    if item.decision != Decision::Run {
        return lines;
    }
    let Some(earlier) = before else {
        lines.push("  there is no earlier plan to compare with".into());
        return lines;
    };
    lines.extend(differences(&earlier.inputs, &item.inputs));
    let definition = |item: &Item| serde_json::to_value(&item.spec).unwrap_or_default();
    if definition(earlier) != definition(item) {
        lines.push("  its definition changed".into());
    }
    lines
}

fn differences(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, id) in now {
        match before.get(path) {
            None => lines.push(format!("  + {path}")),
            Some(old) if old != id => lines.push(format!("  ~ {path}")),
            Some(_) => {}
        }
    }
    lines.extend(before.keys().filter(|path| !now.contains_key(*path)).map(|path| format!("  - {path}")));
    lines
}
