//! Questions to the gates in, answers out; lanes folded from facts.

use crate::agree::{Bar, Makers, bar};
use crate::decide::{GateInput, gate};
use crate::drive::says_fixed;
use crate::explain;
use crate::needs::{Need, standing};
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
            retain: None,
        },
        current: None,
        branch: Ok("main may deploy to production".into()),
        older: None,
        after: Vec::new(),
        needs: Vec::new(),
        held: Vec::new(),
        frozen: None,
        not_ci: false,
        approvals: Vec::new(),
        rejected: None,
        makers: Makers { authors: vec!["kim".into()], pushers: vec!["kim".into(), "eve".into()] },
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
            "needs-open" => input.needs.push(("db".parse().unwrap(), Need::Open { number: Some(2) })),
            "needs-nothing-yet" => input.needs.push(("db".parse().unwrap(), Need::Open { number: None })),
            "needs-met" => input.needs.push(("db".parse().unwrap(), Need::Met)),
            "needs-broken" => {
                let reason = "rolled-back: 5xx 9 of 60".to_owned();
                input.needs.push(("db".parse().unwrap(), Need::Broken { number: 2, reason }));
            }
            "held" => input.held.push((commit('b'), "5xx 9 of 60".into())),
            "frozen" => input.frozen = Some("kim: the holidays".into()),
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
        (
            "older",
            "refused: ddddddd contains this commit and already serves -> slipway rollback api --to r4 --env production",
        ),
        ("older rollback", "a rollback passes approvals and holds"),
        (
            "after-done", // R344
            "main may deploy to production; r4 succeeded in staging; goes in by itself",
        ),
        ("after-running", "waits: r4 is baking in staging"),
        ("after-never", "waits: r4 has not been in staging yet"),
        ("after-bad", "refused: r4 did not succeed in staging (rolled-back: 5xx 9 of 60)"),
        ("needs-open", "waits: needs db: r2 goes first"),
        ("needs-nothing-yet", "waits: needs db: its release of this change goes first"),
        ("needs-met", "main may deploy to production; goes in by itself; db went first"),
        ("needs-met needs-open", "waits: needs db: r2 goes first"),
        ("needs-broken", "refused: needs db: r2 did not succeed (rolled-back: 5xx 9 of 60)"),
        ("needs-broken approve", "refused: needs db: r2 did not succeed (rolled-back: 5xx 9 of 60)"),
        ("needs-open approve", "waits: approval 1 of 1 by ops, lee; none given yet -> slipway approve ccccccc"),
        ("needs-open manual by-hand", "main may deploy to production; asked for by hand"),
        ("needs-open rollback", "a rollback passes approvals and holds"),
        (
            "held",
            "waits: it contains bbbbbbb, which is held here (5xx 9 of 60); if that is mended, let it in, else revert it, \
             or push a mended commit with `-o fixes=bbbbbbb` or the trailer `Slipway-Fixes: bbbbbbb` -> slipway unhold \
             bbbbbbb",
        ),
        ("held rollback", "a rollback passes approvals and holds"),
        ("manual", "waits: production is deployed by hand -> slipway deploy api@r4 --env production"), // R347
        ("manual by-hand", "main may deploy to production; asked for by hand"),
        ("approve", "waits: approval 1 of 1 by ops, lee; none given yet -> slipway approve ccccccc"),
        ("approve ops", "main may deploy to production; approved by ops"),
        ("approve kim", "waits: approval 1 of 1 by ops, lee; none given yet -> slipway approve ccccccc"),
        ("approve ops-long-ago", "waits: approval 1 of 1 by ops, lee; none given yet -> slipway approve ccccccc"),
        ("two ops", "waits: approval 2 of 2 by ops, lee; 1 given -> slipway approve ccccccc"),
        ("two ops ops", "waits: approval 2 of 2 by ops, lee; 1 given -> slipway approve ccccccc"),
        ("two ops lee", "main may deploy to production; approved by lee, ops"),
        (
            "not-ci", // R106
            "waits: not CI, no behaviour test; approval 1 of 1 by anybody who may approve; none given yet -> slipway approve ccccccc",
        ),
        ("not-ci kim", "main may deploy to production; approved by kim"),
        ("frozen approve", "waits: production is frozen by kim: the holidays -> slipway unfreeze production"),
        ("frozen rollback", "a rollback passes approvals and holds"),
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

