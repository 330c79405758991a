//! What somebody meets who uses Slipway for the first time: unknown names, commits that are not pushed yet, acts that
//! come to nothing, a terminal that goes away.

use crate::machine::{binary, lives, signal, until};
use crate::repo::{Repo, VERIFY, service};
use crate::world::{World, said, scratch};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn by_hand(approve: &str) -> String {
    format!(
        "services:\n{}environments:\n  staging:\n    verify: {{ {VERIFY} }}\n  production:\n    after: [staging]\n{approve}    \
         verify: {{ {VERIFY} }}\n",
        service("web", 1)
    )
}

#[test]
fn an_unknown_name_is_the_command_lines_fault_and_the_known_ones_are_named() {
    let world = World::start();
    let repo = Repo::web(&world, "names", 1);
    repo.write("slipway.yaml", &by_hand("    deploy: manual\n"));
    let nothing = repo.slipway(&["status"]).expect(0);
    assert!(nothing.out.contains("nothing was pushed yet"), "{nothing:?}");
    repo.commit("one");
    repo.push_main().says("WAITING production web r1");
    let known = "error: there is no environment `nope` in `names`; there are `staging`, `production`";
    for command in [["why", "web"], ["logs", "web"], ["rollback", "web"], ["history", "web"], ["deploy", "web@r1"]] {
        let said = repo.slipway(&[command[0], command[1], "--env", "nope"]).expect(2);
        assert!(said.err.contains(known), "{command:?}: {said:?}");
    }
    let mut add = world.command(&repo.root, &["secret", "add", "KEY", "--env", "nope"]);
    let said = crate::world::said(add.stdin(std::fs::File::open(repo.root.join("slipway.yaml")).unwrap())).expect(2);
    assert!(said.err.contains(known), "{said:?}");
    let service = repo.slipway(&["rollback", "nope", "-y"]).expect(2);
    assert!(service.err.contains("there is no service `nope` in `names`; there is `web`"), "{service:?}");
    let project = repo.slipway(&["history", "--project", "nope"]).expect(2);
    assert!(project.err.contains("there is no project `nope`; there is `names`"), "{project:?}");
}

