//! Bad input: each gets its message and its exit code, and nothing half-done stays.

use crate::http::{Http, get};
use crate::repo::{GATE, Repo, file, service};
use crate::world::{World, said};
use std::net::TcpListener;

/// A file with three errors, and what is said of them: the place, the line itself, the nearest key.
const BROKEN: (&str, [&str; 3]) = (
    "services:\n  web:\n    path: web\n    prot: 8080\n    replicas: many\n  web2: { path: nowhere, healt: / }\n",
    [
        "error: unknown key `prot` in a service\n  --> slipway.yaml:4:5\n4 |     prot: 8080\n  |     ^^^^\nhint: did you \
         mean `port`?",
        "error: `replicas` must be a whole number from 1 to 1000\n  --> slipway.yaml:5:15\n5 |     replicas: many\n  \
         |               ^^^^",
        "error: unknown key `healt` in a service\n  --> slipway.yaml:6:26\n6 |   web2: { path: nowhere, healt: / }\n  \
         |                          ^^^^^\nhint: did you mean `health`?",
    ],
);

#[test]
fn a_broken_file_is_refused_at_the_push_with_all_its_errors() {
    let world = World::start();
    let repo = Repo::web(&world, "broken", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    let good = repo.head();
    repo.write("slipway.yaml", BROKEN.0);
    repo.commit("broken");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    let plain = pushed.text.replace("remote: slipway ", "");
    let linted = repo.slipway(&["lint"]).expect(1).err;
    for message in BROKEN.1 {
        assert!(plain.contains(message), "{message}\nis missing in:\n{plain}");
        assert!(linted.contains(message), "{message}\nis missing in:\n{linted}");
    }
    // Nothing of it stays: neither the branch nor a change knows of it.
    let refs = repo.git(&["ls-remote", "slipway", "refs/heads/main"]).expect(0).out;
    assert!(refs.starts_with(&good), "{refs}: {}", pushed.text);
    assert_eq!(repo.status()["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    // Elsewhere it is stored, and the change fails with the same message.
    repo.push(&["slipway", "main:try"]).says("FAILED").says("prot");
    let failed = repo.slipway(&["watch", "try"]).expect(1);
    assert!(failed.out.contains("slipway.yaml:4:5") && failed.out.contains("did you mean `port`?"), "{failed:?}");
    repo.git(&["reset", "-q", "--hard", &good]).expect(0);
    repo.write("slipway.yaml", "project: another\n");
    repo.commit("another");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    pushed
        .says("error: slipway.yaml:1 says project `another`, this is `broken`")
        .says("hint: push to /git/another.git");
}

// R009
#[test]
fn what_is_not_yet_supported_is_refused_with_its_place() {
    let world = World::start();
    let repo = Repo::web(&world, "early", 1);
    repo.write("slipway.yaml", "services:\n  web: { path: web }\nenvironments:\n  production: { strategy: canary }\n");
    repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]);
    assert!(!pushed.ok);
    pushed.says("not yet supported").says("slipway.yaml:4:");
    let on = "      test: { run: ./test.sh, on: [push, pull_request] }\n";
    repo.write(
        "slipway.yaml",
        &file(&[service("web", 1).replace("      test: { run: ./test.sh, network: off }\n", on)]),
    );
    repo.commit("two");
    let pushed = repo.push(&["slipway", "main"]).says("not yet supported").says("slipway.yaml:8:").says("pull_request");
    assert!(!pushed.ok);
}

/// A change that failed leaves nothing: no image, no release, nothing that runs, no scratch.
fn nothing_is_left(repo: &Repo<'_>) {
    repo.slipway(&["watch"]).expect(1);
    assert_eq!(repo.slipway(&["image", "ls"]).expect(0).out, "");
    assert_eq!(repo.slipway(&["release", "ls"]).expect(0).out, "");
    assert!(repo.lane("production", "web")["release"].is_null());
    let scratch = repo.world.data().join("work/build");
    assert_eq!(std::fs::read_dir(scratch).map_or(0, Iterator::count), 0);
}

#[test]
fn an_unsupported_instruction_of_a_dockerfile_is_named_with_line_and_column() {
    let world = World::start();
    let repo = Repo::web(&world, "docker", 1);
    repo.write("web/Dockerfile", "FROM scratch\nCOPY server /server\nADD x /x\nENTRYPOINT [\"/server\"]\n");
    repo.commit("one");
    let what = "web/Dockerfile:3:1: ADD is not yet supported; use COPY for files; fetch and unpack archives in a job";
    let pushed = repo.push(&["slipway", "main"]).says(&format!("image web        failed   {what}")).not("LIVE");
    // Why was said with the image.
    pushed.says("FAILED image web").not("FAILED image web:");
    nothing_is_left(&repo);
}

#[test]
fn a_repository_without_services_says_what_to_add() {
    let world = World::start();
    let repo = Repo::new(&world, "empty");
    repo.write("README", "nothing");
    repo.commit("one");
    let what = [
        "no service was recognised in `empty`: no folder has a Dockerfile and slipway.yaml names none; add",
        "services:",
        "empty: { path: ., port: 8080 }",
        "to slipway.yaml and a Dockerfile beside it",
    ];
    let pushed = repo.push(&["slipway", "main"]).says("FAILED").not("LIVE");
    let planned = repo.slipway(&["plan"]).expect(1).err;
    for line in what {
        assert!(pushed.text.contains(line) && planned.contains(line), "{line}: {}\n{planned}", pushed.text);
    }
    nothing_is_left(&repo);
}

#[test]
fn folders_without_end_fail_their_change_and_nothing_else() {
    let world = World::start();
    let repo = Repo::web(&world, "deep", 1);
    let file = format!("{}file", "d/".repeat(250));
    repo.write(&file, "x");
    repo.commit("deep");
    repo.push_main().says("FAILED").says("folders of `deep.git` lie more than 200 deep");
    repo.git(&["rm", "-r", "-q", "d"]);
    repo.commit("flat");
    repo.push_main().says("LIVE");
}

#[test]
fn a_dockerfile_without_end_fails_its_change_with_the_limit_and_is_not_tried_again() {
    let world = World::start();
    let repo = Repo::web(&world, "labels", 1);
    let dockerfile = std::fs::read_to_string(repo.root.join("web/Dockerfile")).unwrap();
    repo.write("web/Dockerfile", &format!("{dockerfile}{}", "LABEL a=b\n".repeat(220_000)));
    let commit = repo.commit("labels");
    let what = "`web/Dockerfile` has more than 2 MiB, the most that is read of one file; make it shorter";
    let pushed = repo.push_main().says("FAILED").says(what).not("LIVE");
    assert!(!pushed.text.contains("again in"), "{}", pushed.text);
    repo.slipway(&["watch", &commit]).expect(1);
    let log = std::fs::read_to_string(world.data().join("logs/serve.log")).unwrap_or_default();
    assert!(!log.contains("again in"), "{log}");
    repo.write("web/Dockerfile", &dockerfile);
    repo.commit("short");
    repo.push_main().says("LIVE");
}

#[test]
fn a_service_that_listens_elsewhere_is_explained_from_what_was_seen() {
    let world = World::start();
    let repo = Repo::web(&world, "elsewhere", 1);
    repo.write("web/behaviour", "version one\nport 9999\n");
    repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]).not("LIVE").says("FAILED production web r1");
    for part in
        ["nothing listens on PORT 8080", "listens on 9999", "listening on :9999", "fix: port: 9999 in slipway.yaml:4"]
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

