//! Which jobs observe what a service does (R106).
//!
//! In: the file, and whether tests of the service are recognised. Out: the ids of such jobs. The one place that
//! judges it: `lint` warns by it, and the plan lets a release in by itself or not.

use crate::model::{Config, Work};

/// Words in the name of a job, and what kind of check it then is; the first that is found counts.
const WORDS: [(&str, &str); 12] = [
    ("lint", "lint"),
    ("package", "package"),
    ("build", "build"),
    ("integration", "integration"),
    ("uat", "uat"),
    ("acceptance", "uat"),
    ("performance", "performance"),
    ("smoke", "smoke"),
    ("bvt", "bvt"),
    ("contract", "api"),
    ("e2e", "uat"),
    ("test", "unit"),
];

/// What kind of check a job of this name is.
pub fn job_kind(name: &str) -> &'static str {
    WORDS.iter().find(|(word, _)| name.contains(word)).map_or("check", |(_, kind)| kind)
}

/// Whether this kind of job runs what was made and looks at what it does.
fn is_behaviour(kind: &str) -> bool {
    !matches!(kind, "lint" | "package" | "build" | "check")
}

/// Whether the tests that are recognised for this service run although nobody wrote them: it has no jobs of its own,
/// and `test` is not `off` for the whole project.
pub fn runs_recognised_tests(config: &Config, service: &str) -> bool {
    let own = config.services.get(service).is_some_and(|entry| !entry.jobs.is_empty());
    !own && config.jobs.get("test").is_none_or(|job| job.work != Work::Off)
}

/// The ids of the jobs that observe the behaviour of this service: its own, those of the whole project, and its
/// recognised tests if there are any.
pub fn behaviour_tests(config: &Config, service: &str, recognised: bool) -> Vec<String> {
    let mut ids = Vec::new();
    if recognised && runs_recognised_tests(config, service) {
        ids.push(format!("{service}/test"));
    }
    for (id, job) in config.all_jobs() {
        let (scope, name) = match id.split_once('/') {
            Some((scope, name)) => (Some(scope), name),
            None => (None, id.as_str()),
        };
        let runs = match &job.work {
            Work::Off => false,
            Work::Recognised => recognised && scope.is_some() && name == "test",
            Work::Steps(_) => true,
        };
        if runs && scope.is_none_or(|scope| scope == service) && is_behaviour(job_kind(name)) {
            ids.push(id);
        }
    }
    ids
}
