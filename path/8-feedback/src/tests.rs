//! Facts in; the lines of a push, `status` and `why` out.

use crate::ticker::Ticker;
use crate::{Follow, Projection, status, why};
use serde_json::json;
use slipway_model::fact::{Body, Fact, Gate};
use slipway_model::{Actor, At, ChangeId, Lane};

const BEGAN: u64 = 1_772_366_400_000;

/// A journal of one change; times are milliseconds since the push.
#[derive(Default)]
struct Journal {
    facts: Vec<Fact>,
}

impl Journal {
    fn new() -> Journal {
        let mut journal = Journal::default();
        journal.add(
            0,
            json!({ "kind": "change.received", "data": {
                "id": "0123456789abcdef", "event": "push", "reference": "refs/heads/main", "branch": "main",
                "production": true, "commit": commit(), "author": "kim", "subject": "Greet", "pusher": "kim" } }),
        );
        journal.add(
            10,
            json!({ "kind": "plan.made", "data": { "plan": {
                "items": [item("job:api/test", "run"), item("release:api", "run"), item("job:web/test", "not-affected")],
                "environments": [], "not_ci": [], "warnings": [], "saved_ms": 0 } } }),
        );
        journal
    }

    fn add(&mut self, ms: u64, body: serde_json::Value) -> &mut Journal {
        let body: Body = serde_json::from_value(body).unwrap();
        let n = self.facts.len() as u64 + 1;
        self.facts.push(Fact {
            n,
            v: 1,
            at: At(BEGAN + ms),
            project: "guestbook".parse().unwrap(),
            stream: "change/0123456789abcdef".into(),
            version: n,
            change: ChangeId::parse("0123456789abcdef").ok(),
            actor: Actor("kim".into()),
            body,
        });
        self
    }

    fn phase(&mut self, ms: u64, phase: &str, reason: &str) -> &mut Journal {
        let incident = json!({ "recognised": At(BEGAN + 19_000), "reported": At(BEGAN + 19_010),
            "rolled_back": At(BEGAN + 19_100), "recovered": At(BEGAN + 19_400) });
        self.add(
            ms,
            json!({ "kind": "rollout.phase", "data": {
                "head": { "id": "production-api-1", "lane": lane(), "from": { "id": "aaaaaaaa", "number": 39 },
                    "to": { "id": "bbbbbbbb", "number": 41 }, "purpose": "deploy", "commit": commit(), "by": "kim" },
                "phase": phase, "reason": reason, "steps": [], "weights": [], "smoke_only": false, "record": null,
                "incident": incident } }),
        )
    }

    fn gate(&mut self, ms: u64, gate: &Gate) -> &mut Journal {
        let candidate = json!({ "lane": lane(), "release": "bbbbbbbb", "number": 41, "commit": commit(),
            "change": "0123456789abcdef", "purpose": "deploy", "by": "kim", "by_hand": false });
        if !self.facts.iter().any(|fact| matches!(fact.body, Body::ReleaseQueued(_))) {
            self.add(ms, json!({ "kind": "release.queued", "data": candidate }));
        }
        self.add(ms, json!({ "kind": "release.gated", "data": { "candidate": candidate, "gate": gate } }))
    }

    fn released(&mut self) -> &mut Journal {
        let policy = json!({ "v": 1, "project": "guestbook", "service": "api", "image": digest(), "spec": {
            "port": 8080, "health": { "timeout_ms": 1, "interval_ms": 1 }, "stop": { "signal": 15, "grace_ms": 1 },
            "drain_ms": 1, "ready_ms": 1, "resources": {}, "environments": {} } });
        let origin = json!({ "commit": commit(), "change": "0123456789abcdef", "tag": "1f3c9ab-482", "build": 482 });
        self.add(
            16_000,
            json!({ "kind": "release.made", "data": { "item": "release:api", "again": false, "origin": origin,
                "release": { "id": "bbbbbbbb", "number": 41, "bundle": policy, "origin": origin } } }),
        )
    }

