//! What came of a command: read right after what follows from it was recorded.
//!
//! In: the command, and the world after it. Out: a sentence for people, and whether it was refused. Never: a wait;
//! what takes longer is followed with `slipway watch`.

use slipway_feedback::Projection;
use slipway_model::fact::{Candidate, Command, Gate};
use slipway_model::release::Release;
use slipway_model::rollout::Purpose;
use slipway_model::{At, ChangeId, Lane, ProjectName};

/// What came of one act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// For people.
    pub sentence: String,
    /// It was asked for and may not be.
    pub refused: bool,
}

fn came(sentence: impl Into<String>) -> Option<Came> {
    Some(Came { sentence: sentence.into(), refused: false })
}

/// What came of a command.
#[must_use]
pub fn came_of(
    projection: &Projection,
    project: &ProjectName,
    change: Option<&ChangeId>,
    command: &Command,
    given: At,
) -> Option<Came> {
    match (command.verb.as_str(), &command.environment, &command.service) {
        ("hold", Some(environment), Some(service)) => came(format!(
            "what contains it waits before {environment} {service}, until it is fixed or `slipway unhold`"
        )),
        (
            "unhold" | "deploy" | "promote" | "rollback" | "restart" | "approve" | "reject",
            Some(environment),
            Some(service),
        ) => {
            let lane = Lane { project: project.clone(), environment: environment.clone(), service: service.clone() };
            of_lane(projection, &lane, command, given)
        }
        ("abort", Some(environment), Some(service)) => {
            let key = (environment.clone(), service.clone());
            let moved = &projection.projects.get(project)?.lanes.get(&key)?.moved.as_ref()?.0;
            let back =
                moved.head.from.as_ref().map_or_else(|| "nothing".to_owned(), |from| format!("r{}", from.number));
            came(format!("traffic of {environment} {service} goes back to {back}"))
        }
        ("retry" | "cancel", ..) => {
            let view = projection.change(project, change?)?;
            let (short, state) = (view.commit.short(), view.state.word());
            match command.verb.as_str() {
                "retry" => came(format!("{short} is {state}; `slipway watch {short}` follows it")),
                _ if view.state.is_final() => came(format!("{short} is {state}")),
                _ => came(format!("{short} is {state}; what runs is being ended")),
            }
        }
        _ => None,
    }
}

/// Whether the gates that a command asks have answered since it was given; commands that ask none have.
#[must_use]
pub fn is_answered(projection: &Projection, project: &ProjectName, command: &Command, given: At) -> bool {
    let asks = matches!(
        command.verb.as_str(),
        "unhold" | "deploy" | "promote" | "rollback" | "restart" | "approve" | "reject"
    );
    let (Some(environment), Some(service)) = (command.environment.as_ref().filter(|_| asks), &command.service) else {
        return true;
    };
    let lane = projection.projects.get(project).and_then(|p| p.lanes.get(&(environment.clone(), service.clone())));
    let Some(lane) = lane else { return false };
    match &lane.gate {
        Some((candidate, gate, at)) => {
            let meant = means(command, candidate);
            // What was let in, and is not held any more, is not asked again.
            let settled = command.verb == "unhold" && !matches!(gate, Gate::Wait { .. });
            settled || (meant && *at >= given && *gate != slipway_feedback::lane::queued())
        }
        None => command.verb == "unhold",
    }
}

/// How the release of a commit that is not held any more comes into service, when nothing brings it there by itself.
fn by_hand(projection: &Projection, lane: &Lane, command: &Command) -> String {
    let newest = projection.projects.get(&lane.project).and_then(|state| {
        let of = |release: &&Release| {
            release.bundle.service == lane.service && Some(&release.origin.commit) == command.commit.as_ref()
        };
        let release = state.releases.values().filter(of).max_by_key(|release| release.number)?;
        let serving = state.lanes.get(&(lane.environment.clone(), lane.service.clone()))?.current.as_ref();
        (serving != Some(&release.id)).then(|| release.title())
    });
    newest.map_or_else(String::new, |title| format!("    next: slipway deploy {title} --env {}", lane.environment))
}

/// Whether the gates were asked for what a command names. New instances are a release of their own.
fn means(command: &Command, candidate: &Candidate) -> bool {
    match command.verb.as_str() {
        "restart" => candidate.purpose == Purpose::Refresh,
        _ => command.release.as_ref().is_none_or(|release| *release == candidate.release),
    }
}

