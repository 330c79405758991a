//! Pure decisions about jobs: whether to try again, what to remember.
//!
//! In: definitions and outcomes. Out: decisions with reasons. Never: I/O.

use slipway_model::job::{JobOutcome, JobResult, Retry};

/// What follows an attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// That was it.
    Done,
    /// Try again.
    Again {
        /// Why.
        reason: String,
    },
}

/// Machine failures are tried again this often even when the file does not ask: they say nothing about the code.
const LOST_RETRIES: u32 = 1;

/// Whether the job is tried again after this attempt (from 1).
#[must_use]
pub fn after(outcome: &JobOutcome, retry: &Retry, attempt: u32) -> Next {
    let again = |reason: &str| Next::Again { reason: format!("attempt {attempt} ended by {reason}") };
    let asked = attempt <= retry.max;
    match outcome.result {
        JobResult::Passed | JobResult::Neutral | JobResult::Cancelled => Next::Done,
        JobResult::Lost if attempt <= LOST_RETRIES => again("its machine"),
        JobResult::Lost if asked && wants(retry, "infrastructure") => again("its machine"),
        JobResult::Failed if asked => match cause(outcome).filter(|cause| wants(retry, cause)) {
            Some(cause) => again(&cause),
            None => Next::Done,
        },
        JobResult::Lost | JobResult::Failed | JobResult::TimedOut => Next::Done,
    }
}

fn wants(retry: &Retry, cause: &str) -> bool {
    retry.on.iter().any(|on| on == cause)
}

fn cause(outcome: &JobOutcome) -> Option<String> {
    if outcome.reason.contains("memory limit") {
        return Some("memory".into());
    }
    outcome.exit_code.map(|code| format!("exit {code}"))
}

/// Whether the result stands for its content from now on (DESIGN §3.2: infrastructure failures never do).
#[must_use]
pub fn is_remembered(result: JobResult) -> bool {
    match result {
        JobResult::Passed | JobResult::Neutral | JobResult::Failed | JobResult::TimedOut => true,
        JobResult::Cancelled | JobResult::Lost => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(result: JobResult, exit_code: Option<i32>) -> JobOutcome {
        let json = serde_json::json!({ "result": result, "exit_code": exit_code });
        serde_json::from_value(json).unwrap()
    }

    fn retry(max: u32, on: &[&str]) -> Retry {
        Retry { max, on: on.iter().map(|on| (*on).to_owned()).collect() }
    }

    #[test]
    fn only_causes_that_the_file_names_are_tried_again() {
        let asks = retry(2, &["exit 75"]);
        assert_ne!(after(&ended(JobResult::Failed, Some(75)), &asks, 1), Next::Done);
        assert_eq!(after(&ended(JobResult::Failed, Some(1)), &asks, 1), Next::Done);
        assert_eq!(after(&ended(JobResult::Failed, Some(75)), &asks, 3), Next::Done, "not more often than it says");
    }

    #[test]
    fn a_lost_worker_is_tried_again_unasked_and_never_remembered() {
        assert_ne!(after(&ended(JobResult::Lost, None), &Retry::default(), 1), Next::Done);
        assert_eq!(after(&ended(JobResult::Lost, None), &Retry::default(), 2), Next::Done);
        assert!(!is_remembered(JobResult::Lost));
        assert!(is_remembered(JobResult::Failed));
    }
}
