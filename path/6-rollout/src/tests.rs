//! Scripts of events in, phases and wishes out.

use crate::decide::{Event, Intent, Now, Step, step};
use crate::record::{Policy, State};
use slipway_model::instance::{InstanceSeen, InstanceState, LaneSeen};
use slipway_model::policy::{Rolling, VerifyPolicy};
use slipway_model::rollout::{Phase, Purpose, ReleaseRef, RolloutHead};
use slipway_model::verdict::VerdictKind;
use slipway_model::{At, CommitId, Digest, InstanceId, Lane, ReleaseId, RolloutId};

fn release(digit: char, number: u64) -> ReleaseRef {
    ReleaseRef { id: ReleaseId::parse(&digit.to_string().repeat(8)).unwrap(), number }
}

/// `3 of 3 +1 -0` is desired, old, surge, unavailable.
fn state(desired: u32, old: u32, surge: u32, unavailable: u32) -> State {
    let lane = Lane {
        project: "shop".parse().unwrap(),
        environment: "production".parse().unwrap(),
        service: "api".parse().unwrap(),
    };
    let head = RolloutHead {
        id: RolloutId::parse("production-api-1").unwrap(),
        lane,
        from: (old > 0).then(|| release('a', 1)),
        to: release('b', 2),
        purpose: Purpose::Deploy,
        commit: CommitId::parse(&"1".repeat(40)).unwrap(),
        change: None,
        by: "kim".into(),
    };
    let verify = VerifyPolicy { bake_ms: 10_000, ..VerifyPolicy::default() };
    State::new(head, Policy { desired, desired_old: old, surge, unavailable, verify, ready_ms: 30_000 })
}

fn seen(state: &State, new: &[InstanceState], restarts: u32) -> LaneSeen {
    let of = |release: &ReleaseRef, state: InstanceState, index: usize| InstanceSeen {
        id: InstanceId::parse(&format!("{}-{index}", release.id)).unwrap(),
        release: release.id.clone(),
        image: Digest::of(b""),
        spec: Digest::of(b""),
        state,
        since: At(0),
        restarts,
        ready_ms: None,
        reason: if state == InstanceState::Ready { String::new() } else { "nothing listens on PORT 3000".into() },
        stuck: false,
        exit: None,
    };
    let mut instances: Vec<InstanceSeen> =
        new.iter().enumerate().map(|(index, one)| of(&state.head.to, *one, index)).collect();
    if let Some(from) = &state.head.from {
        let old = (0..state.old_serving as usize).map(|index| of(from, InstanceState::Ready, index));
        instances.extend(old);
    }
    LaneSeen { lane: state.head.lane.clone(), epoch: 9, routed: true, instances, weights: vec![], addresses: vec![] }
}

fn event(state: &State, word: &str) -> Event {
    let look = |new: &[InstanceState], restarts| Event::Seen {
        lane: seen(state, new, restarts),
        wish_epoch: 9,
        proof: Ok(()),
    };
    let verdict =
        |kind| Event::Verdict { step: state.step, kind, sentence: "gave 5xx 14 of 60".into(), tipped_at: Some(At(5)) };
    let all = |one| vec![one; state.new_serving as usize];
    match word {
        "go" => Event::Continue,
        "resumed" => Event::Resumed,
        "there" => Event::Prepared(Ok(())),
        "missing" => Event::Prepared(Err("image is gone".into())),
        "starting" => look(&all(InstanceState::Starting), 0),
        "stuck" => match look(&all(InstanceState::Starting), 0) {
            Event::Seen { mut lane, wish_epoch, proof } => {
                lane.instances
                    .iter_mut()
                    .filter(|one| one.state == InstanceState::Starting)
                    .for_each(|one| one.stuck = true);
                Event::Seen { lane, wish_epoch, proof }
            }
            other => other,
        },
        "exits" => look(&all(InstanceState::BackingOff), 2),
        "ready" => look(&all(InstanceState::Ready), 0),
        "strange" => match look(&all(InstanceState::Ready), 0) {
            Event::Seen { lane, wish_epoch, .. } => {
                Event::Seen { lane, wish_epoch, proof: Err("instance `x` runs another image".into()) }
            }
            other => other,
        },
        "smoked" => Event::Smoked(Ok(())),
        "not-smoked" => Event::Smoked(Err("GET / answered 500".into())),
        "old-smoked" => Event::OldSmoked(Ok(())),
        "old-not-smoked" => Event::OldSmoked(Err("GET / answered 500".into())),
        "pass" => verdict(VerdictKind::Pass),
        "insufficient" => verdict(VerdictKind::Insufficient),
        "unavailable" => verdict(VerdictKind::Unavailable),
        "fail" => verdict(VerdictKind::Fail),
        "captured" => Event::Captured,
        "abort" => Event::Abort { reason: "kim says so".into() },
        "superseded" => Event::Superseded,
        "late" => Event::Timer,
        other => panic!("no event `{other}`"),
    }
}

