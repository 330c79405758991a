//! The road as a whole: what a merge does by itself, what stands behind it, what branches may.

use crate::http::get;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::World;
use serde_json::Value;

/// The result and name of each job of a change.
fn jobs(world: &World, project: &str, commit: &str) -> Vec<(String, String)> {
    let change = world.api(&format!("/api/v1/projects/{project}/changes/{commit}"));
    let text = |job: &Value, key: &str| job[key].as_str().unwrap_or_default().to_owned();
    change["jobs"].as_array().unwrap().iter().map(|job| (text(job, "name"), text(job, "result"))).collect()
}

fn job(name: &str, result: &str) -> (String, String) {
    (name.to_owned(), result.to_owned())
}

// R004 R007 R026 R044 R071 R167 A01
#[test]
fn a_merge_to_the_production_branch_goes_live_by_itself() {
    let world = World::start();
    let repo = Repo::web(&world, "merged", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.git(&["checkout", "-q", "-b", "feature"]).expect(0);
    let feature = repo.behave("web", "version two");
    repo.push(&["slipway", "feature"]).says("test web         passed").says("image web").says("PASSED").not("LIVE");
    assert_eq!(jobs(&world, "merged", &feature), [job("web/test", "passed")], "the result stands on the commit");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one", "nothing was deployed");
    let never = repo.slipway(&["deploy", &feature, "--env", "production", "-y"]).expect(1);
    assert!(never.err.contains("has no release"), "{never:?}");
    repo.git(&["checkout", "-q", "main"]).expect(0);
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge feature", "feature"]).expect(0);
    let merge = repo.head();
    // One command by a person; the rest happens by itself.
    repo.push_main().says(&merge[..7]).says("LIVE production web r2");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
    let change = world.api(&format!("/api/v1/projects/merged/changes/{merge}"));
    assert_eq!(change["releases"][0]["number"], 2);
    let begun = world.api(&format!("/api/v1/projects/merged/changes/{feature}"))["timings"]["to_first_job"].clone();
    assert!(begun.as_u64().is_some_and(|ms| ms <= 5_000), "from the push to its first job: {begun} ms");
    let live = change["timings"]["to_live"].as_u64().unwrap();
    assert!(live <= 10_000, "from the merge to live: {live} ms");
    let gate = &change["gates"][0];
    assert_eq!((gate["state"].as_str(), gate["release"].as_str()), (Some("passed"), Some("r2")), "{change:#}");
    let why = repo.slipway(&["why", &merge]).expect(0).out;
    assert!(why.contains("gate production web r2: passed: "), "{why}");
    let commands = world.events().into_iter().filter(|event| event["kind"] == "command.given").count();
    assert_eq!(commands, 0, "a person had to do something");
    nothing_is_without_a_commit(&world, &repo);
}

/// R004: whatever was built, released or deployed names a commit of the repository.
fn nothing_is_without_a_commit(world: &World, repo: &Repo<'_>) {
    let known = |commit: &Value| {
        let commit = commit.as_str().unwrap_or_else(|| panic!("no commit: {commit}"));
        repo.git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).expect(0);
    };
    let status = repo.status();
    for change in status["changes"].as_array().unwrap() {
        known(&change["commit"]);
        change["releases"].as_array().unwrap().iter().for_each(|release| known(&release["commit"]));
    }
    known(&repo.lane("production", "web")["release"]["commit"]);
    let begun = ["job.started", "image.started", "image.built", "release.made", "rollout.phase"];
    for event in world.events().iter().filter(|event| begun.contains(&event["kind"].as_str().unwrap_or_default())) {
        let change = event["change"].as_str().unwrap_or_else(|| panic!("no change: {event}"));
        known(&world.api(&format!("/api/v1/projects/{}/changes/{change}", repo.project))["commit"]);
    }
    let unpushed = repo.commit("never pushed");
    for (what, code) in [(unpushed.as_str(), 1), ("sha256:0000", 2), ("merged/web:latest", 2)] {
        repo.slipway(&["deploy", what, "--env", "production", "-y"]).expect(code);
    }
}

