use super::*;

#[tokio::test]
async fn connections_to_an_instance_are_used_again() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    for n in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.post("/echo", &"x".repeat(n * 1000)).await.body.len(), n * 1000);
        assert_eq!(client.get("/empty/204").await.status, 204);
    }
    let mut head = get("/");
    *head.method_mut() = Method::HEAD;
    let reply = client.send(head).await;
    assert_eq!((reply.status, &*reply.body), (200, ""));
    assert_eq!(reply.headers["content-length"], "3");
    assert_eq!(client.get("/empty/304").await.status, 304);
    // Other clients use it, too.
    assert_eq!(world.client().await.get("/").await.status, 200);
    assert_eq!(origin.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_chunked_response_gives_its_connection_back() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            while !read_request(&mut stream).await.is_empty() {
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                    Content-Length: 99\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    });
    let world = World::new();
    world.connector.set("one", origin.await);
    let services = vec![service(vec![release("r1", 1, &["one"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    for _ in 0..5 {
        let reply = client.get("/").await;
        assert_eq!(reply.body, "abc");
        assert!(!reply.headers.contains_key("content-length"));
    }
}

/// Answers one request per connection and closes without saying so. Each closing is announced.
async fn forgetful_origin(closed: Arc<Semaphore>) -> SocketAddr {
    raw_origin(move |mut stream, number| {
        let closed = Arc::clone(&closed);
        Box::pin(async move {
            read_request(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            closed.add_permits(1);
        })
    })
    .await
}

// R220
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_in_the_pool_costs_no_error() {
    let world = World::new();
    let closed = Arc::new(Semaphore::new(0));
    let origin = forgetful_origin(Arc::clone(&closed)).await;
    world.connector.set("one", origin);
    let services = vec![service(vec![release("r1", 1, &["one"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    for n in 1..=9 {
        let reply = match n % 2 {
            0 => client.get("/").await,
            _ => client.post("/", "a body").await,
        };
        assert_eq!((reply.status, reply.body), (200, n.to_string()));
        soon(closed.acquire()).await.unwrap().forget();
    }
    let stats = world.stats();
    assert_eq!(stats.releases[0].total.errors, 0);
    assert_eq!(stats.releases[0].connect_failures, 0);
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_is_passed_over() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.connector.set("one", origin.address);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.connector.set("gone", gone.local_addr().unwrap());
    drop(gone);
    let services = vec![service(vec![release("r1", 1, &["gone", "one"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    for _ in 0..10 {
        assert_eq!(client.post("/echo", "whole").await.body, "whole");
    }
    let stats = world.stats();
    assert_eq!(stats.releases[0].total.errors, 0);
    assert!(stats.releases[0].connect_failures > 0);
    world.connector.remove("one");
    world.proxy.drain("one");
    let reply = client.get("/").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.starts_with("no instance of api in production can be reached\n"));
    assert_eq!(world.stats().releases[0].unreachable, 1);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_repeated() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let origin = raw_origin(move |mut stream, _| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            read_request(&mut stream).await;
            counted.fetch_add(1, SeqCst);
        })
    });
    let world = World::new();
    let spare = Origin::start("spare").await;
    world.connector.set("breaks", origin.await);
    world.connector.set("spare", spare.address);
    let services = vec![service(vec![release("r1", 1, &["breaks", "spare"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("/").await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!((requests.load(SeqCst), spare.requests()), (2, 2));
    assert_eq!(world.stats().releases[0].broken, 2);
}

#[tokio::test]
async fn pooled_connections_are_closed_before_the_instance_would() {
    let ended = Arc::new(Semaphore::new(0));
    let seen = Arc::clone(&ended);
    let origin = raw_origin(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            read_request(&mut stream).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            seen.add_permits(1);
        })
    });
    let world = World::with(Limits { pool_idle: Duration::from_millis(30), ..Limits::default() });
    world.connector.set("one", origin.await);
    let services = vec![service(vec![release("r1", 1, &["one"])])];
    world.proxy.apply(Table { services }).unwrap();
    assert_eq!(world.client().await.get("/").await.status, 200);
    soon(ended.acquire()).await.unwrap().forget();
    assert_eq!(world.stats().releases[0].total.errors, 0);
}

// R220
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_several_threads_while_weights_change() {
    let world = World::with(Limits { threads: 2, ..Limits::default() });
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    world.route(&[(&one, 1), (&two, 0)]);
    let address = world.address;
    let asking = (0..8).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::open(address).await;
            for n in 0..100 {
                let body = format!("body {n}");
                assert_eq!(client.post("/echo", &body).await.body, body);
            }
        })
    });
    let mut asking = std::pin::pin!(futures::future::join_all(asking.collect::<Vec<_>>()));
    let mut turn = 0_u32;
    let done = loop {
        if let std::task::Poll::Ready(done) = futures::poll!(asking.as_mut()) {
            break done;
        }
        turn += 1;
        world.route(&[(&one, turn % 2), (&two, (turn + 1) % 2)]);
        tokio::task::yield_now().await;
    };
    assert!(done.into_iter().all(|client| client.is_ok()));
    assert_eq!(world.stats().releases.iter().map(|release| release.total.requests).sum::<u64>(), 800);
    assert_eq!(world.stats().releases.iter().map(|release| release.total.errors).sum::<u64>(), 0);
    assert_eq!(soon(world.listener.shutdown(PATIENCE)).await, Shutdown { cut_off: 0 });
}
