use super::*;

async fn world(limits: Limits) -> (World, Origin) {
    let world = World::with(limits);
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    (world, origin)
}

/// What stands between the request line and the end, after `Host`.
fn with(line: &str, fields: &str) -> String {
    format!("{line}\r\nHost: api.localhost\r\n{fields}\r\n")
}

#[tokio::test]
async fn malformed_requests_are_refused_before_any_instance_sees_them() {
    let (world, origin) = world(Limits::default()).await;
    let post = "POST /echo HTTP/1.1";
    let get = "GET / HTTP/1.1";
    let chunk = "\r\n3\r\nabc\r\n0\r\n\r\n";
    let cases = [
        // Both lengths, in either order, also in another case.
        with(post, &format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n{chunk}")),
        with(post, &format!("transfer-encoding: chunked\r\ncontent-length: 3\r\n{chunk}")),
        with(post, "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        with(post, "Content-Length: 3, 4\r\n\r\nabcd"),
        with(post, "Content-Length: -1\r\n"),
        with(post, "Content-Length: +3\r\n\r\nabc"),
        with(post, &format!("Transfer-Encoding: chunked, identity\r\n{chunk}")),
        with(post, &format!("Transfer-Encoding: xchunked\r\n{chunk}")),
        with(post, &format!("Transfer-Encoding : chunked\r\n{chunk}")),
        with("POST / HTTP/1.0", &format!("Transfer-Encoding: chunked\r\n{chunk}")),
        with(get, "Folded: a\r\n b\r\n"),
        with(get, "Nul: a\0b\r\n"),
        with(get, "Host: other\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: \r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: api.localhost:port\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: user@api.localhost\r\n\r\n".to_owned(),
        "GET http://user@api.localhost/ HTTP/1.1\r\nHost: api.localhost\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        // Line ends that another reader would not take for one, or would.
        "GET / HTTP/1.1\nHost: api.localhost\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: api.localhost\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: api.localhost\r\nA: b\rC: d\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: api.localhost\r\n\n".to_owned(),
        "\nGET / HTTP/1.1\r\nHost: api.localhost\r\n\r\n".to_owned(),
        with("GET  / HTTP/1.1", ""),
        with("GET / HTTP/1.1 ", ""),
        with("GET / HTTP/2.0", ""),
        with("GET /#a HTTP/1.1", ""),
        with("GET a HTTP/1.1", ""),
        with("GET ftp://api.localhost/ HTTP/1.1", ""),
        with(post, "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        with(post, &format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{chunk}")),
        with(post, &format!("Transfer-Encoding: gzip, chunked\r\n{chunk}")),
        // Chunks that do not end where they say, in what came with the head.
        with(post, "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
        with(post, "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"),
        with(post, "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n"),
        with(post, "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
        with(post, "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
        with(post, "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ];
    for case in cases {
        let answer = raw(world.address, &case).await;
        assert_eq!(status_of(&answer), "400", "{case:?} got {answer:?}");
        assert_eq!(origin.requests(), 0, "{case:?}");
    }
    assert_eq!(world.stats().releases[0].total.requests, 0);
}

#[tokio::test]
async fn a_body_that_is_not_framed_as_it_says_is_refused_where_that_is_found() {
    let (world, _origin) = world(Limits::default()).await;
    for rest in
        ["3\r\nabcX\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc\r\n0\r\nno field\r\n\r\n", "3\r\nabc\r\n0\r\n\n"]
    {
        let case = with("POST /echo HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
        assert_eq!(status_of(&raw(world.address, &case).await), "400", "{rest:?}");
    }
    let release = world.stats().releases.remove(0);
    assert_eq!((release.total.requests, release.total.errors), (0, 0), "not the release's fault");
}

#[tokio::test]
async fn requests_behind_one_with_both_lengths_are_never_read() {
    let (world, origin) = world(Limits::default()).await;
    let smuggled = with("GET /smuggled HTTP/1.1", "");
    let first = with("GET /first HTTP/1.1", "");
    let second = with("POST /second HTTP/1.1", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let answer = raw(world.address, &[first, second, smuggled].concat()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
    assert!(answer.contains("400 Bad Request"));
    assert_eq!(origin.last().uri, "/first");
}

#[tokio::test]
async fn sizes_have_limits_each_with_its_status() {
    let limits = Limits {
        uri_bytes_max: 100,
        body_bytes_max: 1000,
        head_bytes_max: 8 * 1024,
        header_count_max: 20,
        ..Limits::default()
    };
    let (world, origin) = world(limits).await;
    let long = "x".repeat(200);
    let body = "x".repeat(2000);
    let cases = [
        (with(&format!("GET /{long} HTTP/1.1"), ""), "414"),
        (with("GET / HTTP/1.1", &format!("A: {}\r\n", "x".repeat(9000))), "431"),
        (with("GET / HTTP/1.1", &"A: b\r\n".repeat(30)), "431"),
        (with("POST / HTTP/1.1", &format!("Content-Length: 2000\r\n\r\n{body}")), "413"),
        (with("CONNECT api.localhost:80 HTTP/1.1", ""), "405"),
        (with("TRACE / HTTP/1.1", ""), "405"),
    ];
    for (case, status) in cases {
        let answer = raw(world.address, &case).await;
        assert_eq!(status_of(&answer), status, "{case}");
        assert_eq!(origin.requests(), 0, "{case}");
    }
    // A length that is not known beforehand is found out on the way.
    let chunks = with("POST / HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n7d0\r\n{body}\r\n0\r\n"));
    let answer = raw(world.address, &chunks).await;
    assert_eq!(status_of(&answer), "413", "{answer}");
    assert_eq!(origin.requests(), 0);
    let stats = world.stats();
    assert_eq!(stats.releases[0].total.requests, 0, "not the release's fault");
    let mut client = world.client().await;
    assert_eq!(client.post("/echo", &"x".repeat(1000)).await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_told_and_closed() {
    let limits = Limits {
        head_read_timeout: Duration::from_millis(30),
        body_read_idle: Duration::from_millis(30),
        ..Limits::default()
    };
    let (world, _origin) = world(limits).await;
    let half_head = raw(world.address, "GET / HTTP/1.1\r\nHost: api").await;
    assert_eq!(status_of(&half_head), "408");
    let half_body = with("POST /echo HTTP/1.1", "Content-Length: 10\r\n\r\nabc");
    assert_eq!(status_of(&raw(world.address, &half_body).await), "408");
    let release = world.stats().releases.remove(0);
    assert_eq!((release.total.requests, release.total.errors), (0, 0));
}

#[tokio::test]
async fn an_idle_client_connection_is_closed_without_a_word() {
    let limits = Limits { keep_alive_idle: Duration::from_millis(30), ..Limits::default() };
    let (world, _origin) = world(limits).await;
    assert_eq!(raw(world.address, "").await, "");
    let answer = raw(world.address, &with("GET / HTTP/1.1", "")).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert_eq!(status_of(&answer), "200");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let limits = Limits { write_idle: Duration::from_millis(50), ..Limits::default() };
    let (world, origin) = world(limits).await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    let size = 32 * 1024 * 1024;
    let head = with("POST /echo HTTP/1.1", &format!("Content-Length: {size}\r\n"));
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; size]).await.unwrap();
    soon(origin.arrived.acquire()).await.unwrap().forget();
    soon(async {
        while world.listener.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.proxy.in_flight("one"), 0);
}

#[tokio::test]
async fn an_instance_that_does_not_answer_in_time_is_a_504() {
    let limits = Limits { response_head_timeout: Duration::from_millis(40), ..Limits::default() };
    let (world, origin) = world(limits).await;
    let mut client = world.client().await;
    let reply = client.get("/slow").await;
    assert_eq!(reply.status, 504);
    let said = "an instance of api in production did not answer in time\nrequest ";
    assert!(reply.body.starts_with(said), "{}", reply.body);
    origin.gate.add_permits(1);
    assert_eq!(client.get("/").await.status, 200, "the client's connection lives on");
    let release = world.stats().releases.remove(0);
    assert_eq!((release.timed_out, release.total.errors, release.total.requests), (1, 1, 2));
}

#[tokio::test]
async fn a_response_that_stalls_half_way_breaks_off() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            read_request(&mut stream).await;
            let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
            stream.write_all(half.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 8]).await;
        })
    });
    let world = World::with(Limits { response_body_idle: Duration::from_millis(30), ..Limits::default() });
    world.connector.set("one", origin.await);
    let services = vec![service(vec![release("r1", 1, &["one"])])];
    world.proxy.apply(Table { services }).unwrap();
    let mut client = world.client().await;
    assert!(soon(client.try_send(get("/"))).await.is_err(), "never whole");
    let release = world.stats().releases.remove(0);
    assert_eq!((release.timed_out, release.total.errors), (1, 1));
}

#[tokio::test]
async fn too_many_requests_at_once_are_a_503_that_says_so() {
    let limits = Limits { in_flight_per_service_max: 1, ..Limits::default() };
    let (world, origin) = world(limits).await;
    let mut slow = world.client().await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    let mut client = world.client().await;
    let reply = client.get("/").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.starts_with("too many requests to api in production at once\n"));
    origin.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().status, 200);
    assert_eq!(client.get("/").await.status, 200);
    let stats = world.stats();
    assert_eq!((stats.overloaded, stats.releases[0].total.requests), (1, 2));
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_their_turn() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (world, origin) = world(limits).await;
    let mut first = world.client().await;
    assert_eq!(first.get("/").await.status, 200);
    let mut second = world.client().await;
    let mut waiting = std::pin::pin!(second.try_send(get("/")));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!(first.get("/").await.status, 200);
    assert_eq!(origin.requests(), 2);
    drop(first);
    assert_eq!(soon(waiting).await.unwrap().status, 200);
}
