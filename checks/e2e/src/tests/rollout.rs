//! Rollouts under load: nobody notices them.

use crate::load::{Load, User};
use crate::repo::{Repo, VERIFY};
use crate::world::World;
use serde_json::Value;
use std::time::Duration;

/// Users of every kind: about three hundred requests a second.
pub const USERS: [User; 10] = [
    User::Reads("/"),
    User::Reads("/entries"),
    User::Reads("/instance"),
    User::Reads("/version"),
    User::Comes("/"),
    User::Comes("/entries"),
    User::Writes("/entries"),
    User::Writes("/"),
    User::Reads("/slow"),
    User::Writes("/slow"),
];

const PAUSE: Duration = Duration::from_millis(25);

fn yaml(strategy: &str, replicas: u32) -> String {
    format!(
        "services:\n  web:\n    path: web\n    port: 8080\n    health: /health\n    replicas: {replicas}\n    jobs:\n      \
         test: {{ run: ./test.sh, network: off }}\nenvironments:\n  production:\n    strategy: {strategy}\n    \
         verify: {{ {VERIFY} }}\n"
    )
}

fn alive(lane: &Value) -> (usize, usize) {
    let instances = lane["instances"].as_array().cloned().unwrap_or_default();
    let is = |words: &[&str]| {
        instances.iter().filter(|instance| words.contains(&instance["state"].as_str().unwrap_or_default())).count()
    };
    (is(&["starting", "ready", "unready"]), is(&["ready"]))
}

// R219 R220 R272 A05
#[test]
fn rollouts_under_load_lose_no_request_and_keep_to_the_number_of_instances() {
    let world = World::start();
    let repo = Repo::web(&world, "busy", 3);
    repo.write("slipway.yaml", &yaml("{ rolling: { max_surge: 1, max_unavailable: 0 } }", 3));
    repo.write("web/behaviour", "version 1\nslow /slow 2000\n");
    repo.commit("1");
    repo.push_main().says("LIVE");
    let load = Load::start(&repo.address("web"), PAUSE, &USERS);
    for version in 2..=4 {
        repo.behave("web", &format!("version {version}\nslow /slow 2000"));
        let mut pushing = repo.pushing(&["slipway", "main"]);
        let (mut most, mut least) = (0, usize::MAX);
        pushing.line("image web");
        loop {
            let lane = repo.lane("production", "web");
            let (live, ready) = alive(&lane);
            (most, least) = (most.max(live), least.min(ready));
            let instances = serde_json::to_string(&lane["instances"]).unwrap();
            assert!(live <= 4, "more than 3 + 1 instances: {instances}");
            assert!(ready >= 3, "fewer than 3 ready instances: {instances}");
            if lane["release"]["number"] == version && lane["phase"] == "succeeded" {
                break;
            }
            assert_ne!(lane["phase"], "rolled-back", "{lane}");
            crate::machine::pause(Duration::from_millis(30));
        }
        pushing.end().says("LIVE");
        assert_eq!((most, least), (4, 3), "it goes one by one");
    }
    load.more(100);
    let (asked, failed) = load.stop();
    assert!(failed.is_empty(), "{} of {asked} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    assert!(asked > 500, "only {asked} requests were made");
}

// R273
#[test]
fn an_instance_that_ignores_its_end_is_killed_after_its_grace_and_reported() {
    let world = World::start();
    let repo = Repo::web(&world, "stubborn", 1);
    let yaml =
        yaml("rolling", 1).replace("    jobs:", "    stop: { grace: 1s }\n    drain: { timeout: 2s }\n    jobs:");
    repo.write("slipway.yaml", &yaml);
    repo.write("web/behaviour", "version 1\nignore-term\n");
    repo.commit("1");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let old = repo.instances("web");
    repo.behave("web", "version 2");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    crate::machine::until("the old instance is gone", || (!crate::machine::lives(old[0].1)).then_some(()));
    assert_ne!(repo.instances("web"), old);
    let told = world.event("that it did not listen is reported", |event| {
        let data = &event["data"];
        (event["kind"] == "instance.state" && data["instance"]["id"] == old[0].0.as_str()).then(|| data.to_string())
    });
    let said = "it did not end within 1.0s of its stop signal and was killed";
    assert!(told.contains(said), "{told}");
    let why = repo.slipway(&["why", "web"]).expect(0).out;
    assert!(why.contains(&old[0].0) && why.contains(said) && why.contains("fix: "), "{why}");
    // Who listens is not complained about: the signal and its time reach the service.
    let polite = repo.instances("web")[0].0.clone();
    repo.behave("web", "version 3");
    repo.push_main().says("LIVE");
    crate::machine::until("the polite one has ended", || {
        repo.slipway(&["logs", "web@r2"]).out.contains("ends as asked").then_some(())
    });
    repo.succeeded("web");
    assert!(!repo.slipway(&["why", "web"]).expect(0).out.contains(&polite));
}
