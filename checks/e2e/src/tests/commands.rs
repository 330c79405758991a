//! Commands that act and ask: approval, promotion, rollback, and the shapes that scripts rely on.

use crate::http::get;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::World;
use serde_json::Value;

fn keys(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(value.get(key).is_some(), "`{key}` is missing in {value:#}");
    }
}

fn two_environments(gate: &str) -> String {
    format!(
        "services:\n{}environments:\n  staging:\n    verify: {{ {VERIFY} }}\n  production:\n    after: staging\n    \
         {gate}\n    verify: {{ {VERIFY} }}\n",
        service("web", 1)
    )
}

// R176 R344
#[test]
fn a_release_waits_for_its_approval_and_the_same_image_goes_on() {
    let world = World::start();
    let repo = Repo::web(&world, "gated", 1);
    repo.write("slipway.yaml", &two_environments("approve: { count: 1, author: true }"));
    let commit = repo.commit("one");
    let pushed = repo.push_main().says("LIVE staging web r1").says("WAITING production web r1");
    let pushed = pushed.says(&format!("next: slipway approve {}", &commit[..7]));
    assert!(!pushed.text.contains("LIVE production"));
    repo.slipway(&["watch", &commit]).expect(4);
    let need = repo.status()["needs_you"][0].clone();
    keys(&need, &["what", "for", "command", "since"]);
    assert_eq!(need["command"], format!("slipway approve {}", &commit[..7]));
    repo.slipway(&["approve", &commit[..7]]).expect(2);
    repo.slipway(&["approve", &commit[..7], "-y"]).expect(0);
    repo.until("it is live", "web", |lane| lane["release"]["number"] == 1);
    repo.slipway(&["watch", &commit, "--timeout", "60"]).expect(0);
    let (staging, production) = (repo.lane("staging", "web"), repo.lane("production", "web"));
    assert_eq!(staging["release"]["image"], production["release"]["image"]);
    assert_eq!(staging["release"]["id"], production["release"]["id"]);
    repo.slipway(&["approve", &commit[..7], "-y"]).expect(1);
    repo.behave("web", "version two");
    repo.push_main().says("WAITING production web r2");
    let head = repo.head();
    repo.slipway(&["reject", &head, "--reason", "not today", "-y"]).expect(0);
    let why = crate::machine::until("the refusal is told", || {
        let said = repo.slipway(&["why", &head]);
        said.out.contains("not today").then_some(said.out)
    });
    assert!(why.contains("owner"), "{why}");
    assert_eq!(repo.lane("production", "web")["release"]["number"], 1);
}

