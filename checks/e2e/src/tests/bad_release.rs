//! Releases that are bad: taken back by themselves, explained, held.

use crate::http::get;
use crate::load::{Load, User};
use crate::repo::{Repo, file, service};
use crate::world::World;
use std::time::Duration;

const BAD: &str = "version bad\nstatus /entries 500";
const USERS: [User; 3] = [User::Reads("/"), User::Reads("/entries"), User::Comes("/version")];

fn good_and_bad<'a>(world: &'a World, project: &str) -> (Repo<'a>, String, Load) {
    let repo = Repo::web(world, project, 2);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let load = Load::start(&repo.address("web"), Duration::from_millis(10), &USERS);
    let bad = repo.behave("web", BAD);
    (repo, bad, load)
}

// A40 R247 R298 R299 R302 R306 R318
#[test]
fn a_release_with_one_bad_url_is_rolled_back_explained_and_held() {
    let world = World::start();
    let (repo, bad, load) = good_and_bad(&world, "rolled");
    let short = bad[..7].to_owned();
    let before = repo.instances("web");
    let pushed = repo.push_main();
    let pushed = pushed.says("ROLLED BACK production web: r2 gave 5xx").says("on GET /entries").says("r1 serves again");
    for way in ["revert it", &format!("-o fixes={short}"), &format!("slipway unhold {short}")] {
        assert!(pushed.text.contains(way), "{way}: {}", pushed.text);
    }
    repo.until("capacity is back", "web", |lane| lane["phase"] == "rolled-back");
    load.more(60);
    let (_, failed) = load.stop();
    assert!(failed.iter().all(|failure| failure.contains("500")), "{failed:?}");
    assert_eq!(get(&repo.address("web"), "/entries").unwrap().status, 200);
    let after = repo.instances("web");
    assert_eq!(after.len(), 2);
    assert!(after.iter().any(|instance| before.contains(instance)), "the good ones that ran go on running");
    let why = repo.slipway(&["why", "web@r2"]).expect(0).out;
    let build = format!("build: rolled/web:{short}-2");
    for part in [
        "GET /entries",
        "/entries -> 500",
        "log:",
        "listening on :8080",
        &short,
        "web/behaviour",
        &build,
        "recognised",
        "rolled back",
    ] {
        assert!(why.contains(part), "`{part}` is missing in:\n{why}");
    }
    assert!(repo.lane("production", "web")["held"].to_string().contains(&bad));
}

// R084
#[test]
fn a_release_that_fails_its_smoke_request_gets_no_request_of_a_user() {
    let world = World::start();
    let repo = Repo::web(&world, "smoke", 2);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let load = Load::start(&repo.address("web"), Duration::from_millis(5), &[User::Reads("/entries")]);
    repo.behave("web", "version bad\nstatus / 500\nstatus /entries 500");
    repo.push_main().says("ROLLED BACK production web: r2").says("GET /").not("rollout web");
    load.more(20);
    let (asked, failed) = load.stop();
    assert!(failed.is_empty(), "{} of {asked} came to it: {failed:?}", failed.len());
    // Before more traffic, too: it is asked again at every step.
    repo.behave("web", "version good");
    let fix = format!("fixes={}", &repo.git(&["rev-parse", "HEAD~1"]).expect(0).out[..7]);
    repo.push(&["-o", &fix, "slipway", "main"]).says("LIVE");
    let steps = repo.status()["changes"][0]["rollouts"][0]["steps"].clone();
    assert_eq!(steps.as_array().map(Vec::len), Some(2), "{steps:#}");
}

