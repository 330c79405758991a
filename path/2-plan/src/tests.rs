//! Files, changes and known results in; tables of decisions out.

use crate::decide::{Known, decide, draft};
use crate::drive::{input, read_config};
use slipway_model::plan::{Plan, Previous};
use slipway_model::{ChangeId, CommitId, ContentKey, ItemId};
use slipway_ports::TreeFile;
use std::collections::{BTreeMap, BTreeSet};

/// A repository: two Rust services and a library that only one of them uses.
const FILES: [(&str, &str); 8] = [
    ("Cargo.toml", "[workspace]\nmembers = ['api', 'web', 'lib']\n"),
    ("api/Cargo.toml", "[package]\nname = 'api'\n[dependencies]\nlib = { path = '../lib' }\n"),
    ("api/src/main.rs", "one"),
    ("api/Dockerfile", "FROM scratch\nCOPY . /\nEXPOSE 3000\n"),
    ("web/Cargo.toml", "[package]\nname = 'web'\n"),
    ("web/src/main.rs", "one"),
    ("web/Dockerfile", "FROM scratch\nCOPY . /\n"),
    ("lib/Cargo.toml", "[package]\nname = 'lib'\n"),
];

struct Repository {
    files: BTreeMap<String, String>,
    branch: &'static str,
    known: BTreeMap<ContentKey, Known>,
}

impl Repository {
    fn new(files: &[(&str, &str)]) -> Repository {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Repository { files, branch: "main", known: BTreeMap::new() }
    }

    fn plan(&self, changed: Option<&[&str]>) -> Result<Plan, Vec<String>> {
        let tree: Vec<TreeFile> = self
            .files
            .iter()
            .map(|(path, text)| TreeFile { path: path.clone(), mode: 0o100_644, id: text.clone() })
            .collect();
        let config = match self.files.get("slipway.yaml") {
            Some(text) => read_config(text.as_bytes()).unwrap(),
            None => slipway_config::Config::default(),
        };
        let changed = changed.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>());
        let read = input("shop", config, self.branch, tree, changed, self.files.clone(), "rustc 1.95", "push");
        draft(&read).map(|draft| decide(draft, &self.known))
    }

    /// Everything of this plan passes, except what is named.
    fn remember(&mut self, plan: &Plan, failed: &[&str]) {
        for item in &plan.items {
            let previous = Previous {
                change: ChangeId::parse(&"0".repeat(16)).unwrap(),
                commit: CommitId::parse(&"a".repeat(40)).unwrap(),
                outcome: None,
                image: None,
            };
            let satisfied = !failed.contains(&item.id.0.as_str());
            self.known.insert(item.key.clone(), Known { previous, satisfied, took_ms: 1_000 });
        }
    }

    fn write(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), text.to_owned());
    }
}

fn table(plan: &Plan) -> String {
    let lines: Vec<String> =
        plan.items.iter().map(|item| format!("{} {}: {}", item.id, item.decision.word(), item.reason)).collect();
    lines.join("\n")
}

fn check(plan: &Plan, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(table(plan), expected.join("\n"));
}

#[test]
fn without_a_file_services_their_tests_images_and_releases_are_recognised() {
    // R041 R550
    let plan = Repository::new(&FILES).plan(None).unwrap();
    check(
        &plan,
        "job:api/test run: files that count for it changed
         job:web/test run: files that count for it changed
         image:api run: files that count for it changed
         release:api run: job:api/test runs
         image:web run: files that count for it changed
         release:web run: job:web/test runs",
    );
    assert_eq!(plan.environments.len(), 1, "production");
    assert!(plan.not_ci.is_empty());
}

#[test]
fn only_what_a_change_touches_runs_and_the_rest_is_listed_with_its_reason() {
    // R551 R563 R566
    let mut repository = Repository::new(&FILES);
    repository.remember(&repository.plan(None).unwrap(), &[]);
    repository.write("web/src/main.rs", "two");
    let plan = repository.plan(Some(&["web/src/main.rs"])).unwrap();
    check(
        &plan,
        "job:api/test not-affected: nothing that counts for it changed since aaaaaaa
         job:web/test run: files that count for it changed
         image:api not-affected: nothing that counts for it changed since aaaaaaa
         release:api not-affected: nothing that counts for it changed since aaaaaaa
         image:web run: files that count for it changed
         release:web run: job:web/test runs",
    );
    assert_eq!(plan.saved_ms, 3_000);
}

