//! Pushes: what they start, what they print, and what an interrupted one leaves behind.

use crate::http::get;
use crate::machine::{processes, signal, until};
use crate::repo::{GATE, Repo, file, service};
use crate::world::World;
use rustix::process::Signal;

// R001 R006 R034 R345
#[test]
fn a_feature_branch_gets_checks_and_the_production_branch_goes_live() {
    let world = World::start();
    let repo = Repo::web(&world, "shop", 2);
    repo.commit("one");
    repo.push(&["slipway", "main:feature"]).says("test web").says("PASSED").not("LIVE").not("rollout");
    assert!(repo.status()["environments"][0]["services"][0]["release"].is_null());
    let pushed = repo.push_main().says("LIVE production web r1   http://web-production-shop.localhost");
    // The results of the feature branch stand for the same content.
    let pushed = pushed.says("saved by results of the same content").not("test web         passed");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one", "{}", pushed.text);
    let by_name = crate::http::Http::connect(&world.proxy).unwrap().called("web-production-shop.localhost").get("/");
    assert_eq!(by_name.unwrap().body, "version one");
    repo.commit("nothing");
    repo.push_main().says("web not affected").says("PASSED").not("LIVE");
}

// R309 A29
#[test]
fn a_deployment_of_what_runs_already_is_recognised_before_it_starts() {
    let world = World::start();
    let repo = Repo::web(&world, "twice", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    let said = repo.slipway(&["deploy", "web@r1", "--env", "production", "-y"]).expect(0);
    let gated = world.event("the gate says identical", |event| {
        (event["kind"] == "release.gated" && event.to_string().contains("identical")).then(|| event.clone())
    });
    assert!(gated.to_string().contains("identical"), "{said:?}");
    assert_eq!(repo.instances("web"), before);
    assert!(!world.events().iter().any(|event| event["subject"] == "rollout 2"));
}

// R011 R012
#[test]
fn a_push_can_say_that_nothing_shall_run_or_that_nobody_waits() {
    let world = World::start();
    let repo = Repo::web(&world, "words", 1);
    repo.commit("one [ci skip]");
    repo.push_main().says("SKIPPED").says("[ci skip]").not("test web");
    let refused = repo.slipway(&["deploy", &repo.head(), "--env", "production", "-y"]).expect(1);
    assert!(refused.err.contains("has no release"), "{refused:?}");
    repo.behave("web", "version two");
    repo.push(&["-o", "ci.skip", "slipway", "main"]).says("SKIPPED").says("ci.skip").not("test web");
    let commit = repo.behave("web", "version three");
    let pushed = repo.push(&["-o", "ci.detach", "slipway", "main"]);
    pushed.says(&format!("follow it with `slipway watch {}`", &commit[..7])).not("LIVE");
    let watched = repo.slipway(&["watch", &commit[..7]]).expect(0);
    assert!(watched.out.contains("LIVE production web"), "{}", watched.out);
    repo.behave("web", "version four");
    repo.push(&["-o", "ci.quiet", "slipway", "main"]).says("LIVE production web").not("test web");
    repo.behave("web", "version five");
    repo.push(&["-o", "ci.unheard", "slipway", "main"]).says("push option `ci.unheard` is not known").says("LIVE");
}

// R441
#[test]
fn each_line_of_a_push_arrives_before_the_next_thing_happens() {
    let world = World::start();
    let repo = Repo::web(&world, "lines", 1);
    let jobs = "      two: { run: ./two.sh, needs: [test], network: off }\n      \
                three: { run: ./three.sh, needs: [two], network: off }\n";
    repo.write("slipway.yaml", &file(&[service("web", 1) + jobs]));
    repo.script("web/two.sh", GATE);
    repo.script("web/three.sh", GATE);
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    pushing.line("test web         passed");
    repo.open_gate(&commit, "two.sh");
    pushing.line("two web          passed");
    assert!(!pushing.seen.contains("three web"));
    repo.open_gate(&commit, "three.sh");
    pushing.line("three web        passed");
    let pushed = pushing.end().says("LIVE production web r1");
    assert!(pushed.ok);
}

#[test]
fn an_interrupted_push_leaves_no_process_and_its_change_goes_on() {
    let world = World::start();
    let repo = Repo::web(&world, "gone", 1);
    repo.script("web/test.sh", GATE);
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    let group = rustix::process::Pid::from_raw(pushing.pid()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    pushing.end();
    let folder = world.data().join("git").display().to_string();
    until("no hook and no receive-pack stays", || {
        let left = processes(&folder);
        let git = |line: &str| line.contains("receive-pack") || line.contains("hook");
        (!left.iter().any(|(_, line)| git(line))).then_some(())
    });
    repo.open_gate(&commit, "test.sh");
    repo.until("it goes live", "web", |lane| lane["release"]["number"] == 1);
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    assert!(crate::machine::lives(world.pid("serve")));
}

#[test]
fn a_deleted_branch_and_a_forced_push_do_not_stop_what_runs() {
    let world = World::start();
    let repo = Repo::web(&world, "moved", 1);
    repo.script("web/test.sh", GATE);
    let first = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main:feature"]);
    pushing.line("change");
    repo.push(&["slipway", ":feature"]);
    repo.git(&["commit", "-q", "--amend", "-m", "one, better"]).expect(0);
    let second = repo.head();
    repo.open_gate(&first, "test.sh");
    pushing.end().says("PASSED");
    repo.write("web/behaviour", "version two\n");
    let third = repo.commit("two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    repo.git(&["reset", "-q", "--hard", &second]).expect(0);
    repo.write("web/behaviour", "version forced\n");
    let forced = repo.commit("forced");
    let mut forcing = repo.pushing(&["--force", "slipway", "main"]);
    forcing.line("change");
    repo.open_gate(&third, "test.sh");
    pushing.line("test web         passed");
    repo.open_gate(&forced, "test.sh");
    let forcing = forcing.end().says("LIVE production web");
    pushing.end();
    assert!(forcing.ok);
    until("the forced commit serves", || (get(&repo.address("web"), "/").ok()?.body == "version forced").then_some(()));
    signal(world.pid("up"), Signal::INT);
    world.ended();
}
