//! Deaths of every process at every moment: what runs goes on, what was begun is ended.

use crate::http::{get, post};
use crate::load::{Load, User};
use crate::machine::{lives, pid_of_instance, until};
use crate::repo::{GATE, Repo};
use crate::world::World;
use rustix::process::Signal;
use std::time::Duration;

const USERS: [User; 4] = [User::Reads("/"), User::Comes("/"), User::Writes("/entries"), User::Reads("/entries")];

fn live<'a>(world: &'a World, project: &str) -> Repo<'a> {
    let repo = Repo::web(world, project, 2);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo
}

fn users(repo: &Repo<'_>) -> Load {
    Load::start(&repo.address("web"), Duration::from_millis(10), &USERS)
}

/// The part is there again and the control plane answers.
fn back(world: &World, part: &str, before: i32) {
    until("a killed part is started again", || {
        let pid = world.pid(part);
        (pid != before && crate::http::get(&world.url, "/healthz").is_ok_and(|answer| answer.status == 200))
            .then_some(())
    });
}

// R321 R302
#[test]
fn instances_and_their_users_do_not_notice_the_death_of_serve_and_worker() {
    let world = World::start();
    let repo = live(&world, "calm");
    let before = repo.instances("web");
    let load = users(&repo);
    for part in ["serve", "worker"] {
        let pid = world.pid(part);
        world.kill(part);
        back(&world, part, pid);
        load.more(50);
    }
    let (_, failed) = load.stop();
    assert!(failed.is_empty(), "{failed:?}");
    until("the node is connected again", || (repo.instances("web") == before).then_some(()));
    repo.behave("web", "version two");
    repo.push_main().says("LIVE production web r2");
}

// R321
#[test]
fn the_death_of_the_node_breaks_open_requests_alone() {
    let world = World::start();
    let repo = live(&world, "node");
    let before = repo.instances("web");
    let load = users(&repo);
    load.more(50);
    let pid = world.pid("node");
    world.kill("node");
    back(&world, "node", pid);
    load.more(100);
    let broken = load.failed();
    assert!(broken <= USERS.len(), "more than the open requests broke: {broken}");
    load.more(100);
    let (_, failed) = load.stop();
    assert_eq!(failed.len(), broken, "it breaks further: {failed:?}");
    until("the same instances are seen", || (repo.instances("web") == before).then_some(()));
    repo.behave("web", "version two");
    repo.push_main().says("LIVE production web r2");
}

// R321
#[test]
fn a_job_goes_on_over_the_death_of_serve_and_worker() {
    let world = World::start();
    let repo = Repo::web(&world, "jobs", 1);
    for (number, part) in ["serve", "worker"].into_iter().enumerate() {
        repo.script("web/test.sh", &format!("# {number}\n{GATE}"));
        repo.write("web/behaviour", &format!("version {part}\n"));
        let commit = repo.commit(part);
        let mut pushing = repo.pushing(&["slipway", "main"]);
        pushing.line("change");
        let job = until("the job runs", || {
            let jobs = crate::machine::processes(&format!("SLIPWAY_COMMIT={commit}"));
            jobs.into_iter().find(|(_, line)| line.contains("test.sh"))
        });
        let pid = world.pid(part);
        world.kill(part);
        back(&world, part, pid);
        assert!(lives(job.0), "the job died with {part}");
        repo.open_gate(&commit, "test.sh");
        repo.slipway(&["watch", &commit, "--timeout", "60"]).expect(0);
        assert_eq!(get(&repo.address("web"), "/").unwrap().body, format!("version {part}"));
        drop(pushing);
    }
    // Nothing ran twice.
    let jobs = repo.status()["changes"].to_string();
    assert!(!jobs.contains("\"attempt\":2"), "{jobs}");
}

