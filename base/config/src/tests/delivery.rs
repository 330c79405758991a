//! The table `environments`.

use super::{good, hint, says};
use crate::model::{Deploy, Percent, Quantity, Strategy};

fn environment(body: &str) -> String {
    format!("environments:\n  production: {{ {body} }}\n")
}

// R176
#[test]
fn environments_stand_in_promotion_order() {
    let text = "\
environments:
  production: { after: [staging, load] }
  load: { after: dev }
  staging: { after: dev }
  dev: {}
";
    let config = good(text);
    let names: Vec<&str> = config.environments.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["dev", "load", "staging", "production"]);
}

#[test]
fn all_keys_of_an_environment_are_read() {
    let text = "\
environments:
  production:
    from: [main, 'release/**']
    deploy: manual
    approve: { by: [leads], count: 2, author: true, expires: 24h }
    strategy: { rolling: { maxSurge: 1, max_unavailable: 25% } }
    verify: { hold: 200ms, requests: 20, wait: 5s, errors: 0.5%, p95: +20%, smoke: [GET /, /h], bake: 1m }
    replicas: 3
    env: { REGION: eu }
    secrets: [SHARED]
    retain: 5
";
    let config = good(text);
    let found = &config.environments[0];
    assert_eq!(found.deploy.as_ref().map(|one| one.value), Some(Deploy::Manual));
    let Some(Strategy::Rolling(rolling)) = found.strategy.clone().map(|one| one.value) else {
        panic!("rolling expected");
    };
    let surge = rolling.max_surge.map(|one| one.value);
    let unavailable = rolling.max_unavailable.map(|one| one.value);
    assert_eq!(surge, Some(Quantity::Count(1)));
    assert_eq!(unavailable, Some(Quantity::Percent(25)));
    assert_eq!(found.verify.errors.as_ref().map(|one| one.value), Some(Percent(50)));
    assert_eq!(found.verify.p95.as_ref().map(|one| one.value), Some(Percent(2_000)));
    let smoke = found.verify.smoke.clone().map(|one| one.value).unwrap_or_default();
    let shown: Vec<String> = smoke.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["GET /", "GET /h"]);
}

#[test]
fn every_fault_of_an_environment_is_named() {
    let both = "`max_surge` and `max_unavailable` are both 0, so nothing could ever move";
    let cases = [
        ("deploy: maybe", "`maybe` is not a value of `deploy`"),
        ("after: staging", "unknown environment `staging`"),
        ("after: production", "environments wait for each other: `production` → `production`"),
        ("approve: true", "`approve` must be a table of `key: value`, not one value"),
        ("approve: { count: 0 }", "`count` must be a whole number from 1 to 100"),
        ("approve: { by: [] }", "`by` names nobody"),
        ("approve: { expires: 24 }", "`expires` needs a unit"),
        ("strategy: canary", "`strategy: canary` is not yet supported"),
        ("strategy: blue-green", "`strategy: blue-green` is not yet supported"),
        ("strategy: roling", "`roling` is not a value of `strategy`"),
        ("strategy: { canary: {} }", "`canary` is not yet supported"),
        ("strategy: { rolling: { max_surge: 0, max_unavailable: 0% } }", both),
        ("strategy: { rolling: { max_surge: 1, maxSurge: 1 } }", "`maxSurge` says the same as `max_surge`"),
        ("strategy: { rolling: { max_surge: 120% } }", "`max_surge` must be from 0% to 100%"),
        ("strategy: { rolling: { max_surge: 1.5% } }", "`max_surge` must be in whole percent"),
        ("verify: off", "`verify` cannot be switched off"),
        ("verify: { errors: 1 }", "`errors` needs a unit"),
        ("verify: { errors: 101% }", "`errors` must be from 0% to 100%"),
        ("verify: { p95: 20% }", "`p95` must be an increase over the old release"),
        ("verify: { smoke: [POST /] }", "a smoke request cannot be `POST`"),
        ("verify: { smoke: [GET x] }", "the path of `smoke` must begin with `/`"),
        ("verify: { hold: 20s, wait: 10s }", "`hold` (20s) is longer than `wait` (10s)"),
        ("verify: { requests: 0 }", "`requests` must be a whole number from 1 to 1000000"),
        ("env: { PORT: 1 }", "`PORT` is set by `port:`"),
        ("retain: 0", "`retain` must be a whole number from 1 to 1000"),
        ("replicas: many", "`replicas` must be a whole number from 1 to 1000"),
        ("window: nights", "`window` is not yet supported"),
        ("freeze: []", "`freeze` is not yet supported"),
        ("soak: 1h", "`soak` is not yet supported"),
        ("target: local", "`target` is not yet supported"),
        ("from: 'a b'", "`a b` cannot be a branch"),
        ("from: refs/heads/main", "`refs/heads/main` is a ref, not a branch"),
        ("aproved: {}", "unknown key `aproved` in an environment"),
    ];
    for (body, message) in cases {
        says(&environment(body), &[message]);
    }
}

#[test]
fn a_bare_share_is_told_its_percentage() {
    assert_eq!(hint(&environment("verify: { errors: 1 }")), "did you mean `1%`?");
    assert_eq!(hint(&environment("verify: { errors: 0.01 }")), "did you mean `1%`?");
    assert_eq!(hint(&environment("verify: { p95: 20% }")), "did you mean `+20%`?");
    assert_eq!(hint(&environment("aproved: {}")), "did you mean `approve`?");
}

#[test]
fn reserved_names_are_refused() {
    says("environments: { base: {} }\n", &["`an environment named base` is not yet supported"]);
}

#[test]
fn environments_in_a_circle_are_shown() {
    says(
        "environments: { a: { after: b }, b: { after: a } }\n",
        &["environments wait for each other: `a` → `b` → `a`"],
    );
}

#[test]
fn one_unreadable_section_does_not_cause_further_errors() {
    says(
        "environments: []\nservices: { api: { env: { A: { staging: x } } } }\n",
        &["`environments` must be a table of `key: value`, not a list"],
    );
}
