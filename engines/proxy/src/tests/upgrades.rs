use super::*;

/// Changes the protocol and then answers each line with `NAME: LINE`.
async fn talkative(name: &'static str) -> SocketAddr {
    raw_origin(move |mut stream, _| {
        Box::pin(async move {
            let head = read_request(&mut stream).await.to_ascii_lowercase();
            if !(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n")) {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                return;
            }
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: x\r\n\r\nhello\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let said = format!("{name}: {}", String::from_utf8_lossy(&buffer[..read]));
                if stream.write_all(said.as_bytes()).await.is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"bye\n").await;
        })
    })
    .await
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: api.localhost\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

async fn upgraded(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let head = read_to(&mut stream, "hello\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Accept: x\r\n") && !head.contains("content-length"), "{head}");
    stream
}

async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut buffer = [0; 1024];
        let read = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

#[tokio::test]
async fn a_websocket_passes_in_both_directions_and_is_counted_at_once() {
    let world = World::new();
    world.serve("one", talkative("one").await);
    let mut stream = upgraded(world.address).await;
    assert_eq!(world.proxy.in_flight("one"), 1);
    assert_eq!(world.stats().releases[0].statuses[0], 1, "counted when it opens");
    for said in ["a", "b", "c"] {
        stream.write_all(said.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut stream, said).await, format!("one: {said}"));
    }
    // Half of it ends; the other half has a last word.
    stream.shutdown().await.unwrap();
    assert_eq!(read_to(&mut stream, "bye\n").await, "bye\n");
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(world.proxy.drained("one", PATIENCE).await, Ok(()));
}

#[tokio::test]
async fn a_websocket_lives_until_the_drain_is_over_and_no_longer() {
    let world = World::new();
    world.serve("one", talkative("one").await);
    let mut stream = upgraded(world.address).await;
    world.proxy.drain("one");
    let proxy = world.proxy.clone();
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let draining = tokio::spawn(async move {
        let drained = proxy.drained("one", Duration::from_millis(200)).await;
        let _ = over.send(());
        drained
    });
    // It is used while the drain lasts.
    stream.write_all(b"still").await.unwrap();
    assert_eq!(read_to(&mut stream, "still").await, "one: still");
    let mut is_over = is_over;
    assert!(is_over.try_recv().is_err());
    assert_eq!(soon(draining).await.unwrap(), Ok(()));
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(world.proxy.in_flight("one"), 0);
}

#[tokio::test]
async fn an_instance_may_refuse_an_upgrade_and_answer() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(UPGRADE.as_bytes()).await.unwrap();
        let answer = read_to(&mut stream, "one").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "the connection lives on: {answer}");
    }
}

#[tokio::test]
async fn an_offer_of_h2c_is_ignored() {
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let offer = "GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(status_of(&raw(world.address, offer).await), "200");
    let seen = origin.last();
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_502() {
    let world = World::new();
    world
        .serve("one", answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await);
    assert_eq!(world.client().await.get("/").await.status, 502);
}

#[tokio::test]
async fn a_still_websocket_is_closed_after_its_time() {
    let world = World::with(Limits { tunnel_idle: Duration::from_millis(50), ..Limits::default() });
    world.serve("one", talkative("one").await);
    let mut stream = upgraded(world.address).await;
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
    soon(world.proxy.drained("one", PATIENCE)).await.unwrap();
}