fn of_lane(projection: &Projection, lane: &Lane, command: &Command, given: At) -> Option<Came> {
    let state = projection.projects.get(&lane.project)?.lanes.get(&(lane.environment.clone(), lane.service.clone()))?;
    let place = format!("{} {}", lane.environment, lane.service);
    let (candidate, gate, at) = state.gate.as_ref()?;
    let meant = means(command, candidate);
    if !meant {
        return came(format!("{place}: r{} is asked about instead", candidate.number));
    }
    let title = match candidate.purpose {
        Purpose::Refresh => format!("{place} r{} (new instances of what serves)", candidate.number),
        Purpose::Deploy | Purpose::Rollback => format!("{place} r{}", candidate.number),
    };
    match gate {
        Gate::Open { .. } | Gate::Identical { .. } if command.verb == "unhold" && *at < given => {
            came(format!("{place}: nothing waited for it{}", by_hand(projection, lane, command)))
        }
        Gate::Wait { reason, next, .. } => {
            let next = next.as_ref().map(|next| format!("    next: {next}")).unwrap_or_default();
            came(format!("{title} waits: {reason}{next}"))
        }
        // An act on a commit is not answered by what was refused before it.
        Gate::Refused { .. } if command.verb == "unhold" && *at < given => {
            came(format!("{place}: nothing waited for it{}", by_hand(projection, lane, command)))
        }
        Gate::Refused { reason, next } => {
            let next = next.as_ref().map(|next| format!("    next: {next}")).unwrap_or_default();
            // Who rejects wants exactly that.
            let refused = command.verb != "reject";
            Some(Came { sentence: format!("{title} may not go in: {reason}{next}"), refused })
        }
        Gate::Identical { reason } => came(format!("{title}: nothing to do, {reason}")),
        Gate::Open { .. } => came(format!("{title} goes in; `slipway status` shows how far it is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use slipway_model::{Actor, Fact};

    fn projection(gates: &[serde_json::Value]) -> (Projection, ProjectName) {
        let lane = json!({ "project": "shop", "environment": "production", "service": "api" });
        let candidate = json!({ "lane": lane, "release": "bbbbbbbb", "number": 2, "commit": "1f3c9ab0".repeat(5),
            "purpose": "deploy", "by": "kim", "by_hand": true });
        let queued = json!({ "kind": "release.queued", "data": candidate });
        let gated = gates
            .iter()
            .map(|gate| json!({ "kind": "release.gated", "data": { "candidate": candidate, "gate": gate } }));
        let mut projection = Projection::default();
        for (index, body) in std::iter::once(queued).chain(gated).enumerate() {
            let n = index as u64 + 1;
            projection.apply(&Fact {
                n,
                v: 1,
                at: At(1_000 * n),
                project: "shop".parse().unwrap(),
                stream: "lane/production/api".into(),
                version: n,
                change: None,
                actor: Actor("kim".into()),
                body: serde_json::from_value(body).unwrap(),
            });
        }
        (projection, "shop".parse().unwrap())
    }

    fn deploy() -> Command {
        let place = json!({ "verb": "deploy", "what": "api@r2", "environment": "production", "service": "api",
            "release": "bbbbbbbb" });
        serde_json::from_value(place).unwrap()
    }

    #[test]
    fn a_command_is_answered_by_what_the_gates_say_after_it() {
        let refused = serde_json::to_value(Gate::Refused { reason: "it is older".into(), next: None }).unwrap();
        let (asked, project) = projection(&[]);
        assert!(!is_answered(&asked, &project, &deploy(), At(500)), "only queued");
        let (told, project) = projection(&[refused]);
        assert!(is_answered(&told, &project, &deploy(), At(500)));
        assert!(!is_answered(&told, &project, &deploy(), At(9_000)), "that was said before");
        let came = came_of(&told, &project, None, &deploy(), At(500)).unwrap();
        assert_eq!((came.sentence.as_str(), came.refused), ("production api r2 may not go in: it is older", true));
    }

    #[test]
    fn what_waits_says_what_for_and_what_serves_already_says_so() {
        let wait =
            Gate::Wait { reason: "approval".into(), who: Some("ops".into()), until: None, next: Some("do".into()) };
        let (told, project) = projection(&[serde_json::to_value(wait).unwrap()]);
        let came = came_of(&told, &project, None, &deploy(), At(500)).unwrap();
        assert_eq!((came.sentence.as_str(), came.refused), ("production api r2 waits: approval    next: do", false));
        let same = Gate::Identical { reason: "r2 already runs".into() };
        let (told, project) = projection(&[serde_json::to_value(same).unwrap()]);
        let came = came_of(&told, &project, None, &deploy(), At(500)).unwrap();
        assert_eq!(came.sentence, "production api r2: nothing to do, r2 already runs");
    }
}
