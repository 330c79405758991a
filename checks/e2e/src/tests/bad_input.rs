//! Bad input: each gets its message and its exit code, and nothing half-done stays.

use crate::http::{Http, get};
use crate::repo::{GATE, Repo, file, service};
use crate::world::{World, said};
use std::net::TcpListener;

/// Who is not ready after three seconds is not waited for.
fn soon_late(repo: &Repo<'_>) {
    let text = file(&[service("web", 1)]).replace("health: /health", "health: { path: /health, timeout: 3s }");
    repo.write("slipway.yaml", &text);
}

#[test]
fn a_broken_file_is_refused_at_the_push_with_all_its_errors() {
    let world = World::start();
    let repo = Repo::web(&world, "broken", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    let good = repo.head();
    repo.write(
        "slipway.yaml",
        "services:\n  web:\n    path: web\n    prot: 8080\n    replicas: many\n  web2: { path: nowhere, healt: / }\n",
    );
    repo.commit("broken");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    let pushed =
        pushed.says("slipway.yaml:4:5").says("prot").says("port").says("slipway.yaml:5:").says("slipway.yaml:6:");
    let pushed = pushed.says("healt");
    let refs = repo.git(&["ls-remote", "slipway", "refs/heads/main"]).expect(0).out;
    assert!(refs.starts_with(&good), "{refs}: {}", pushed.text);
    // Elsewhere it is stored, and the change fails with the same message.
    repo.push(&["slipway", "main:try"]).says("FAILED").says("prot");
    assert_eq!(repo.slipway(&["lint"]).code, 1);
    let other = repo.slipway(&["lint"]).err;
    assert!(other.contains("4:5") && other.contains("healt"), "{other}");
    repo.git(&["reset", "-q", "--hard", &good]).expect(0);
    repo.write("slipway.yaml", "project: another\n");
    repo.commit("another");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    pushed.says("another");
}

#[test]
fn what_is_not_yet_supported_is_refused_with_its_place() {
    let world = World::start();
    let repo = Repo::web(&world, "early", 1);
    repo.write("slipway.yaml", "services:\n  web: { path: web }\nenvironments:\n  production: { strategy: canary }\n");
    repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    pushed.says("not yet supported").says("slipway.yaml:4:");
}

#[test]
fn an_unsupported_instruction_of_a_dockerfile_is_named_with_line_and_column() {
    let world = World::start();
    let repo = Repo::web(&world, "docker", 1);
    repo.write("web/Dockerfile", "FROM scratch\nCOPY server /server\nRUN apk add curl\nENTRYPOINT [\"/server\"]\n");
    repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]).says("image web        failed").says("RUN").says("FAILED").not("LIVE");
    assert!(pushed.text.contains("Dockerfile:3:1"), "{}", pushed.text);
}

#[test]
fn a_repository_without_services_says_what_to_add() {
    let world = World::start();
    let repo = Repo::new(&world, "empty");
    repo.write("README", "nothing");
    repo.commit("one");
    repo.push(&["slipway", "main"]).says("no service was recognised").says("services:").not("LIVE");
}

#[test]
fn a_service_that_listens_elsewhere_is_explained_from_what_was_seen() {
    let world = World::start();
    let repo = Repo::web(&world, "elsewhere", 1);
    soon_late(&repo);
    repo.write("web/behaviour", "version one\nport 9999\n");
    repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]).not("LIVE").says("FAILED production web r1");
    for part in
        ["nothing listens on PORT 8080", "listens on 9999", "listening on :9999", "fix: port: 9999 in slipway.yaml"]
    {
        assert!(pushed.text.contains(part), "`{part}` is missing in:\n{}", pushed.text);
    }
    let address = repo.address("web");
    let answer = get(&address, "/").unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(repo.status()["needs_you"].to_string().contains("web"), "{}", repo.status()["needs_you"]);
}

