use super::*;

use h2::client::SendRequest;

/// A client of HTTP/2 without TLS.
async fn open(address: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://API.localhost:8080{path}");
    Request::builder().method(method).uri(uri).version(http::Version::HTTP_2).body(()).unwrap()
}

#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

async fn ask(sender: &SendRequest<Bytes>, request: Request<()>, body: &[u8]) -> Result<Got, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut send) = sender.send_request(request, body.is_empty())?;
    let upload = async {
        let mut body = Bytes::copy_from_slice(body);
        while !body.is_empty() {
            send.reserve_capacity(body.len());
            let Some(Ok(capacity)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            let part = body.split_to(capacity.min(body.len()));
            let last = body.is_empty();
            if send.send_data(part, last).is_err() {
                return;
            }
        }
    };
    let download = async {
        let (parts, mut recv) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = recv.data().await {
            let data = data?;
            body.extend_from_slice(&data);
            recv.flow_control().release_capacity(data.len())?;
        }
        let trailers = recv.trailers().await?.unwrap_or_default();
        Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
    };
    soon(async { tokio::join!(upload, download).1 }).await
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, _connection) = open(world.address).await;
    let asks = (0..100).map(|n| {
        let sender = sender.clone();
        async move { ask(&sender, request("POST", "/echo"), format!("body {n}").as_bytes()).await.unwrap() }
    });
    for (n, got) in futures::future::join_all(asks).await.into_iter().enumerate() {
        assert_eq!((got.status, String::from_utf8(got.body).unwrap()), (200, format!("body {n}")));
        assert!(!got.headers.contains_key("keep-alive") && got.headers.contains_key("date"));
    }
    assert_eq!(world.listener.connections(), 1);
    assert_eq!(world.stats().releases[0].total.requests, 100);
    let seen = origin.last();
    assert_eq!(seen.headers["host"], "API.localhost:8080");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(world.proxy.in_flight("one"), 0);
}

#[tokio::test]
async fn large_bodies_pass_and_empty_ones_end_with_the_head() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, _connection) = open(world.address).await;
    let big = b"0123456789".repeat(200_000);
    let got = ask(&sender, request("POST", "/echo"), &big).await.unwrap();
    assert!(got.body == big, "{}", got.body.len());
    for (method, path, status, length) in [("HEAD", "/", 200, Some("3")), ("GET", "/empty/204", 204, None)] {
        let got = ask(&sender, request(method, path), b"").await.unwrap();
        assert_eq!((got.status, got.body.len()), (status, 0));
        assert_eq!(got.headers.get("content-length").map(|v| v.to_str().unwrap()), length);
    }
}

#[tokio::test]
async fn crumbs_of_cookies_are_put_together_without_that_of_the_control_plane() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, _connection) = open(world.address).await;
    let mut request = request("GET", "/a?b=c");
    for crumb in ["a=1", "slipway=secret", "b=2"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    ask(&sender, request, b"").await.unwrap();
    let seen = origin.last();
    assert_eq!((seen.uri.to_string().as_str(), &seen.headers["cookie"]), ("/a?b=c", &"a=1; b=2".parse().unwrap()));
}

#[tokio::test]
async fn a_host_that_nobody_serves_and_a_body_that_is_too_large_are_answered() {
    let world = World::with(Limits { body_bytes_max: 10, ..Limits::default() });
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, _connection) = open(world.address).await;
    let elsewhere = Request::get("http://nobody.localhost/").body(()).unwrap();
    assert_eq!(ask(&sender, elsewhere, b"").await.unwrap().status, 404);
    let got = ask(&sender, request("POST", "/echo"), &[b'x'; 1000]).await.unwrap();
    assert_eq!(got.status, 413);
    assert_eq!(ask(&sender, request("TRACE", "/"), b"").await.unwrap().status, 405);
    assert_eq!(ask(&sender, request("GET", "/"), b"").await.unwrap().status, 200, "the connection lives on");
}

#[tokio::test]
async fn a_stream_that_waits_too_long_is_a_504_and_the_others_go_on() {
    let world = World::with(Limits { response_head_timeout: Duration::from_millis(50), ..Limits::default() });
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, _connection) = open(world.address).await;
    assert_eq!(ask(&sender, request("GET", "/slow"), b"").await.unwrap().status, 504);
    assert_eq!(ask(&sender, request("GET", "/"), b"").await.unwrap().status, 200);
}

/// Answers each call with its messages and a status in trailers, or a status alone for `/fails`.
async fn grpc_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let (parts, mut body) = request.into_parts();
                        assert_eq!(parts.headers["te"], "trailers");
                        assert!(!parts.headers.contains_key("connection"));
                        let mut head = Response::new(());
                        head.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                        if parts.uri.path() == "/fails" {
                            head.headers_mut().insert("grpc-status", "5".parse().unwrap());
                            respond.send_response(head, true).unwrap();
                            return;
                        }
                        let mut send = respond.send_response(head, false).unwrap();
                        while let Some(Ok(message)) = body.data().await {
                            body.flow_control().release_capacity(message.len()).unwrap();
                            send.send_data(message, false).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        send.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

fn call(path: &str) -> Request<()> {
    let mut call = request("POST", path);
    call.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    call.headers_mut().insert("te", "trailers".parse().unwrap());
    call
}

#[tokio::test]
async fn a_call_of_grpc_passes_with_its_trailers_over_one_connection() {
    let world = World::new();
    world.serve("one", grpc_origin().await);
    let (sender, _connection) = open(world.address).await;
    let calls = (0..20).map(|n| {
        let sender = sender.clone();
        async move { ask(&sender, call("/shop.Api/Get"), format!("message {n}").as_bytes()).await.unwrap() }
    });
    for (n, got) in futures::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!(String::from_utf8(got.body).unwrap(), format!("message {n}"));
        assert_eq!(got.trailers["grpc-status"], "0");
    }
    let failed = ask(&sender, call("/fails"), b"x").await.unwrap();
    assert_eq!((failed.status, &failed.headers["grpc-status"]), (200, &"5".parse().unwrap()));
    assert_eq!(world.proxy.in_flight("one"), 0);
}

