//! Who lets what into an environment: never one person alone where two are asked for, never a branch by its own file.

use crate::http::get;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::{Said, World, said};

fn token(repo: &Repo<'_>, name: &str, rights: &str) -> String {
    repo.slipway(&["token", "add", name, "--rights", rights]).expect(0).out.trim().to_owned()
}

fn with(repo: &Repo<'_>, token: &str, arguments: &[&str]) -> Said {
    said(repo.world.command(&repo.root, arguments).env("SLIPWAY_TOKEN", token))
}

fn serves(repo: &Repo<'_>) -> String {
    get(&repo.address("web"), "/").unwrap().body
}

// R347
#[test]
fn who_brought_a_release_does_not_approve_it_also_where_it_is_deployed_by_hand() {
    let world = World::start();
    let repo = Repo::web(&world, "eyes", 1);
    let environments =
        format!("environments:\n  production:\n    approve: {{ count: 1 }}\n    verify: {{ {VERIFY} }}\n");
    repo.write("slipway.yaml", &format!("services:\n{}{environments}", service("web", 1)));
    repo.commit("one");
    repo.push_main().says("WAITING production web r1");
    let (eve, ann) = (token(&repo, "eve", "read,push,deploy,approve"), token(&repo, "ann", "read,approve"));
    with(&repo, &ann, &["approve", "web@r1", "-y"]).expect(0);
    repo.succeeded("web");
    let refused = |release: &str| {
        let own = with(&repo, &eve, &["approve", release, "-y"]).expect(1);
        for part in ["may not be approved by `eve`, who pushed it", "somebody else who has the right `approve`"] {
            assert!(own.err.contains(part), "`{part}` is missing in {own:?}");
        }
        assert_eq!(serves(&repo), "version one");
    };
    repo.behave("web", "version of eve");
    assert!(repo.pushing_with(&eve, &["slipway", "main"]).end().says("WAITING production web r2").ok);
    refused("web@r2");
    // Something newer takes its place; by hand it comes back, and is still hers.
    repo.behave("web", "version three");
    assert!(repo.pushing_with(&eve, &["slipway", "main"]).end().says("WAITING production web r3").ok);
    let asked = with(&repo, &eve, &["deploy", "web@r2", "--env", "production", "-y"]).expect(0);
    assert!(asked.out.contains("production web r2 waits: approval 1 of 1"), "{asked:?}");
    refused("web@r2");
    with(&repo, &ann, &["approve", "web@r2", "-y"]).expect(0);
    repo.until("it goes live", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    assert_eq!(serves(&repo), "version of eve");
}

// R006 R010
#[test]
fn what_the_production_branch_says_counts_also_when_its_own_plan_fails() {
    let world = World::start();
    let repo = Repo::web(&world, "edge", 1);
    let dockerfile = std::fs::read_to_string(repo.root.join("web/Dockerfile")).unwrap();
    std::fs::remove_file(repo.root.join("web/Dockerfile")).unwrap();
    repo.write("slipway.yaml", &file(&[service("web", 1)]));
    repo.commit("one");
    repo.push_main().says("FAILED").says("has no Dockerfile at `web/Dockerfile`");
    let eve = token(&repo, "eve", "read,push");
    repo.git(&["checkout", "-q", "-b", "feature"]).expect(0);
    repo.write("web/Dockerfile", &dockerfile);
    let from = file(&[service("web", 1)]).replace("  production:\n", "  production:\n    from: [\"**\"]\n");
    repo.write("slipway.yaml", &from);
    let commit = repo.commit("lets itself in");
    let pushed = repo.pushing_with(&eve, &["slipway", "feature"]).end().says("image web").not("LIVE").not("rollout");
    assert!(pushed.ok, "{}", pushed.text);
    repo.slipway(&["watch", &commit]).expect(0);
    assert_eq!(repo.slipway(&["release", "ls"]).expect(0).out, "");
    assert!(repo.lane("production", "web")["release"].is_null(), "{}", repo.status());
    // The production branch itself may.
    repo.git(&["checkout", "-q", "main"]).expect(0);
    repo.write("web/Dockerfile", &dockerfile);
    repo.commit("two");
    repo.push_main().says("LIVE production web r1");
}
