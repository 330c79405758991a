//! Files, changes and known results in; tables of decisions out.

use crate::decide::{Known, decide, draft, policies};
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
        "job:api/test run: this content has no result yet
         job:web/test run: this content has no result yet
         image:api run: this content has no result yet
         release:api run: job:api/test runs
         image:web run: this content has no result yet
         release:web run: job:web/test runs",
    );
    assert_eq!(plan.environments.len(), 1, "production");
    assert!(plan.not_ci.is_empty());
}

#[test]
fn only_what_a_change_touches_runs_and_the_rest_is_listed_with_its_reason() {
    // R025 R551 R563 R566
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
fn jobs_stand_in_the_order_of_their_needs_and_a_changed_need_runs_them_again() {
    // R037 R040
    let mut repository = Repository::new(&FILES);
    repository.write(
        "slipway.yaml",
        "services:\n  api:\n    path: api\n    jobs:\n      acceptance: { run: ./a.sh, needs: [package], inputs: [ui] }\n      \
         package: { run: make, needs: [test] }\n      test: { run: cargo test }\n",
    );
    let plan = repository.plan(None).unwrap();
    let jobs: Vec<&str> =
        plan.items.iter().map(|item| item.id.0.as_str()).filter(|id| id.starts_with("job:")).collect();
    assert_eq!(jobs, ["job:api/test", "job:api/package", "job:api/acceptance"]);
    repository.remember(&plan, &[]);
    // No file that it reads itself is another one.
    repository.write("api/src/main.rs", "two");
    let plan = repository.plan(Some(&["api/src/main.rs"])).unwrap();
    let last = plan.item(&ItemId("job:api/acceptance".into())).unwrap();
    assert_eq!((last.decision.word(), last.reason.as_str()), ("run", "job:api/package runs"));
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
fn the_plan_and_lint_say_the_same_of_behaviour_tests() {
    // R106
    let services = "services:\n  api: { path: api, health: / }\n  web: { path: web, health: / }\n";
    for (jobs, not_ci) in [
        ("", vec![]),
        ("jobs: { test: off }\n", vec!["api", "web"]),
        ("jobs: { test: off, check-all: { run: x } }\n", vec!["api", "web"]),
        ("jobs: { test: off, e2e: { run: x } }\n", vec![]),
        ("    jobs: { lint: { run: x } }\n", vec!["web"]),
    ] {
        let text = match jobs.strip_prefix("    ") {
            Some(own) => services.replace("path: web, health: /", &format!("path: web, health: /, {}", own.trim_end())),
            None => format!("{services}{jobs}"),
        };
        let mut repository = Repository::new(&FILES);
        repository.write("slipway.yaml", &text);
        let plan = repository.plan(None).unwrap();
        let named: Vec<&str> = plan.not_ci.iter().map(|service| service.as_str()).collect();
        assert_eq!(named, not_ci, "{text}");
        let facts = input(
            "shop",
            read_config(text.as_bytes()).unwrap(),
            "main",
            Vec::new(),
            None,
            repository.files.clone(),
            "",
            "push",
        )
        .facts;
        let config = read_config(text.as_bytes()).unwrap();
        let warned = slipway_config::lint(&config, &text, &facts).iter().any(|one| one.message.contains("behaviour"));
        assert_eq!(warned, !not_ci.is_empty(), "{text}");
    }
}

#[test]
fn what_the_file_says_of_health_and_stop_reaches_the_release() {
    // R448 R274
    let mut repository = Repository::new(&FILES);
    let text = "services:\n  api:\n    health: { command: [/ready, now] }\n    stop: { before: POST /quiesce }\n";
    repository.write("slipway.yaml", text);
    let plan = repository.plan(None).unwrap();
    let spec = release_of(&plan).spec;
    assert_eq!((spec.health.path, spec.health.command), (None, Some(vec!["/ready".to_owned(), "now".into()])));
    let request = spec.stop.before_request.unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/quiesce"));
}

#[test]
fn a_comment_moves_lines_and_makes_no_other_release() {
    let mut repository = Repository::new(&FILES);
    let made = |repository: &Repository| {
        let plan = repository.plan(None).unwrap();
        (plan.item(&ItemId("release:api".into())).unwrap().key.clone(), release_of(&plan))
    };
    repository.write("slipway.yaml", "services:\n  api:\n    port: 3000\n");
    let (key, before) = made(&repository);
    repository.write("slipway.yaml", "# the API\nservices:\n  api:\n    port: 3000\n");
    let (same, after) = made(&repository);
    assert_eq!((&same, &after.spec), (&key, &before.spec));
    assert_eq!((before.places.keys["port"], after.places.keys["port"]), (3, 4));
    assert_eq!(after.places.service, Some(3));
}

#[test]
fn patterns_of_a_service_in_the_root_are_those_of_the_root_in_the_plan_and_in_what_is_explained() {
    let root = [("Dockerfile", "FROM scratch\nCOPY --from=job.package dist /\n"), ("main.c", "one")];
    let mut repository = Repository::new(&root);
    let text = "services:\n  api:\n    inputs: [shared/**]\n    jobs:\n      package: { run: make, produces: [dist/api], \
                inputs: [main.c], artifacts: { logs: { paths: [out.log] } } }\n";
    repository.write("slipway.yaml", text);
    let plan = repository.plan(None).unwrap();
    match &plan.item(&ItemId("job:api/package".into())).unwrap().spec {
        slipway_model::plan::ItemSpec::Job(job) => {
            assert_eq!(job.artifacts["produces"].paths, ["dist/api"]);
            assert_eq!(job.inputs, ["main.c"]);
        }
        other => panic!("{other:?}"),
    }
    let config = read_config(text.as_bytes()).unwrap();
    let tree = repository.files.keys().map(|path| TreeFile { path: path.clone(), mode: 0o100_644, id: String::new() });
    let facts = input("shop", config.clone(), "main", tree.collect(), None, repository.files.clone(), "", "push").facts;
    let explained = |key: &str| {
        let lines = slipway_config::explain(&config, &facts, Some(key));
        lines.iter().map(|line| line.render("slipway.yaml")).collect::<Vec<_>>().join("\n")
    };
    assert!(explained("services.api.jobs.package.produces").contains(": [dist/api]  ("), "{}", explained("services"));
    assert!(explained("services.api.jobs.package.artifacts").contains(": [out.log]  ("), "{}", explained("services"));
}

#[test]
fn who_is_needed_is_released_first_and_stays_out_of_the_key() {
    let mut repository = Repository::new(&FILES);
    let plan = |repository: &Repository| repository.plan(None).unwrap();
    let key = |plan: &Plan| plan.item(&ItemId("release:api".into())).unwrap().key.clone();
    repository.write("slipway.yaml", "services: { api: { path: api }, web: { path: web } }\n");
    let before = key(&plan(&repository));
    repository.write("slipway.yaml", "services: { api: { path: api, needs: web }, web: { path: web } }\n");
    let after = plan(&repository);
    assert_eq!(key(&after), before, "another order is no other release");
    assert_eq!(release_of(&after).needs, ["web".parse().unwrap()]);
    let ids: Vec<&str> = after.items.iter().map(|item| item.id.0.as_str()).collect();
    assert_eq!(&ids[2..], ["image:web", "release:web", "image:api", "release:api"]);
}

#[test]
fn a_release_waits_for_those_it_needs_to_be_made_and_is_blocked_with_them() {
    use crate::record::ChangeRecord;
    let mut repository = Repository::new(&FILES);
    repository.write("slipway.yaml", "services: { api: { path: api, needs: web }, web: { path: web } }\n");
    // Everything of `api` is known to be good; of `web` its image is to be built.
    let first = repository.plan(None).unwrap();
    repository.remember(&first, &[]);
    for id in ["image:web", "release:web", "release:api"] {
        repository.known.remove(&first.item(&ItemId(id.into())).unwrap().key);
    }
    let plan = repository.plan(Some(&[])).unwrap();
    let record = ChangeRecord { plan: Some(plan.clone()), ..ChangeRecord::default() };
    let ready = |record: &ChangeRecord| crate::advance(record).ready.iter().map(|id| id.0.clone()).collect::<Vec<_>>();
    assert_eq!(ready(&record), ["image:web"]);
    let mut failed = record.clone();
    failed.builds.insert(ItemId("image:web".into()), (1, Some("no such file".into())));
    let advance = crate::advance(&failed);
    assert_eq!(advance.blocked[&ItemId("release:api".into())], "release:web is blocked");
    assert!(advance.done, "{advance:?}");
}

fn release_of(plan: &Plan) -> slipway_model::plan::ReleaseDef {
    match &plan.item(&ItemId("release:api".into())).unwrap().spec {
        slipway_model::plan::ItemSpec::Release(def) => (**def).clone(),
        other => panic!("{other:?}"),
    }
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
fn what_another_branch_brought_into_its_environment_is_still_to_go_into_production() {
    // R007 R010
    let mut repository = Repository::new(&FILES);
    repository.write(
        "slipway.yaml",
        "branches: { production: main }\nenvironments: { staging: { from: [develop] }, production: {} }\n",
    );
    repository.branch = "develop";
    repository.remember(&repository.plan(None).unwrap(), &[]);
    repository.branch = "main";
    let plan = repository.plan(Some(&[])).unwrap();
    let decision = |id: &str| plan.item(&ItemId(id.into())).unwrap().decision.word();
    assert_eq!((decision("image:api"), decision("release:api")), ("not-affected", "run"));
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
    let dockerfile = "FROM scratch\n# COPY --from=job.old dist /\nCOPY --chown=1:2 --from=job.package dist /\n";
    repository.write("api/Dockerfile", dockerfile);
    let problems = repository.plan(None).unwrap_err();
    let told = "api/Dockerfile:3:25: it takes files from job `api/package`, which service `api` does not have";
    assert_eq!(problems, [told]);
}

// R006 R010
#[test]
fn a_branch_cannot_let_itself_into_an_environment_by_its_own_file() {
    let input_of = |branch: &str, text: &str, ruling: BTreeMap<_, _>| {
        let mut files: BTreeMap<String, String> =
            FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        files.insert("slipway.yaml".into(), text.into());
        let tree = files.iter().map(|(path, text)| TreeFile { path: path.clone(), mode: 0o100_644, id: text.clone() });
        let config = read_config(text.as_bytes()).unwrap();
        let mut read = input("shop", config, branch, tree.collect(), None, files.clone(), "rustc 1.95", "push");
        read.ruling = ruling;
        read
    };
    let of_main = input_of("main", "environments: { production: {} }\n", BTreeMap::new());
    let ruling: BTreeMap<_, _> =
        policies(&of_main).unwrap().into_iter().map(|policy| (policy.name.clone(), policy)).collect();
    for own in ["environments: { production: { from: [feature] } }\n", "branches: { production: feature }\n"] {
        let drafted = draft(&input_of("feature", own, ruling.clone())).unwrap();
        assert_eq!(drafted.plan.environments, [], "{own}");
        let releases = drafted.plan.items.iter().filter(|item| item.id.0.starts_with("release"));
        assert_eq!(releases.count(), 0, "{own}");
    }
    // While nobody has said anything yet, its own word counts.
    let alone = input_of("feature", "branches: { production: feature }\n", BTreeMap::new());
    assert_eq!(draft(&alone).unwrap().plan.environments.len(), 1);
}