fn moved(number: u64, phase: Phase) -> Body {
    moved_by(&candidate(number), phase)
}

fn moved_by(candidate: &Candidate, phase: Phase) -> Body {
    let head = slipway_model::rollout::RolloutHead {
        id: slipway_model::RolloutId::parse("production-api-1").unwrap(),
        lane: candidate.lane.clone(),
        from: None,
        to: ReleaseRef { id: candidate.release.clone(), number: candidate.number },
        purpose: Purpose::Deploy,
        commit: candidate.commit.clone(),
        change: candidate.change.clone(),
        by: "kim".into(),
    };
    Body::RolloutPhase(Box::new(slipway_model::fact::RolloutMoved {
        head,
        phase,
        reason: "why".into(),
        waits_until: None,
        steps: Vec::new(),
        weights: Vec::new(),
        incident: Default::default(),
        smoke_only: false,
        record: serde_json::Value::Null,
    }))
}

#[test]
fn a_needed_service_is_waited_for_until_its_rollout_of_this_change_is_over() {
    let open = || Gate::Open { passed: Vec::new() };
    let refused = |reason: &str| Gate::Refused { reason: reason.into(), next: None };
    let queued = || Body::ReleaseQueued(candidate(4));
    let of = |bodies: Vec<Body>| standing(&fold(bodies), &candidate(9));
    let on_its_way = Need::Open { number: Some(4) };
    let broken = |reason: &str| Need::Broken { number: 4, reason: reason.into() };
    assert_eq!(of(vec![]), Need::Open { number: None });
    assert_eq!(of(vec![queued()]), on_its_way);
    assert_eq!(of(vec![queued(), gated(4, open())]), on_its_way);
    for (phase, need) in [
        (Phase::Probing, on_its_way.clone()),
        (Phase::Baking, on_its_way.clone()),
        (Phase::Returning, on_its_way.clone()),
        (Phase::Succeeded, Need::Met),
        (Phase::RolledBack, broken("rolled-back: why")),
        (Phase::NeedsHuman, broken("needs-human: why")),
        (Phase::Dropped, broken("dropped: why")),
    ] {
        assert_eq!(of(vec![queued(), gated(4, open()), moved(4, phase)]), need, "{phase:?}");
    }
    assert_eq!(of(vec![queued(), gated(4, Gate::Identical { reason: "r3".into() })]), Need::Met);
    assert_eq!(of(vec![queued(), gated(4, refused("rejected by ops"))]), broken("rejected by ops"));
}

