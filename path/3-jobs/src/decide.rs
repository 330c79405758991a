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
        JobResult::Failed if asked => match causes(outcome).into_iter().find(|cause| wants(retry, cause)) {
            Some(cause) => again(&cause),
            None => Next::Done,
        },
        JobResult::Lost | JobResult::Failed | JobResult::TimedOut => Next::Done,
    }
}

fn wants(retry: &Retry, cause: &str) -> bool {
    retry.on.iter().any(|on| on == cause)
}

/// What tools write, in lower case, when a name was not found or a connection broke. A refused connection is not
/// among them: it may as well be the program under test that is not there.
const NETWORK_WORDS: [&str; 16] = [
    "could not resolve host",
    "failed to lookup address",
    "temporary failure in name resolution",
    "name or service not known",
    "no such host",
    "eai_again",
    "enotfound",
    "econnreset",
    "etimedout",
    "network is unreachable",
    "no route to host",
    "connection reset by peer",
    "connection timed out",
    "i/o timeout",
    "tls handshake timeout",
    "spurious network error",
];

/// What a failure may have come from; the words of `retry: on`.
fn causes(outcome: &JobOutcome) -> Vec<String> {
    if outcome.reason.contains("memory limit") {
        return vec!["memory".into()];
    }
    let said = |line: &String| NETWORK_WORDS.iter().any(|words| line.to_lowercase().contains(words));
    let network = outcome.first_error.iter().any(said).then(|| "network".to_owned());
    network.into_iter().chain(outcome.exit_code.map(|code| format!("exit {code}"))).collect()
}

/// Whether the result stands for its content from now on (infrastructure failures never do).
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
    fn a_broken_connection_is_recognised_by_what_the_tool_wrote() {
        let said = |line: &str| JobOutcome { first_error: vec![line.to_owned()], ..ended(JobResult::Failed, Some(6)) };
        let asks = retry(1, &["network"]);
        let lost = said("curl: (6) Could not resolve host: example.org");
        assert_eq!(after(&lost, &asks, 1), Next::Again { reason: "attempt 1 ended by network".into() });
        assert_eq!(after(&lost, &retry(1, &["memory"]), 1), Next::Done);
        assert_eq!(after(&said("error: expected 3, found 4"), &asks, 1), Next::Done);
        assert_eq!(after(&said("dial tcp 127.0.0.1:5432: connect: connection refused"), &asks, 1), Next::Done);
    }

    #[test]
    fn a_lost_worker_is_tried_again_unasked_and_never_remembered() {
        assert_ne!(after(&ended(JobResult::Lost, None), &Retry::default(), 1), Next::Done);
        assert_eq!(after(&ended(JobResult::Lost, None), &Retry::default(), 2), Next::Done);
        assert!(!is_remembered(JobResult::Lost));
        assert!(is_remembered(JobResult::Failed));
    }
}
