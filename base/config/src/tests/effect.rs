//! Defaults, origins, `explain`, `lint`.

use super::good;
use crate::effective::{branch_is_built, environment_policies, job_policy, production_branch, project, service_policy};
use crate::model::Millis;
use crate::{DetectedService, Facts, Origin, explain, lint, pattern};

fn facts() -> Facts {
    let api = DetectedService {
        path: "api".to_owned(),
        dockerfile: Some("api/Dockerfile".to_owned()),
        port: Some(3000),
        tests: Some("cargo test".to_owned()),
        evidence: "api/Cargo.toml".to_owned(),
    };
    Facts {
        folder: "shop".to_owned(),
        remote: None,
        branches: vec!["master".to_owned()],
        services: [("api".to_owned(), api)].into(),
    }
}

fn warnings(text: &str, facts: &Facts) -> Vec<String> {
    let found = lint(&good(text), text, facts);
    found.into_iter().map(|one| one.message).collect()
}

#[test]
fn without_a_file_everything_has_a_default_with_its_origin() {
    let config = good("");
    let facts = facts();
    assert_eq!(project(&config, &facts).value, "shop");
    let branch = production_branch(&config, &facts);
    assert_eq!(branch.value, "master");
    assert_eq!(branch.origin, Origin::Detected("the branches".to_owned()));
    assert_eq!(production_branch(&config, &Facts::default()).value, "main");
    let policies = environment_policies(&config, &facts);
    assert_eq!(policies.len(), 1);
    assert_eq!(policies[0].name.value, "production");
    assert_eq!(policies[0].from.value, ["master"]);
    assert!(policies[0].takes("master") && !policies[0].takes("topic"));
    assert_eq!(policies[0].verify.hold.value, Millis(500));
    let api = service_policy(&config, &facts, "api", "production").expect("it is detected");
    assert_eq!((api.port.value, api.replicas.value), (3000, 1));
    assert_eq!(api.port.origin, Origin::Detected("api/Cargo.toml".to_owned()));
    assert_eq!(service_policy(&config, &facts, "web", "production"), None);
}

// R182
#[test]
fn the_most_particular_value_wins() {
    let text = "\
services:
  api: { env: { A: service, B: service, C: { default: service, production: both } }, replicas: 2 }
environments:
  staging: {}
  production: { env: { B: environment, C: environment }, replicas: 3 }
";
    let config = good(text);
    let value = |environment: &str, name: &str| {
        let policy = service_policy(&config, &Facts::default(), "api", environment);
        policy.map(|policy| policy.env[name].value.clone()).unwrap_or_default()
    };
    assert_eq!(value("production", "A"), "service");
    assert_eq!(value("production", "B"), "environment");
    assert_eq!(value("production", "C"), "both");
    assert_eq!(value("staging", "C"), "service");
    let replicas = |environment: &str| {
        let policy = service_policy(&config, &Facts::default(), "api", environment);
        policy.map(|policy| policy.replicas.value)
    };
    assert_eq!((replicas("staging"), replicas("production")), (Some(2), Some(3)));
}

#[test]
fn one_given_wait_is_not_caught_by_the_default_of_the_other() {
    let config = good("environments: { production: { verify: { wait: 100ms } } }\n");
    let verify = &environment_policies(&config, &Facts::default())[0].verify;
    assert_eq!((verify.hold.value, verify.wait.value), (Millis(100), Millis(100)));
}

// R440
#[test]
fn explain_prints_the_whole_process_or_one_part_of_it() {
    let text = "services:\n  api:\n    port: 80\njobs:\n  test: { run: make, timeout: 90s }\n";
    let config = good(text);
    let lines = explain(&config, &Facts::default(), None);
    let shown: Vec<String> = lines.iter().map(|line| line.render("slipway.yaml")).collect();
    for expected in [
        "project: project  (built in)",
        "branches.production: main  (built in)",
        "environments.production.from: [main]  (built in)",
        "environments.production.strategy.rolling.max_surge: 25%  (built in)",
        "environments.production.verify.smoke: [GET /]  (built in)",
        "environments.production.verify.p95: +20%  (built in)",
        "environments.production.retain: all  (built in)",
        "services.api.port: 80  (slipway.yaml:3)",
        "services.api.dockerfile: api/Dockerfile  (built in)",
        "services.api.replicas.production: 1  (built in)",
        "services.api.drain.timeout: 30s  (built in)",
        "jobs.test.run: make  (slipway.yaml:5)",
        "jobs.test.timeout: 90s  (slipway.yaml:5)",
        "jobs.test.image: auto  (built in)",
    ] {
        assert!(shown.iter().any(|line| line == expected), "{expected} in {shown:#?}");
    }
    let one = explain(&config, &Facts::default(), Some("services.api.stop"));
    let keys: Vec<&str> = one.iter().map(|line| line.key.as_str()).collect();
    let expected = ["services.api.stop.before", "services.api.stop.signal", "services.api.stop.grace"];
    assert_eq!(keys, expected);
    assert!(explain(&config, &Facts::default(), Some("services.ap")).is_empty());
}