#[test]
fn where_a_newer_release_took_the_place_of_the_needed_one_that_one_counts() {
    let other = || Candidate { change: slipway_model::ChangeId::parse(&"1".repeat(16)).ok(), ..candidate(5) };
    let superseded = || gated(4, Gate::Refused { reason: "superseded by r5".into(), next: None });
    let open = || Body::ReleaseGated { candidate: other(), gate: Gate::Open { passed: Vec::new() } };
    let of = |bodies: Vec<Body>| standing(&fold(bodies), &candidate(9));
    let begun = || vec![Body::ReleaseQueued(candidate(4)), superseded(), Body::ReleaseQueued(other())];
    assert_eq!(of(begun()), Need::Open { number: Some(5) });
    let done = |phase| begun().into_iter().chain([open(), moved_by(&other(), phase)]).collect::<Vec<_>>();
    assert_eq!(of(done(Phase::Succeeded)), Need::Met);
    assert_eq!(of(done(Phase::RolledBack)), Need::Broken { number: 5, reason: "rolled-back: why".into() });
    let back = Candidate { purpose: Purpose::Rollback, by: "lee".into(), ..other() };
    let returned = vec![Body::ReleaseQueued(candidate(4)), superseded(), Body::ReleaseQueued(back)];
    assert_eq!(of(returned), Need::Broken { number: 4, reason: "lee went back to r5".into() });
    // Who was let in before stays what it became, whoever asks after it.
    let let_in = || gated(4, Gate::Open { passed: Vec::new() });
    let later =
        |phase| vec![Body::ReleaseQueued(candidate(4)), let_in(), moved(4, phase), Body::ReleaseQueued(other())];
    assert_eq!(of(later(Phase::Succeeded)), Need::Met);
    assert_eq!(of(later(Phase::Baking)), Need::Open { number: Some(4) });
    // Another change's release says nothing of this one's.
    assert_eq!(of(vec![Body::ReleaseQueued(other()), open()]), Need::Open { number: None });
}

#[test]
fn approvals_are_of_the_content_and_stay_while_the_same_release_still_waits() {
    let wait = || Gate::Wait { reason: "approval 2 of 2".into(), who: None, until: None, next: None };
    let approve: slipway_model::fact::Command = serde_json::from_value(serde_json::json!({
        "verb": "approve", "what": "api@r4", "environment": "production", "service": "api",
        "release": "44444444" }))
    .unwrap();
    let by_hand = Candidate { change: None, by_hand: true, ..candidate(4) };
    let mut story = vec![Body::ReleaseQueued(candidate(4)), gated(4, wait()), Body::CommandGiven(approve)];
    let approved = |story: &[Body], next: &Candidate| {
        let story = story.iter().cloned().chain([Body::ReleaseQueued(next.clone())]);
        fold(story.collect()).approvals.len()
    };
    assert_eq!(approved(&story, &by_hand), 1);
    assert_eq!(approved(&story, &candidate(5)), 0, "another release");
    let mut passed_over = story.clone();
    passed_over.push(gated(4, Gate::Refused { reason: "superseded by r4 of ddddddd".into(), next: None }));
    assert_eq!(approved(&passed_over, &by_hand), 1);
    story.extend([gated(4, Gate::Open { passed: Vec::new() }), moved(4, Phase::Succeeded)]);
    assert_eq!(approved(&story, &by_hand), 0, "it went in with them");
}

// Back to r1, back to r2 again, and once more to r1: what was wished last is not taken for the first of them.
#[test]
fn a_release_that_is_asked_for_again_while_its_last_rollout_goes_back_still_waits_for_its_turn() {
    let open = || Gate::Open { passed: Vec::new() };
    let mut story = vec![
        Body::ReleaseQueued(candidate(1)),
        gated(1, open()),
        moved(1, Phase::Stepping),
        Body::ReleaseQueued(candidate(2)),
        gated(2, open()),
        Body::ReleaseQueued(candidate(1)),
        gated(1, open()),
        moved(1, Phase::Returning),
        moved(1, Phase::RolledBack),
    ];
    let record = fold(story.clone());
    assert_eq!(record.opened, Some(candidate(1)));
    assert!(record.may_change(), "its gates are asked again when the rollout has ended");
    story.extend([gated(1, open()), moved(1, Phase::Stepping)]);
    assert_eq!(fold(story).opened, None);
}

fn release_of(number: u64, image: &str) -> slipway_model::release::Release {
    let bundle = serde_json::json!({
        "v": 1, "project": "shop", "service": "api", "image": slipway_model::Digest::of(image.as_bytes()),
        "spec": {
            "port": 80, "health": { "timeout_ms": 1, "interval_ms": 1 }, "stop": { "signal": 15, "grace_ms": 1 },
            "drain_ms": 1, "ready_ms": 1, "resources": {}, "environments": {},
        },
    });
    let candidate = candidate(number);
    slipway_model::release::Release {
        id: candidate.release,
        number,
        bundle: serde_json::from_value(bundle).unwrap(),
        origin: slipway_model::release::Origin {
            commit: candidate.commit,
            change: candidate.change.unwrap(),
            tag: "t".into(),
            build: number,
        },
        places: Default::default(),
    }
}