/// Runs a script and writes one line per event: phase, new serving+retiring, old serving+retiring, weights, intents.
fn play(mut state: State, script: &str) -> (Vec<String>, State) {
    let mut lines = Vec::new();
    for (index, word) in script.split_whitespace().enumerate() {
        // A late event comes when every wait is over.
        let mono_ms = if word == "late" { u64::MAX } else { index as u64 * 10 };
        let given = event(&state, word);
        let Step { state: next, intents } = step(state, &given, Now { wall: At(index as u64 * 10), mono_ms });
        state = next;
        let intents: Vec<String> = intents.iter().map(|intent| format!("{intent:?}")).collect();
        lines.push(
            format!(
                "{word:<14} {:<12} new {}+{} old {}+{} {}:{} {}",
                state.phase.word(),
                state.new_serving,
                state.new_retiring,
                state.old_serving,
                state.old_retiring,
                state.weights.0,
                state.weights.1,
                intents.join(" ")
            )
            .trim_end()
            .to_owned(),
        );
    }
    (lines, state)
}

fn check(state: State, script: &str, expected: &str) -> State {
    let (lines, state) = play(state, script);
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(lines.join("\n"), expected.join("\n"));
    state
}

const BEGIN: &str = "go there go go";

#[test]
fn a_rolling_update_keeps_within_surge_and_stops_old_ones_last() {
    // R219
    let script = format!("{BEGIN} ready ready smoked ready pass ready ready smoked ready pass ready late go");
    let state = check(
        state(2, 2, 1, 0),
        &script,
        "go             gated        new 0+0 old 2+0 0:1 Prepare
         there          prepared     new 0+0 old 2+0 0:1
         go             expanded     new 0+0 old 2+0 0:1
         go             provisioning new 1+0 old 2+0 0:1 Wish
         ready          probing      new 1+0 old 2+0 0:1
         ready          probing      new 1+0 old 2+0 0:1 Smoke
         smoked         stepping     new 1+0 old 2+0 1:2 Wish
         ready          stepping     new 1+0 old 2+0 1:2 Judge
         pass           provisioning new 2+0 old 1+1 1:2 Wish
         ready          probing      new 2+0 old 1+1 1:2
         ready          probing      new 2+0 old 1+1 1:2 Smoke
         smoked         stepping     new 2+0 old 1+1 2:1 Wish
         ready          stepping     new 2+0 old 1+1 2:1 Judge
         pass           promoting    new 2+0 old 0+2 1:0 Wish
         ready          baking       new 2+0 old 0+2 1:0 Judge
         late           contracting  new 2+0 old 0+0 1:0 Wish
         go             succeeded    new 2+0 old 0+0 1:0",
    );
    assert!(!state.smoke_only);
}

#[test]
fn without_surge_as_many_as_may_be_missing_are_withdrawn_and_stop_after_their_verdict() {
    // R219
    check(
        state(2, 2, 0, 1),
        &format!("{BEGIN} ready ready smoked ready pass"),
        "go             gated        new 0+0 old 2+0 0:1 Prepare
         there          prepared     new 0+0 old 2+0 0:1
         go             expanded     new 0+0 old 2+0 0:1
         go             provisioning new 1+0 old 1+1 0:1 Wish
         ready          probing      new 1+0 old 1+1 0:1
         ready          probing      new 1+0 old 1+1 0:1 Smoke
         smoked         stepping     new 1+0 old 1+1 1:1 Wish
         ready          stepping     new 1+0 old 1+1 1:1 Judge
         pass           provisioning new 2+0 old 0+1 1:1 Wish",
    );
}

#[test]
fn the_strategy_that_nobody_chose_is_a_rolling_update() {
    // R221
    assert_eq!(Rolling::default().counts(4), (1, 1));
    assert_eq!(Rolling::default().counts(1), (1, 0), "one instance is replaced without being missed");
}

#[test]
fn who_is_not_ready_gets_no_traffic_and_by_the_deadline_the_old_ones_keep_serving() {
    // R223 R248
    let (lines, state) = play(state(2, 2, 1, 0), &format!("{BEGIN} starting starting smoked late"));
    assert!(lines.iter().all(|line| line.contains("0:1")), "{lines:#?}");
    assert_eq!((state.phase, state.old_serving, state.new_serving), (Phase::Returning, 2, 0));
    assert!(state.reason.contains("nothing listens on PORT 3000"), "{}", state.reason);
}

