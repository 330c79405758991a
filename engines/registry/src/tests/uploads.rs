//! Blobs: pushing and pulling.

use http::StatusCode;
use slipway_blobs::Digest;

use super::Server;
use crate::Limits;

#[tokio::test]
async fn the_root_says_who_may_come_in() {
    let server = Server::start().await;
    let stranger = server.send_as("", "GET", "/v2/", &[], b"").await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stranger.header("www-authenticate"), "Basic realm=\"slipway\"");
    assert_eq!(stranger.code(), "UNAUTHORIZED");
    let friend = server.get("/v2/").await;
    assert_eq!(friend.status, StatusCode::OK);
    assert_eq!(friend.header("docker-distribution-api-version"), "registry/2.0");
    let reader = server.send_as("reader", "POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    assert_eq!((reader.status, reader.code().as_str()), (StatusCode::FORBIDDEN, "DENIED"));
}

#[tokio::test]
async fn a_blob_is_pushed_at_once_and_pulled_whole_and_in_parts() {
    let server = Server::start().await;
    let digest = server.push_blob("shop/api", b"0123456789").await;
    let path = format!("/v2/shop/api/blobs/{digest}");
    let head = server.send("HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (StatusCode::OK, "10", 0));
    assert_eq!(head.header("docker-content-digest"), digest.to_string());
    let escaped = server.get(&path.replace("sha256:", "sha256%3A")).await;
    assert_eq!(&escaped.body[..], b"0123456789");
    for (range, status, body, told) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=8-", 206, "89", "bytes 8-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=5-100", 206, "56789", "bytes 5-9/10"),
        ("bytes=4-2", 200, "0123456789", ""),
        ("rows=1-2", 200, "0123456789", ""),
    ] {
        let reply = server.send("GET", &path, &[("range", range)], b"").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(reply.header("content-range"), told, "{range}");
    }
    let beyond = server.send("GET", &path, &[("range", "bytes=10-")], b"").await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, "bytes */10"));
}