#[test]
fn a_job_has_its_defaults() {
    let config = good("jobs: { a: { run: x } }\n");
    let policy = job_policy(&config, &Facts::default(), "a").expect("the file has it");
    assert_eq!(policy.timeout.value, Millis(600_000));
    assert_eq!((policy.retry_max.value, policy.network.value), (0, true));
}

// R010
#[test]
fn patterns_decide_which_branches_are_built() {
    let text = "branches: { include: [main, 'feature/*'], exclude: ['feature/wip-?'] }\n";
    let config = good(text);
    let cases =
        [("main", true), ("feature/a", true), ("feature/a/b", false), ("feature/wip-1", false), ("topic", false)];
    for (branch, expected) in cases {
        assert_eq!(branch_is_built(&config, branch), expected, "for {branch}");
    }
    assert!(branch_is_built(&good(""), "anything"));
}

#[test]
fn patterns_match_within_and_across_parts() {
    let cases = [
        ("api/**", "api/src/main.rs", true),
        ("api/**", "web/main.rs", false),
        ("**/junit.xml", "junit.xml", true),
        ("**/junit.xml", "a/b/junit.xml", true),
        ("**/junit.xml", "a/xjunit.xml", false),
        ("dist/*.tar", "dist/a.tar", true),
        ("dist/*.tar", "dist/a/b.tar", false),
        ("a**b", "a/x/b", true),
        ("", "", true),
        ("*", "", true),
        ("?", "", false),
    ];
    for (written, text, expected) in cases {
        assert_eq!(pattern::matches(written, text), expected, "{written} on {text}");
    }
    let slow = "*a".repeat(200);
    assert!(!pattern::matches(&slow, &"a".repeat(150)));
}

// R106
#[test]
fn a_project_without_tests_is_flagged() {
    let message = "no job tests the behaviour: this is not CI, and production waits for a person";
    assert_eq!(warnings("project: a\n", &Facts::default()), [message]);
    assert_eq!(warnings("jobs: { lint: { run: x } }\n", &Facts::default()), [message]);
    assert_eq!(warnings("jobs: { test: off }\n", &facts()), [message]);
    assert!(warnings("jobs: { contract: { run: x } }\n", &Facts::default()).is_empty());
    assert!(warnings("project: a\n", &facts()).is_empty());
    // A job whose name says nothing of behaviour is no test of it.
    assert_eq!(warnings("jobs: { check-all: { run: x } }\n", &Facts::default()), [message]);
    let text = "services: { api: { health: /, jobs: { test: { run: x } } }, web: { health: / } }\n";
    let of_web = "no job tests the behaviour of `web`: it is not CI, and waits for a person";
    assert_eq!(warnings(text, &Facts::default()), [of_web]);
    assert!(warnings(&format!("{text}jobs: {{ e2e: {{ run: x }} }}\n"), &Facts::default()).is_empty());
}

#[test]
fn lint_says_what_is_true_and_worth_a_look() {
    let text = "\
branches: { exclude: [main] }
services:
  api: { env: { DB_PASSWORD: hunter2 } }
jobs:
  test:
    steps: [{ run: x, timeout: 20m }]
environments:
  production: { strategy: { rolling: { max_surge: 0 } } }
";
    assert_eq!(
        warnings(text, &Facts::default()),
        [
            "the production branch `main` is not built",
            "the service `api` has no `health`: it counts as ready once its port answers",
            "`DB_PASSWORD` looks like a secret in plain text",
            "the step may take 20m, but its job only 10m",
            "every rollout of `api` in `production` interrupts it: \
             no instance may be added, all may be missing",
        ]
    );
}