// R029
#[test]
fn the_definition_is_that_of_the_commit_that_is_built_also_when_it_is_built_again() {
    let world = World::start();
    let repo = Repo::web(&world, "defined", 1);
    let with = |job: &str| file(&[service("web", 1)]).replace("test: { run: ./test.sh", job);
    repo.write("slipway.yaml", &with("old-check: { run: echo by the old file; exit 3"));
    let old = repo.commit("old");
    repo.push_main().says("old-check web").says("FAILED").not("LIVE");
    repo.write("slipway.yaml", &with("test: { run: echo by the new file"));
    let new = repo.commit("new");
    repo.push_main().says("test web         passed").says("LIVE production web r1").not("old-check");
    let before = jobs(&world, "defined", &old);
    assert_eq!(before, [job("web/old-check", "failed")]);
    repo.slipway(&["retry", &old, "-y"]).expect(0);
    world.event("the old job ran again", |event| {
        let data = &event["data"];
        (event["kind"] == "job.started" && data["attempt"] == 2 && data["item"] == "job:web/old-check").then_some(())
    });
    repo.slipway(&["watch", &old, "--timeout", "60"]).expect(1);
    assert_eq!(jobs(&world, "defined", &old), before, "no job of the new file was added");
    assert_eq!(jobs(&world, "defined", &new), [job("web/test", "passed")]);
    // The old commit comes again, while the production branch has the new file.
    let again = format!("{old}:refs/heads/again");
    let pushed =
        repo.push(&["slipway", &again]).says("web/old-check").says("the same content failed in").says("FAILED");
    pushed.not("test web").not("LIVE");
}

// R005 R010 R355
#[test]
fn patterns_of_branches_say_what_runs_and_what_may_be_deployed_where() {
    let world = World::start();
    let repo = Repo::web(&world, "branches", 1);
    repo.write(
        "slipway.yaml",
        &format!(
            "branches:\n  production: trunk\n  exclude: [wip/*]\nservices:\n{}\
             environments:\n  staging:\n    from: [develop, release/*]\n    deploy: manual\n    verify: {{ {VERIFY} }}\n  production:\n    \
             verify: {{ {VERIFY} }}\n",
            service("web", 1)
        ),
    );
    repo.commit("one");
    repo.push(&["slipway", "main:wip/idea"]).says("SKIPPED").not("test web");
    repo.push(&["slipway", "main:main"]).says("test web").says("PASSED").not("LIVE");
    repo.push(&["slipway", "main:release/1"]).says("WAITING staging web r1").not("production web");
    repo.slipway(&["deploy", "web@r1", "--env", "staging", "-y"]).expect(0);
    crate::machine::until("a release branch may go to staging, by hand too", || {
        (repo.lane("staging", "web")["release"]["number"] == 1).then_some(())
    });
    assert!(repo.lane("production", "web")["release"].is_null());
    // Nor by hand, although nothing of the production branch was pushed yet.
    let refused = |number: u32| {
        let release = format!("web@r{number}");
        let said = repo.slipway(&["deploy", &release, "--env", "production", "-y"]).expect(1);
        assert!(said.out.contains(&format!("production web r{number} may not go in: ")), "{said:?}");
        world.event("production takes only its own branch", |event| {
            let (data, gate) = (&event["data"], event["data"]["gate"].to_string());
            let meant =
                data["candidate"]["number"] == number && data["candidate"]["lane"]["environment"] == "production";
            (meant && gate.contains("refused")).then_some(gate)
        })
    };
    let only = "is not part of trunk, from which production is deployed";
    assert!(refused(1).contains(only));
    repo.push(&["slipway", "main:trunk"]).says("LIVE production web r1").not("LIVE staging");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    repo.succeeded("web");
    // What is not part of the production branch stays out.
    repo.behave("web", "version two");
    repo.push(&["slipway", "main:release/2"]).says("WAITING staging web r2");
    assert!(refused(2).contains(only));
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
}

// R005 R006 R355
#[test]
fn a_branch_cannot_make_itself_the_production_branch_or_drop_an_approval() {
    let world = World::start();
    let repo = Repo::web(&world, "rulers", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let text = std::fs::read_to_string(repo.root.join("slipway.yaml")).unwrap();
    let with = |lines: &str| text.replace("  production:\n", &format!("  production:\n{lines}"));
    repo.git(&["checkout", "-q", "-b", "feature"]).expect(0);
    for own in [format!("branches: {{ production: feature }}\n{text}"), with("    from: [feature]\n")] {
        repo.write("slipway.yaml", &own);
        repo.behave("web", &format!("version of a feature with {} bytes", own.len()));
        repo.push(&["slipway", "feature"]).says("test web         passed").says("PASSED").not("LIVE").not("rollout");
        assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one", "{own}");
    }
    // What the production branch says counts, for other branches too.
    repo.git(&["checkout", "-q", "main"]).expect(0);
    repo.write("slipway.yaml", &with("    from: [main, feature]\n    approve: { count: 1, author: true }\n"));
    repo.behave("web", "version two");
    repo.push_main().says("WAITING production web r2: approval 1 of 1");
    repo.slipway(&["approve", "main", "-y"]).expect(0);
    repo.until("r2 is live", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    repo.git(&["checkout", "-q", "-B", "feature"]).expect(0);
    repo.write("slipway.yaml", &with("    from: [main, feature]\n"));
    repo.behave("web", "version without approval");
    repo.push(&["--force", "slipway", "feature"]).says("WAITING production web r3: approval 1 of 1").not("LIVE");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
}
