use super::*;

// R272
#[tokio::test]
async fn draining_lets_a_slow_request_finish_and_then_says_so() {
    let world = World::new();
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    world.route(&[(&old, 1)]);
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    soon(old.arrived.acquire()).await.unwrap().forget();
    // A client whose connection stays open does not pin the instance.
    let mut idle = world.client().await;
    assert_eq!(idle.get("/").await.body, "old");

    world.route(&[(&old, 0), (&new, 1)]);
    world.proxy.drain("old");
    assert_eq!(world.proxy.in_flight("old"), 1);
    let early = world.proxy.drained("old", Duration::from_millis(1)).await;
    let error = early.unwrap_err();
    assert_eq!(error.to_string(), "instance `old` still has 1 requests in flight");
    assert_eq!(idle.get("/").await.body, "new");

    let (proxy, wait) = (world.proxy.clone(), PATIENCE);
    let drained = tokio::spawn(async move { proxy.drained("old", wait).await });
    old.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().body, "old");
    assert_eq!(soon(drained).await.unwrap(), Ok(()));
    assert_eq!(world.proxy.in_flight("old"), 0);
    assert_eq!(world.proxy.drained("nobody", PATIENCE).await, Ok(()));
}

// R272
#[tokio::test]
async fn idle_connections_to_a_drained_instance_are_closed_at_once() {
    let closed = Arc::new(Semaphore::new(0));
    let seen = Arc::clone(&closed);
    let origin = raw_origin(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            while !read_request(&mut stream).await.is_empty() {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            seen.add_permits(1);
        })
    })
    .await;
    let world = World::new();
    world.connector.set("one", origin);
    world.connector.set("two", origin);
    for (instance, by_table) in [("one", false), ("two", true)] {
        let services = vec![service(vec![release("r1", 1, &[instance])])];
        world.proxy.apply(Table { services }).unwrap();
        assert_eq!(world.client().await.get("/").await.status, 200);
        match by_table {
            false => world.proxy.drain(instance),
            true => world.proxy.apply(Table::default()).unwrap(),
        }
        soon(closed.acquire()).await.unwrap().forget();
    }
}

#[tokio::test]
async fn a_connection_that_comes_back_to_a_drained_instance_is_closed() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    let slow = tokio::spawn(async move { client.get("/slow").await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    world.proxy.drain("one");
    origin.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().status, 200);
    let reply = world.client().await.get("/").await;
    assert_eq!((reply.status, origin.requests()), (503, 1));
}

#[tokio::test]
async fn a_listener_that_shuts_down_finishes_its_requests_and_closes() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    let mut idle = world.client().await;
    assert_eq!(idle.get("/").await.status, 200);
    assert_eq!(world.listener.connections(), 2);
    let address = world.address;
    let shutdown = tokio::spawn(world.listener.shutdown(PATIENCE));
    // Nobody accepts any more.
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // A request already on its way is answered, and told that it was the last.
    assert_eq!(idle.get("/").await.headers["connection"], "close");
    origin.gate.add_permits(1);
    let reply = soon(slow).await.unwrap();
    assert_eq!(reply.headers["connection"], "close");
    assert_eq!(soon(shutdown).await.unwrap(), Shutdown { cut_off: 0 });
}

#[tokio::test]
async fn what_is_left_at_the_deadline_of_a_shut_down_is_cut_off() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.try_send(get("/slow")).await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    let shutdown = soon(world.listener.shutdown(Duration::from_millis(20))).await;
    assert_eq!(shutdown, Shutdown { cut_off: 1 });
    assert!(soon(slow).await.unwrap().is_err());
    // Cut off by the proxy: not the release's fault.
    assert_eq!(world.proxy.snapshot(&key()).unwrap().releases[0].total.errors, 0);
}

#[tokio::test]
async fn listeners_come_and_go_while_others_serve() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    let second = listen(&world.proxy, Binding::Hosts);
    let mut other = Client::open(second.local_addr()).await;
    assert_eq!(other.get("/").await.status, 200);
    // An idle connection is closed after the grace.
    assert_eq!(soon(second.shutdown(PATIENCE)).await, Shutdown { cut_off: 0 });
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(world.proxy.gauges().connections, 1);
}