// R223 R248
#[test]
fn a_service_that_is_never_ready_is_explained_and_the_old_one_serves_on() {
    let world = World::start();
    let repo = Repo::web(&world, "unready", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    repo.behave("web", "version two\nunready");
    let pushed = repo.push(&["slipway", "main"]).says("ROLLED BACK production web").not("LIVE").not("rollout web");
    for part in [
        "GET /health answered 503",
        "last line: \"listening on :8080\"",
        "fix: let /health answer below 400 when it is ready, or",
        "r1 serves again",
    ] {
        assert!(pushed.text.contains(part), "`{part}` is missing in:\n{}", pushed.text);
    }
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    repo.slipway(&["watch"]).expect(1);
    repo.until("only the good one is left", "web", |lane| lane["instances"].as_array().map(Vec::len) == Some(1));
    assert_eq!(repo.instances("web"), before);
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
    assert!(answer.body.starts_with("no instance of web in production is ready\nsince 20"), "{}", answer.body);
    assert!(answer.body.contains("explained by: slipway why web --env production"), "{}", answer.body);
    let page = Http::connect(&repo.address("web")).unwrap().send("GET", "/", "accept: text/html\r\n", b"").unwrap();
    assert!(page.status == 503 && page.body.contains("<h1>Not available right now</h1>"), "{}", page.body);
    assert!(!page.body.contains("version bad") && !answer.body.contains("version bad"), "{}", page.body);
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
    let port = taken.local_addr().unwrap().port();
    for (http, proxy) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let refused = world.slipway(&["up", "--http", http, "--proxy", proxy, "--data", other]).expect(3);
        assert!(refused.err.contains(&format!("error: cannot listen on {address}: ")), "{refused:?}");
        assert!(
            refused.err.contains(&format!("hint: another program has port {port}; choose one with")),
            "{refused:?}"
        );
        let left = crate::machine::processes(other);
        assert!(left.is_empty(), "{left:?}");
    }
    world.slipway(&["fly"]).expect(2);
    let unknown = world.slipway(&["status", "--project", "nothing"]).expect(2);
    assert!(unknown.err.contains("error: there is no project `nothing`; there is none yet"), "{unknown:?}");
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