    /// Every line that a pusher sees, and how it ends.
    fn said(&self) -> (Vec<String>, Option<i32>) {
        let mut follow = Follow::new(At(BEGAN));
        let (mut lines, mut over) = (Vec::new(), None);
        for fact in &self.facts {
            let said = follow.take(fact, &|lane| {
                format!("http://{}-{}-{}.localhost:8480", lane.service, lane.environment, lane.project)
            });
            lines.extend(said.lines);
            over = said.over;
        }
        (lines, over)
    }

    fn projection(&self) -> Projection {
        let mut projection = Projection::default();
        self.facts.iter().for_each(|fact| projection.apply(fact));
        projection
    }
}

fn commit() -> String {
    "1f3c9ab0".repeat(5)
}

fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

fn lane() -> Lane {
    Lane {
        project: "guestbook".parse().unwrap(),
        environment: "production".parse().unwrap(),
        service: "api".parse().unwrap(),
    }
}

fn item(id: &str, decision: &str) -> serde_json::Value {
    let (kind, name) = id.split_once(':').unwrap();
    let service = name.split('/').next().unwrap();
    let spec = match kind {
        "job" => {
            json!({ "does": "job", "kind": "unit", "key": { "service": service, "name": "test" }, "steps": [], "needs": [],
            "image": "host", "env": {}, "secrets": [], "inputs": [], "produces": [], "artifacts": {},
            "retry": { "max": 0, "on": [] }, "timeout_ms": 1, "network": false, "folder": service })
        }
        _ => json!({ "does": "release", "service": service, "spec": { "port": 8080,
            "health": { "timeout_ms": 1, "interval_ms": 1 }, "stop": { "signal": 15, "grace_ms": 1 }, "drain_ms": 1,
            "ready_ms": 1, "resources": {}, "environments": {} } }),
    };
    json!({ "id": id, "service": service, "decision": decision, "reason": "because", "needs": [],
        "key": "0".repeat(64), "spec": spec })
}

fn check(lines: &[String], expected: &[&str]) {
    let ended: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(ended, expected);
}

fn ended(result: &str, more: serde_json::Value) -> serde_json::Value {
    let mut outcome = json!({ "result": result, "set_up_ms": 300, "run_ms": 9_500 });
    outcome.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "kind": "job.ended", "data": { "item": "job:api/test", "run": "r-1", "attempt": 1, "outcome": outcome } })
}

#[test]
fn a_push_that_goes_live_prints_what_the_interface_promises() {
    let mut journal = Journal::new();
    journal.add(12_100, ended("passed", json!({ "tests": { "passed": 212, "failed": 0, "skipped": 3 } })));
    journal.add(
        15_800,
        json!({ "kind": "image.built", "data": { "item": "image:api", "service": "api", "digest": digest(),
            "reference": "guestbook/api:1f3c9ab-482", "build": 482, "size_bytes": 11_200_000,
            "grew_bytes": -300_000, "reused": false, "took_ms": 3_000 } }),
    );
    journal.released().gate(16_000, &Gate::Open { passed: Vec::new() });
    journal.phase(19_000, "promoting", "").phase(19_400, "baking", "");
    journal.add(19_400, json!({ "kind": "change.ended", "data": { "state": "live", "reason": "" } }));
    let (lines, over) = journal.said();
    check(
        &lines,
        &[
            "         change 1f3c9ab on main by kim: api changed, web not affected",
            "  12.1s  test api         passed   took 9.8s   212 tests, 3 skipped",
            "  15.8s  image api        built    guestbook/api:1f3c9ab-482  11.2 MB (-0.3)",
            "  19.4s  LIVE production api r41   http://api-production-guestbook.localhost:8480",
        ],
    );
    assert_eq!(over, Some(0));
}

