//! A service that does not become ready is explained from what was seen.

use crate::world::*;
use slipway_model::Digest;
use slipway_model::instance::InstanceSpec;

async fn reason(spec: InstanceSpec, part: &str) -> String {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let seen = world.sees(part, |seen| seen.instances.iter().any(|i| i.reason.contains(part))).await;
    seen.instances[0].reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_on_another_port_is_named_with_what_to_write() {
    assert_eq!(
        reason(spec(&[("LISTEN", "8080")]), "last line").await,
        "nothing listens on PORT 3000; the process listens on 8080; last line: \"listening on :8080\"; \
         fix: port: 8080 in slipway.yaml:4"
    );
}

// R248
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_on_another_port_that_does_nothing_more_is_given_up_before_its_deadline() {
    let world = World::new().await;
    let mut spec = spec(&[("LISTEN", "8080")]);
    spec.ready_ms = 60_000;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let seen = world.sees("it is stuck", |seen| seen.instances.iter().any(|i| i.stuck)).await;
    assert!(seen.instances[0].reason.contains("the process listens on 8080"), "{seen:?}");
}

// R248
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_nothing_is_ready_is_told_what_is_going_on() {
    let world = World::new().await;
    let mut wish = wish(1, vec![slot("a", 1, 0, &spec(&[("HEALTH", "503")]))], &[("a", 1)]);
    wish.notice = "r1 is being started".into();
    world.wish(wish).await.unwrap();
    let (status, body) = world.get("/").await;
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!((status, lines[0]), (503, "no instance of api in production is ready"), "{body}");
    let (since, why) = lines[1].strip_prefix("since ").unwrap().split_once(": ").unwrap();
    assert!(slipway_model::At::parse(since).is_some(), "{since}");
    assert_eq!((why, lines[2]), ("r1 is being started", "explained by: slipway why api --env production"));
    // Since when, not now.
    assert_eq!(world.get("/").await.1.lines().nth(1), Some(lines[1]));
}

// R448
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_command_decides_and_is_told_when_it_does_not_end_well() {
    use slipway_model::instance::InstanceState::{Ready, Starting};
    let world = World::new().await;
    let mut spec = spec(&[("HEALTH", "503")]);
    spec.health.path = None;
    // Answers with 503 and exits with 1 until `/health` is good.
    spec.health.command = Some(["/testbed", "check", "/health"].map(str::to_owned).to_vec());
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let seen = world.sees("the reason", |seen| seen.instances.iter().any(|i| !i.reason.is_empty())).await;
    assert_eq!(in_state(&seen, "a", Starting).len(), 1);
    assert_eq!(
        seen.instances[0].reason,
        "the health command `/testbed check /health` exited with code 1: \"503 of /health\"; last line: \
         \"listening on :3000\"; fix: let it exit with 0 when the service is ready"
    );
    assert_eq!(world.get("/").await.0, 503);
    let mut good = spec.clone();
    good.env.clear();
    world.wish(wish(2, vec![slot("b", 1, 0, &good)], &[("b", 1)])).await.unwrap();
    world.settles(2, &[("b", Ready, 1)]).await;
    assert_eq!(world.get("/").await.0, 200);
}

// R286
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_too_much_memory_is_told_the_limit_and_the_key() {
    let mut world = World::without_node();
    world.memory_bytes = Some(128 << 20);
    world.start().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", slipway_model::instance::InstanceState::Ready, 1)]).await;
    world.get("/eat").await;
    let seen = world.sees("the end", |seen| seen.instances.iter().any(|i| i.exit.is_some())).await;
    let exit = seen.instances[0].exit.clone().unwrap();
    assert!(exit.out_of_memory, "{exit:?}");
    let reason = world
        .hears("the reason", |heard| {
            let all = heard.history.iter().flat_map(|seen| &seen.instances);
            all.map(|one| one.reason.clone()).find(|reason| reason.contains("memory limit"))
        })
        .await;
    assert!(reason.starts_with("reached its memory limit of 128 MiB (the default on this machine) after "), "{reason}");
    assert!(
        reason.ends_with("fix: add resources: memory: what it needs below slipway.yaml:3 (service `api`)"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_exits_is_named_with_code_time_and_last_line() {
    let reason = reason(spec(&[("CRASH", "1")]), "exited").await;
    assert!(reason.starts_with("exited with code 1 after 0."), "{reason}");
    assert!(reason.ends_with("s; last line: \"about to crash\""), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_is_named() {
    let mut spec = spec(&[]);
    spec.command = Some(vec!["/nope".into()]);
    let reason = reason(spec, "nope").await;
    assert_eq!(reason, "it could not be started: exec of `/nope`: no such file or directory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_unpacked_is_named() {
    let mut spec = spec(&[]);
    spec.image = Digest::of(b"broken");
    let wanted = format!("image `{}` cannot be unpacked: layer 2 is damaged", spec.image);
    assert_eq!(reason(spec, "damaged").await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ready_one_that_turns_bad_leaves_routing_and_comes_back() {
    use slipway_model::instance::InstanceState::{Ready, Unready};
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    world.get("/health/503").await;
    // A failing request makes the node look at once instead of in 5 s.
    world.get("/error").await;
    let seen = world.settles(1, &[("a", Unready, 1)]).await;
    assert!(seen.instances[0].reason.starts_with("GET /health answered 503"), "{seen:?}");
    assert_eq!(world.get("/").await.0, 503);
}
