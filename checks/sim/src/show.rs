//! A history in lines, one per fact, for whoever has to find out what went wrong.

use slipway_model::fact::{Body, Fact, Gate};
use slipway_ports::fakes::store::kind;

/// One fact in one line.
#[must_use]
pub fn line(fact: &Fact) -> String {
    let head = format!("{:>4} {} {:<28} {:<18}", fact.n, fact.at, fact.stream, kind(&fact.body));
    format!("{head} {}", about(&fact.body)).trim_end().to_owned()
}

fn about(body: &Body) -> String {
    match body {
        Body::ChangeReceived(info) => format!("{} {} {}", info.commit.short(), info.branch, info.subject),
        Body::PlanMade { plan } => {
            let items: Vec<String> =
                plan.items.iter().map(|item| format!("{}={}", item.id, item.decision.word())).collect();
            items.join(" ")
        }
        Body::ChangeEnded { state, reason } => format!("{} {reason}", state.word()),
        Body::JobStarted { run, .. } => run.to_string(),
        Body::JobEnded { run, outcome, .. } => format!("{run} {}", outcome.result.word()),
        Body::ImageStarted { item, build } => format!("{item} {build}"),
        Body::ImageBuilt(image) => image.reference.clone(),
        Body::ImageFailed { item, reason, .. } => format!("{item} {reason}"),
        Body::ReleaseMade { release, again, .. } => format!("{} {} again={again}", release.title(), release.id),
        Body::ReleaseQueued(candidate) => format!("r{} of {}", candidate.number, candidate.commit.short()),
        Body::ReleaseGated { candidate, gate } => {
            let answer = match gate {
                Gate::Open { .. } => "open".to_owned(),
                Gate::Wait { reason, who, .. } => format!("waits for {who:?}: {reason}"),
                Gate::Refused { reason, .. } => format!("refused: {reason}"),
                Gate::Identical { reason } => format!("identical: {reason}"),
            };
            format!("r{} of {} {answer}", candidate.number, candidate.commit.short())
        }
        Body::RolloutPhase(moved) => {
            let field = |name: &str| moved.record.get(name).cloned().unwrap_or_default();
            format!(
                "{} r{} {:<12} new={}+{} old={}+{} weights={} epoch={} {}",
                moved.head.id,
                moved.head.to.number,
                moved.phase.word(),
                field("new_serving"),
                field("new_retiring"),
                field("old_serving"),
                field("old_retiring"),
                field("weights"),
                field("wish_epoch"),
                moved.reason
            )
        }
        Body::VerdictWanted { rollout, step, .. } => format!("{rollout} step {step}"),
        Body::VerdictGiven { rollout, step, verdict, .. } => {
            format!("{rollout} step {step} {:?} {}", verdict.kind, verdict.sentence)
        }
        Body::EvidenceKept { rollout, .. } => rollout.to_string(),
        Body::InstanceState { instance, .. } => format!("{} {}", instance.id, instance.state.word()),
        Body::HoldSet { commit, reason, .. } | Body::HoldReleased { commit, reason, .. } => {
            format!("{} {reason}", commit.short())
        }
        Body::CommandGiven(command) => format!("{} {}", command.verb, command.what),
        Body::NoticeSent { to, text } => format!("{to} {text}"),
    }
}