#[test]
fn who_ends_at_once_again_and_again_is_not_waited_for() {
    // R248
    let (_, state) = play(state(1, 1, 1, 0), &format!("{BEGIN} exits exits"));
    assert_eq!(state.phase, Phase::Returning);
}

#[test]
fn who_listens_elsewhere_and_is_done_is_not_waited_for_until_the_deadline() {
    // R248
    let (lines, state) = play(state(2, 2, 1, 0), &format!("{BEGIN} starting starting stuck"));
    assert!(lines.iter().all(|line| line.contains("0:1")), "{lines:#?}");
    assert_eq!((state.phase, state.old_serving), (Phase::Returning, 2));
    assert_eq!(state.failure.as_deref(), Some("nothing listens on PORT 3000"));
}

#[test]
fn a_failing_verdict_returns_traffic_then_keeps_evidence_then_restores_capacity() {
    // R247 R318 R323
    let state = check(
        state(2, 2, 1, 0),
        &format!("{BEGIN} ready ready smoked ready fail ready captured ready old-smoked"),
        "go             gated        new 0+0 old 2+0 0:1 Prepare
         there          prepared     new 0+0 old 2+0 0:1
         go             expanded     new 0+0 old 2+0 0:1
         go             provisioning new 1+0 old 2+0 0:1 Wish
         ready          probing      new 1+0 old 2+0 0:1
         ready          probing      new 1+0 old 2+0 0:1 Smoke
         smoked         stepping     new 1+0 old 2+0 1:2 Wish
         ready          stepping     new 1+0 old 2+0 1:2 Judge
         fail           returning    new 0+1 old 2+0 0:1 Wish
         ready          capturing    new 0+1 old 2+0 0:1 Capture
         captured       restoring    new 0+0 old 2+0 0:1 Wish
         ready          restoring    new 0+0 old 2+0 0:1 SmokeOld
         old-smoked     rolled-back  new 0+0 old 2+0 0:1 Hold",
    );
    let incident = state.incident;
    assert_eq!(incident.recognised, Some(At(5)), "the request that tipped it");
    assert!(incident.reported <= incident.rolled_back && incident.rolled_back < incident.recovered);
}

#[test]
fn a_verdict_that_fails_while_the_next_step_starts_takes_it_back_too() {
    let begun = format!("{BEGIN} ready ready smoked ready pass");
    for script in [format!("{begun} fail"), format!("{begun} ready fail")] {
        let (_, state) = play(state(2, 2, 1, 0), &script);
        assert_eq!((state.phase, state.weights), (Phase::Returning, (0, 1)), "{script}");
    }
}

#[test]
fn what_everybody_may_read_never_quotes_an_instance() {
    let begun = format!("{BEGIN} starting starting stuck");
    let words: Vec<&str> = begun.split_whitespace().collect();
    for (old, last) in [(1, "r1 is being brought back"), (0, "there is no earlier release to go back to")] {
        let mut notices = Vec::new();
        for count in 0..=words.len() {
            let (_, state) = play(state(1, old, 1, 0), &words[..count].join(" "));
            notices.push(crate::explain::notice(&state));
        }
        assert!(notices.iter().all(|notice| !notice.contains("listens")), "{notices:#?}");
        assert!(notices.last().unwrap().contains(last), "{notices:#?}");
    }
}

#[test]
fn a_first_release_that_is_bad_ends_with_a_person_and_without_traffic() {
    let (_, state) = play(state(2, 0, 1, 0), &format!("{BEGIN} ready ready smoked ready fail ready captured"));
    assert_eq!((state.phase, state.weights, state.new_serving), (Phase::NeedsHuman, (0, 0), 0));
}

#[test]
fn too_little_seen_goes_on_and_is_said_to_be_smoke_only() {
    // R325
    let (_, state) = play(state(1, 1, 1, 0), &format!("{BEGIN} ready ready smoked ready insufficient ready late go"));
    assert_eq!(state.phase, Phase::Succeeded);
    assert!(state.smoke_only);
    assert_eq!(state.steps[0].verdict, Some(VerdictKind::Insufficient));
}

#[test]
fn a_judge_who_cannot_look_is_asked_again() {
    // R322
    let (lines, state) = play(state(1, 1, 1, 0), &format!("{BEGIN} ready ready smoked ready unavailable"));
    assert_eq!(state.phase, Phase::Stepping);
    assert!(lines.last().unwrap().ends_with("Judge"));
}

#[test]
fn what_runs_and_is_not_what_was_intended_is_taken_back() {
    // R310
    let (_, state) = play(state(1, 1, 1, 0), &format!("{BEGIN} ready ready smoked ready pass strange"));
    assert_eq!(state.phase, Phase::Returning);
    assert!(state.reason.contains("what runs is not what was intended"));
}

