//! The gates of an environment, one after the other (R006, R344, R345, R347, R355, R309, R106).
//!
//! In: who asks, what the environment asks for, what is known. Out: an answer with reasons. Never: I/O, a clock.

use crate::agree::{Makers, bar};
use crate::needs::Need;
use slipway_model::fact::{Candidate, Gate, NEEDS};
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::rollout::{Phase, Purpose, ReleaseRef};
use slipway_model::{Actor, At, CommitId, EnvironmentName, ServiceName};

/// All that the gates look at.
#[derive(Debug, Clone)]
pub struct GateInput {
    /// Who asks.
    pub candidate: Candidate,
    /// What the environment asks for.
    pub policy: EnvironmentPolicy,
    /// What serves, and whether it is the same in effect (image, configuration, specification).
    pub current: Option<(ReleaseRef, bool)>,
    /// Whether the commit is one that may come here: reachable from an allowed branch; else which would be.
    pub branch: Result<String, String>,
    /// The candidate's commit is an ancestor of the one that serves.
    pub older: Option<CommitId>,
    /// Predecessors and how this release stands there.
    pub after: Vec<(EnvironmentName, Option<(Phase, String)>)>,
    /// Services that it needs and that the same change deploys here, and how each stands.
    pub needs: Vec<(ServiceName, Need)>,
    /// Why nothing new may come here now, and who says so.
    pub frozen: Option<String>,
    /// Holds that this commit contains and that nothing released, with their reasons.
    pub held: Vec<(CommitId, String)>,
    /// The service has no behaviour test, and this environment is an end of the promotion order.
    pub not_ci: bool,
    /// Approvals so far.
    pub approvals: Vec<(Actor, At)>,
    /// A rejection.
    pub rejected: Option<(Actor, String)>,
    /// Who wrote and who pushed what is in it: they may not approve by default.
    pub makers: Makers,
    /// Secrets of this environment without a value.
    pub missing_secrets: Vec<String>,
    /// Now.
    pub now: At,
}

/// Asks the gates in order; the first that does not open answers.
#[must_use]
pub fn gate(input: &GateInput) -> Gate {
    let purpose = input.candidate.purpose;
    let mut passed = Vec::new();
    let gates: [fn(&GateInput) -> Answer; 11] =
        [rejected, identical, branch, order, promotion, broken_needs, hold, frozen, consent, secrets, open_needs];
    // A rollback passes windows, approvals and holds; it only has to make a difference and to be complete. New instances of
    // what serves were let in with it.
    let short: [fn(&GateInput) -> Answer; 2] = [identical, secrets];
    let chosen: &[fn(&GateInput) -> Answer] = if purpose == Purpose::Deploy { &gates } else { &short };
    for gate in chosen {
        match gate(input) {
            Answer::Passed(reason) => passed.extend(reason),
            Answer::Stop(gate) => return gate,
        }
    }
    match purpose {
        Purpose::Deploy => {}
        Purpose::Rollback => passed.push("a rollback passes approvals and holds".into()),
        Purpose::Refresh => passed.push("it is what serves, in new instances".into()),
    }
    Gate::Open { passed }
}

enum Answer {
    Passed(Option<String>),
    Stop(Gate),
}

fn passed(reason: impl Into<String>) -> Answer {
    Answer::Passed(Some(reason.into()))
}

fn refused(reason: String, next: Option<String>) -> Answer {
    Answer::Stop(Gate::Refused { reason, next })
}

fn title(input: &GateInput) -> String {
    format!("{}@r{}", input.candidate.lane.service, input.candidate.number)
}

fn rejected(input: &GateInput) -> Answer {
    match &input.rejected {
        Some((actor, reason)) => refused(format!("rejected by {actor}: {reason}"), None),
        None => Answer::Passed(None),
    }
}

fn identical(input: &GateInput) -> Answer {
    match &input.current {
        Some((current, true)) if input.candidate.purpose != Purpose::Refresh => Answer::Stop(Gate::Identical {
            reason: format!("r{} with the same image, configuration and specification already runs", current.number),
        }),
        _ => Answer::Passed(None),
    }
}

fn branch(input: &GateInput) -> Answer {
    match &input.branch {
        Ok(reason) => passed(reason.clone()),
        Err(reason) => refused(reason.clone(), Some("merge it into the production branch and push that".into())),
    }
}

fn order(input: &GateInput) -> Answer {
    match &input.older {
        Some(newer) => refused(
            format!("{} contains this commit and already serves", newer.short()),
            Some(format!(
                "slipway rollback {} --to r{} --env {}",
                input.candidate.lane.service, input.candidate.number, input.policy.name
            )),
        ),
        None => Answer::Passed(None),
    }
}

fn promotion(input: &GateInput) -> Answer {
    let mut reasons = Vec::new();
    for (environment, phase) in &input.after {
        let release = format!("r{}", input.candidate.number);
        match phase {
            Some((Phase::Succeeded, _)) => reasons.push(format!("{release} succeeded in {environment}")),
            Some((phase @ (Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped), why)) => {
                return refused(format!("{release} did not succeed in {environment} ({}: {why})", phase.word()), None);
            }
            Some((phase, _)) => return wait(format!("{release} is {} in {environment}", phase.word())),
            None => return wait(format!("{release} has not been in {environment} yet")),
        }
    }
    Answer::Passed((!reasons.is_empty()).then(|| reasons.join(", ")))
}