#[test]
fn a_wait_for_a_person_ends_the_push_with_the_command_that_answers() {
    let mut journal = Journal::new();
    let wait = Gate::Wait {
        reason: "approval 1 of 2 by ops".into(),
        who: Some("ops".into()),
        until: None,
        next: Some("slipway approve 1f3c9ab".into()),
    };
    journal.add(12_100, ended("passed", json!({}))).released().gate(19_400, &wait);
    let (lines, over) = journal.said();
    check(
        &lines[2..],
        &["  19.4s  WAITING production api r41: approval 1 of 2 by ops", "         next: slipway approve 1f3c9ab"],
    );
    assert_eq!(over, Some(4));
    let projection = journal.projection();
    let seen = projection.status(&"guestbook".parse().unwrap(), &|_| String::new(), 5).unwrap();
    assert_eq!(seen.needs_you[0].what, "production api r41");
    assert_eq!(seen.needs_you[0].command, "slipway approve 1f3c9ab");
    assert!(!status::lines(&seen, At(BEGAN + 20_000)).is_empty());
}

#[test]
fn a_push_does_not_end_while_another_environment_has_not_answered() {
    let wait = Gate::Wait { reason: "approval".into(), who: Some("ops".into()), until: None, next: Some("x".into()) };
    let other = Lane { service: "web".parse().unwrap(), ..lane() };
    let asks = |journal: &mut Journal, kind: &str, gate: Option<Gate>| {
        let candidate = json!({ "lane": other, "release": "cccccccc", "number": 7, "commit": commit(),
            "change": "0123456789abcdef", "purpose": "deploy", "by": "kim", "by_hand": false });
        let data = gate.map_or(candidate.clone(), |gate| json!({ "candidate": candidate, "gate": gate }));
        journal.add(17_000, json!({ "kind": kind, "data": data }));
    };
    let mut journal = Journal::new();
    journal.released().gate(16_000, &wait);
    assert_eq!(journal.said().1, Some(4));
    asks(&mut journal, "release.queued", None);
    assert_eq!(journal.said().1, None, "web asks and has no answer yet");
    asks(&mut journal, "release.gated", Some(Gate::Open { passed: Vec::new() }));
    assert_eq!(journal.said().1, None, "web was let in and is under way");
    let behind = Gate::Wait { reason: "r7 has not been in staging yet".into(), who: None, until: None, next: None };
    asks(&mut journal, "release.gated", Some(behind));
    assert_eq!(journal.said().1, Some(4), "web follows what waits");
}

#[test]
fn what_is_tried_again_is_followed_to_its_new_end() {
    let mut journal = Journal::new();
    let end = |state: &str| json!({ "kind": "change.ended", "data": { "state": state, "reason": "x" } });
    journal.add(1_000, end("failed"));
    assert_eq!(journal.said().1, Some(1));
    journal.add(2_000, json!({ "kind": "command.given", "data": { "verb": "retry", "what": "1f3c9ab" } }));
    assert_eq!(journal.said().1, None);
    journal.add(3_000, end("passed"));
    assert_eq!(journal.said().1, Some(0));
}

// R167
#[test]
fn a_change_shows_each_gate_of_its_releases_as_passed_open_or_failed() {
    let mut journal = Journal::new();
    let shown = |journal: &Journal| {
        let id = ChangeId::parse("0123456789abcdef").unwrap();
        let lines = why::change(journal.projection().change(&"guestbook".parse().unwrap(), &id).unwrap());
        lines.into_iter().filter(|line| line.starts_with("gate ")).collect::<Vec<_>>()
    };
    let wait = Gate::Wait { reason: "approval".into(), who: Some("ops".into()), until: None, next: Some("do".into()) };
    journal.released().gate(16_000, &wait);
    assert_eq!(shown(&journal), ["gate production api r41: open: approval    next: do"]);
    journal.gate(17_000, &Gate::Open { passed: vec!["main may deploy".into(), "approved by kim".into()] });
    assert_eq!(shown(&journal), ["gate production api r41: passed: main may deploy; approved by kim"]);
    journal.gate(18_000, &Gate::Refused { reason: "it is older".into(), next: None });
    assert_eq!(shown(&journal), ["gate production api r41: failed: it is older"]);
}

