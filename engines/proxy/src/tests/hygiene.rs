use super::*;

#[tokio::test]
async fn what_belongs_to_a_connection_stays_on_it() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let asked = "GET /a?b=c HTTP/1.1\r\nHost: api.localhost:8080\r\nConnection: close, X-Mine, host\r\n\
        X-Mine: 1\r\nKeep-Alive: 3\r\nTE: trailers\r\nProxy-Connection: x\r\n\
        Proxy-Authorization: secret\r\nAccept: a\r\nAccept: b\r\nCookie: c\r\n\r\n";
    let answer = raw(world.address, asked).await;
    assert_eq!(status_of(&answer), "200");
    let lower = answer.to_ascii_lowercase();
    assert!(!lower.contains("keep-alive"), "{answer}");
    assert!(lower.contains("x-origin: yes") && lower.contains("connection: close"));
    let seen = origin.last();
    assert_eq!(seen.uri, "/a?b=c");
    for gone in ["x-mine", "keep-alive", "proxy-connection"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
    // What the proxy says to its own neighbour.
    assert_eq!(
        (&seen.headers["te"], &seen.headers["connection"]),
        (&"trailers".parse().unwrap(), &"te".parse().unwrap())
    );
    assert!(!seen.headers.contains_key("proxy-authorization"));
    assert_eq!(seen.headers["host"], "api.localhost:8080");
    assert_eq!(seen.headers["cookie"], "c");
    assert_eq!(seen.headers.get_all("accept").iter().count(), 2);
}

#[tokio::test]
async fn where_a_request_came_from_is_told_by_the_proxy() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut request = get("/");
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    world.client().await.send(request).await;
    let seen = origin.last().headers;
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["x-forwarded-host"], "API.localhost:8080");
    assert_eq!(seen["forwarded"], "for=127.0.0.1;host=\"API.localhost:8080\";proto=http");
    assert!(!seen.contains_key("x-real-ip") && !seen.contains_key("x_forwarded_for"));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_appended_to() {
    let world = World::with(Limits { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..Limits::default() });
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut request = get("/");
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", "9.9.9.9".parse().unwrap());
    headers.insert("x-forwarded-proto", "https".parse().unwrap());
    headers.insert("forwarded", "for=9.9.9.9;proto=https".parse().unwrap());
    world.client().await.send(request).await;
    let seen = origin.last().headers;
    assert_eq!(seen["x-forwarded-for"], "9.9.9.9, 127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "https");
    assert_eq!(seen["x-forwarded-host"], "API.localhost:8080");
    let own = "for=127.0.0.1;host=\"API.localhost:8080\";proto=http";
    assert_eq!(seen["forwarded"], format!("for=9.9.9.9;proto=https, {own}"));
}

#[tokio::test]
async fn every_request_has_an_id_and_a_good_one_is_kept() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut client = world.client().await;
    let mut ids = Vec::new();
    for given in ["", "mine-1", "two words", &"x".repeat(200)] {
        let mut request = get("/");
        if !given.is_empty() {
            request.headers_mut().insert("x-request-id", given.parse().unwrap());
        }
        client.send(request).await;
        ids.push(origin.last().headers["x-request-id"].to_str().unwrap().to_owned());
    }
    assert_eq!(ids[1], "mine-1");
    assert!([&ids[0], &ids[2], &ids[3]].iter().all(|id| id.len() == 32), "{ids:?}");
    assert!(ids[0] != ids[2] && ids[2] != ids[3]);
}

#[tokio::test]
async fn the_host_of_an_absolute_target_is_the_one_that_counts() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let asked = "GET http://api.localhost/a?b HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&raw(world.address, asked).await), "200");
    let seen = origin.last();
    assert_eq!(seen.uri, "/a?b");
    assert_eq!(seen.headers["host"], "api.localhost");
}

#[tokio::test]
async fn bodies_pass_whole_whatever_their_framing() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let big = "0123456789".repeat(300_000);
    let mut client = world.client().await;
    assert!(client.post("/echo", &big).await.body == big);
    for method in ["POST", "GET", "DELETE"] {
        let asked = format!(
            "{method} /echo HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: t\r\n\r\n"
        );
        let answer = raw(world.address, &asked).await;
        assert!(answer.ends_with("\r\n\r\nabcde"), "{answer}");
        let seen = origin.last();
        assert_eq!((seen.method.as_str(), &*seen.body), (method, &b"abcde"[..]));
        assert!(!seen.headers.contains_key("x-t"), "a trailer is no field of the head");
        assert_eq!(seen.trailers["x-t"], "t");
    }
    let expecting = "POST /echo HTTP/1.1\r\nHost: api.localhost\r\nExpect: 100-continue\r\n\
        Connection: close\r\nContent-Length: 2\r\n\r\nhi";
    let answer = raw(world.address, expecting).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
    assert_eq!(origin.last().headers["expect"], "100-continue");
}

#[tokio::test]
async fn no_service_sets_the_session_of_the_control_plane() {
    let origin = answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: slipway=evil; Path=/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    );
    let world = World::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&said);
    world.proxy.set_warning_hook(Box::new(move |line| lines.lock().unwrap().push(line.to_owned())));
    world.serve("one", origin.await);
    let mut client = world.client().await;
    for _ in 0..3 {
        let reply = client.get("/").await;
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=b"]);
    }
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 1, "once, not with every answer");
    assert!(said[0].starts_with("shop/production/api sets a cookie named `slipway`"), "{said:?}");
}

#[tokio::test]
async fn an_unknown_host_learns_nothing_of_the_known_ones() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let asked = "GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n";
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // The connection can go on with a host that is known.
    let known = "GET / HTTP/1.1\r\nHost: api.localhost.\r\nConnection: close\r\n\r\n";
    stream.write_all([asked, known].concat().as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("404 Not Found") && answer.ends_with("one"), "{answer}");
    assert!(!answer.contains("api"), "{answer}");
}

#[test]
fn networks_contain_their_addresses_and_no_others() {
    let contains = |network: &str, address: &str| {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    };
    assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe80::1"));
    assert!(contains("127.0.0.1", "::ffff:127.0.0.1") && contains("::/0", "::1"));
    let error = "10.0.0.0/33".parse::<Network>().unwrap_err().to_string();
    assert_eq!(error, "`10.0.0.0/33` is not a network such as `10.0.0.0/8` or `fd00::/8`");
}