/// A lane in which these releases succeeded, one after the other.
fn served(numbers: &[u64]) -> LaneRecord {
    let open = || Gate::Open { passed: Vec::new() };
    let steps =
        |number: u64| [Body::ReleaseQueued(candidate(number)), gated(number, open()), moved(number, Phase::Succeeded)];
    fold(numbers.iter().flat_map(|number| steps(*number)).collect())
}

#[test]
fn the_clean_up_takes_only_what_no_environment_can_want_any_more() {
    // R143
    let releases: Vec<_> = (1..=6).map(|number| release_of(number, &format!("image {number}"))).collect();
    let beyond = |lanes: &[(LaneRecord, Option<u32>)]| {
        let images = crate::keep::beyond(lanes, &releases);
        let is_in = |release: &&slipway_model::release::Release| images.contains(&release.bundle.image);
        releases.iter().filter(is_in).map(|release| release.number).collect::<Vec<_>>()
    };
    // r5 serves, two more can be returned to; r6 never served.
    assert_eq!(beyond(&[(served(&[1, 2, 3, 4, 5]), Some(2))]), [1, 2]);
    assert_eq!(beyond(&[(served(&[1, 2, 3, 4, 5]), None)]), [0_u64; 0]);
    // Another environment still serves an old one, and could return to an older one.
    assert_eq!(beyond(&[(served(&[1, 2, 3, 4, 5]), Some(1)), (served(&[1, 2]), Some(1))]), [3]);
    assert_eq!(beyond(&[(served(&[1, 2, 3, 4, 5]), Some(1)), (served(&[1, 2]), None)]), [3]);
    // A person goes back to r1, and then on: it is one of the newest again.
    assert_eq!(beyond(&[(served(&[1, 2, 3, 4, 1, 5]), Some(2))]), [2, 3]);
    let mut asked = served(&[1, 2, 3, 4, 5]);
    asked.candidate = Some(candidate(1));
    assert_eq!(beyond(&[(asked, Some(1))]), [2, 3]);
}

#[test]
fn an_image_that_a_kept_release_shares_stays() {
    // R143
    let releases = [release_of(1, "same"), release_of(2, "other"), release_of(3, "same")];
    let images = crate::keep::beyond(&[(served(&[1, 2, 3]), Some(1))], &releases);
    assert!(images.is_empty(), "{images:?}");
}

// R347
#[test]
fn a_yes_of_who_made_it_or_is_not_asked_for_does_not_count_and_says_why() {
    let makers = || Makers { authors: vec!["kim".into()], pushers: vec!["eve".into()] };
    let asks = |by: &[&str], author: bool| Approval {
        by: by.iter().map(|name| (*name).to_owned()).collect(),
        count: 1,
        author,
        expires_ms: 1_000,
    };
    let why = |approve: &Approval, name: &str| bar(Some(approve), &makers(), name);
    assert_eq!(why(&asks(&[], false), "kim"), Some(Bar::Wrote));
    assert_eq!(why(&asks(&[], false), "eve"), Some(Bar::Pushed));
    assert_eq!(why(&asks(&[], false), "lee"), None);
    assert_eq!(why(&asks(&[], true), "eve"), None);
    assert_eq!(why(&asks(&["ops"], true), "eve"), Some(Bar::NotNamed(vec!["ops".into()])));
    assert_eq!(why(&asks(&["eve"], false), "eve"), Some(Bar::Pushed));
    assert_eq!(bar(None, &makers(), "eve"), None);
}
