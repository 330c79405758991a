//! Words for people about jobs.

use slipway_model::job::JobOutcome;
use slipway_model::time::words;

/// A job's end in one line: `passed   took 9.8s   212 tests, 3 skipped`.
#[must_use]
pub fn line(outcome: &JobOutcome) -> String {
    let mut text = format!("{:<8} took {}", outcome.result.word(), words(outcome.run_ms + outcome.set_up_ms));
    if let Some(tests) = outcome.tests {
        text.push_str(&format!("   {} tests", tests.passed + tests.failed));
        if tests.failed > 0 {
            text.push_str(&format!(", {} failed", tests.failed));
        }
        if tests.skipped > 0 {
            text.push_str(&format!(", {} skipped", tests.skipped));
        }
    }
    text
}
