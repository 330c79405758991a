//! What the second new user stumbled over: secrets that change, wishes that cross, a person's word that counts too much
//! or too little, commands that a second person types first.

use crate::http::get;
use crate::machine::{lives, processes, signal, until};
use crate::repo::{Repo, VERIFY, service};
use crate::world::{Said, World, said};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

fn set(repo: &Repo<'_>, name: &str, value: &str) -> String {
    let mut command = repo.world.command(&repo.root, &["secret", "add", name, "--env", "production"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn serves(repo: &Repo<'_>) -> String {
    get(&repo.address("web"), "/").unwrap().body
}

fn with(repo: &Repo<'_>, token: &str, arguments: &[&str]) -> Said {
    said(repo.world.command(&repo.root, arguments).env("SLIPWAY_TOKEN", token))
}

// R310 R517
#[test]
fn a_changed_secret_is_no_fault_of_a_release_and_comes_in_by_a_restart() {
    let world = World::start();
    let repo = Repo::web(&world, "rotates", 1);
    let service = service("web", 1).replace("    jobs:", "    secrets: [KEY]\n    jobs:");
    repo.write(
        "slipway.yaml",
        &format!("services:\n{service}environments:\n  production:\n    verify: {{ {VERIFY} }}\n"),
    );
    repo.write("web/behaviour", "version one\nprint KEY\n");
    repo.commit("nothing yet [ci skip]");
    repo.push_main();
    assert_eq!(set(&repo, "KEY", "value-number-one"), "");
    repo.commit("one");
    repo.push_main().says("LIVE production web r1");
    repo.succeeded("web");
    let before = repo.instances("web");
    let told = set(&repo, "KEY", "value-number-two");
    assert!(told.contains("slipway restart web --env production"), "{told}");
    assert!(repo.slipway(&["status"]).expect(0).out.contains("KEY changed since its instances began"));
    // An innocent commit is not taken back for it, and brings the new value.
    repo.write("web/behaviour", "version two\nprint KEY\n");
    repo.commit("two");
    repo.push_main().says("LIVE production web r2").not("ROLLED BACK");
    repo.succeeded("web");
    assert!(!repo.slipway(&["status"]).expect(0).out.contains("KEY changed"));
    set(&repo, "KEY", "value-number-three");
    let two = repo.instances("web");
    assert_ne!(before, two);
    let restarted = repo.slipway(&["restart", "web", "-y", "--wait"]).expect(0);
    assert!(restarted.out.contains("LIVE production web r3"), "{restarted:?}");
    assert_ne!(repo.instances("web"), two);
    assert_eq!(serves(&repo), "version two");
    assert!(!repo.slipway(&["status"]).expect(0).out.contains("KEY changed"));
    // New instances of a release are not what one goes back from them to.
    set(&repo, "KEY", "value-number-four");
    let back = repo.slipway(&["rollback", "web", "-y", "--wait"]).expect(0);
    assert!(back.out.contains("LIVE production web r1"), "{back:?}");
    assert_eq!(serves(&repo), "version one");
}

// R323
#[test]
fn the_last_of_three_wishes_is_what_serves() {
    let world = World::start();
    let repo = Repo::web(&world, "wishes", 1);
    let slow = format!(
        "services:\n{}environments:\n  production:\n    verify: {{ hold: 3s, bake: 100ms }}\n",
        service("web", 1)
    );
    repo.write("slipway.yaml", &slow);
    repo.commit("one");
    repo.push_main().says("LIVE production web r1");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE production web r2");
    repo.succeeded("web");
    let stepping = |number: u64| {
        repo.until("it is under way", "web", |lane| {
            lane["rollout"]["to"] == format!("r{number}") && lane["phase"] == "stepping"
        });
    };
    repo.slipway(&["rollback", "web", "-y"]).expect(0);
    stepping(1);
    repo.slipway(&["rollback", "web", "--to", "r2", "-y"]).expect(0);
    let last = repo.slipway(&["rollback", "web", "--to", "r1", "-y", "--wait"]);
    assert_eq!(serves(&repo), "version one", "{last:?}");
    repo.until("r1 serves", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    // While a release goes in, back is to the one that it is to replace.
    repo.slipway(&["rollback", "web", "--to", "r2", "-y", "--wait"]).expect(0);
    repo.behave("web", "version three");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("rollout");
    stepping(3);
    let back = repo.slipway(&["rollback", "web", "-y"]).expect(0);
    assert!(back.err.contains("back to r2"), "{back:?}");
    pushing.end();
    repo.until("r2 serves", "web", |lane| lane["release"]["number"] == 2 && lane["rollout"].is_null());
    assert_eq!(serves(&repo), "version two");
}

// R006 R347
#[test]
fn a_yes_is_for_the_content_and_is_no_deployment() {
    let world = World::start();
    let repo = Repo::web(&world, "words", 1);
    repo.write(
        "slipway.yaml",
        &format!(
            "services:\n{}environments:\n  preview: {{ deploy: manual, verify: {{ {VERIFY} }} }}\n  production:\n    \
             approve: {{ count: 2 }}\n    verify: {{ {VERIFY} }}\n",
            service("web", 1)
        ),
    );
    repo.commit("one");
    repo.push_main().says("WAITING production web r1: approval 1 of 2");
    let token = |name: &str| repo.slipway(&["token", "add", name, "--rights", "read,approve"]).expect(0).out;
    let (ann, ben) = (token("ann"), token("ben"));
    let given = with(&repo, ann.trim(), &["approve", "-y"]).expect(0);
    assert!(given.out.contains("approval 2 of 2") && !given.out.contains("preview"), "{given:?}");
    let preview = with(&repo, ann.trim(), &["approve", "--env", "preview", "-y"]).expect(1);
    assert!(preview.err.contains("preview is deployed by hand"), "{preview:?}");
    // The same content under another name waits as well, with what was said of it.
    repo.git(&["commit", "-q", "--amend", "-m", "one, in other words"]).expect(0);
    let again = repo.push(&["--force", "slipway", "main"]);
    assert!(again.says("WAITING production web r1: approval 2 of 2").ok);
    with(&repo, ben.trim(), &["approve", "-y", "--wait"]).expect(0);
    assert_eq!(serves(&repo), "version one");
    let wrong = repo.slipway(&["deploy", "web@r1", "--env", "preview", "-y", "--wait"]).expect(0);
    assert!(wrong.out.contains("LIVE preview web r1"), "{wrong:?}");
}

#[test]
fn ctrl_c_ends_the_jobs_that_run_here() {
    let world = World::start();
    let repo = Repo::web(&world, "ends", 1);
    repo.script("web/test.sh", "echo it is $$; exec sleep 97531");
    repo.commit("one");
    let mut child = world.command(&repo.root, &["run"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let scratch = std::env::temp_dir().join(format!("slipway-run-{}", child.id()));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("it is ") {}
    let pid = until("it sleeps", || processes("sleep 97531").first().map(|(pid, _)| *pid));
    signal(i32::try_from(child.id()).unwrap(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!lives(pid), "the job's process goes on");
    assert!(!scratch.exists(), "{} stays behind", scratch.display());
}

// R033
#[test]
fn a_clone_finds_its_server_and_a_plan_knows_what_passed_before() {
    let world = World::start();
    let repo = Repo::web(&world, "cloned", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let clone = world.dir.join("clone");
    let url = format!("{}/git/cloned.git", world.url);
    repo.git(&["clone", "-q", &url, clone.to_str().unwrap()]).expect(0);
    let here = |arguments: &[&str]| said(&mut world.command(&clone, arguments));
    assert!(here(&["status"]).expect(0).out.contains("r2"));
    // What passed once under another commit is known, also in a working tree.
    repo.git(&["revert", "--no-edit", "HEAD"]).expect(0);
    let plan = repo.slipway(&["plan"]).expect(0).out;
    assert_eq!(plan.matches("reused        the same content passed").count(), 2, "{plan}");
    let undeletable = repo.push(&["slipway", ":main"]);
    assert!(!undeletable.ok && undeletable.text.contains("is the production branch"), "{}", undeletable.text);
}
