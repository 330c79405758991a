//! What leaves and what comes: shown while it happens, asked before it is ended, reported when it does not listen.

use crate::http::get;
use crate::load::{Load, User};
use crate::machine::until;
use crate::repo::{Repo, file, service};
use crate::world::{World, scratch};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

fn named<'a>(lane: &'a Value, release: &Value) -> &'a Value {
    let shares = lane["traffic"].as_array().unwrap();
    shares
        .iter()
        .find(|share| &share["release"] == release)
        .unwrap_or_else(|| panic!("no share of {release}: {lane:#}"))
}

// R207 R253 R300 R325 R328
#[test]
fn while_a_rollout_is_under_way_both_releases_are_shown_with_counts_shares_step_and_who() {
    let world = World::start();
    let repo = Repo::web(&world, "seen", 2);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let old = repo.lane("production", "web")["release"]["id"].clone();
    let load = Load::start(&repo.address("web"), Duration::from_millis(100), &[User::Comes("/")]);
    // So many requests come only once more users do: until then the first step lasts.
    repo.write(
        "slipway.yaml",
        &file(&[service("web", 2)]).replace("hold: 200ms", "hold: 60s, wait: 60s, requests: 300, p95: +900%"),
    );
    repo.behave("web", "version two\nstart 700");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("rollout web");
    let lane = repo.until("both are shown", "web", |lane| {
        lane["phase"] == "stepping" && lane["traffic"].as_array().is_some_and(|shares| shares.len() == 2)
    });
    let rollout = &lane["rollout"];
    assert_eq!((rollout["from"].as_str(), rollout["to"].as_str()), (Some("r1"), Some("r2")), "{lane:#}");
    assert_eq!((rollout["by"].as_str(), rollout["phase"].as_str()), (Some("owner"), Some("stepping")));
    assert!(rollout["started"].is_string() && rollout["steps"][0]["name"] == "1 of 2", "{rollout:#}");
    let new = lane["traffic"].as_array().unwrap().iter().map(|share| &share["release"]).find(|id| **id != old).unwrap();
    let (before, after) = (named(&lane, &old), named(&lane, new));
    assert_eq!((before["weight"].as_u64(), after["weight"].as_u64()), (Some(66), Some(33)), "{lane:#}");
    assert_eq!((before["ready"].as_u64(), after["ready"].as_u64()), (Some(2), Some(1)), "{lane:#}");
    let starts = lane["instances"].as_array().unwrap().iter().filter(|instance| &instance["release"] == new);
    let took: Vec<u64> = starts.filter_map(|instance| instance["ready_ms"].as_u64()).collect();
    assert!(took.len() == 1 && took[0] >= 700, "how long the start took is measured: {took:?}");
    let counted = repo.until("requests are counted by release", "web", |lane| {
        lane["traffic"].as_array().unwrap().iter().all(|share| share["requests"].as_u64() > Some(0))
    });
    for share in counted["traffic"].as_array().unwrap() {
        assert!(share["errors"] == 0 && share["p95_us"].as_u64() > Some(0), "{share}");
    }
    assert_eq!(counted["phase"], "stepping", "too few requests to go on: {counted:#}");
    let text = repo.slipway(&["status"]).expect(0).out;
    for part in ["r1 -> r2 by owner, for", "33 % of traffic on 1 of 2", "33 %  1 ready", "66 %  2 ready", "moving now"]
    {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    let users = [User::Reads("/"); 8];
    let more = Load::start(&repo.address("web"), Duration::ZERO, &users);
    pushing.end().says("LIVE production web r2");
    repo.succeeded("web");
    for (asked, failed) in [more.stop(), load.stop()] {
        assert!(failed.is_empty(), "a start is no downtime: {} of {asked} failed: {failed:?}", failed.len());
    }
    let lane = repo.lane("production", "web");
    assert!(lane["rollout"].is_null(), "{lane:#}");
    let steps = repo.status()["changes"][0]["rollouts"][0]["steps"].clone();
    assert!(steps.as_array().unwrap().iter().all(|step| step["verdict"] == "pass"), "{steps:#}");
    let history = repo.slipway(&["history", "--json"]).expect(0).json();
    assert_eq!((history[0]["release"].as_str(), history[0]["result"].as_str()), (Some("r2"), Some("succeeded")));
}

/// The lines of a release's instances.
fn log(repo: &Repo<'_>, release: &str) -> String {
    repo.slipway(&["logs", release]).out
}

// R274
#[test]
fn what_is_to_be_done_before_the_end_is_done_before_the_signal() {
    let world = World::start();
    let repo = Repo::web(&world, "leaves", 1);
    let stop = "    stop: { before: [/server, note, leaving, \"300\"], grace: 5s }\n    jobs:";
    let web = service("web", 1).replace("    jobs:", stop);
    // It is ready by a command that runs inside: before the server listens the command fails.
    let web = web.replace("health: /health", "health: { command: [/server, note, alive, \"0\"] }");
    repo.write("slipway.yaml", &file(&[web]));
    repo.write("web/behaviour", "version one\nstart 300\n");
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let log =
        until("the old instance has ended", || Some(log(&repo, "web@r1")).filter(|log| log.contains("ends as asked")));
    let (note, end) = (log.find("note: leaving"), log.find("ends as asked"));
    assert!(note.is_some() && note < end, "{log}");
    assert!(log.find("note: alive").is_some_and(|ready| Some(ready) < note), "{log}");
}

// A backup is made while Slipway runs; the machine that it is restored on knows the same and serves the same.
#[test]
fn a_backup_made_while_it_runs_brings_another_machine_to_the_same_state() {
    let world = World::start();
    let repo = Repo::web(&world, "kept", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let file = world.dir.join("backup.tar");
    let path = file.to_str().unwrap();
    let data = world.data().display().to_string();
    let made = world.slipway(&["backup", path, "--data", &data]).expect(0);
    assert!(made.err.contains("the key that opens the secrets is not in it"), "{made:?}");
    world.slipway(&["backup", path, "--data", &data]).expect(2);
    let (status, releases) = (state(&repo), repo.slipway(&["release", "ls", "--json"]).expect(0).json());
    let other = scratch();
    std::fs::create_dir_all(&other).unwrap();
    let folder = other.join("data").display().to_string();
    world.slipway(&["restore", path, "--data", &folder]).expect(2);
    let key = world.data().join("key").display().to_string();
    std::fs::write(other.join("half.tar"), &std::fs::read(&file).unwrap()[..200_000]).unwrap();
    world.slipway(&["restore", other.join("half.tar").to_str().unwrap(), "--data", &folder, "--key", &key]).expect(1);
    assert!(!other.join("data").exists(), "half of a backup was left");
    assert_eq!(world.end(Signal::INT), Some(0));
    world.slipway(&["restore", path, "--data", &folder, "--key", &key]).expect(0);
    world.slipway(&["restore", path, "--data", &folder, "--key", &key]).expect(2);
    std::fs::rename(world.data(), world.dir.join("gone")).unwrap();
    std::fs::rename(other.join("data"), world.data()).unwrap();
    world.up();
    repo.until("it serves again", "web", |lane| lane["instances"][0]["state"] == "ready");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
    assert_eq!(state(&repo), status);
    assert_eq!(repo.slipway(&["release", "ls", "--json"]).expect(0).json(), releases);
    repo.behave("web", "version three");
    repo.push_main().says("LIVE production web r3");
    std::fs::remove_dir_all(&other).unwrap();
}

/// The status without what is another on another machine: which processes run, since when, and what they served.
fn state(repo: &Repo<'_>) -> serde_json::Value {
    let mut status = repo.status();
    for environment in status["environments"].as_array_mut().unwrap() {
        for lane in environment["services"].as_array_mut().unwrap() {
            for key in ["instances", "traffic", "addresses"] {
                lane.as_object_mut().unwrap().remove(key);
            }
        }
    }
    status
}