// R321
#[test]
fn a_rollout_goes_on_over_the_death_of_any_part() {
    let world = World::start();
    let repo = live(&world, "midway");
    for (number, part) in ["serve", "node", "worker"].into_iter().enumerate() {
        let commit = repo.behave("web", &format!("version {part}"));
        let mut pushing = repo.pushing(&["slipway", "main"]);
        pushing.line("rollout web");
        let pid = world.pid(part);
        world.kill(part);
        back(&world, part, pid);
        repo.slipway(&["watch", &commit, "--timeout", "80"]).expect(0);
        let serving = number as u64 + 2;
        repo.until("it serves", "web", |lane| lane["release"]["number"] == serving && lane["phase"] == "succeeded");
        assert_eq!(get(&repo.address("web"), "/").unwrap().body, format!("version {part}"));
        repo.until("the old ones are gone", "web", |lane| lane["instances"].as_array().map(Vec::len) == Some(2));
        drop(pushing);
    }
}

// R321
#[test]
fn everything_killed_at_once_in_the_middle_goes_on_where_it_was() {
    let world = World::start();
    let repo = live(&world, "blackout");
    let load = users(&repo);
    for (round, line) in ["test web", "image web", "rollout web"].into_iter().enumerate() {
        let version = format!("version after {line}");
        let commit = repo.behave("web", &version);
        let mut pushing = repo.pushing(&["slipway", "main"]);
        pushing.line(line);
        let parts: Vec<i32> = ["up", "serve", "node", "worker"].iter().map(|part| world.pid(part)).collect();
        parts.iter().for_each(|pid| crate::machine::signal(*pid, Signal::KILL));
        world.ended();
        world.up();
        let number = round as u64 + 2;
        repo.until("it serves", "web", |lane| lane["release"]["number"] == number && lane["phase"] == "succeeded");
        repo.slipway(&["watch", &commit, "--timeout", "60"]).expect(0);
        assert_eq!(get(&repo.address("web"), "/").unwrap().body, version);
        repo.until("the old ones are gone", "web", |lane| lane["instances"].as_array().map(Vec::len) == Some(2));
    }
    load.stop();
    let builds: Vec<String> =
        repo.status()["changes"].as_array().unwrap().iter().map(|change| change["images"].to_string()).collect();
    assert_eq!(builds.len(), 4, "{builds:?}");
}

