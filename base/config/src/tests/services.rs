//! The table `services`.

use super::{check, good, hint, problems, says};
use crate::model::{HealthCheck, Millis, SecretPlace, Signal, StopBefore};

fn service(body: &str) -> String {
    format!("services:\n  api: {{ {body} }}\n")
}

#[test]
fn a_service_is_a_folder_or_a_table() {
    let config = good("services:\n  api: ./api\n  web: { path: /front/web }\n  own:\n");
    let path = |name: &str| config.services[name].path.as_ref().map(|path| path.value.as_str());
    assert_eq!(path("api"), Some("api"));
    assert_eq!(path("web"), Some("front/web"));
    assert_eq!(path("own"), None);
}

#[test]
fn all_keys_of_a_service_are_read() {
    let text = "\
services:
  db: ./db
  api:
    path: services/api
    dockerfile: ../Dockerfile
    port: 3000
    health: { path: /health, timeout: 1s, interval: 50ms }
    command: ./api --name 'the api'
    env: { LEVEL: 2, GREETING: { default: hi, production: hello }, EMPTY: \"\", NO: no }
    secrets: [API_TOKEN, { name: KEY, as: file }]
    replicas: { default: 1, production: 3 }
    resources: { cpu: 0.5, memory: 512MiB, processes: 64 }
    build: { args: { MODE: fast }, target: app, tag: githash }
    stop: { before: POST /quiesce, signal: INT, grace: 20s }
    drain: { timeout: 1m }
    inputs: [/shared/**, ../lib]
    needs: db
    jobs: { test: { run: cargo test, produces: [out.xml] } }
";
    let config = good(text);
    let api = &config.services["api"];
    let value = |given: &crate::model::Given<String>| given.clone().map(|one| one.value);
    assert_eq!(value(&api.dockerfile).as_deref(), Some("services/Dockerfile"));
    let health = api.health.clone().map(|health| health.value);
    let check = health.and_then(|health| health.check).map(|check| check.value);
    assert_eq!(check, Some(HealthCheck::Http("/health".to_owned())));
    let command = api.command.clone().map(|command| command.value);
    let words = ["./api", "--name", "the api"].map(str::to_owned).to_vec();
    assert_eq!(command, Some(words));
    assert_eq!(value(&api.env["LEVEL"].default).as_deref(), Some("2"));
    assert_eq!(value(&api.env["NO"].default).as_deref(), Some("no"));
    assert_eq!(value(&api.env["EMPTY"].default).as_deref(), Some(""));
    let hello = api.env["GREETING"].of("production").map(|one| one.value.as_str());
    assert_eq!(hello, Some("hello"));
    assert_eq!(api.secrets[0].value.place, SecretPlace::File);
    assert_eq!(api.secrets[1].value.place, SecretPlace::File);
    let replicas = api.replicas.of("production").map(|one| one.value);
    assert_eq!(replicas, Some(3));
    let cpu = api.resources.cpu_millis.as_ref().map(|one| one.value);
    assert_eq!(cpu, Some(500));
    let memory = api.resources.memory.as_ref().map(|one| one.value.0);
    assert_eq!(memory, Some(512 << 20));
    let before = api.stop.before.clone().map(|one| one.value);
    let request = StopBefore::Request { method: "POST".to_owned(), path: "/quiesce".to_owned() };
    assert_eq!(before, Some(request));
    let signal = api.stop.signal.as_ref().map(|one| one.value);
    assert_eq!(signal, Some(Signal::Int));
    let drain = api.drain_timeout.as_ref().map(|one| one.value);
    assert_eq!(drain, Some(Millis(60_000)));
    let inputs = api.inputs.clone().map(|one| one.value);
    let expected = ["shared/**", "services/lib"].map(str::to_owned).to_vec();
    assert_eq!(inputs, Some(expected));
    let produces = api.jobs["test"].produces.clone().map(|one| one.value);
    assert_eq!(produces, Some(vec!["services/api/out.xml".to_owned()]));
}

#[test]
fn every_fault_of_a_service_is_named() {
    let cases = [
        ("port: 0", "`port` must be a whole number from 1 to 65535"),
        ("port: 65536", "`port` must be a whole number from 1 to 65535"),
        ("port: -1", "`port` must be a whole number from 1 to 65535"),
        ("port: eighty", "`port` must be a whole number from 1 to 65535"),
        ("port: \"80\"", "`port` must be a number, not text"),
        ("port: [80]", "`port` must be one value, not a list"),
        ("port: ", "`port` has no value"),
        ("path: ../x", "`../x` leads out of the repository"),
        ("path: ''", "`path` is empty"),
        ("path: a, dockerfile: ../../D", "`../../D` leads out of the repository"),
        ("health: health", "the path of `health` must begin with `/`"),
        ("health: POST /x", "health is asked with `GET`, not `POST`"),
        ("health: { path: /x, command: [a] }", "`health` is asked in two ways"),
        ("health: { path: /x, timeout: 5 }", "`timeout` needs a unit"),
        ("command: 'a && b'", "`command` has `&&`, but no shell reads it"),
        ("command: 'a \"b'", "a quote in `command` does not end"),
        ("command: []", "`command` is empty"),
        ("env: { PORT: 1 }", "`PORT` is set by `port:`"),
        ("env: { SLIPWAY_X: 1 }", "`SLIPWAY_X` belongs to the product itself"),
        ("env: { a-b: 1 }", "`a-b` is not the name of a variable"),
        ("env: { A: }", "`A` has no value"),
        ("env: { A: [x] }", "`A` must be one value, not a list"),
        ("env: { A: { staging: x } }", "unknown environment `staging`"),
        ("env: [A]", "`env` must be a table of `key: value`, not a list"),
        ("secrets: [token]", "`token` is not the name of a secret"),
        ("secrets: { A: b }", "`secrets` takes names, not values"),
        ("secrets: [A, A]", "`A` is named twice"),
        ("secrets: [{ as: file }]", "a secret needs a `name`"),
        ("secrets: [{ name: A, as: env }]", "`as: env` is not yet supported"),
        ("secrets: [{ name: A, as: argv }]", "`argv` is not a value of `as`"),
        ("replicas: 0", "`replicas` must be a whole number from 1 to 1000"),
        ("replicas: 1001", "`replicas` must be a whole number from 1 to 1000"),
        ("resources: { memory: 512 }", "`memory` needs a unit"),
        ("resources: { memory: 1gb }", "unknown unit `gb` in `memory`"),
        ("resources: { memory: much }", "`memory` must be a size"),
        ("resources: { memory: 0MB }", "`memory` must be more than nothing"),
        ("resources: { memory: 99999999999999TiB }", "`memory` is too large"),
        ("resources: { cpu: none }", "`cpu` must be a number of cores from 0.001 to 1024"),
        ("resources: { disk: 1GB }", "`disk` is not yet supported"),
        ("build: { tag: hash }", "`hash` is not a value of `tag`"),
        ("build: { args: { X: } }", "`X` has no value"),
        ("stop: { signal: SIGKILL }", "`SIGKILL` is not a value of `signal`"),
        ("stop: { grace: 90 }", "`grace` needs a unit"),
        ("stop: { grace: 9days }", "unknown unit `days` in `grace`"),
        ("stop: { grace: 48h }", "`grace` must be from 0s to 24h"),
        ("stop: { before: 'POST drain' }", "the path of `before` must begin with `/`"),
        ("drain: 5", "`drain` needs a unit"),
        ("drain: { jobs: 5s }", "`jobs` is not yet supported"),
        ("inputs: ['!x']", "`!x` is not yet supported"),
        ("inputs: { a: b }", "`inputs` must be a list, not a table"),
        ("needs: [web]", "unknown service `web`"),
        ("needs: [api]", "services need each other: `api` → `api`"),
        ("storage: { a: /b }", "`storage` is not yet supported"),
        ("domain: a.example", "`domain` is not yet supported"),
        ("schedule: { a: '* * * * *' }", "`schedule` is not yet supported"),
        ("zzzzzz: 1", "unknown key `zzzzzz` in a service"),
    ];
    for (body, message) in cases {
        says(&service(body), &[message]);
    }
}

// R448
#[test]
fn what_this_version_cannot_do_is_refused_where_it_stands_with_what_to_do_instead() {
    let text = "\
services:
  api:
    secrets:
      - { name: KEY, as: env }
jobs:
  slow: { run: x, on: [push, manual] }
";
    check(text, &["4:26 `as: env` is not yet supported", "6:30 `on: manual` is not yet supported"]);
    assert_eq!(
        problems(text).list[0].render(false),
        "error: `as: env` is not yet supported\n  --> slipway.yaml:4:26\n4 |       - { name: KEY, as: env }\n  \
         |                          ^^^\nhint: remove `as`: the value is in the file `/run/secrets/NAME`\n"
    );
}

#[test]
fn a_number_without_its_unit_is_told_which_was_meant() {
    let cases = [
        ("stop: { grace: 90 }", "did you mean `90s`? units are ms, s, m, h, d"),
        ("stop: { grace: 5000 }", "did you mean `5000ms`? units are ms, s, m, h, d"),
        ("stop: { grace: 9days }", "did you mean `9d`?"),
        ("resources: { memory: 1gb }", "did you mean `1GB`?"),
        ("resources: { memory: 512 }", "did you mean `512MiB`? units are B, KB, MB, GB, KiB, MiB, GiB"),
        ("resources: { memory: 536870912 }", "did you mean `512MiB`? units are B, KB, MB, GB, KiB, MiB, GiB"),
    ];
    for (body, expected) in cases {
        assert_eq!(hint(&service(body)), expected, "for {body}");
    }
}

#[test]
fn names_are_checked() {
    says("services: { API: . }\n", &["`API` is not a name"]);
    says("services: { -a: . }\n", &["`-a` is not a name"]);
    says("services: { 상점: . }\n", &["`상점` is not a name"]);
    let long = "a".repeat(41);
    says(&format!("services: {{ {long}: . }}\n"), &[&format!("`{long}` is not a name")]);
    good("services: { 80: ., a-1: . }\n");
}

#[test]
fn services_in_a_circle_are_shown() {
    let text = "services: { a: { needs: b }, b: { needs: [c] }, c: { needs: a }, d: { needs: a } }\n";
    says(text, &["services need each other: `a` → `b` → `c` → `a`"]);
}
