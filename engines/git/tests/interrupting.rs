//! What happens when the pusher leaves.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use slipway_git::HookKind;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::support::{bench, next, processes_of, soon, until};

fn pid(child: &Child) -> Pid {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    Pid::from_raw(id).unwrap()
}

/// A second is what a person would not notice.
async fn within_a_second(what: impl Future<Output = ()>) {
    let noticed = tokio::time::timeout(Duration::from_secs(1), what).await;
    noticed.expect("it is noticed within a second");
}

#[tokio::test]
async fn ctrl_c_during_a_silent_wait_ends_the_hook_and_keeps_the_commits() {
    let (bench, mut hooks) = bench().await;
    let commit = bench.commit(&[("a.txt", "1")], "first").await;
    let (mut watching, mut watching_lines) = bench.push(&["origin", "main:other"]);
    next(&mut hooks, HookKind::PreReceive).await.end(0).await.unwrap();
    let other = next(&mut hooks, HookKind::PostReceive).await;

    let (mut child, mut lines) = bench.push(&["origin", "main"]);
    next(&mut hooks, HookKind::PreReceive).await.end(0).await.unwrap();
    let call = next(&mut hooks, HookKind::PostReceive).await;
    call.line(" waiting").await.unwrap();
    until(&mut lines, "waiting").await;
    let push = call.push.clone().unwrap();
    assert!(!processes_of(&push).is_empty());

    kill_process_group(pid(&child), Signal::INT).unwrap();
    within_a_second(call.cancelled()).await;
    assert!(call.line("too late").await.is_err());
    assert!(!soon(child.wait()).await.unwrap().success());
    // Nothing else stops.
    assert!(!other.is_cancelled());
    other.line(" still here").await.unwrap();
    until(&mut watching_lines, "still here").await;
    other.end(0).await.unwrap();
    assert!(soon(watching.wait()).await.unwrap().success());

    soon(bench.git.drained()).await;
    assert_eq!(processes_of(&push), Vec::<std::path::PathBuf>::new());
    assert_eq!(bench.ref_at("refs/heads/main").await, Some(commit));
}

#[tokio::test]
async fn a_pusher_whose_machine_dies_is_noticed_like_ctrl_c() {
    let (bench, mut hooks) = bench().await;
    bench.commit(&[("a.txt", "1")], "first").await;
    let (mut child, _lines) = bench.push(&["origin", "main"]);
    next(&mut hooks, HookKind::PreReceive).await.end(0).await.unwrap();
    let call = next(&mut hooks, HookKind::PostReceive).await;
    // The whole group: `git push` killed alone leaves its own `git-remote-http` connected.
    kill_process_group(pid(&child), Signal::KILL).unwrap();
    within_a_second(call.cancelled()).await;
    soon(child.wait()).await.unwrap();
    soon(bench.git.drained()).await;
}

#[tokio::test]
async fn a_push_that_breaks_off_during_the_upload_leaves_nothing() {
    let (bench, _hooks) = bench().await;
    bench.git.create(&bench.project).await.unwrap();
    let address = bench.url.strip_prefix("http://").unwrap().strip_suffix("/git").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /git/shop.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\
         Content-Type: application/x-git-receive-pack-request\r\n\r\n";
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let command = format!("{zero} {one} refs/heads/main\0 report-status");
    let body = format!("{:04x}{command}0000PACK", command.len() + 4);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    soon(bench.git.served().wait_for(|clients| *clients > 0)).await.unwrap();
    drop(stream);
    soon(bench.git.drained()).await;
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
    let objects = std::fs::read_dir(bench.scratch.0.join("git/shop.git/objects")).unwrap();
    let names: Vec<_> = objects.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("tmp")), "{names:?}");
}

#[tokio::test]
async fn a_pusher_who_leaves_before_the_verdict_has_stored_nothing() {
    let (bench, mut hooks) = bench().await;
    bench.commit(&[("a.txt", "1")], "first").await;
    let (mut child, _lines) = bench.push(&["origin", "main"]);
    let call = next(&mut hooks, HookKind::PreReceive).await;
    let push = call.push.clone().unwrap();
    kill_process_group(pid(&child), Signal::INT).unwrap();
    within_a_second(call.cancelled()).await;
    assert!(call.end(0).await.is_err());
    soon(child.wait()).await.unwrap();
    soon(bench.git.drained()).await;
    assert_eq!(processes_of(&push), Vec::<std::path::PathBuf>::new());
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
}