// R321 R302
#[test]
fn a_rollout_goes_on_without_up() {
    let world = World::start();
    let repo = live(&world, "orphan");
    let load = users(&repo);
    repo.behave("web", "version two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("rollout web");
    world.kill("up");
    pushing.end().says("LIVE production web r2");
    world.up();
    repo.succeeded("web");
    let (_, failed) = load.stop();
    assert!(failed.is_empty(), "{failed:?}");
}

// R302
#[test]
fn a_killed_instance_is_started_again_and_its_exit_code_is_told() {
    let world = World::start();
    let repo = live(&world, "restart");
    let before = repo.instances("web");
    let _ = post(&repo.address("web"), "/die");
    let told = world.event("the exit code", |event| {
        let text = event.to_string();
        (event["kind"] == "instance.state" && text.contains("told to die")).then_some(text)
    });
    assert!(told.contains('7'), "{told}");
    let lane = repo.until("it is ready again", "web", |lane| {
        let instances = lane["instances"].as_array().cloned().unwrap_or_default();
        instances.len() == 2
            && instances.iter().all(|instance| instance["state"] == "ready")
            && instances.iter().any(|instance| instance["restarts"] == 1)
    });
    assert!(lane["release"]["number"] == 1);
    let killed = before[0].clone();
    crate::machine::signal(until("it has a process", || pid_of_instance(&killed.0)), Signal::KILL);
    world.event("the signal", |event| {
        let text = event.to_string();
        (event["kind"] == "instance.state" && text.contains(&killed.0) && (text.contains('9') || text.contains("KILL")))
            .then_some(())
    });
    repo.until("both are ready", "web", |lane| {
        let instances = lane["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().filter(|instance| instance["state"] == "ready").count() == 2
    });
}

// R302 R321
#[test]
fn an_instance_that_dies_while_the_node_is_dead_is_reported_with_its_exit_code() {
    let world = World::start();
    let repo = live(&world, "meanwhile");
    let before = repo.instances("web");
    let (up, node) = (world.pid("up"), world.pid("node"));
    // While `up` is stopped, nobody starts the node again.
    crate::machine::signal(up, Signal::STOP);
    crate::machine::signal(node, Signal::KILL);
    crate::machine::signal(before[0].1, Signal::KILL);
    until("the instance is dead", || (!lives(before[0].1)).then_some(()));
    crate::machine::signal(up, Signal::CONT);
    let told = world.event("its end is told", |event| {
        let text = event.to_string();
        (event["kind"] == "instance.state" && text.contains(&before[0].0) && text.contains("9")).then_some(text)
    });
    assert!(told.contains("SIGKILL") || told.contains("signal"), "{told}");
    let after = repo.until("both are ready", "web", |lane| {
        let instances = lane["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().filter(|instance| instance["state"] == "ready").count() == 2
    });
    assert!(after.to_string().contains(&before[1].0), "the other one went on");
    assert!(lives(before[1].1));
}

// R321
#[test]
fn a_new_up_takes_over_what_a_killed_one_left() {
    let world = World::start();
    let repo = live(&world, "adopt");
    let before = repo.instances("web");
    let parts: Vec<i32> = ["serve", "node", "worker"].iter().map(|part| world.pid(part)).collect();
    let load = users(&repo);
    let second = world.slipway(&["up", "--http", "127.0.0.1:0", "--proxy", "127.0.0.1:0"]).expect(3);
    assert!(second.err.contains(&world.pid("up").to_string()), "{second:?}");
    assert!(second.err.contains("hint:"), "{second:?}");
    world.kill("up");
    load.more(50);
    world.up();
    let adopted: Vec<i32> = ["serve", "node", "worker"].iter().map(|part| world.pid(part)).collect();
    assert_eq!(adopted, parts);
    assert_eq!(repo.instances("web"), before);
    // The new one keeps the parts, and the sockets of the proxy: a node that dies is started again by it.
    world.kill("node");
    back(&world, "node", parts[1]);
    load.more(100);
    let broken = load.failed();
    assert!(broken <= USERS.len(), "more than the open requests broke: {broken}");
    let (_, failed) = load.stop();
    assert_eq!(failed.len(), broken, "{failed:?}");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE production web r2");
}

// R321
#[test]
fn ctrl_c_stops_everything_and_the_next_up_starts_it_again() {
    let world = World::start();
    let repo = live(&world, "again");
    let before = repo.instances("web");
    let address = repo.address("web");
    assert_eq!(world.end(Signal::INT), Some(0));
    let left = crate::machine::processes(&world.dir.display().to_string());
    assert!(left.is_empty(), "{left:?}");
    assert!(before.iter().all(|(_, pid)| !lives(*pid)));
    world.up();
    until("it serves again, at the same address", || {
        get(&address, "/").ok().filter(|answer| answer.status == 200).map(drop)
    });
    repo.behave("web", "version two");
    repo.push_main().says("LIVE production web r2");
}

// R321
#[test]
fn the_end_of_the_control_plane_leaves_the_services_running() {
    let world = World::start();
    let repo = live(&world, "leave");
    let before = repo.instances("web");
    let address = repo.address("web");
    let load = users(&repo);
    assert_eq!(world.end(Signal::TERM), Some(0));
    load.more(50);
    world.up();
    until("the same instances are seen", || (repo.instances("web") == before).then_some(()));
    world.slipway(&["down"]).expect(0);
    world.ended();
    load.more(50);
    world.up();
    until("the same instances are seen", || (repo.instances("web") == before).then_some(()));
    let (_, failed) = load.stop();
    assert!(failed.is_empty(), "{failed:?}");
    world.slipway(&["down", "--services"]).expect(0);
    world.ended();
    assert!(get(&address, "/").is_err());
    assert!(before.iter().all(|(_, pid)| !lives(*pid)));
    world.slipway(&["down"]).expect(3);
}
