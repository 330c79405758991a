//! The HTTP side apart from pushes: raw requests, compressed bodies, errors as clients see them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Bench, accept_all, bench, soon};

async fn post(bench: &Bench, path: &str, head: &str, body: &[u8]) -> String {
    let address = bench.url.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/git").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head =
        format!("POST /git/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n");
    let mut answer = Vec::new();
    soon(async {
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer before it has read all.
        let _ = stream.write_all(body).await;
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

const FETCH: &str = "Content-Type: application/x-git-upload-pack-request\r\nGit-Protocol: version=2\r\n";

const LIST: &str = "0014command=ls-refs\n00010009peel\n0000";

#[tokio::test]
async fn a_compressed_request_is_understood_like_a_plain_one() {
    let (bench, hooks) = bench().await;
    let _hooks = accept_all(hooks);
    let commit = bench.commit(&[("a.txt", "1")], "first").await;
    bench.run(["push", "origin", "main"]).await;
    let plain = post(&bench, "shop.git/git-upload-pack", FETCH, LIST.as_bytes()).await;
    assert!(plain.contains(&format!("{commit} refs/heads/main")), "{plain}");
    assert!(plain.contains("application/x-git-upload-pack-result"));
    assert!(plain.contains("no-cache, max-age=0, must-revalidate"));
    let head = format!("{FETCH}Content-Encoding: gzip\r\n");
    let packed = post(&bench, "shop.git/git-upload-pack", &head, &gzip(LIST.as_bytes())).await;
    assert!(packed.contains(&format!("{commit} refs/heads/main")), "{packed}");
}

#[tokio::test]
async fn a_request_that_inflates_beyond_its_limit_is_refused() {
    let (bench, _hooks) = bench().await;
    bench.git.create(&bench.project).await.unwrap();
    // Something that git would read on and on.
    let packet = format!("fff0agent={}", "x".repeat(0xfff0 - 10));
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(b"0014command=ls-refs\n").unwrap();
    for _ in 0..1100 {
        bomb.write_all(packet.as_bytes()).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 300_000);
    let head = format!("{FETCH}Content-Encoding: gzip\r\n");
    let answer = post(&bench, "shop.git/git-upload-pack", &head, &bomb).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("larger than 67108864 bytes"), "{answer}");
    soon(bench.git.drained()).await;
}

#[tokio::test]
async fn a_wrong_request_gets_its_status_and_a_sentence() {
    let (bench, _hooks) = bench().await;
    bench.git.create(&bench.project).await.unwrap();
    let wrong = [
        ("none.git/git-upload-pack", FETCH, "404", "there is no project `none`"),
        ("shop.git/git-upload-pack", "", "415", "the content type must be"),
        ("shop.git/objects/x", FETCH, "404", "nothing at this path"),
        (
            "shop.git/git-upload-pack",
            "Content-Type: application/x-git-upload-pack-request\r\nContent-Encoding: br\r\n",
            "415",
            "plain or gzip",
        ),
        (
            "shop.git/git-upload-pack",
            "Content-Type: application/x-git-upload-pack-request\r\nContent-Encoding: gzip\r\n",
            "400",
            "not valid gzip",
        ),
    ];
    for (path, head, status, text) in wrong {
        let answer = post(&bench, path, head, b"nonsense").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    soon(bench.git.drained()).await;
}

#[tokio::test]
async fn a_client_is_told_that_there_is_no_such_project() {
    let (bench, _hooks) = bench().await;
    let remote = format!("{}/none.git", bench.url);
    let (ok, _, said) = bench.try_run(["fetch", &remote]).await;
    assert!(!ok);
    assert!(said.contains("there is no project `none`"), "{said}");
}

#[tokio::test]
async fn a_fetch_gets_what_is_new_and_a_clone_can_leave_out_files() {
    let (bench, hooks) = bench().await;
    let _hooks = accept_all(hooks);
    bench.commit(&[("a.txt", "1")], "first").await;
    bench.run(["push", "origin", "main"]).await;
    let copy = bench.scratch.0.join("copy");
    let copy = copy.to_str().unwrap();
    let remote = format!("{}/shop.git", bench.url);
    bench.run(["clone", "--quiet", "--filter=blob:none", &remote, copy]).await;
    let second = bench.commit(&[("b.txt", "2")], "second").await;
    bench.run(["push", "origin", "main"]).await;
    bench.run(["-C", copy, "pull", "--quiet"]).await;
    let head = bench.run(["-C", copy, "rev-parse", "HEAD"]).await;
    assert_eq!(head.trim(), second.to_string());
    // The older protocol as well.
    bench.run(["-c", "protocol.version=0", "clone", "--quiet", &remote, &format!("{copy}0")]).await;
}

#[tokio::test]
async fn a_clone_checks_out_the_branch_that_exists() {
    let (bench, hooks) = bench().await;
    let _hooks = accept_all(hooks);
    bench.commit(&[("a.txt", "1")], "first").await;
    bench.run(["push", "origin", "main:master", "main:zebra"]).await;
    let remote = format!("{}/shop.git", bench.url);
    let head = bench.run(["ls-remote", "--symref", &remote, "HEAD"]).await;
    assert!(head.contains("ref: refs/heads/master"), "{head}");
    bench.git.set_head(&bench.project, "zebra").await.unwrap();
    let head = bench.run(["ls-remote", "--symref", &remote, "HEAD"]).await;
    assert!(head.contains("ref: refs/heads/zebra"), "{head}");
}
