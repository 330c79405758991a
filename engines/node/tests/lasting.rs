//! Logs, and ports that stay.

use crate::world::*;
use slipway_model::instance::InstanceState::Ready;
use slipway_node::LogsWanted;

fn wanted(follow: bool) -> LogsWanted {
    LogsWanted { lane: lane("api"), release: None, follow, since: None, tail: None }
}

// R160
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_say_service_release_and_instance() {
    let world = World::new().await;
    world.wish(wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)])).await.unwrap();
    let seen = world.settles(1, &[("a", Ready, 1)]).await;
    let mut stream = world.client.logs(wanted(false)).await.unwrap();
    let lines = soon("lines", stream.next()).await.unwrap();
    assert_eq!(lines[0].text, "listening on :3000");
    assert_eq!((&lines[0].release, &lines[0].instance), (&release("a"), &seen.instances[0].id));
    assert_eq!((lines[0].service.as_str(), lines[0].stream.as_str()), ("api", "out"));
    assert!(soon("the end", stream.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_with_new_lines_and_new_instances() {
    let world = World::new().await;
    let spec = spec(&[]);
    world.wish(wish(1, vec![slot("a", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    world.settles(1, &[("a", Ready, 1)]).await;
    let mut stream = world.client.logs(wanted(true)).await.unwrap();
    assert_eq!(soon("lines", stream.next()).await.unwrap()[0].text, "listening on :3000");
    world.get("/before").await;
    assert_eq!(soon("a new line", stream.next()).await.unwrap()[0].text, "before the signal");
    world.wish(wish(2, vec![slot("a", 1, 0, &spec), slot("b", 1, 0, &spec)], &[("a", 1)])).await.unwrap();
    let lines = soon("another instance", stream.next()).await.unwrap();
    assert_eq!((&lines[0].release, lines[0].text.as_str()), (&release("b"), "listening on :3000"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_gives_way_and_says_so() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut wish = wish(1, vec![slot("a", 1, 0, &spec(&[]))], &[("a", 1)]);
    wish.port = port;
    world.wish(wish).await.unwrap();
    let seen = world.settles(1, &[("a", Ready, 1)]).await;
    let own = seen.addresses.last().unwrap();
    assert!(own.ends_with(&format!(" (port {port} is taken by another program)")), "{own}");
    let address = own.trim_start_matches("http://").split(' ').next().unwrap().parse().unwrap();
    assert_eq!(get(address, "x", "/").await.0, 200);
}
