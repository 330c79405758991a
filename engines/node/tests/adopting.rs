//! Instances outlive the node; the next one finds them.

use crate::world::*;
use slipway_model::instance::InstanceState::{BackingOff, Ready};
use slipway_model::instance::LaneSeen;
use slipway_node::Ending;
use slipway_node::fd_store::FdStore;
use slipway_ports::FleetError;
use std::collections::BTreeSet;

// R321
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_adopted_without_a_restart() {
    let mut world = World::new().await;
    world.wish(wish(1, vec![slot("a", 2, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 2)]).await;
    let mut born = vec![world.get("/").await.1, world.get("/").await.1];
    world.crash().await;
    let error = world.wish(wish(2, vec![], &[])).await.unwrap_err();
    assert!(matches!(error, FleetError::NoNode), "{error}");
    world.start().await;
    let after = world.settles(1, &[("a", Ready, 2)]).await;
    let ids = |seen: &LaneSeen| seen.instances.iter().map(|i| (i.id.clone(), i.restarts)).collect::<BTreeSet<_>>();
    assert_eq!(ids(&before), ids(&after));
    // The same processes, at the same addresses.
    let mut now = vec![world.get("/").await.1, world.get("/").await.1];
    born.sort();
    now.sort();
    assert_eq!(born, now);
    assert_eq!(own_port(&before), own_port(&after));
    assert_eq!(get(own_port(&after), "x", "/").await.0, 200);
}

// R321
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_died_meanwhile_is_reported_with_its_true_exit_and_started_again() {
    let mut world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 1)]).await;
    let id = before.instances[0].id.clone();
    let folder = world.scratch.node().join("instances").join(id.as_str()).join("run-0");
    world.crash().await;
    tokio::task::spawn_blocking(move || {
        let slipway_sandbox::Attached::Running(shim) = slipway_sandbox::attach(&folder).unwrap() else {
            panic!("it runs")
        };
        let mut stream = shim.connect(3000, LIMIT).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /exit/42 HTTP/1.1\r\n\r\n").unwrap();
        assert!(shim.wait(LIMIT).unwrap().is_some());
    })
    .await
    .unwrap();
    world.start().await;
    let after = world.settles(1, &[("a", Ready, 1)]).await;
    let one = &after.instances[0];
    let exit = one.exit.as_ref().unwrap();
    assert_eq!((&one.id, one.restarts), (&id, 1));
    assert_eq!((exit.code, exit.last_line.as_str(), exit.out_of_memory), (42, "told to exit with 42", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_wished_any_more_goes_at_the_next_start() {
    let mut world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    world.crash().await;
    for entry in std::fs::read_dir(world.scratch.node().join("state")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    world.start().await;
    world.sees("it is gone", |seen| seen.epoch == 0 && seen.instances.is_empty()).await;
    assert_eq!(std::fs::read_dir(world.scratch.node().join("instances")).unwrap().count(), 0);
}

// R302
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_by_itself_is_started_again_after_a_pause() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[("CRASH", "3")]))], &[("a", 1)])).await.unwrap();
    let seen = world.sees("three restarts", |seen| seen.instances.iter().any(|i| i.restarts == 3)).await;
    let one = &seen.instances[0];
    assert_eq!(one.state, BackingOff);
    assert!(one.reason.starts_with("exited with code 3 after 0."), "{}", one.reason);
    assert!(one.reason.ends_with("; last line: \"about to crash\""), "{}", one.reason);
    assert_eq!(one.exit.as_ref().unwrap().code, 3);
    // The pauses grow: 100 and 200 ms lie between the first and the third end.
    let history = world.heard.borrow().history.clone();
    let end = |restarts| {
        history.iter().find_map(|s| s.instances.iter().find(|i| i.restarts == restarts)?.exit.clone()).unwrap().at
    };
    assert!(end(3).since_ms(end(1)) >= 300, "{:?} {:?}", end(1), end(3));
    // It never becomes two.
    assert!(history.iter().all(|seen| seen.instances.len() <= 1));
    // R219: nothing of it is left once it is not wanted.
    world.wish(wish(2, vec![], &[])).await.unwrap();
    world.settles(2, &[]).await;
}

