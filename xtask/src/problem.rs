//! What a check finds.
//!
//! In: a place, what is wrong there, what to do. Out: lines for people. Never: decides whether it matters.

use std::fmt;

/// Something that does not hold, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `path:line`, a path, or a package.
    pub place: String,
    /// What is wrong, and by which rule.
    pub what: String,
    /// What mends it.
    pub hint: String,
}

impl Problem {
    /// A problem of a place.
    pub fn new(place: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem { place: place.into(), what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}\n  hint: {}", self.place, self.what, self.hint)
    }
}
