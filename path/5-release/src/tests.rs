//! Questions to the gates in, answers out; lanes folded from facts.

use crate::decide::{GateInput, gate};
use crate::drive::says_fixed;
use crate::explain;
use crate::record::LaneRecord;
use slipway_model::fact::{Body, Candidate, Fact, Gate};
use slipway_model::policy::{Approval, EnvironmentPolicy};
use slipway_model::rollout::{Phase, Purpose, ReleaseRef};
use slipway_model::{Actor, At, CommitId, Lane, ReleaseId};

fn commit(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

fn candidate(number: u64) -> Candidate {
    Candidate {
        lane: Lane {
            project: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            service: "api".parse().unwrap(),
        },
        release: ReleaseId::parse(&number.to_string().repeat(8)).unwrap(),
        number,
        commit: commit('c'),
        change: slipway_model::ChangeId::parse(&"0".repeat(16)).ok(),
        purpose: Purpose::Deploy,
        by: "kim".into(),
        by_hand: false,
    }
}

fn input() -> GateInput {
    GateInput {
        candidate: candidate(4),
        policy: EnvironmentPolicy {
            name: "production".parse().unwrap(),
            from: Vec::new(),
            auto: true,
            after: Vec::new(),
            approve: None,
            retain: 10,
        },
        current: None,
        branch: Ok("main may deploy to production".into()),
        older: None,
        after: Vec::new(),
        held: Vec::new(),
        not_ci: false,
        approvals: Vec::new(),
        rejected: None,
        author: "kim".into(),
        pusher: "kim".into(),
        missing_secrets: Vec::new(),
        now: At(100_000),
    }
}

/// Says what of the default question is different, in words; writes the answer.
fn ask(script: &str) -> String {
    let mut input = input();
    let ops = || Approval { by: vec!["ops".into(), "lee".into()], count: 1, author: false, expires_ms: 50_000 };
    for word in script.split_whitespace() {
        let approval = |name: &str, ms: u64| (Actor(name.into()), At(ms));
        match word {
            "by-hand" => input.candidate.by_hand = true,
            "rollback" => input.candidate.purpose = Purpose::Rollback,
            "manual" => input.policy.auto = false,
            "topic" => input.branch = Err("topic is not part of the production branch".into()),
            "same" => input.current = Some((ReleaseRef { id: candidate(3).release, number: 3 }, true)),
            "older" => input.older = Some(commit('d')),
            "after-running" => input.after.push(("staging".parse().unwrap(), Some((Phase::Baking, String::new())))),
            "after-done" => input.after.push(("staging".parse().unwrap(), Some((Phase::Succeeded, String::new())))),
            "after-never" => input.after.push(("staging".parse().unwrap(), None)),
            "after-bad" => {
                input.after.push(("staging".parse().unwrap(), Some((Phase::RolledBack, "5xx 9 of 60".into()))));
            }
            "held" => input.held.push((commit('b'), "5xx 9 of 60".into())),
            "not-ci" => input.not_ci = true,
            "approve" => input.policy.approve = Some(ops()),
            "two" => input.policy.approve = Some(Approval { count: 2, ..ops() }),
            "ops" => input.approvals.push(approval("ops", 90_000)),
            "lee" => input.approvals.push(approval("lee", 90_000)),
            "kim" => input.approvals.push(approval("kim", 90_000)),
            "ops-long-ago" => input.approvals.push(approval("ops", 1)),
            "rejected" => input.rejected = Some((Actor("ops".into()), "not today".into())),
            "no-secret" => input.missing_secrets.push("stripe".into()),
            other => panic!("no word `{other}`"),
        }
    }
    let answer = gate(&input);
    let next = match &answer {
        Gate::Wait { next: Some(next), .. } | Gate::Refused { next: Some(next), .. } => format!(" -> {next}"),
        _ => String::new(),
    };
    format!("{}{next}", explain::line(&answer))
}

#[test]
fn the_gates_answer_with_a_reason_and_what_to_do() {
    for (script, expected) in [
        ("", "main may deploy to production; goes in by itself"), // R345
        (
            "topic", // R006 R355
            "refused: topic is not part of the production branch -> merge it into the production branch and push that",
        ),
        ("same", "identical: r3 with the same image, configuration and specification already runs"), // R309
        ("older", "refused: ddddddd contains this commit and already serves -> slipway rollback api --to r4"),
        ("older rollback", "a rollback passes approvals and holds"),
        (
            "after-done", // R344
            "main may deploy to production; r4 succeeded in staging; goes in by itself",
        ),
        ("after-running", "waits: r4 is baking in staging"),
        ("after-never", "waits: r4 has not been in staging yet"),
        ("after-bad", "refused: r4 did not succeed in staging (rolled-back: 5xx 9 of 60)"),
        (
            "held",
            "waits: it contains bbbbbbb, which was taken back here (5xx 9 of 60); revert it, or push with `-o \
             fixes=bbbbbbb` or the trailer `Slipway-Fixes: bbbbbbb` -> slipway unhold bbbbbbb",
        ),
        ("held rollback", "a rollback passes approvals and holds"),
        ("manual", "waits: production is deployed by hand -> slipway deploy api@r4 --env production"), // R347
        ("manual by-hand", "main may deploy to production; asked for by hand"),
        ("approve", "waits: approval 1 of 1 by ops, lee -> slipway approve ccccccc"),
        ("approve ops", "main may deploy to production; approved by ops"),
        ("approve kim", "waits: approval 1 of 1 by ops, lee -> slipway approve ccccccc"),
        ("approve ops-long-ago", "waits: approval 1 of 1 by ops, lee -> slipway approve ccccccc"),
        ("two ops", "waits: approval 2 of 2 by ops, lee -> slipway approve ccccccc"),
        ("two ops ops", "waits: approval 2 of 2 by ops, lee -> slipway approve ccccccc"),
        ("two ops lee", "main may deploy to production; approved by lee, ops"),
        (
            "not-ci", // R106
            "waits: not CI, no behaviour test; approval 1 of 1 by anybody who may deploy -> slipway approve ccccccc",
        ),
        ("not-ci kim", "main may deploy to production; approved by kim"),
        ("rejected", "refused: rejected by ops: not today"),
        (
            "no-secret",
            "waits: secret `stripe` has no value for production -> slipway secret add stripe --env production",
        ),
        (
            "no-secret rollback",
            "waits: secret `stripe` has no value for production -> slipway secret add stripe --env production",
        ),
    ] {
        assert_eq!(ask(script), expected, "{script}");
    }
}

#[test]
fn a_message_names_what_it_fixes_by_trailer_or_by_gits_own_sentence() {
    let bad = CommitId::parse(&"1f3c9ab0".repeat(5)).unwrap();
    for (message, fixes) in [
        ("Mend\n\nSlipway-Fixes: 1f3c9ab", true),
        ("Revert \"x\"\n\nThis reverts commit 1f3c9ab01f3c9ab01f3c9ab01f3c9ab01f3c9ab0.", true),
        ("Slipway-Fixes: 1f3c", false),
        ("mentions 1f3c9ab", false),
        ("Slipway-Fixes: 2f3c9ab", false),
    ] {
        assert_eq!(says_fixed(message, &bad), fixes, "{message}");
    }
}

fn fold(bodies: Vec<Body>) -> LaneRecord {
    let mut record = LaneRecord::default();
    for (index, body) in bodies.into_iter().enumerate() {
        let n = index as u64 + 1;
        record.apply(&Fact {
            n,
            v: 1,
            at: At(n),
            project: "shop".parse().unwrap(),
            stream: "lane/production/api".into(),
            version: n,
            change: None,
            actor: Actor::slipway(),
            body,
        });
    }
    record
}

fn gated(number: u64, gate: Gate) -> Body {
    Body::ReleaseGated { candidate: candidate(number), gate }
}

#[test]
fn who_was_let_in_and_has_not_begun_may_still_be_answered_otherwise() {
    let open = || Gate::Open { passed: Vec::new() };
    let record = fold(vec![Body::ReleaseQueued(candidate(4)), gated(4, open())]);
    assert!(record.may_change() && !record.is_waiting());
    let wait = Gate::Wait { reason: "held".into(), who: None, until: None, next: None };
    let record = fold(vec![Body::ReleaseQueued(candidate(4)), gated(4, open()), gated(4, wait)]);
    assert_eq!(record.opened, None);
}

#[test]
fn who_was_passed_over_by_a_newer_release_does_not_ask_again() {
    let superseded = Gate::Refused { reason: "superseded by r5".into(), next: None };
    let record = fold(vec![Body::ReleaseQueued(candidate(4)), gated(4, superseded), Body::ReleaseQueued(candidate(5))]);
    assert!(record.asked_before(&candidate(4)));
    assert!(!record.asked_before(&candidate(5)));
    assert!(record.is_waiting());
}
