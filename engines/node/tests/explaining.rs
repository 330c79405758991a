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
         fix: port: 8080 in slipway.yaml"
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