#[test]
fn a_service_that_ends_at_once_is_explained_by_its_exit_code_and_last_line() {
    let world = World::start();
    let repo = Repo::web(&world, "ends", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    repo.behave("web", "version two\nexit 3");
    let pushed = repo.push(&["slipway", "main"]).says("ROLLED BACK production web").not("LIVE");
    assert!(pushed.text.contains("exited with code 3"), "{}", pushed.text);
    assert!(pushed.text.contains("bad config: version two"), "{}", pushed.text);
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    repo.until("only the good one is left", "web", |lane| lane["instances"].as_array().map(Vec::len) == Some(1));
    assert_eq!(repo.instances("web"), before);
}

// R223
#[test]
fn a_service_that_is_never_ready_is_explained_and_the_old_one_serves_on() {
    let world = World::start();
    let repo = Repo::web(&world, "unready", 1);
    soon_late(&repo);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.behave("web", "version two\nunready");
    let pushed = repo.push(&["slipway", "main"]).says("ROLLED BACK production web").not("LIVE");
    assert!(pushed.text.contains("503") && pushed.text.contains("/health"), "{}", pushed.text);
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
}

#[test]
fn a_bad_first_release_has_nothing_to_go_back_to_and_waits_for_a_person() {
    let world = World::start();
    let repo = Repo::web(&world, "first", 1);
    repo.write("web/behaviour", "version bad\nstatus / 500\n");
    repo.commit("one");
    repo.push_main().says("FAILED production web r1").says("next: slipway why web@r1").not("LIVE");
    let answer = get(&repo.address("web"), "/").unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    let named = Http::connect(&world.proxy).unwrap().called("nobody.localhost").get("/").unwrap();
    assert!((400..600).contains(&named.status), "{named:?}");
    repo.behave("web", "version good");
    let fix = repo.head();
    let first = repo.git(&["rev-parse", "HEAD~1"]).expect(0).out;
    repo.push(&["-o", &format!("fixes={}", &first[..7]), "slipway", "main"]).says("LIVE production web");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version good", "{fix}");
}

#[test]
fn a_wrong_token_may_nothing() {
    let world = World::start();
    let repo = Repo::web(&world, "rights", 1);
    repo.commit("one");
    let remote = format!("{}/git/rights.git", world.url).replace("http://", "http://kim:wrong@");
    let mut command = repo.git_command("", &["push", &remote, "main"]);
    let pushed = said(command.env("GIT_CONFIG_VALUE_0", ""));
    assert_ne!(pushed.code, 0);
    assert!(pushed.err.contains("Authentication failed"), "{pushed:?}");
    let mut command = world.command(&repo.root, &["status"]);
    let refused = said(command.env("SLIPWAY_TOKEN", "wrong")).expect(3);
    assert!(refused.err.contains("hint:"), "{refused:?}");
    assert!(!refused.err.contains("wrong"), "{refused:?}");
    assert_eq!(Http::connect(&world.url).unwrap().get("/api/v1/projects").unwrap().status, 401);
    assert_eq!(world.api("/api/v1/projects").as_array().map(Vec::len), Some(0));
}

#[test]
fn a_taken_port_and_a_wrong_word_have_their_messages_and_codes() {
    let world = World::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let other = world.dir.join("other");
    let other = other.to_str().unwrap();
    let up = ["up", "--http", address.as_str(), "--proxy", "127.0.0.1:0", "--data", other];
    let refused = world.slipway(&up).expect(3);
    assert!(refused.err.contains(&address) && refused.err.contains("hint:"), "{refused:?}");
    world.slipway(&["fly"]).expect(2);
    world.slipway(&["status", "--project", "nothing"]).expect(1);
    let nobody = said(world.command(&world.dir, &["status"]).env("SLIPWAY_DATA", other)).expect(3);
    assert!(nobody.err.contains("hint:"), "{nobody:?}");
}

// R066
#[test]
fn a_failed_job_ends_the_change_and_can_be_tried_again() {
    let world = World::start();
    let repo = Repo::web(&world, "tests", 1);
    repo.script("web/test.sh", "echo counting; echo 'error: two is not three' >&2; exit 9");
    let commit = repo.commit("one");
    let pushed = repo.push_main().says("test web         failed").says("exit code 9").says("two is not three");
    pushed.says("FAILED").says("slipway logs web/test").not("LIVE");
    let logs = repo.slipway(&["logs", "web/test"]).expect(0).out;
    assert!(logs.contains("counting") && logs.contains("two is not three"), "{logs}");
    repo.slipway(&["watch", &commit]).expect(1);
    repo.script("web/test.sh", GATE);
    let commit = repo.commit("two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    repo.slipway(&["cancel", &commit, "-y"]).expect(0);
    pushing.end().says("CANCELLED").not("LIVE");
    repo.slipway(&["retry", &commit, "-y"]).expect(0);
    repo.open_gate(&commit, "test.sh");
    repo.until("it goes live", "web", |lane| lane["release"]["number"] == 1);
}
