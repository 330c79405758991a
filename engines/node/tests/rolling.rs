//! Wishes become instances and routes, within bounds and without a lost request.

use crate::world::*;
use slipway_model::Secret;
use slipway_model::instance::InstanceState::{Ready, Retiring, Starting};
use slipway_model::policy::Smoke;
use slipway_node::LogsWanted;
use slipway_ports::{Fleet, FleetError, Traffic};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

// R223
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_becomes_ready_instances_that_are_reached_by_host_name_and_by_port() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 2, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let seen = world.settles(1, &[("a", Ready, 2)]).await;
    assert!(seen.routed && seen.weights == [(release("a"), 1)], "{seen:?}");
    let (status, body) = world.get("/").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with("aaaaaaaa api-production-aaaaaaaa-"), "{body}");
    assert_eq!(get(own_port(&seen), "anything", "/").await.0, 200);
    // R310: what runs can be compared with what was intended.
    assert!(seen.instances.iter().all(|i| i.spec == spec(&[]).digest() && i.ready_ms.is_some() && i.restarts == 0));
    // Both take part.
    let mut answered = BTreeSet::new();
    for _ in 0..4 {
        answered.insert(world.get("/").await.1);
    }
    assert_eq!(answered.len(), 2);
    // The same wish again changes nothing. R222
    world.wish(wish(1, vec![slot("a", 2, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let again = world.client.observe(&lane("api")).await.unwrap().unwrap();
    assert_eq!(again.instances, seen.instances);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_epoch_is_refused() {
    let world = World::new().await;
    world.wish(wish(7, vec![], &[])).await.unwrap();
    let error = world.wish(wish(6, vec![], &[])).await.unwrap_err();
    assert!(matches!(error, FleetError::Stale { given: 6, current: 7, .. }), "{error}");
    let mut other = wish(1, vec![], &[]);
    other.lane = lane("web");
    let error = world.wish(other).await.unwrap_err();
    let wanted = "host name `api.localhost` of `shop/production/web` belongs to `shop/production/api` already";
    assert_eq!(error.to_string(), wanted);
}

// R219 R220 R290
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_keeps_its_bounds_and_loses_no_request() {
    let world = Arc::new(World::new().await);
    let spec = spec(&[]);
    world.wish(wish(1, vec![slot("a", 2, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 2)]).await;
    let (ends, failed, sent) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let load = tokio::spawn({
        let (world, ends, failed, sent) =
            (Arc::clone(&world), Arc::clone(&ends), Arc::clone(&failed), Arc::clone(&sent));
        async move {
            while !ends.load(Ordering::SeqCst) {
                let (quick, slow) = tokio::join!(world.get("/"), world.get("/slow"));
                let bad = u32::from(quick.0 != 200) + u32::from(slow.0 != 200);
                failed.fetch_add(bad, Ordering::SeqCst);
                sent.fetch_add(2, Ordering::SeqCst);
            }
        }
    });
    let steps = [
        // Epoch, old serving and retiring, new serving and retiring, weights.
        (2, (2, 0), (1, 0), [("a", 1), ("b", 0)]),
        (3, (1, 1), (1, 0), [("a", 1), ("b", 1)]),
        (4, (1, 1), (2, 0), [("a", 1), ("b", 1)]),
        (5, (0, 2), (2, 0), [("a", 0), ("b", 1)]),
        (6, (0, 0), (2, 0), [("a", 0), ("b", 1)]),
    ];
    for (epoch, old, new, weights) in steps {
        let slots = vec![slot("a", old.0, old.1, &spec), slot("b", new.0, new.1, &spec)];
        world.wish(wish(epoch, slots, &weights)).await.unwrap();
        let (old, new) = ((old.0 as usize, old.1 as usize), new.0 as usize);
        let seen = world.settles(epoch, &[("a", Ready, old.0), ("a", Retiring, old.1), ("b", Ready, new)]).await;
        assert!(seen.routed);
    }
    ends.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", sent.load(Ordering::SeqCst));
    for seen in &world.heard.borrow().history {
        let alive = seen.instances.iter().filter(|i| i.state <= Retiring).count();
        assert!(alive <= 4, "{seen:?}");
        // Never weight for what has no ready instance.
        for (of, weight) in &seen.weights {
            let ready = seen.instances.iter().any(|i| i.release == *of && i.state == Ready);
            assert!(*weight == 0 || ready, "{seen:?}");
        }
    }
    assert!(world.get("/").await.1.starts_with("bbbbbbbb"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retiring_instance_returns_without_a_restart() {
    let world = World::new().await;
    let spec = spec(&[]);
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let before = world.settles(1, &[("a", Ready, 1)]).await;
    let (_, born) = world.get("/").await;
    world.wish(wish(2, vec![slot("a", 0, 1, &spec)], &[("a", 0)])).await.unwrap();
    world.settles(2, &[("a", Retiring, 1)]).await;
    assert_eq!(world.get("/").await.0, 503);
    world.wish(wish(3, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let after = world.settles(3, &[("a", Ready, 1)]).await;
    assert_eq!(after.instances[0].id, before.instances[0].id);
    assert_eq!(world.get("/").await.1, born);
}

// R274
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_before_the_stop_is_answered_before_the_signal() {
    let world = World::new().await;
    let mut spec = spec(&[]);
    spec.stop.before_request = Some(Smoke { method: "GET".into(), path: "/before".into() });
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    world.wish(wish(2, vec![], &[])).await.unwrap();
    world.settles(2, &[]).await;
    let history = world.heard.borrow().history.clone();
    let exit = history.iter().rev().find_map(|seen| seen.instances.first()?.exit.clone()).unwrap();
    assert_eq!((exit.code, exit.last_line.as_str()), (143, "before the signal"));
}

// R274
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_goes_finishes_its_requests_and_runs_stop_before_first() {
    let world = World::new().await;
    let mut spec = spec(&[]);
    spec.stop.before = Some(vec!["/testbed".into(), "ask".into(), "/before".into()]);
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    let slow = world.get("/slow");
    tokio::pin!(slow);
    // The request is with the instance before it is withdrawn.
    let everything = LogsWanted { lane: lane("api"), release: None, follow: true, since: None, tail: None };
    let mut log = world.client.logs(everything).await.unwrap();
    let begun = async { while log.next().await.unwrap().iter().all(|line| line.text != "slow begins") {} };
    tokio::select! {
        answer = &mut slow => panic!("too quick: {answer:?}"),
        () = begun => {}
    }
    world.wish(wish(2, vec![], &[])).await.unwrap();
    assert_eq!(slow.await.0, 200);
    world.settles(2, &[]).await;
    let lines = world.client.log_tail(&lane("api"), &release("a"), 100).await;
    assert!(lines.iter().any(|line| line.ends_with("before the signal")), "{lines:?}");
    let history = world.heard.borrow().history.clone();
    let states: Vec<_> = history.iter().flat_map(|seen| seen.instances.iter().map(|i| i.state.word())).collect();
    let mut order = states.clone();
    order.dedup();
    assert_eq!(order, ["starting", "ready", "draining", "stopping", "stopped"], "{states:?}");
    let exit = history.iter().rev().find_map(|seen| seen.instances.first()?.exit.clone()).unwrap();
    assert_eq!((exit.code, exit.last_line.as_str()), (143, "before the signal"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signal_that_the_service_asks_for_is_sent() {
    let world = World::new().await;
    let mut spec = spec(&[]);
    spec.stop.signal = 2;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    world.wish(wish(2, vec![], &[])).await.unwrap();
    world.settles(2, &[]).await;
    let history = world.heard.borrow().history.clone();
    let exit = history.iter().rev().find_map(|seen| seen.instances.first()?.exit.clone()).unwrap();
    assert_eq!(exit.code, 130);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ready_never_gets_a_request() {
    let world = World::new().await;
    let bad = spec(&[("HEALTH", "503")]);
    world.wish(wish(1, vec![slot("a", 1, 0, &bad)], &[("a", 1)])).await.unwrap();
    let seen = world.sees("the reason", |seen| seen.instances.iter().any(|i| !i.reason.is_empty())).await;
    assert_eq!(in_state(&seen, "a", Starting).len(), 1);
    assert!(!seen.routed);
    assert_eq!(world.get("/").await.0, 503);
    let reason = &seen.instances[0].reason;
    assert!(reason.starts_with("GET /health answered 503; last line: \"listening on :3000\"; fix: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_requests_reach_every_ready_instance_inside() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 2, 0, &spec(&[]))], &[("a", 0)])).await.unwrap();
    world.settles(1, &[("a", Ready, 2)]).await;
    let requests = ["/", "/error"].map(|path| Smoke { method: "GET".into(), path: path.into() });
    let answers = world.client.smoke(&lane("api"), &release("a"), requests.to_vec()).await.unwrap();
    let mut shown: Vec<_> = answers.iter().map(|a| (a.request.as_str(), a.status)).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("GET /", 200), ("GET /", 200), ("GET /error", 500), ("GET /error", 500)]);
    assert!(answers.iter().all(|a| a.status != 500 || a.body == "broken"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_pushed_as_requests_come() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    for path in ["/items/1", "/items/2", "/error"] {
        world.get(path).await;
    }
    let traffic = world
        .hears("the counts", |heard| {
            let traffic = heard.traffic.get(&lane("api"))?.releases.get(&release("a"))?.clone();
            (traffic.all.requests == 3).then_some(traffic)
        })
        .await;
    assert_eq!(traffic.all.errors, 1);
    assert_eq!(traffic.patterns["GET /items/{id}"].requests, 2);
    assert_eq!(traffic.suspects["GET /error"].errors, 1);
    assert_eq!(traffic.latency.iter().sum::<u64>(), 3);
    assert_eq!((traffic.samples[0].status, traffic.samples[0].body.as_str()), (500, "broken"));
    let counts = world.client.counts(&lane("api")).await.unwrap();
    assert_eq!(counts.releases[&release("a")].all.requests, 3);
}

// R518
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_files_inside_and_never_in_clear_on_disk() {
    let world = World::new().await;
    let mut spec = spec(&[]);
    let value = "correct-horse-battery";
    spec.secrets.insert("token".into(), Secret(value.as_bytes().to_vec()));
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    assert_eq!(world.get("/file/run/secrets/token").await.1, value);
    let numbers = value.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(",");
    let mut read = 0;
    let mut folders = vec![world.scratch.node().join("state"), world.scratch.node().join("instances")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let text =
                    String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).replace(char::is_whitespace, "");
                assert!(!text.contains(value) && !text.contains(&numbers), "{}", entry.path().display());
                read += 1;
            }
        }
    }
    assert!(read >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_have_a_network_of_their_own() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    // Both listen on the same port, and neither has a way to the other.
    let mut other = wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)]);
    other.lane = lane("web");
    other.hosts = vec!["web.localhost".into()];
    world.wish(other).await.unwrap();
    world.hears("web is ready", |heard| heard.lanes.get(&lane("web")).filter(|seen| seen.routed).map(|_| ())).await;
    let (_, interfaces) = get(world.proxy(), "web.localhost", "/interfaces").await;
    let names: Vec<_> =
        interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(names, ["lo"]);
}
