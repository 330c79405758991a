//! The tables `jobs`.

use super::{check, good, hint, says};
use crate::model::{JobImage, RetryOn, Trigger, Work};

fn job(body: &str) -> String {
    format!("jobs:\n  a: {{ run: x, {body} }}\n")
}

#[test]
fn all_keys_of_a_job_are_read() {
    let text = "\
jobs:
  build: { run: make }
  contract:
    steps:
      - { name: first, run: ./a.sh, timeout: 1m, env: { X: 1 } }
      - run: |
          ./b.sh
    needs: [build, test]
    on: [push]
    image: registry.example:5000/python:3.12
    env: { LEVEL: \"2\" }
    secrets: [API_TOKEN]
    inputs: [api/**, scripts/**]
    produces: dist/*.tar
    artifacts: { dist: { paths: [dist/**] } }
    retry: { max: 2, on: [infrastructure, network, memory, \"exit 75\"] }
    timeout: 10m
    network: off
";
    let config = good(text);
    let job = &config.jobs["contract"];
    let Work::Steps(steps) = &job.work else {
        panic!("steps expected, found {:?}", job.work);
    };
    assert_eq!(steps[1].run.value, "./b.sh\n");
    let on = job.on.clone().map(|one| one.value);
    assert_eq!(on, Some(vec![Trigger::Push]));
    let image = job.image.clone().map(|one| one.value);
    let reference = "registry.example:5000/python:3.12".to_owned();
    assert_eq!(image, Some(JobImage::Reference(reference)));
    let retry = job.retry.on.clone().map(|one| one.value).unwrap_or_default();
    assert_eq!(retry[3], RetryOn::Exit(75));
    let paths = job.artifacts["dist"].paths.clone().map(|one| one.value);
    assert_eq!(paths, Some(vec!["dist/**".to_owned()]));
    assert_eq!(job.network.as_ref().map(|one| one.value), Some(false));
}

#[test]
fn words_that_an_old_editor_turned_into_booleans_are_understood() {
    let config = good("jobs: { a: { run: x, true: push, network: false }, lint: false }\n");
    assert!(config.jobs["a"].on.is_some());
    let network = config.jobs["a"].network.as_ref().map(|one| one.value);
    assert_eq!(network, Some(false));
    assert_eq!(config.jobs["lint"].work, Work::Off);
    says("jobs: { a: { run: x, on: push, true: push } }\n", &["duplicate key `on`"]);
}

#[test]
fn every_fault_of_a_job_is_named() {
    let cases = [
        ("timeout: 10", "`timeout` needs a unit"),
        ("timeout: 25h", "`timeout` must be from 1ms to 24h"),
        ("timeout: 0s", "`timeout` must be from 1ms to 24h"),
        ("timeout: soon", "`timeout` must be a duration"),
        ("timeout: -5m", "`timeout` must be a duration"),
        ("image: python", "the image `python` has no tag"),
        ("image: python:latest", "`python:latest` is another image tomorrow"), // R123
        ("image: 'a b:1'", "`a b:1` is not a reference to an image"),
        ("image: a@sha256:12", "`a@sha256:12` is not a reference to an image"),
        ("on: [tag]", "`on: tag` is not yet supported"),
        ("on: pull_request", "`on: pull_request` is not yet supported"),
        ("on: pusch", "`pusch` is not a value of `on`"),
        ("retry: 11", "`retry` must be a whole number from 0 to 10"),
        ("retry: { max: 11 }", "`max` must be a whole number from 0 to 10"),
        ("retry: { on: [exit 0] }", "the code of `exit` must be from 1 to 255"),
        ("retry: { on: [disk] }", "`disk` is not a value of `on`"),
        ("network: maybe", "`network` must be `on` or `off`"),
        ("artifacts: { d: {} }", "the artifact `d` has no `paths`"),
        ("artifacts: { D: { paths: x } }", "`D` is not a name"),
        ("artifacts: { d: { paths: x, keep: 7d } }", "`keep` is not yet supported"),
        ("artifacts: { d: { paths: x, internal: true } }", "`internal` is not yet supported"),
        ("on: manual", "`on: manual` is not yet supported"),
        ("secrets: [{ name: A, as: env }]", "`as: env` is not yet supported"),
        ("needs: [b]", "unknown job `b`"),
        ("needs: [lint]", "`the recognised job lint` is not yet supported"),
        ("needs: [a]", "jobs need each other: `a` → `a`"),
        ("env: { A: { default: x } }", "`A` must be one value, not a table"),
        ("secrets: [API-TOKEN]", "`API-TOKEN` is not the name of a secret"),
        ("matrix: { x: [1] }", "`matrix` is not yet supported"),
        ("when: changed('api/**')", "`when` is not yet supported"),
        ("expands: plan.json", "`expands` is not yet supported"),
        ("split: 4", "`split` is not yet supported"),
        ("concurrency: { max: 1 }", "`concurrency` is not yet supported"),
        ("uses: ci/go.yaml#test", "`uses` is not yet supported"),
        ("runs: x", "unknown key `runs` in a job"),
    ];
    for (body, message) in cases {
        says(&job(body), &[message]);
    }
}

#[test]
fn what_a_job_does_is_said_once() {
    says("jobs: { a: {} }\n", &["the job `a` has nothing to run"]);
    says("jobs: { a: ./x.sh }\n", &["a job must be a table"]);
    says("jobs: { a: { run: '  ' } }\n", &["`run` is empty"]);
    says("jobs: { a: { steps: { run: x } } }\n", &["`steps` must be a list"]);
    says("jobs: { a: { steps: [{ name: x }] } }\n", &["a step needs a `run`"]);
    says("jobs: { a: { steps: [] } }\n", &["`steps` must have from 1 to 200 entries"]);
    says("jobs: { a: { run: x, steps: [{ run: y }] } }\n", &["a job has `run` or `steps`, not both"]);
    says("jobs: { a: { steps: [{ run: x, background: true }] } }\n", &["`background` is not yet supported"]);
}

#[test]
fn recognised_jobs_are_tuned_replaced_or_switched_off() {
    let config = good("jobs: { test: { timeout: 5m }, lint: off, size: { run: x } }\n");
    assert_eq!(config.jobs["test"].work, Work::Recognised);
    assert_eq!(config.jobs["lint"].work, Work::Off);
    says("jobs: { lint: { timeout: 5m } }\n", &["the recognised job `lint` is not yet supported"]);
    says("jobs: { a: off }\n", &["`a` is no recognised job, so it cannot be `off`"]);
    says("jobs: { test: off, b: { run: x, needs: [test] } }\n", &["the job `test` is switched off"]);
}

#[test]
fn needs_reach_jobs_of_the_service_and_of_the_project() {
    let text = "\
services:
  api: { jobs: { unit: { run: x }, pack: { run: y, needs: [unit, all, test] } } }
jobs:
  all: { run: z }
  last: { run: z, needs: [api/pack, api/test, all] }
";
    let config = good(text);
    assert_eq!(crate::job_id(&config, Some("api"), "unit").as_deref(), Some("api/unit"));
    assert_eq!(crate::job_id(&config, Some("api"), "all").as_deref(), Some("all"));
    assert_eq!(crate::job_id(&config, None, "unit"), None);
    says("services: { api: . }\njobs: { a: { run: x, needs: [api] } }\n", &["`api` is a service, not a job"]);
}

#[test]
fn jobs_in_a_circle_are_shown_where_it_closes() {
    let text = "\
jobs:
  a: { run: x, needs: [b] }
  b: { run: x, needs: [a] }
  c: { run: x, needs: [a] }
";
    check(text, &["2:24 jobs need each other: `a` → `b` → `a`"]);
}

#[test]
fn a_bare_timeout_is_probably_in_minutes() {
    let expected = "did you mean `10m`? units are ms, s, m, h, d";
    assert_eq!(hint(&job("timeout: 10")), expected);
}
