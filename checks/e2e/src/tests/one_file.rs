//! One person, a fresh repository, one file, one command.

use crate::http::get;
use crate::repo::{GATE, Repo, VERIFY};
use crate::world::World;

/// The whole way of a change in one file: fast tests, slow ones, acceptance, performance, production.
fn whole_way() -> String {
    format!(
        "services:\n  web:\n    path: web\n    port: 8080\n    health: /health\n    jobs:\n      \
         lint: {{ run: sh -n test.sh && echo no static errors, network: off }}\n      \
         test: {{ run: ./test.sh, network: off, produces: [dist/page] }}\n      \
         slow: {{ run: ./slow.sh, needs: [test], network: off }}\n      \
         acceptance: {{ run: ./acceptance.sh, needs: [slow], network: off }}\n      \
         performance: {{ run: ./performance.sh, needs: [acceptance], network: off }}\n\
         environments:\n  production:\n    verify: {{ {VERIFY} }}\n"
    )
}

fn fresh<'a>(world: &'a World, project: &str) -> Repo<'a> {
    let repo = Repo::new(world, project);
    repo.add("web", "version one");
    repo.write("slipway.yaml", &whole_way());
    repo.script("web/test.sh", "mkdir -p dist; echo a page > dist/page; printf 1.2.3 > $SLIPWAY_OUTPUTS/version");
    repo.script(
        "web/slow.sh",
        "version=$(cat $SLIPWAY_INPUTS/web/test/version)\n\
         echo got $version and $(cat $SLIPWAY_ARTIFACTS/web/test/web/dist/page)",
    );
    for name in ["acceptance", "performance"] {
        repo.script(&format!("web/{name}.sh"), &format!("echo {name} is fine"));
    }
    repo
}

fn in_order(text: &str, words: &[&str]) {
    let mut from = 0;
    for word in words {
        let rest = text.get(from..).unwrap_or_default();
        let at = rest.find(word).unwrap_or_else(|| panic!("`{word}` is not there, or too early, in:\n{text}"));
        from += at + word.len();
    }
}

// R035 R036 R037 R039 R040 R079 R438 R448 A34
#[test]
fn one_file_and_one_push_take_a_fresh_repository_to_production() {
    let world = World::start();
    let repo = fresh(&world, "fresh");
    repo.commit("one");
    let drawn = repo.slipway(&["plan"]).expect(0).out;
    in_order(&drawn, &["web/test", "web/slow", "web/acceptance", "web/performance", "release"]);
    // The server was told nothing about this project before.
    assert_eq!(world.api("/api/v1/projects").as_array().map(Vec::len), Some(0));
    let pushed = repo.push_main();
    in_order(
        &pushed.text,
        &[
            "lint web         passed",
            "slow web         passed",
            "acceptance web   passed",
            "performance web  passed",
            "rollout web",
            "LIVE production web r1   http://",
        ],
    );
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    let slow = repo.slipway(&["logs", "web/slow"]).expect(0).out;
    assert!(slow.contains("got 1.2.3 and a page"), "{slow}");
}

// R037 R038 R039
#[test]
fn nothing_goes_on_behind_a_check_that_failed_or_an_output_that_is_missing() {
    let world = World::start();
    let repo = fresh(&world, "stopped");
    repo.script("web/acceptance.sh", "echo 'error: nobody likes it' >&2; exit 5");
    let commit = repo.commit("one");
    let pushed = repo.push_main().says("acceptance web   failed").says("exit code 5").says("nobody likes it");
    let pushed = pushed.says("FAILED").not("performance web  passed").not("rollout web").not("LIVE");
    assert!(repo.lane("production", "web")["release"].is_null(), "{}", pushed.text);
    let result = |name: &str| {
        let change = world.api(&format!("/api/v1/projects/stopped/changes/{}", repo.head()));
        let jobs = change["jobs"].as_array().unwrap().clone();
        let job = jobs.into_iter().find(|job| job["name"] == name).unwrap();
        let text = |key: &str| job[key].as_str().unwrap().to_owned();
        (text("result"), text("reason"), job["attempt"].as_u64().unwrap())
    };
    let blocked = |by: &str| ("blocked".to_owned(), format!("{by} did not pass"), 0);
    assert_eq!(result("web/performance"), blocked("web/acceptance"));
    repo.slipway(&["watch", &commit]).expect(1);
    // An output that was not made is no empty text: who reads it fails, and names it.
    repo.script("web/test.sh", "mkdir -p dist; echo a page > dist/page");
    repo.script("web/acceptance.sh", "echo fine");
    repo.commit("no version");
    repo.push_main().says("slow web         failed").says("web/test/version").says("FAILED").not("LIVE");
    repo.script("web/test.sh", "printf 1.2.3 > $SLIPWAY_OUTPUTS/version");
    repo.commit("no page");
    let pushed = repo.push_main().says("test web         failed").says("dist/page").says("FAILED").not("LIVE");
    assert!(!pushed.text.contains("slow web"), "{}", pushed.text);
    assert_eq!(result("web/slow"), blocked("web/test"));
}

// R073
#[test]
fn jobs_that_do_not_need_each_other_run_beside_each_other_and_fail_alone() {
    let world = World::start();
    let repo = Repo::new(&world, "beside");
    let jobs = "jobs:\n  left: { run: ./left.sh, network: off }\n  right: { run: ./right.sh, network: off }\n  \
                after: { run: echo after the left one, needs: [left], network: off }\n";
    repo.write("slipway.yaml", jobs);
    repo.script("left.sh", GATE);
    repo.script("right.sh", &format!("{GATE}; exit 7"));
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    repo.gate_waits(&commit, "left.sh");
    repo.gate_waits(&commit, "right.sh");
    repo.open_gate(&commit, "right.sh");
    pushing.line("right            failed");
    repo.open_gate(&commit, "left.sh");
    pushing.line("left             passed");
    pushing.line("after            passed");
    pushing.end().says("FAILED");
}