#[test]
fn a_held_commit_keeps_later_ones_waiting_until_its_revert() {
    let world = World::start();
    let (repo, bad, load) = good_and_bad(&world, "reverted");
    repo.push_main().says("ROLLED BACK");
    load.stop();
    repo.write("web/more", "1");
    repo.commit("more");
    let waiting = repo.push_main().says("WAITING production web").not("LIVE");
    for way in ["revert", "fixes=", "unhold"] {
        assert!(waiting.text.contains(way), "{way}: {}", waiting.text);
    }
    let needs = repo.status()["needs_you"].clone();
    assert!(needs.to_string().contains(&bad[..7]), "{needs}");
    repo.git(&["revert", "--no-edit", &bad]).expect(0);
    repo.push_main().says("LIVE production web");
    assert_eq!(get(&repo.address("web"), "/entries").unwrap().status, 200);
    assert_eq!(repo.lane("production", "web")["held"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_push_that_says_it_fixes_the_held_commit_goes_live() {
    let world = World::start();
    let (repo, bad, load) = good_and_bad(&world, "fixed");
    repo.push_main().says("ROLLED BACK");
    repo.behave("web", "version fixed");
    repo.push(&["-o", &format!("fixes={}", &bad[..7]), "slipway", "main"]).says("LIVE production web");
    assert_eq!(get(&repo.address("web"), "/entries").unwrap().body, "version fixed");
    load.stop();
}

#[test]
fn an_unheld_commit_lets_later_ones_through() {
    let world = World::start();
    let (repo, bad, load) = good_and_bad(&world, "unheld");
    repo.push_main().says("ROLLED BACK");
    let commit = repo.behave("web", "version fixed");
    repo.push_main().says("WAITING");
    repo.slipway(&["unhold", &bad[..7], "-y"]).expect(0);
    repo.until("it goes live", "web", |lane| lane["release"]["number"] == 3 && lane["phase"] == "succeeded");
    repo.slipway(&["watch", &commit, "--timeout", "60"]).expect(0);
    assert_eq!(get(&repo.address("web"), "/entries").unwrap().body, "version fixed");
    load.stop();
}

#[test]
fn the_content_that_was_taken_back_is_not_called_passed_when_it_comes_again() {
    let world = World::start();
    let (repo, _, load) = good_and_bad(&world, "again");
    repo.push_main().says("ROLLED BACK");
    load.stop();
    repo.commit("nothing more");
    repo.push_main().not("PASSED").says("WAITING");
}

/// Fifty pages; one of them is the bad one.
const PAGES: [&str; 50] = [
    "/p1", "/p2", "/p3", "/p4", "/p5", "/p6", "/p7", "/p8", "/p9", "/p10", "/p11", "/p12", "/p13", "/p14", "/p15",
    "/p16", "/p17", "/p18", "/p19", "/p20", "/p21", "/p22", "/p23", "/p24", "/p25", "/p26", "/p27", "/p28", "/p29",
    "/p30", "/p31", "/p32", "/p33", "/p34", "/p35", "/p36", "/p37", "/p38", "/p39", "/p40", "/p41", "/p42", "/p43",
    "/p44", "/p45", "/p46", "/p47", "/p48", "/p49", "/p50",
];

// R298 R330
#[test]
fn constant_noise_does_not_tip_a_rollout_and_one_bad_url_of_fifty_does() {
    let world = World::start();
    let repo = Repo::web(&world, "noise", 2);
    // Longer steps, so that fifty pages are seen by both releases; latency on a busy test machine says nothing.
    repo.write(
        "slipway.yaml",
        &file(&[service("web", 2)]).replace("hold: 200ms", "hold: 1s, requests: 400, p95: +900%"),
    );
    repo.behave("web", "version one\nnoise 50");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let users = PAGES.map(User::Reads);
    let load = Load::start(&repo.address("web"), Duration::from_millis(100), &users);
    repo.behave("web", "version two\nnoise 50");
    repo.push_main().says("LIVE production web r2").not("ROLLED BACK");
    repo.succeeded("web");
    repo.behave("web", "version three\nnoise 50\nstatus /p31 500");
    repo.push_main().says("ROLLED BACK production web").says("/p31").says("r2 serves again");
    let (asked, failed) = load.stop();
    assert!(failed.len() as u64 * 10 < asked, "{} of {asked} failed", failed.len());
}