// R302
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_its_memory_limit_is_reported_so_and_started_again() {
    let world = World::new().await;
    let mut spec = spec(&[]);
    spec.resources.memory_bytes = Some(64 << 20);
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    assert_eq!(world.get("/eat").await.0, 502);
    let seen = world
        .sees("it is ready again", |seen| seen.instances.iter().any(|i| i.restarts == 1 && i.state == Ready))
        .await;
    let exit = seen.instances[0].exit.as_ref().unwrap();
    assert!(exit.out_of_memory && exit.code == 137, "{exit:?}");
    let history = world.heard.borrow().history.clone();
    let reason = history.iter().flat_map(|s| &s.instances).find(|i| i.state == BackingOff).unwrap().reason.clone();
    assert!(reason.starts_with("reached its memory limit of 64 MiB after "), "{reason}");
    assert!(reason.contains("; fix: add resources: memory: more than 64 MiB below slipway.yaml:3"), "{reason}");
}

// R302
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_is_noticed_and_its_instance_started_again() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 1)]).await;
    let folder = world.scratch.node().join("instances").join(before.instances[0].id.as_str()).join("run-0");
    let slipway_sandbox::Attached::Running(shim) = slipway_sandbox::attach(&folder).unwrap() else { panic!("it runs") };
    let pid = rustix::process::Pid::from_raw(i32::try_from(shim.status().unwrap().shim_pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let seen = world
        .sees("it is ready again", |seen| seen.instances.iter().any(|i| i.restarts == 1 && i.state == Ready))
        .await;
    let exit = seen.instances[0].exit.as_ref().unwrap();
    assert_eq!((exit.code, exit.last_line.as_str()), (137, "listening on :3000"));
    assert_eq!(world.get("/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_wait_in_the_store_while_no_node_runs() {
    let mut world = World::without_node();
    let socket = world.scratch.0.join("run/fd.sock");
    *world.fd_store.lock().unwrap() = Some(socket.clone());
    let store = FdStore::serve(&socket).unwrap();
    world.start().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let seen = world.settles(1, &[("a", Ready, 1)]).await;
    let (hosts, own) = (world.proxy(), own_port(&seen));
    assert_eq!(store.names(), ["hosts/0", "lane/shop/production/api"]);
    world.crash().await;
    let waiting = [tokio::spawn(try_get(hosts, "api.localhost", "/")), tokio::spawn(try_get(own, "x", "/"))];
    world.start().await;
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().0, 200);
    }
    assert_eq!(world.proxy(), hosts);
    // A new `up` gets everything again.
    drop(store);
    let store = FdStore::serve(&socket).unwrap();
    let all = async {
        while store.names().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the sockets are put again", all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_everything_keeps_the_wishes_for_the_next_start() {
    let mut world = World::new().await;
    world.wish(wish(1, vec![slot("a", 2, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 2)]).await;
    soon("all stop", world.client.stop_everything()).await.unwrap();
    world.settles(1, &[]).await;
    soon("it leaves", world.node.take().unwrap().leave()).await;
    world.hears("it is gone", |heard| (!heard.up).then_some(())).await;
    world.start().await;
    let after = world.settles(1, &[("a", Ready, 2)]).await;
    assert!(after.instances.iter().all(|i| before.instances.iter().all(|b| b.id != i.id)));
    assert_eq!(own_port(&before), own_port(&after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_lets_instances_run_and_refuses_to_share_its_folder() {
    let mut world = World::new().await;
    let spec = spec(&[]);
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 1)]).await;
    let options = slipway_node::NodeOptions::new(
        world.scratch.node(),
        world.scratch.0.join("run/serve.sock"),
        TESTBED.into(),
        std::sync::Arc::new(NoImages),
    );
    let leave: slipway_node::Leave = Box::pin(async { Ending::LeaveRunning });
    let second = slipway_node::Node::run(options, leave).await.unwrap_err();
    assert!(second.to_string().starts_with("another node runs on "), "{second}");
    let slow = tokio::spawn(try_get(world.proxy(), "api.localhost", "/slow"));
    let in_flight = async {
        while world.client.is_connected() && world.heard.borrow().traffic.is_empty() {
            world.get("/").await;
        }
    };
    in_flight.await;
    soon("it leaves", world.node.take().unwrap().leave()).await;
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
    world.hears("it is gone", |heard| (!heard.up).then_some(())).await;
    world.start().await;
    let after = world.settles(1, &[("a", Ready, 1)]).await;
    assert_eq!(before.instances[0].id, after.instances[0].id);
}

struct NoImages;

impl slipway_node::Unpack for NoImages {
    fn unpack(&self, _: &slipway_model::Digest, _: &std::path::Path) -> Result<slipway_node::Unpacked, String> {
        Err("there are none".into())
    }
}