#[tokio::test]
async fn messages_of_grpc_flow_in_both_directions_before_the_call_ends() {
    let world = World::new();
    world.serve("one", grpc_origin().await);
    let (sender, _connection) = open(world.address).await;
    let mut sender = sender.ready().await.unwrap();
    let (response, mut send) = sender.send_request(call("/chat"), false).unwrap();
    send.send_data(Bytes::from_static(b"one"), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "one");
    send.send_data(Bytes::from_static(b"two"), false).unwrap();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "two");
    assert_eq!(world.proxy.in_flight("one"), 1);
    send.send_data(Bytes::new(), true).unwrap();
    assert!(soon(body.data()).await.is_none());
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_service_that_speaks_http_2_is_spoken_to_in_it() {
    let world = World::new();
    world.connector.set("one", grpc_origin().await);
    let service = Service { protocol: Protocol::H2c, ..service(vec![release("r1", 1, &["one"])]) };
    world.proxy.apply(Table { services: vec![service] }).unwrap();
    let asked = "POST / HTTP/1.1\r\nHost: api.localhost\r\nTE: trailers\r\nConnection: TE, close\r\n\
        Content-Length: 2\r\n\r\nhi";
    let answer = raw(world.address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n"), "{answer}");
    // Leave to send the body is given by the proxy there.
    let expecting = asked.replace("Content-Length", "Expect: 100-continue\r\nContent-Length");
    let answer = raw(world.address, &expecting).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
}

// R272
#[tokio::test]
async fn a_listener_that_shuts_down_says_so_and_finishes_its_streams() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, connection) = open(world.address).await;
    let slow = sender.clone();
    let slow = tokio::spawn(async move { ask(&slow, request("GET", "/slow"), b"").await });
    soon(origin.arrived.acquire()).await.unwrap().forget();
    let shutdown = tokio::spawn(world.listener.shutdown(PATIENCE));
    // New ones are refused by the goodbye, those that run are answered.
    soon(async { while ask(&sender, request("GET", "/"), b"").await.is_ok() {} }).await;
    origin.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap().unwrap().status, 200);
    assert_eq!(soon(shutdown).await.unwrap(), Shutdown { cut_off: 0 });
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_said_goodbye_to() {
    let world = World::with(Limits { keep_alive_idle: Duration::from_millis(40), ..Limits::default() });
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let (sender, connection) = open(world.address).await;
    assert_eq!(ask(&sender, request("GET", "/"), b"").await.unwrap().status, 200);
    soon(connection).await.unwrap().unwrap();
}

// CVE-2023-44487
#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_is_closed() {
    for at_once in [true, false] {
        let world = World::with(Limits { resets_max: 20, ..Limits::default() });
        let origin = Origin::start("one").await;
        world.route(&[(&origin, 1)]);
        let (sender, connection) = open(world.address).await;
        let mut asked = 0;
        let flood = async {
            while asked < 10_000 {
                let Ok(mut ready) = sender.clone().ready().await else { return };
                let Ok((_response, mut send)) = ready.send_request(request("GET", "/slow"), true) else { return };
                asked += 1;
                if !at_once {
                    // Taken back only when an instance has it already.
                    tokio::select! { _ = origin.arrived.acquire() => {}, _ = std::future::poll_fn(|cx| send.poll_reset(cx)) => return }
                }
                send.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
        };
        soon(flood).await;
        assert!(asked < 10_000, "the connection is closed");
        assert!(soon(connection).await.unwrap().is_err());
        soon(world.proxy.drained("one", PATIENCE)).await.unwrap();
        assert_eq!(Client::open(world.address).await.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // HEADERS of stream 1 without END_HEADERS, then CONTINUATION after CONTINUATION (CVE-2024-27316).
    let field = [&[0x00, 1, b'a', 0x7f, 0x81, 0x7d][..], &[b'x'; 16_000][..]].concat();
    let frame = |kind: u8, block: &[u8]| {
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], block].concat()
    };
    frames.extend(frame(1, &[0x82, 0x84, 0x86]));
    stream.write_all(&frames).await.unwrap();
    let flood = async {
        let mut sent = 0;
        while stream.write_all(&frame(9, &field)).await.is_ok() {
            sent += 1;
            tokio::task::yield_now().await;
        }
        sent
    };
    assert!(soon(flood).await < 10_000, "the proxy does not read on for ever");
}

// R220
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_is_lost_while_weights_change_and_instances_drain() {
    let world = World::with(Limits { threads: 2, ..Limits::default() });
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    world.route(&[(&one, 1), (&two, 0)]);
    let (sender, _connection) = open(world.address).await;
    let asking = tokio::spawn(async move {
        let mut bad = Vec::new();
        for _ in 0..40 {
            let asks = (0..25).map(|_| ask(&sender, request("GET", "/"), b""));
            bad.extend(futures::future::join_all(asks).await.into_iter().filter_map(|got| match got {
                Ok(got) if got.status == 200 => None,
                other => Some(format!("{other:?}")),
            }));
        }
        bad
    });
    let mut turn = 0_u32;
    while !asking.is_finished() {
        turn += 1;
        world.route(&[(&one, turn % 2), (&two, (turn + 1) % 2)]);
        tokio::task::yield_now().await;
    }
    assert_eq!(asking.await.unwrap(), Vec::<String>::new());
    assert!(turn > 1);
}
