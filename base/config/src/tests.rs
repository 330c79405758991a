//! Pairs of texts: a file, and what is said about it.

mod delivery;
mod effect;
mod fuzz;
mod jobs;
mod services;
mod syntax;

use crate::{Config, Problem, Problems, parse};

/// `LINE:COLUMN message` of every problem.
pub(crate) fn check(text: &str, expected: &[&str]) {
    let found: Vec<String> =
        problems(text).list.iter().map(|one| format!("{}:{} {}", one.line, one.column, one.message)).collect();
    assert_eq!(found, expected, "in\n{text}");
}

/// The messages alone, for tables of cases.
pub(crate) fn says(text: &str, expected: &[&str]) {
    let found: Vec<String> = problems(text).list.into_iter().map(|one| one.message).collect();
    assert_eq!(found, expected, "in\n{text}");
}

/// The hint of the first problem.
pub(crate) fn hint(text: &str) -> String {
    let first: Option<Problem> = problems(text).list.into_iter().next();
    first.and_then(|one| one.hint).unwrap_or_default()
}

pub(crate) fn good(text: &str) -> Config {
    match parse("slipway.yaml", text) {
        Ok(config) => config,
        Err(problems) => panic!("in\n{text}\n{problems}"),
    }
}

pub(crate) fn problems(text: &str) -> Problems {
    parse("slipway.yaml", text).err().unwrap_or_default()
}
