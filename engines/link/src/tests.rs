//! Both ends of a link in one process.

use crate::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(20);

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Longer than a socket's address may be.
        let long = "a-data-folder-with-a-rather-long-name-".repeat(4);
        let path = std::env::temp_dir().join(format!("slipway-link-{}-{n}", std::process::id())).join(long);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("serve.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("it happens in time")
}

async fn pair(scratch: &Scratch) -> (Links, (Peer, Inbox), (Peer, Inbox)) {
    let mut links = Links::bind(&scratch.socket()).unwrap();
    let mut dialler = Dialler::new(&scratch.socket(), Hello::new(Kind::Node, "local"));
    let (dialled, accepted) = soon(async { tokio::join!(dialler.connect(), links.accept()) }).await;
    (links, dialled, accepted)
}

/// Answers every call with its text and an exclamation mark.
fn echo(mut inbox: Inbox) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(message) = inbox.next().await {
            if let Incoming::Call(call) = message {
                let text: String = call.read().unwrap();
                if text == "fail" { call.fail("no room").await } else { call.answer(&format!("{text}!")).await }
            }
        }
    })
}

#[tokio::test]
async fn both_sides_call_each_other_over_one_connection() {
    let scratch = Scratch::new();
    let (_links, (node, node_inbox), (serve, serve_inbox)) = pair(&scratch).await;
    assert_eq!(serve.hello().title(), "node local");
    echo(node_inbox);
    echo(serve_inbox);
    let asked = (0..100).map(|n| {
        let (from, text) = (if n % 2 == 0 { node.clone() } else { serve.clone() }, format!("q{n}"));
        async move { assert_eq!(from.call::<_, String>(&text, LIMIT).await.unwrap(), format!("{text}!")) }
    });
    let tasks: Vec<_> = asked.map(tokio::spawn).collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    let error = node.call::<_, String>(&"fail", LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "`node local` could not do it: no room");
}

#[tokio::test]
async fn events_arrive_in_order() {
    let scratch = Scratch::new();
    let (_links, (node, _inbox), (_serve, mut inbox)) = pair(&scratch).await;
    // More than both queues hold: the sender waits, nothing is lost.
    let sender = tokio::spawn(async move {
        for n in 0..2_000_u32 {
            node.event(&n).await.unwrap();
        }
        node
    });
    for wanted in 0..2_000_u32 {
        let Some(Incoming::Event(event)) = soon(inbox.next()).await else { panic!("an event") };
        assert_eq!(event.read::<u32>().unwrap(), wanted);
    }
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_lost_connection_fails_the_calls_that_wait() {
    let scratch = Scratch::new();
    let (_links, (node, node_inbox), (serve, _serve_inbox)) = pair(&scratch).await;
    let waiting = tokio::spawn(async move { serve.call::<_, String>(&"q", LIMIT).await });
    let mut inbox = node_inbox;
    let call = soon(inbox.next()).await;
    node.end();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the connection to `node local` has ended");
    drop(call);
    soon(node.ended()).await;
    assert!(!node.is_up());
}

#[tokio::test]
async fn a_call_that_is_dropped_unanswered_fails_at_once() {
    let scratch = Scratch::new();
    let (_links, (_node, mut inbox), (serve, _serve_inbox)) = pair(&scratch).await;
    let waiting = tokio::spawn(async move { serve.call::<_, String>(&"q", LIMIT).await });
    drop(soon(inbox.next()).await);
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "`node local` could not do it: it was not answered");
}

#[tokio::test]
async fn a_call_has_a_deadline() {
    let scratch = Scratch::new();
    let (_links, (_node, _node_inbox), (serve, _inbox)) = pair(&scratch).await;
    let error = serve.call::<_, String>(&"q", Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.to_string(), "`node local` did not answer within 50 ms");
}

#[tokio::test]
async fn the_dialling_side_comes_back_to_a_new_control_plane() {
    let scratch = Scratch::new();
    let mut dialler = Dialler::new(&scratch.socket(), Hello::new(Kind::Worker, "local"));
    let (peer, mut inbox) = {
        let mut links = Links::bind(&scratch.socket()).unwrap();
        let (dialled, accepted) = soon(async { tokio::join!(dialler.connect(), links.accept()) }).await;
        drop(accepted);
        dialled
    };
    assert!(soon(inbox.next()).await.is_none());
    assert!(!peer.is_up());
    let binding = async {
        let mut links = Links::bind(&scratch.socket()).unwrap();
        let accepted = links.accept().await;
        (links, accepted)
    };
    let (_dialled, (_links, (peer, _))) = soon(async { tokio::join!(dialler.connect(), binding) }).await;
    assert_eq!(peer.hello().kind, Kind::Worker);
}

#[tokio::test]
async fn a_socket_is_served_once_and_only_for_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let first = Links::bind(&scratch.socket()).unwrap();
    let mode = std::fs::metadata(scratch.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(Links::bind(&scratch.socket()), Err(LinkError::InUse { .. })));
    drop(first);
    // What a killed process left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(std::env::temp_dir().join(format!("sl-{}", std::process::id()))));
    std::fs::rename(std::env::temp_dir().join(format!("sl-{}", std::process::id())), scratch.socket()).unwrap();
    assert!(Links::bind(&scratch.socket()).is_ok());
}

#[tokio::test]
async fn versions_that_do_not_overlap_are_refused_with_what_to_upgrade() {
    let scratch = Scratch::new();
    let mut links = Links::bind(&scratch.socket()).unwrap();
    let accepting = tokio::spawn(async move {
        links.accept().await;
    });
    let future = Hello { version_min: 7, version_max: 8, ..Hello::new(Kind::Node, "n") };
    let error = soon(Dialler::new(&scratch.socket(), future).try_once()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the connection was refused: this node speaks versions 7 to 8 of the link, the control plane 1 to 1; \
         upgrade the control plane"
    );
    // N and N−1 agree on N−1, whichever side is the newer.
    let older = Hello { version_min: 1, version_max: 1, ..Hello::new(Kind::Node, "n") };
    assert_eq!(older.agree(1, 2), Ok(1));
    let newer = Hello { version_min: 1, version_max: 2, ..Hello::new(Kind::Node, "n") };
    assert_eq!(newer.agree(1, 1), Ok(1));
    assert!(older.agree(2, 3).unwrap_err().ends_with("upgrade the node"));
    accepting.abort();
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_the_link() {
    let scratch = Scratch::new();
    let (links, _dialled, _accepted) = pair(&scratch).await;
    let mut links = links;
    let greet = async {
        let mut stream =
            tokio::net::UnixStream::connect(crate::listen::reach(&scratch.socket()).unwrap().path).await.unwrap();
        crate::greeting::greet(&mut stream, &Hello::new(Kind::Node, "x")).await.unwrap();
        stream
    };
    let (mut stream, (peer, _inbox)) = soon(async { tokio::join!(greet, links.accept()) }).await;
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    soon(peer.ended()).await;
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn the_connection_ends_when_its_owner_lets_it_go() {
    let scratch = Scratch::new();
    let (_links, (node, node_inbox), (serve, _serve_inbox)) = pair(&scratch).await;
    drop((node, node_inbox));
    soon(serve.ended()).await;
}
