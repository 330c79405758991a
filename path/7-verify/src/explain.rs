//! Words for people about verdicts.

use slipway_model::verdict::{Verdict, VerdictKind};

/// A verdict in one line.
#[must_use]
pub fn line(verdict: &Verdict) -> String {
    let word = match verdict.kind {
        VerdictKind::Pass => "pass",
        VerdictKind::Insufficient => "too little seen",
        VerdictKind::Inconclusive => "neither way",
        VerdictKind::Unavailable => "could not look",
        VerdictKind::Fail => "fail",
    };
    format!("{word}: {}", verdict.sentence)
}