#[test]
fn head_is_that_of_the_working_tree_and_a_plan_is_compared_with_what_was_pushed() {
    let world = World::start();
    let repo = Repo::web(&world, "heads", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let idle = repo.slipway(&["plan"]).expect(0).out;
    assert!(idle.contains("nothing to do") && !idle.contains(" run "), "{idle}");
    repo.write("web/behaviour", "version two\n");
    let changed = repo.slipway(&["plan"]).expect(0).out;
    assert!(changed.contains("run           files that count for it changed"), "{changed}");
    let commit = repo.commit("two");
    let short = &commit[..7];
    for command in ["plan", "why", "watch"] {
        let said = repo.slipway(&[command, "HEAD"]).expect(1);
        assert!(said.err.contains(&format!("error: commit {short} was not pushed to `heads`")), "{said:?}");
    }
    repo.slipway(&["watch", "web"]).expect(0);
    assert!(repo.slipway(&["logs", "test"]).expect(0).out.contains("tested"));
}

#[test]
fn an_act_says_what_came_of_it_and_what_may_not_be_is_an_error() {
    let world = World::start();
    let repo = Repo::web(&world, "acts", 1);
    repo.write("slipway.yaml", &by_hand("    approve: { author: false }\n"));
    repo.commit("one");
    repo.push_main().says("WAITING production web r1");
    // Who pushed it may not agree to it; another token may, and its word stands between the lines.
    let own = repo.slipway(&["approve", "-y"]).expect(1);
    assert!(own.err.contains("may not be approved by `owner`"), "{own:?}");
    let ann = repo.slipway(&["token", "add", "ann", "--rights", "read,approve"]).expect(0).out;
    let mut approve = world.command(&repo.root, &["approve", "-y", "--reason", "it is good"]);
    let given = said(approve.env("SLIPWAY_TOKEN", ann.trim())).expect(0);
    assert!(given.out.contains("production web r1 goes in"), "{given:?}");
    let watched = repo.slipway(&["watch"]).expect(0).out;
    assert!(watched.contains("ann: approve web in production: it is good"), "{watched}");
    assert!(watched.trim_end().lines().last().is_some_and(|last| last.contains("LIVE production web r1")), "{watched}");
    repo.succeeded("web");
    let same = repo.slipway(&["deploy", "web@r1", "--env", "production", "-y"]).expect(0);
    assert!(same.out.contains("production web r1: nothing to do"), "{same:?}");
    let ended = repo.slipway(&["cancel", "-y"]).expect(1);
    assert!(ended.err.contains("has ended already: live"), "{ended:?}");
    // A hold is shown, with its reason and the way out.
    let head = repo.head();
    let short = &head[..7];
    repo.slipway(&["hold", "-y", "--reason", "friday"]).expect(0);
    assert!(repo.slipway(&["status"]).expect(0).out.contains(&format!("{short} is held here")));
    let why = repo.slipway(&["why", "web"]).expect(0).out;
    assert!(why.contains(&format!("{short} is held here: friday    next: slipway unhold {short}")), "{why}");
}

#[test]
fn up_without_a_reader_goes_on_and_ends_by_ctrl_c() {
    let dir = scratch();
    let data = dir.join("data");
    std::fs::create_dir_all(&dir).unwrap();
    let mut up = Command::new(binary())
        .args(["up", "--http", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .env_remove("SLIPWAY_DATA")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("slipway is up at"));
    // `up | head -1`, and nobody reads its messages either.
    drop(lines);
    drop(up.stderr.take());
    let pid = |part: &str| -> i32 {
        let text = std::fs::read_to_string(data.join(format!("run/{part}.pid"))).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let parts = ["serve", "node", "worker"].map(pid);
    // A part that dies is started again: the supervisor is still there.
    signal(parts[2], Signal::KILL);
    until("the worker is started again", || {
        let now = std::fs::read_to_string(data.join("run/worker.pid")).ok()?;
        let now: i32 = now.split(' ').next()?.parse().ok()?;
        (now != parts[2] && lives(now)).then_some(())
    });
    let again = pid("worker");
    signal(i32::try_from(up.id()).unwrap(), Signal::INT);
    let status = until("up ends", || up.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    for part in [parts[0], parts[1], again] {
        assert!(!lives(part), "process {part} stays behind");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

const PROGRAM: &str = r#"use std::io::{Read, Write};
use std::net::TcpListener;

fn answer(request: &str) -> &'static str {
    if request.starts_with("GET /healthz ") { "fine" } else { "hello" }
}

fn main() {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8099".into());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    for stream in listener.incoming() {
        let (mut stream, mut bytes) = (stream.unwrap(), [0; 4096]);
        let read = stream.read(&mut bytes).unwrap_or(0);
        let body = answer(&String::from_utf8_lossy(&bytes[..read]));
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }
}

#[test]
fn health_is_told() {
    assert_eq!(answer("GET /healthz HTTP/1.1"), "fine");
}
"#;

// R421
#[test]
fn a_program_without_any_configuration_is_live_after_init_and_a_push() {
    let world = World::start();
    let repo = Repo::new(&world, "fresh");
    repo.write("Cargo.toml", "[package]\nname = \"fresh\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n");
    repo.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"fresh\"\nversion = \"0.1.0\"\n");
    repo.write("src/main.rs", PROGRAM);
    repo.write(".gitignore", "target\ndist\n");
    let shown = repo.slipway(&["init", "--dry-run"]).expect(0);
    assert!(shown.out.contains("would write slipway.yaml") && !repo.root.join("slipway.yaml").exists(), "{shown:?}");
    let wrote = repo.slipway(&["init"]).expect(0);
    for part in
        ["wrote slipway.yaml", "wrote Dockerfile", "wrote .git/hooks/pre-commit", "port: 8099", "health: /healthz"]
    {
        assert!(wrote.out.contains(part), "`{part}` is missing in {wrote:?}");
    }
    repo.slipway(&["lint"]).expect(0);
    repo.slipway(&["init"]).expect(1);
    // The hook looks for the program by its name; here it is not in PATH under it.
    std::fs::remove_file(repo.root.join(".git/hooks/pre-commit")).unwrap();
    repo.commit("as it was recognised");
    repo.push_main().says("test fresh       passed").says("LIVE production fresh r1");
    assert_eq!(crate::http::get(&repo.address("fresh"), "/").unwrap().body, "hello");
}
