//! Outcomes in, what follows out.

use crate::decide::{Next, after, is_remembered};
use crate::explain::line;
use slipway_model::job::{JobOutcome, JobResult, Retry, TestCount};

/// `failed 75` or `lost` or `failed memory`.
fn outcome(words: &str) -> JobOutcome {
    let mut words = words.split_whitespace();
    let result: JobResult = serde_json::from_value(serde_json::json!(words.next().unwrap())).unwrap();
    let cause = words.next();
    let memory = cause == Some("memory");
    let exit_code = if memory { Some(137) } else { cause.map(|code| code.parse::<i32>().unwrap()) };
    let reason = if memory { "killed at its memory limit of 512Mi" } else { "" };
    let json = serde_json::json!({ "result": result, "exit_code": exit_code, "reason": reason });
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_follows_an_attempt() {
    let asks = |max, on: &[&str]| Retry { max, on: on.iter().map(|on| (*on).to_owned()).collect() };
    for (ended, retry, attempt, again) in [
        ("passed 0", asks(3, &["exit 0"]), 1, false),
        ("neutral 78", asks(3, &["exit 78"]), 1, false),
        ("cancelled", asks(3, &["infrastructure"]), 1, false),
        ("failed 1", asks(0, &["exit 1"]), 1, false),
        ("failed 1", asks(1, &["exit 1"]), 1, true),
        ("failed 1", asks(1, &["exit 1"]), 2, false),
        ("failed memory", asks(1, &["memory"]), 1, true),
        ("failed memory", asks(1, &["exit 137"]), 1, false),
        ("timed-out", asks(3, &["exit 1"]), 1, false),
        ("lost", asks(0, &[]), 1, true),
        ("lost", asks(0, &[]), 2, false),
        ("lost", asks(3, &["infrastructure"]), 2, true),
    ] {
        let next = after(&outcome(ended), &retry, attempt);
        assert_eq!(next != Next::Done, again, "{ended} at attempt {attempt} with {retry:?}: {next:?}");
    }
}

#[test]
fn only_what_says_something_about_the_code_is_remembered() {
    for (ended, remembered) in [
        ("passed", true),
        ("failed", true),
        ("timed-out", true),
        ("neutral", true),
        ("lost", false),
        ("cancelled", false),
    ] {
        assert_eq!(is_remembered(outcome(ended).result), remembered, "{ended}");
    }
}

#[test]
fn an_end_reads_in_one_line() {
    let mut ended = outcome("failed 1");
    (ended.set_up_ms, ended.run_ms) = (300, 9_500);
    ended.tests = Some(TestCount { passed: 210, failed: 2, skipped: 3 });
    assert_eq!(line(&ended), "failed   took 9.8s   212 tests, 2 failed, 3 skipped"); // R066
}
