use super::*;

const HEAD: &str = "POST /echo HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n";

/// What a backend read up to this text.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut buffer = [0; 4096];
        let read = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

#[tokio::test]
async fn leave_to_send_a_body_comes_from_the_instance_and_once() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
            assert_eq!(head.matches("expect: 100-continue\r\n").count(), 1, "{head}");
            assert!(head.ends_with("\r\n\r\n"), "no body before leave was given: {head}");
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            read_until(&mut stream, "body").await;
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        })
    });
    let world = World::new();
    world.serve("one", origin.await);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!("{HEAD}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let leave = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(leave, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
}

#[tokio::test]
async fn an_instance_may_refuse_a_body_before_it_comes() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();
            let _ = stream.read(&mut [0; 8]).await;
        })
    });
    let world = World::new();
    world.serve("one", origin.await);
    let asked =
        format!("{}Expect: 100-continue\r\nContent-Length: 400\r\n\r\n", HEAD.replace("Connection: close\r\n", ""));
    let answer = raw(world.address, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("big"), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
}

#[tokio::test]
async fn hints_pass_and_an_old_client_gets_none() {
    let origin = answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\n\r\n",
    );
    let world = World::new();
    world.serve("one", origin.await);
    let answer = raw(world.address, "GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    let old = raw(world.address, "GET / HTTP/1.0\r\nHost: api.localhost\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n") && old.ends_with("\r\n\r\nok"), "no chunks for HTTP/1.0: {old}");
}

#[tokio::test]
async fn an_instance_that_only_hints_is_given_up() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            read_request(&mut stream).await;
            while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {}
        })
    });
    let world = World::new();
    world.serve("one", origin.await);
    let answer = raw(world.address, "GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("HTTP/1.1 502 Bad Gateway"), "{answer}");
}

#[tokio::test]
async fn trailers_pass_but_not_those_that_could_pose_as_something_else() {
    let origin = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\
         Set-Cookie: a=b\r\nContent-Length: 1\r\n\r\n",
    );
    let world = World::new();
    world.serve("one", origin.await);
    let answer = raw(world.address, "GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("Trailer: X-Sum\r\n"), "{answer}");
    assert!(answer.ends_with("2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn both_bodies_flow_before_either_is_whole() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            read_until(&mut stream, "one").await;
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n";
            stream.write_all(head).await.unwrap();
            read_until(&mut stream, "two").await;
            stream.write_all(b"3\r\nTWO\r\n").await.unwrap();
            read_until(&mut stream, "0\r\n\r\n").await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        })
    });
    let world = World::new();
    world.serve("one", origin.await);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n").as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "ONE\r\n").await.contains("200 OK"));
    stream.write_all(b"3\r\ntwo\r\n").await.unwrap();
    read_until(&mut stream, "TWO\r\n").await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 0);
}

#[tokio::test]
async fn answers_that_end_with_the_connection_are_framed_for_the_client() {
    let origin = raw_origin(|mut stream, _| {
        Box::pin(async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nto the end").await.unwrap();
        })
    });
    let world = World::new();
    world.serve("one", origin.await);
    let mut client = world.client().await;
    for _ in 0..3 {
        let reply = client.get("/").await;
        assert_eq!((reply.status, &*reply.body), (200, "to the end"));
        assert_eq!(reply.headers["transfer-encoding"], "chunked");
        assert!(reply.headers.contains_key("date"));
    }
}

#[tokio::test]
async fn answers_that_two_readers_could_understand_differently_are_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nab",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let world = World::new();
        world.serve("one", answering(answer).await);
        assert_eq!(world.client().await.get("/").await.status, 502, "{answer:?}");
        assert_eq!(world.stats().releases[0].broken, 1);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_empty_lines_between_them_skipped() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let post = |body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: api.localhost\r\nContent-Length: {}\r\n\r\n{body}\r\n", body.len())
    };
    let last = "GET /status/204 HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n";
    let answers = raw(world.address, &[&post("first"), &post("second"), last].map(ToString::to_string).concat()).await;
    let places = ["first", "second", "HTTP/1.1 204"].map(|text| answers.find(text).expect(text));
    assert!(places.is_sorted(), "{answers}");
}

// R220
#[tokio::test]
async fn a_client_that_goes_away_ends_its_exchange() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: api.localhost\r\n\r\n").await.unwrap();
    soon(origin.arrived.acquire()).await.unwrap().forget();
    drop(stream);
    soon(world.proxy.drained("one", PATIENCE)).await.unwrap();
    assert_eq!(world.stats().releases[0].client_aborts, 1);
}