#[test]
fn after_a_restart_each_phase_asks_again_for_what_it_waits_for() {
    // R222 R321
    let to = |more: &str| format!("{BEGIN} {more}");
    for (script, intents) in [
        ("go".to_owned(), "Prepare"),
        (to(""), "Wish"),
        (to("ready ready"), "Wish"),
        (to("ready ready smoked ready"), "Wish"),
        (to("ready ready smoked ready fail ready"), "Wish Capture"),
        (to("ready ready smoked ready pass ready late go"), "Wish"),
    ] {
        let (lines, state) = play(state(1, 1, 1, 0), &format!("{script} resumed"));
        assert!(lines.last().unwrap().ends_with(intents), "{script}: {lines:#?}");
        assert!(!state.asked);
    }
}

#[test]
fn every_wait_that_is_never_answered_ends() {
    // R222: each of these waits has nobody who answers
    let to = |more: &str| format!("{BEGIN} {more}");
    let failing = to("ready ready smoked ready fail");
    for (script, ends) in [
        ("go late".to_owned(), Phase::Dropped),
        (to("late"), Phase::Returning),
        (to("ready late"), Phase::Returning),
        (to("ready ready smoked late"), Phase::Returning),
        (to("ready ready smoked ready late"), Phase::Returning),
        (to("ready ready smoked ready pass late"), Phase::Returning),
        (to("ready ready smoked ready pass ready late go"), Phase::Succeeded),
        (format!("{failing} late"), Phase::NeedsHuman),
        (format!("{failing} ready late"), Phase::Restoring),
        (format!("{failing} ready captured late"), Phase::NeedsHuman),
        (format!("{failing} ready captured ready old-not-smoked"), Phase::NeedsHuman),
    ] {
        let (lines, state) = play(state(1, 1, 1, 0), &script);
        assert_eq!(state.phase, ends, "{script}: {lines:#?}");
    }
}

#[test]
fn an_abort_before_anything_started_drops_it_and_later_returns_traffic() {
    let to = |more: &str| format!("{BEGIN} {more}");
    for (script, ends) in [
        ("abort".to_owned(), Phase::Dropped),
        ("go abort".to_owned(), Phase::Dropped),
        ("go there abort".to_owned(), Phase::Dropped),
        ("go there go abort".to_owned(), Phase::Dropped),
        ("go missing".to_owned(), Phase::Dropped),
        (to("abort"), Phase::Returning),
        (to("ready not-smoked"), Phase::Probing),
        (to("ready ready not-smoked"), Phase::Returning),
        (to("ready ready smoked abort"), Phase::Returning),
        (to("ready ready smoked ready pass abort"), Phase::Returning),
        (to("ready ready smoked ready pass fail"), Phase::Returning),
        (to("ready ready smoked ready pass ready abort"), Phase::Returning),
        (to("ready ready smoked ready pass ready superseded abort go"), Phase::Succeeded),
    ] {
        let (lines, state) = play(state(2, 2, 2, 0), &script);
        assert_eq!(state.phase, ends, "{script}: {lines:#?}");
        assert!(state.weights == (0, 1) || ends == Phase::Succeeded || ends == Phase::Probing, "{script}");
    }
}

#[test]
fn what_fails_when_nothing_of_the_old_release_lives_serves_until_the_old_one_is_ready() {
    let begun = format!("{BEGIN} ready ready smoked ready pass fail");
    let (_, at_once) = play(state(1, 1, 0, 1), &begun);
    assert_eq!((at_once.new_serving, at_once.old_serving, at_once.weights), (1, 1, (1, 0)));
    let (lines, returned) = play(state(1, 1, 0, 1), &format!("{begun} ready"));
    assert_eq!((returned.new_serving, returned.new_retiring, returned.weights), (0, 1, (0, 1)), "{lines:#?}");
    assert!(lines.last().unwrap().ends_with("Wish"));
}

#[test]
fn nothing_moves_a_rollout_that_is_over() {
    let over = format!("{BEGIN} ready ready smoked ready pass ready late go");
    let (_, state) = play(state(1, 1, 1, 0), &over);
    for word in ["go", "ready", "fail", "abort", "late", "superseded", "captured", "smoked"] {
        let given = event(&state, word);
        let next = step(state.clone(), &given, Now { wall: At(0), mono_ms: u64::MAX });
        assert_eq!(next, Step::stay(state.clone()), "{word}");
    }
    let resumed = step(state.clone(), &Event::Resumed, Now { wall: At(0), mono_ms: 0 });
    assert_eq!(resumed.intents, [Intent::Wish], "the node is told again what runs");
}