// Ends by itself: nobody has to do anything.
fn wait(reason: String) -> Answer {
    Answer::Stop(Gate::Wait { reason, who: None, until: None, next: None })
}

// Who can never go is told so before anybody is asked to agree.
fn broken_needs(input: &GateInput) -> Answer {
    let broken = input.needs.iter().find_map(|(service, need)| match need {
        Need::Broken { number, reason } => Some(format!("{NEEDS} {service}: r{number} did not succeed ({reason})")),
        Need::Met | Need::Open { .. } => None,
    });
    match broken.filter(|_| !input.candidate.by_hand) {
        Some(reason) => refused(reason, None),
        None => Answer::Passed(None),
    }
}

// A person who deploys one service by hand has chosen the order.
fn open_needs(input: &GateInput) -> Answer {
    let open = input.needs.iter().find_map(|(service, need)| match need {
        Need::Open { number: Some(number) } => Some(format!("{NEEDS} {service}: r{number} goes first")),
        Need::Open { number: None } => Some(format!("{NEEDS} {service}: its release of this change goes first")),
        Need::Met | Need::Broken { .. } => None,
    });
    match open.filter(|_| !input.candidate.by_hand) {
        Some(reason) => wait(reason),
        None if input.needs.is_empty() || input.candidate.by_hand => Answer::Passed(None),
        None => {
            let names: Vec<&str> = input.needs.iter().map(|(service, _)| service.as_str()).collect();
            passed(format!("{} went first", names.join(", ")))
        }
    }
}

fn hold(input: &GateInput) -> Answer {
    let Some((commit, why)) = input.held.first() else { return Answer::Passed(None) };
    let short = commit.short();
    Answer::Stop(Gate::Wait {
        reason: format!(
            "it contains {short}, which is held here ({why}); if that is mended, let it in, else revert it, or push a \
             mended commit with `-o fixes={short}` or the trailer `Slipway-Fixes: {short}`"
        ),
        who: Some("the author".into()),
        until: None,
        next: Some(format!("slipway unhold {short}")),
    })
}

fn frozen(input: &GateInput) -> Answer {
    let Some(why) = &input.frozen else { return Answer::Passed(None) };
    let environment = &input.policy.name;
    Answer::Stop(Gate::Wait {
        reason: format!("{environment} is frozen by {why}"),
        who: Some("anybody who may deploy".into()),
        until: None,
        next: Some(format!("slipway unfreeze {environment}")),
    })
}

fn consent(input: &GateInput) -> Answer {
    let environment = &input.policy.name;
    // To agree is another right than to deploy.
    if !input.policy.auto && !input.candidate.by_hand {
        return Answer::Stop(Gate::Wait {
            reason: format!("{environment} is deployed by hand"),
            who: Some("anybody who may deploy".into()),
            until: None,
            next: Some(format!("slipway deploy {} --env {environment}", title(input))),
        });
    }
    let (wanted, by) = match (&input.policy.approve, input.not_ci) {
        (Some(approve), _) => (approve.count.max(1), approve.by.join(", ")),
        (None, true) if !input.candidate.by_hand => (1, String::new()),
        (None, _) => return passed(if input.policy.auto { "goes in by itself" } else { "asked for by hand" }),
    };
    let approvers = approvers(input);
    let given = approvers.len();
    if given >= wanted as usize {
        return passed(format!("approved by {}", approvers.join(", ")));
    }
    let by = if by.is_empty() { "anybody who may approve".to_owned() } else { by };
    let why = if input.policy.approve.is_some() { "approval" } else { "not CI, no behaviour test; approval" };
    let has = if given == 0 { "none given yet".to_owned() } else { format!("{given} given") };
    // Who is asked to agree, or waits for it, hears at once what else is missing.
    let secret = input.missing_secrets.first().map(|name| format!("; and secret `{name}` has no value"));
    Answer::Stop(Gate::Wait {
        reason: format!("{why} {} of {wanted} by {by}; {has}{}", given + 1, secret.unwrap_or_default()),
        who: Some(by),
        until: None,
        next: Some(format!("slipway approve {}", input.candidate.commit.short())),
    })
}

fn approvers(input: &GateInput) -> Vec<String> {
    let policy = input.policy.approve.as_ref();
    let mut names: Vec<String> = input
        .approvals
        .iter()
        .filter(|(_, at)| policy.is_none_or(|policy| input.now.since_ms(*at) <= policy.expires_ms))
        .map(|(actor, _)| actor.to_string())
        .filter(|name| bar(policy, &input.makers, name).is_none())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn secrets(input: &GateInput) -> Answer {
    let Some(missing) = input.missing_secrets.first() else { return Answer::Passed(None) };
    Answer::Stop(Gate::Wait {
        reason: format!("secret `{missing}` has no value for {}", input.policy.name),
        who: Some("whoever knows it".into()),
        until: None,
        next: Some(format!("slipway secret add {missing} --env {}", input.policy.name)),
    })
}