#[test]
fn a_release_that_is_taken_back_says_why_who_serves_and_how_to_go_on() {
    // R318
    let mut journal = Journal::new();
    journal.released().gate(16_000, &Gate::Open { passed: Vec::new() });
    journal.phase(19_100, "returning", "x").phase(19_500, "rolled-back", "gave 5xx 14 of 60 on GET /entries");
    journal.add(19_500, json!({ "kind": "change.ended", "data": { "state": "rolled-back", "reason": "" } }));
    let (lines, over) = journal.said();
    check(
        &lines[1..],
        &[
            "  19.5s  ROLLED BACK production api: r41 gave 5xx 14 of 60 on GET /entries",
            "         r39 serves again, 0.1s later    next: slipway why api@r41",
            "         1f3c9ab is held here: revert it, push the fix with `-o fixes=1f3c9ab`, or `slipway unhold 1f3c9ab`",
        ],
    );
    assert_eq!(over, Some(1));
    let projection = journal.projection();
    let id = ChangeId::parse("0123456789abcdef").unwrap();
    let view = projection.change(&"guestbook".parse().unwrap(), &id).unwrap();
    let text = why::change(view).join("\n");
    for part in ["because gave 5xx 14 of 60 on GET /entries", "rolled back  0.1s later", "recovered    0.4s later"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_failed_job_shows_step_exit_code_and_the_first_error() {
    // R066
    let mut journal = Journal::new();
    let failed =
        json!({ "step": "test", "command": "cargo test", "exit_code": 101, "first_error": ["assertion failed"] });
    journal.add(12_100, ended("failed", failed));
    journal.add(
        12_100,
        json!({ "kind": "change.ended", "data": { "state": "failed", "reason": "job:api/test: failed" } }),
    );
    let (lines, over) = journal.said();
    check(
        &lines[1..],
        &[
            "  12.1s  test api         failed   took 9.8s",
            "         step `test` ended with exit code 101",
            "           assertion failed",
            "         next: slipway logs api/test    slipway run api/test",
            "  12.1s  FAILED job api/test: failed",
        ],
    );
    assert_eq!(over, Some(1));
}

#[test]
fn what_serves_already_when_its_turn_comes_is_live() {
    let mut journal = Journal::new();
    journal.released().gate(16_000, &Gate::Open { passed: Vec::new() }).phase(17_000, "succeeded", "it serves already");
    let (lines, _) = journal.said();
    check(&lines[1..], &["  17.0s  LIVE production api r41   http://api-production-guestbook.localhost:8480"]);
}

#[test]
fn who_a_newer_release_goes_past_does_not_stand_as_the_lanes_question_any_more() {
    let mut journal = Journal::new();
    let wait = Gate::Wait { reason: "approval".into(), who: Some("ops".into()), until: None, next: Some("x".into()) };
    journal.gate(16_000, &wait).gate(17_000, &Gate::Refused { reason: "superseded by r42".into(), next: None });
    let (lines, _) = journal.said();
    assert!(lines.iter().any(|line| line.contains("REFUSED production api r41: superseded by r42")), "{lines:#?}");
}

#[test]
fn an_end_does_not_repeat_the_reason_that_the_line_before_gave() {
    let mut journal = Journal::new();
    let why = "Dockerfile:2:25: there is no dist/hello in what job package produced";
    journal.add(
        4_000,
        json!({ "kind": "image.failed", "data": { "item": "image:api", "reason": why, "infrastructure": false } }),
    );
    let reason = format!("image:api: {why}");
    journal.add(4_000, json!({ "kind": "change.ended", "data": { "state": "failed", "reason": reason } }));
    let said = |quiet: bool| {
        let mut follow = Follow::new(At(BEGAN)).quietly(quiet);
        let lines = journal.facts.iter().flat_map(|fact| follow.take(fact, &|_| String::new()).lines);
        lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    check(&said(false)[1..], &[&format!("   4.0s  image api        failed   {why}"), "   4.0s  FAILED image api"]);
    assert_eq!(said(true).last().unwrap(), &format!("   4.0s  FAILED image api: {why}"), "nothing else is seen");
}

#[test]
fn what_somebody_did_about_a_change_stands_between_its_lines() {
    let mut journal = Journal::new();
    let given = |verb: &str, more: serde_json::Value| {
        let mut data = json!({ "verb": verb, "what": "x" });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "kind": "command.given", "data": data })
    };
    journal.add(1_000, given("retry", json!({ "item": "job:api/test" })));
    let place = json!({ "service": "api", "environment": "production", "reason": "it is time" });
    journal.add(2_000, given("approve", place));
    let (lines, _) = journal.said();
    check(&lines[1..], &["   1.0s  kim: retry api/test", "   2.0s  kim: approve api in production: it is time"]);
}

#[test]
fn the_heartbeat_says_what_a_rollout_waits_for() {
    let mut journal = Journal::new();
    journal.released().gate(16_000, &Gate::Open { passed: Vec::new() });
    journal.phase(17_000, "provisioning", "starts 1 of 1").phase(18_000, "probing", "nothing listens on PORT 8080");
    let mut follow = Follow::new(At(BEGAN));
    journal.facts.iter().for_each(|fact| drop(follow.take(fact, &|_| String::new())));
    let beat = follow.heartbeat(At(BEGAN + 27_000));
    assert_eq!(beat, "  27.0s  ... rollout production api for 10.0s (nothing listens on PORT 8080)");
}

#[test]
fn status_shows_what_serves_after_a_rollback_and_what_was_taken_back() {
    let mut journal = Journal::new();
    journal.released().gate(16_000, &Gate::Open { passed: Vec::new() });
    let mut older = journal.facts[2].clone();
    let Body::ReleaseMade { release, .. } = &mut older.body else { panic!("{older:?}") };
    (release.id, release.number) = ("aaaaaaaa".parse().unwrap(), 39);
    older.n = journal.facts.len() as u64 + 1;
    journal.facts.push(older);
    journal.phase(19_500, "rolled-back", "gave 5xx 14 of 60 on GET /entries");
    let hold = json!({ "kind": "hold.set", "data": { "lane": lane(), "commit": commit(), "reason": "taken back" } });
    journal.add(19_600, hold);
    let seen = journal.projection().status(&"guestbook".parse().unwrap(), &|_| "http://a".into(), 5).unwrap();
    check(
        &status::lines(&seen, At(BEGAN + 20_000))[1..7],
        &[
            "  production api r41 (for 0.5s): was rolled back: gave 5xx 14 of 60 on GET /entries",
            "        slipway why api@r41",
            "",
            "production",
            "  api              r39    serves again 0 of 0 ready   http://a",
            "      1f3c9ab is held here, and what contains it waits: slipway unhold 1f3c9ab",
        ],
    );
}

#[test]
fn what_fails_on_a_branch_of_its_own_stands_after_what_users_see_and_names_the_branch() {
    let mut projection = Journal::new().projection();
    let mut n = 2;
    let mut add = |change: &str, branch: &str, environments: serde_json::Value, reason: &str| {
        let info = json!({ "id": change, "event": "push", "reference": format!("refs/heads/{branch}"),
            "branch": branch, "production": false, "commit": commit(), "author": "kim", "subject": "Greet",
            "pusher": "kim" });
        let plan = json!({ "items": [], "environments": environments, "not_ci": [], "warnings": [], "saved_ms": 0 });
        for body in [
            json!({ "kind": "change.received", "data": info }),
            json!({ "kind": "plan.made", "data": { "plan": plan } }),
            json!({ "kind": "change.ended", "data": { "state": "failed", "reason": reason } }),
        ] {
            n += 1;
            let mut fact = Journal::new().facts.remove(0);
            (fact.n, fact.change) = (n, ChangeId::parse(change).ok());
            fact.body = serde_json::from_value(body).unwrap();
            projection.apply(&fact);
        }
    };
    add("00000000000000aa", "feature", json!([]), "job:api/test: failed");
    let staging = json!({ "name": "staging", "from": ["main"], "auto": true, "after": [] });
    let production = json!({ "name": "production", "from": ["main"], "auto": true, "after": ["staging"] });
    add("00000000000000bb", "main", json!([production, staging]), "image:api: no file");
    let seen = projection.status(&"guestbook".parse().unwrap(), &|_| String::new(), 5).unwrap();
    let needs: Vec<_> = seen.needs_you.iter().map(|need| format!("{}: {}", need.what, need.why)).collect();
    assert_eq!(needs, ["1f3c9ab Greet on main: image api: no file", "1f3c9ab Greet on feature: job api/test: failed"]);
    let order: Vec<_> = projection.projects.values().next().unwrap().order.iter().map(ToString::to_string).collect();
    assert_eq!(order, ["staging", "production"], "an environment stands after what it follows");
}

#[test]
fn the_terminal_of_up_shows_one_line_per_event_of_interest() {
    let mut journal = Journal::new();
    let failed = json!({ "step": "test", "command": "cargo test", "exit_code": 101, "reason": "exit code 101" });
    journal.add(12_100, ended("failed", failed)).released();
    journal.gate(16_000, &Gate::Open { passed: Vec::new() });
    for phase in ["queued", "provisioning", "probing", "stepping", "promoting", "baking", "contracting", "succeeded"] {
        journal.phase(19_000, phase, "");
    }
    journal.phase(19_500, "rolled-back", "gave 5xx 14 of 60 on GET /entries");
    journal.add(
        20_000,
        json!({ "kind": "command.given", "data": { "verb": "rollback", "what": "api@r39",
        "service": "api", "environment": "production" } }),
    );
    journal.add(21_000, json!({ "kind": "change.ended", "data": { "state": "failed", "reason": "job:api/test: x" } }));
    let mut ticker = Ticker::default();
    let lines: Vec<String> = journal.facts.iter().filter_map(|fact| ticker.take(fact)).collect();
    check(
        &lines,
        &[
            "12:00:00 guestbook  change 1f3c9ab on main by kim: Greet",
            "12:00:12 guestbook  job api/test failed: exit code 101",
            "12:00:19 guestbook  LIVE production api r41",
            "12:00:19 guestbook  ROLLED BACK production api: r41 gave 5xx 14 of 60 on GET /entries",
            "12:00:20 guestbook  kim: rollback api in production",
            "12:00:21 guestbook  FAILED 1f3c9ab: job api/test: x",
        ],
    );
}

#[test]
fn a_job_that_printed_nothing_says_why_it_failed_once() {
    let mut journal = Journal::new();
    let why = "step `test` exited with 1";
    let failed = json!({ "step": "test", "command": "exit 1", "exit_code": 1, "reason": why, "first_error": [why] });
    journal.add(1_000, ended("failed", failed));
    journal.add(
        1_000,
        json!({ "kind": "change.ended", "data": { "state": "failed", "reason": format!("job:api/test: {why}") } }),
    );
    check(
        &journal.said().0[1..],
        &[
            "   1.0s  test api         failed   took 9.8s",
            "         step `test` ended with exit code 1",
            "         next: slipway logs api/test    slipway run api/test",
            "   1.0s  FAILED job api/test",
        ],
    );
    let projection = journal.projection();
    let id = ChangeId::parse("0123456789abcdef").unwrap();
    let lines = why::change(projection.change(&"guestbook".parse().unwrap(), &id).unwrap());
    check(
        &lines,
        &[
            "1f3c9ab Greet on main: failed",
            "job api/test: failed, step `test` exited with 1",
            "  step test: exit 1 (exit code 1)",
        ],
    );
}

// R075
#[test]
fn the_road_of_a_change_says_where_its_time_went_and_what_was_waited_for() {
    let mut journal = Journal::new();
    journal
        .add(1_010, json!({ "kind": "job.started", "data": { "item": "job:api/test", "run": "r-1", "attempt": 1 } }));
    journal.add(11_010, ended("passed", json!({}))).released();
    let approval = Gate::Wait {
        reason: "approval of ops".into(),
        who: Some("ops".into()),
        until: None,
        next: Some("slipway approve 1f3c9ab".into()),
    };
    journal.gate(16_000, &approval).gate(488_000, &Gate::Open { passed: Vec::new() });
    journal.phase(488_000, "stepping", "").phase(500_000, "rolled-back", "gave 5xx 14 of 60");
    journal.add(500_000, json!({ "kind": "change.ended", "data": { "state": "rolled-back", "reason": "" } }));
    let projection = journal.projection();
    let id = ChangeId::parse("0123456789abcdef").unwrap();
    let view = projection.change(&"guestbook".parse().unwrap(), &id).unwrap();
    let road = crate::road::road(view, &["production".parse().unwrap()], At(BEGAN + 900_000));
    assert_eq!(road.longest, Some(("production: approval of ops".into(), 472_000)));
    assert_eq!((road.all_ms, road.work_ms), (500_000, 22_010));
    assert_eq!(road.not_affected, ["web".parse().unwrap()]);
    let production = road.lanes[0].stations.last().unwrap();
    assert_eq!((production.mark, production.wait_ms), (crate::road::Mark::Back, 472_000));
    assert_eq!(production.back, Some((Some("r39".into()), Some(100))));
    let jobs = &road.lanes[0].stations[1];
    assert_eq!((jobs.name.as_str(), jobs.work_ms, jobs.wait_ms), ("Jobs", Some(10_000), 1_000));
}

#[test]
fn a_change_that_a_newer_one_overtook_is_superseded_and_did_not_pass() {
    let mut journal = Journal::new();
    journal.add(1_000, ended("passed", json!({}))).released();
    let refused = Gate::Refused { reason: "superseded by r42 of 9be1c02".into(), next: None };
    journal.gate(16_000, &refused);
    journal.add(17_000, json!({ "kind": "change.ended", "data": { "state": "passed", "reason": "" } }));
    let projection = journal.projection();
    let id = ChangeId::parse("0123456789abcdef").unwrap();
    let view = projection.change(&"guestbook".parse().unwrap(), &id).unwrap();
    assert_eq!(crate::road::word(view), "superseded");
    let road = crate::road::road(view, &["production".parse().unwrap()], At(BEGAN + 20_000));
    let production = road.lanes[0].stations.last().unwrap();
    assert_eq!((production.mark, production.detail.as_str()), (crate::road::Mark::Passed, "superseded"));
}

#[test]
fn a_release_whose_job_failed_for_good_is_not_waited_for() {
    let mut api = item("release:api", "run");
    api["needs"] = json!(["job:api/test"]);
    let mut test = item("job:api/test", "run");
    test["spec"]["retry"]["max"] = json!(1);
    let plan = json!({ "items": [test, api, item("release:web", "run")], "environments": [], "not_ci": [], "warnings": [],
        "saved_ms": 0 });
    let mut due = crate::due::Due::of(&serde_json::from_value(plan).unwrap());
    let id = |text: &str| slipway_model::ItemId(text.into());
    due.made(&id("release:web"));
    due.began(&id("job:api/test"));
    due.failed(&id("job:api/test"));
    assert!(!due.is_empty(), "it is tried once more");
    due.began(&id("job:api/test"));
    due.failed(&id("job:api/test"));
    assert!(due.is_empty());
    due.began(&id("job:api/test"));
    assert!(!due.is_empty(), "a person retried it");
}