#[tokio::test]
async fn a_blob_is_pushed_in_pieces_that_continue_each_other() {
    let server = Server::start().await;
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    assert_eq!((begun.status.as_u16(), begun.header("range")), (202, "0-0"));
    let place = begun.header("location").to_owned();
    let first = server.send("PATCH", &place, &[("content-range", "0-3")], b"0123").await;
    assert_eq!((first.status.as_u16(), first.header("range")), (202, "0-3"));
    let status = server.get(&place).await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-3"));
    for wrong in ["0-3", "5-8", "4-8", "nonsense"] {
        let reply = server.send("PATCH", &place, &[("content-range", wrong)], b"4567").await;
        assert_eq!((reply.status.as_u16(), reply.header("range")), (416, "0-3"), "{wrong}");
    }
    let second = server.send("PATCH", &place, &[], b"4567").await;
    assert_eq!((second.status.as_u16(), second.header("range")), (202, "0-7"));
    let digest = Digest::of(b"0123456789");
    let last = server.send("PUT", &format!("{place}?digest={digest}"), &[], b"89").await;
    assert_eq!(last.status.as_u16(), 201);
    assert_eq!(last.header("location"), format!("/v2/shop/api/blobs/{digest}"));
    assert_eq!(&server.get(last.header("location")).await.body[..], b"0123456789");
    let over = server.get(&place).await;
    assert_eq!((over.status.as_u16(), over.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn bytes_that_are_not_what_was_announced_are_refused_and_not_kept() {
    let server = Server::start().await;
    let announced = Digest::of(b"announced");
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    let place = begun.header("location").to_owned();
    let wrong = server.send("PUT", &format!("{place}?digest={announced}"), &[], b"other").await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(server.get(&place).await.status.as_u16(), 404);
    let bad = server.send("POST", "/v2/shop/api/blobs/uploads/?digest=md5:1", &[], b"x").await;
    assert_eq!(bad.code(), "DIGEST_INVALID");
    assert!(server.blobs.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(server.root.join("blobs/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_can_be_taken_back_and_belongs_to_its_repository() {
    let server = Server::start().await;
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    let place = begun.header("location").to_owned();
    let elsewhere = server.get(&place.replace("shop/api", "shop/web")).await;
    assert_eq!(elsewhere.status.as_u16(), 404);
    assert_eq!(server.send("DELETE", &place, &[], b"").await.status.as_u16(), 204);
    assert_eq!(server.get(&place).await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_blob_is_seen_only_where_it_was_pushed_until_it_is_mounted() {
    let server = Server::start().await;
    let digest = server.push_blob("shop/api", b"shared").await;
    let there = format!("/v2/shop/web/blobs/{digest}");
    assert_eq!(server.get(&there).await.code(), "BLOB_UNKNOWN");
    let uploads = "/v2/shop/web/blobs/uploads/";
    let mounted = server.send("POST", &format!("{uploads}?mount={digest}&from=shop/api"), &[], b"").await;
    assert_eq!(mounted.status.as_u16(), 201);
    assert_eq!(&server.get(&there).await.body[..], b"shared");
    // Without leave to read the source, or without a source, an ordinary upload begins.
    let secret = Digest::of(b"secret");
    let path = format!("/v2/eve/own/blobs/uploads/?digest={secret}");
    assert_eq!(server.send_as("eve", "POST", &path, &[], b"secret").await.status.as_u16(), 201);
    for query in [format!("mount={secret}&from=eve/own"), format!("mount={secret}")] {
        let reply = server.send("POST", &format!("{uploads}?{query}"), &[], b"").await;
        assert_eq!(reply.status.as_u16(), 202, "{query}");
    }
}

#[tokio::test]
async fn too_many_and_too_large_uploads_are_refused_with_the_limit() {
    let limits = Limits { uploads_max: 1, blob_bytes_max: 4, ..Limits::default() };
    let server = Server::with(limits).await;
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    let more = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    assert_eq!((more.status.as_u16(), more.code().as_str()), (429, "TOOMANYREQUESTS"));
    let place = begun.header("location").to_owned();
    let large = server.send("PATCH", &place, &[], b"12345").await;
    assert_eq!((large.status.as_u16(), large.code().as_str()), (413, "SIZE_INVALID"));
    assert_eq!(server.get(&place).await.status.as_u16(), 404);
}

#[tokio::test]
async fn an_upload_whose_client_went_away_goes_on_where_it_ended() {
    use tokio::io::AsyncWriteExt;
    let server = Server::start().await;
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    let place = begun.header("location").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let head =
        format!("PATCH {place} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer adam\r\ncontent-length: 10\r\n\r\n0123");
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    let seen = async {
        loop {
            let status = server.get(&place).await;
            if status.header("range") == "0-3" {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.unwrap();
    let digest = Digest::of(b"0123456789");
    let last = server.send("PUT", &format!("{place}?digest={digest}"), &[("content-range", "4-9")], b"456789").await;
    assert_eq!(last.status.as_u16(), 201);
}

#[tokio::test]
async fn a_request_that_sends_nothing_more_is_ended() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let limits = Limits { body_idle: std::time::Duration::from_millis(20), ..Limits::default() };
    let server = Server::with(limits).await;
    let mut stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let digest = Digest::of(b"0123456789");
    let head = format!(
        "POST /v2/shop/api/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer adam\r\ncontent-length: 10\r\n\r\n0123"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 408");
    assert!(server.blobs.list().unwrap().is_empty());
}

#[tokio::test]
async fn uploads_that_nobody_continues_are_forgotten() {
    let server = Server::start().await;
    let begun = server.send("POST", "/v2/shop/api/blobs/uploads/", &[], b"").await;
    let place = begun.header("location").to_owned();
    let now = std::time::Instant::now();
    server.registry.expire(now);
    assert_eq!(server.get(&place).await.status.as_u16(), 204);
    server.registry.expire(now + std::time::Duration::from_secs(3700));
    assert_eq!(server.get(&place).await.status.as_u16(), 404);
    assert_eq!(std::fs::read_dir(server.root.join("blobs/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn addresses_and_methods_that_mean_nothing_are_refused_by_the_book() {
    let server = Server::start().await;
    for (method, path, status, code) in [
        ("GET", "/v2/shop/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/Shop/api/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/b/c/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/shop/api/referrers/sha256:1", 404, "UNSUPPORTED"),
        ("GET", "/v2/shop/api/blobs/sha256:1", 400, "DIGEST_INVALID"),
        ("DELETE", "/v2/shop/api/manifests/v1", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/shop/api/blobs/sha256:1", 405, "UNSUPPORTED"),
        ("PATCH", "/v2/shop/api/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN"),
    ] {
        let reply = server.send(method, path, &[], b"").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{method} {path}");
    }
}