// R014 R058 R347
#[test]
fn a_manual_environment_is_deployed_to_by_promote_and_deploy() {
    let world = World::start();
    let repo = Repo::web(&world, "manual", 1);
    repo.write("slipway.yaml", &two_environments("deploy: manual"));
    repo.commit("one");
    repo.push_main().says("LIVE staging web r1").not("LIVE production");
    repo.slipway(&["promote", "web@r1", "-y"]).expect(0);
    repo.until("it is promoted", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE staging web r2");
    let commit = repo.head();
    let said = repo.slipway(&["deploy", &commit[..7], "--env", "production", "-y"]).expect(0);
    assert!(said.err.contains("will deploy web@r2") && said.out.contains("production web r2 goes in"), "{said:?}");
    repo.until("it is deployed", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    let history = repo.slipway(&["history", "--env", "production", "--json"]).expect(0).json();
    let by_hand: Vec<(&str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["release"].as_str().unwrap(), line["by"].as_str().unwrap()))
        .collect();
    assert_eq!(by_hand, [("r2", "owner"), ("r1", "owner")], "recorded like any other");
    repo.slipway(&["deploy", "web@r2", "-y"]).expect(2);
    repo.slipway(&["deploy", "web@r9", "--env", "production", "-y"]).expect(2);
}

// A21 R163 R323 R346 R384
#[test]
fn a_rollback_by_hand_goes_to_the_release_named_and_is_timed() {
    let world = World::start();
    let repo = Repo::web(&world, "back", 2);
    for version in 1..=3 {
        repo.write("web/behaviour", &format!("version {version}\n"));
        repo.commit(&version.to_string());
        repo.push_main().says("LIVE");
        repo.succeeded("web");
    }
    let said = repo.slipway(&["rollback", "web", "-y"]).expect(0);
    assert!(said.err.contains("will roll web in production back to r2"), "{said:?}");
    repo.until("r2 serves", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version 2");
    repo.slipway(&["rollback", "web", "--to", "r1", "-y"]).expect(0);
    repo.until("r1 serves", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    repo.slipway(&["rollback", "web", "--to", "r7", "-y"]).expect(2);
    let history = repo.slipway(&["history", "--json"]).expect(0).json();
    let newest = &history[0];
    keys(newest, &["at", "lane", "release", "release_id", "commit", "by", "result", "reason", "took_ms"]);
    assert_eq!((newest["release"].as_str(), newest["result"].as_str()), (Some("r1"), Some("succeeded")));
    assert_eq!(newest["by"], "owner");
    assert_eq!(history.as_array().map(Vec::len), Some(5));
    let found = repo.slipway(&["history", "web", "--env", "production", "--search", "r3", "--json"]).expect(0).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");
    let lines = repo.slipway(&["history"]).expect(0).out;
    assert!(lines.lines().next().is_some_and(|line| line.contains("r1") && line.contains("s by owner")), "{lines}");
}

// A31 R551 R563 R566
#[test]
fn only_the_changed_service_of_many_is_built_and_touched() {
    let world = World::start();
    let repo = Repo::new(&world, "many");
    let names = ["api", "web", "mail"];
    repo.write("slipway.yaml", &file(&names.map(|name| service(name, 1))));
    for name in names {
        repo.add(name, &format!("version {name}"));
    }
    repo.commit("one");
    let pushed = repo.push_main();
    for name in names {
        assert!(pushed.text.contains(&format!("LIVE production {name} r1")), "{}", pushed.text);
        repo.succeeded(name);
    }
    let before = [repo.instances("web"), repo.instances("mail")];
    repo.behave("api", "version two");
    let pushed = repo.push_main().says("api changed, ").says("not affected").says("LIVE production api r2");
    let pushed = pushed.not("image web").not("image mail").not("test web").not("production mail");
    assert_eq!([repo.instances("web"), repo.instances("mail")], before, "{}", pushed.text);
    let change = repo.status()["changes"][0].clone();
    let items = change["plan"]["items"].as_array().unwrap();
    assert!(items.iter().all(|item| item["reason"].as_str().is_some_and(|reason| !reason.is_empty())), "{items:#?}");
    let runs = |name: &str| items.iter().any(|item| item["service"] == name && item["decision"] == "run");
    assert!(runs("api") && !runs("web") && !runs("mail"));
}

// R002 R160 R161 R221
#[test]
fn what_scripts_read_has_the_promised_shapes() {
    let world = World::start();
    let repo = Repo::web(&world, "shapes", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    let status = repo.slipway(&["status", "--json"]).expect(0).json();
    keys(&status, &["project", "needs_you", "changes", "environments"]);
    keys(&status["environments"][0], &["name", "frozen", "services"]);
    let lane = &status["environments"][0]["services"][0];
    keys(lane, &["name", "url", "addresses", "release", "phase", "instances", "traffic"]);
    keys(&lane["instances"][0], &["id", "state", "address", "since"]);
    let change = &status["changes"][0];
    let by_commit = world.api(&format!("/api/v1/projects/shapes/changes/{}", repo.head()));
    assert_eq!(by_commit["id"], change["id"]);
    assert_eq!(change["rollouts"][0]["strategy"], "rolling", "nothing else was said");
    keys(
        change,
        &[
            "id", "commit", "branch", "event", "author", "state", "plan", "jobs", "images", "releases", "rollouts",
            "timings",
        ],
    );
    let job = &change["jobs"][0];
    keys(
        job,
        &[
            "id",
            "name",
            "service",
            "kind",
            "result",
            "reason",
            "attempt",
            "queued_ms",
            "set_up_ms",
            "run_ms",
            "exit_code",
            "first_error",
            "usage",
        ],
    );
    keys(
        &change["rollouts"][0],
        &["id", "environment", "service", "from", "to", "strategy", "phase", "reason", "held", "steps"],
    );
    keys(&change["rollouts"][0]["steps"][0], &["name", "weight", "verdict", "started", "ended"]);
    let shown = repo.slipway(&["release", "show", "web@r2"]).expect(0).out;
    assert!(shown.contains("web@r2") && shown.contains("sha256:"), "{shown}");
    let diff = repo.slipway(&["release", "diff", "web@r1", "web@r2"]).expect(0).out;
    assert!(diff.contains("version two") || diff.contains("image"), "{diff}");
    repo.slipway(&["release", "ls", "--json"]).expect(0).json();
    repo.slipway(&["image", "ls", "--json"]).expect(0).json();
    repo.slipway(&["doctor", "--json"]).expect(0).json();
    let logs = repo.slipway(&["logs", "web"]).expect(0).out;
    assert!(logs.contains("web r2") && logs.contains("listening on :8080"), "{logs}");
    events_have_their_shape(&world);
    let metrics = metrics(&world);
    assert!(metrics.contains("# TYPE"), "{metrics}");
}

fn events_have_their_shape(world: &World) {
    let events = world.events();
    for event in &events {
        keys(event, &["n", "v", "at", "kind", "project", "actor", "subject", "data"]);
    }
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["n"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in the events: {numbers:?}");
    for kind in
        ["change.received", "plan.made", "job.started", "job.ended", "image.built", "release.made", "rollout.phase"]
    {
        assert!(events.iter().any(|event| event["kind"] == kind), "{kind}");
    }
}

fn metrics(world: &World) -> String {
    let mut http = crate::http::Http::connect(&world.url).unwrap();
    http.send("GET", "/metrics", &format!("authorization: Bearer {}\r\n", world.token), b"").unwrap().body
}

#[test]
fn the_event_stream_has_no_gap_over_a_restart_of_the_control_plane() {
    let world = World::start();
    let repo = Repo::web(&world, "events", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    world.kill("serve");
    crate::machine::until("it is back", || get(&world.url, "/healthz").ok().filter(|answer| answer.status == 200));
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    world.event("the last phase", |event| {
        let data = &event["data"];
        (data["phase"] == "succeeded" && data["head"]["to"]["number"] == 2).then_some(())
    });
    let numbers: Vec<u64> = world.events().iter().filter_map(|event| event["n"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in the events: {numbers:?}");
}

#[test]
fn slipway_push_ends_as_the_change_ends() {
    let world = World::start();
    let repo = Repo::web(&world, "exits", 1);
    let push = |arguments: &[&str]| {
        let mut all = vec!["push"];
        all.extend(arguments);
        let mut command = world.command(&repo.root, &all);
        for (key, value) in repo.git_command(&world.token, &[]).get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        crate::world::said(&mut command)
    };
    repo.commit("one");
    let live = push(&[]).expect(0);
    assert!(live.err.contains("LIVE production web r1"), "{live:?}");
    repo.script("web/test.sh", "exit 1");
    repo.commit("two");
    push(&["slipway", "main"]).expect(1);
    repo.script("web/test.sh", "true");
    repo.write("slipway.yaml", &two_environments("deploy: manual"));
    repo.behave("web", "version three");
    push(&["slipway", "main"]).expect(4);
}

#[test]
fn an_aborted_rollout_gives_traffic_back() {
    let world = World::start();
    let repo = Repo::web(&world, "abort", 2);
    repo.write("slipway.yaml", &file(&[service("web", 2)]).replace("hold: 200ms", "hold: 20s"));
    repo.commit("one");
    let commit = repo.head();
    repo.push(&["-o", "ci.detach", "slipway", "main"]);
    repo.until("it begins", "web", |lane| lane["phase"] == "stepping");
    repo.slipway(&["abort", "web", "-y"]).expect(0);
    let lane = repo.until("it ends", "web", |lane| lane["phase"] == "needs-human" || lane["phase"] == "rolled-back");
    assert!(lane["release"].is_null() || lane["traffic"].as_array().is_none_or(Vec::is_empty), "{lane}");
    repo.slipway(&["abort", "web", "-y"]).expect(1);
    repo.slipway(&["watch", &commit, "--timeout", "30"]).expect(1);
}

#[test]
fn a_project_is_cloned_and_fetched_from_the_same_address() {
    let world = World::start();
    let repo = Repo::web(&world, "copied", 1);
    let commit = repo.commit("one [ci skip]");
    repo.push_main();
    let address = format!("{}/git/copied.git", world.url);
    let clone = world.dir.join("clone");
    repo.git(&["clone", "-q", &address, clone.to_str().unwrap()]).expect(0);
    let mut head = std::process::Command::new("git");
    let head = crate::world::said(head.arg("-C").arg(&clone).args(["rev-parse", "HEAD"]));
    assert_eq!(head.out.trim(), commit);
    repo.git(&["fetch", "-q", "slipway"]).expect(0);
    assert_ne!(repo.git(&["clone", "-q", &format!("{}/git/nothing.git", world.url), "x"]).code, 0);
}

#[test]
fn the_page_is_behind_a_link_that_works_once() {
    let world = World::start();
    let repo = Repo::web(&world, "pages", 1);
    let commit = repo.commit("one");
    repo.push_main().says("LIVE");
    let denied = get(&world.url, "/").unwrap();
    assert_eq!(denied.status, 401, "{}", denied.body);
    let link = repo.slipway(&["open", "--json"]).expect(0).out;
    let start = link.find("/login?").unwrap_or_else(|| panic!("no link: {link}"));
    let path: String = link[start..].chars().take_while(|letter| !"\" \n".contains(*letter)).collect();
    let first = get(&world.url, &path).unwrap();
    assert!([200, 302, 303].contains(&first.status), "{}", first.body);
    assert!(get(&world.url, &path).unwrap().status >= 400);
    let mut http = crate::http::Http::connect(&world.url).unwrap();
    let bearer = format!("authorization: Bearer {}\r\n", world.token);
    let page = http.send("GET", &format!("/p/pages/c/{commit}"), &bearer, b"").unwrap();
    assert!(page.status == 200 && page.body.contains("production"), "{}", page.body);
}