#[test]
fn a_change_of_a_library_runs_exactly_the_tests_of_who_uses_it() {
    // R555
    let mut repository = Repository::new(&FILES);
    repository.remember(&repository.plan(None).unwrap(), &[]);
    repository.write("lib/Cargo.toml", "[package]\nname = 'lib'\nversion = '2'\n");
    let plan = repository.plan(Some(&["lib/Cargo.toml"])).unwrap();
    let decision = |id: &str| plan.item(&ItemId(id.into())).unwrap().decision.word();
    assert_eq!((decision("job:api/test"), decision("job:web/test")), ("run", "not-affected"));
}

#[test]
fn going_back_to_known_content_reuses_it() {
    let mut repository = Repository::new(&FILES);
    repository.remember(&repository.plan(None).unwrap(), &[]);
    let plan = repository.plan(Some(&["web/src/main.rs"])).unwrap();
    let job = plan.item(&ItemId("job:web/test".into())).unwrap();
    assert_eq!((job.decision.word(), job.reason.as_str()), ("reused", "the same content passed in aaaaaaa"));
    assert!(plan.is_idle());
}

#[test]
fn content_that_failed_before_is_not_run_again_by_itself() {
    let mut repository = Repository::new(&FILES);
    repository.remember(&repository.plan(None).unwrap(), &["job:api/test"]);
    let plan = repository.plan(Some(&["README"])).unwrap();
    let job = plan.item(&ItemId("job:api/test".into())).unwrap();
    assert_eq!(
        (job.decision.word(), job.reason.as_str()),
        ("failed-before", "the same content failed in aaaaaaa; `slipway retry api/test` runs it again")
    );
}

#[test]
fn a_service_without_a_behaviour_test_is_not_ci() {
    // R106
    let repository = Repository::new(&[("api/Dockerfile", "FROM scratch\nCOPY . /\n"), ("api/app", "one")]);
    let plan = repository.plan(None).unwrap();
    assert_eq!(plan.not_ci.len(), 1);
    assert!(plan.warnings[0].starts_with("api has no behaviour test: it is not CI"), "{:?}", plan.warnings);
}

#[test]
fn a_branch_that_deploys_nowhere_gets_jobs_and_images_and_no_release() {
    // R001 R006
    let mut repository = Repository::new(&FILES);
    repository.branch = "topic";
    repository.write("slipway.yaml", "branches: { production: main }\n");
    let plan = repository.plan(None).unwrap();
    let kinds: Vec<&str> = plan.items.iter().map(|item| item.spec.kind()).collect();
    assert_eq!(kinds, ["job", "job", "image", "image"]);
    assert!(plan.environments.is_empty());
}

#[test]
fn other_tools_are_another_result_for_jobs_and_not_for_images() {
    let keys = |tools: &str| {
        let repository = Repository::new(&FILES);
        let tree = repository
            .files
            .iter()
            .map(|(path, text)| TreeFile { path: path.clone(), mode: 0o100_644, id: text.clone() })
            .collect();
        let config = slipway_config::Config::default();
        let read = input("shop", config, "main", tree, None, repository.files.clone(), tools, "push");
        let plan = draft(&read).unwrap().plan;
        let key = |id: &str| plan.item(&ItemId(id.into())).unwrap().key.clone();
        (key("job:api/test"), key("image:api"))
    };
    let (one, two) = (keys("rustc 1.94"), keys("rustc 1.95"));
    assert_ne!(one.0, two.0);
    assert_eq!(one.1, two.1);
}

#[test]
fn a_repository_without_services_says_what_to_write() {
    let problems = Repository::new(&[("README", "hello")]).plan(None).unwrap_err();
    assert!(problems[0].starts_with("no service was recognised in `shop`"), "{problems:?}");
    assert!(problems[0].contains("services:"));
}

#[test]
fn a_dockerfile_that_takes_files_of_an_unknown_job_is_refused_with_its_name() {
    let mut repository = Repository::new(&FILES);
    repository.write("api/Dockerfile", "FROM scratch\nCOPY --from=job.package dist /\n");
    let problems = repository.plan(None).unwrap_err();
    assert_eq!(problems, ["`api/Dockerfile` takes files from job `api/package`, which service `api` does not have"]);
}
