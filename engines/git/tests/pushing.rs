//! What a push does and what its pusher sees.

use std::os::unix::ffi::OsStrExt;

use slipway_git::{GitError, HookKind, RepoPath};

use crate::support::{Scratch, accept_all, bench, bench_with, next, options, soon, until};

// R026 (the hook is the event), R441 (the progress is in the terminal)
#[tokio::test]
async fn each_line_reaches_the_pusher_before_the_next_event_happens() {
    let (bench, mut hooks) = bench().await;
    let commit = bench.commit(&[("a.txt", "1")], "first").await;
    let (mut child, mut lines) = bench.push(&["origin", "main"]);

    let call = next(&mut hooks, HookKind::PreReceive).await;
    assert_eq!(call.pusher.as_deref(), Some("kim"));
    assert_eq!(call.project.as_str(), "shop");
    assert_eq!(call.refs.len(), 1);
    assert_eq!(call.refs[0].name, "refs/heads/main");
    assert_eq!((call.refs[0].old, call.refs[0].new), (None, Some(commit)));
    call.end(0).await.unwrap();

    let call = next(&mut hooks, HookKind::PostReceive).await;
    assert_eq!(bench.ref_at("refs/heads/main").await, Some(commit));
    for n in 0..20 {
        call.line(&format!("  {n}.0s  step {n}")).await.unwrap();
        let line = until(&mut lines, "step").await;
        assert_eq!(line.trim_end(), format!("remote: slipway   {n}.0s  step {n}"));
    }
    call.end(0).await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
    soon(bench.git.drained()).await;
}

#[tokio::test]
async fn a_refused_push_moves_nothing_and_says_why() {
    let (bench, mut hooks) = bench().await;
    bench.commit(&[("a.txt", "1")], "first").await;
    let (mut child, mut lines) = bench.push(&["origin", "main"]);
    let call = next(&mut hooks, HookKind::PreReceive).await;
    call.line(" slipway.yaml:3: unknown key `prot`\u{1b}[2J\n, did you mean `port`?").await.unwrap();
    call.end(1).await.unwrap();
    let line = until(&mut lines, "unknown key").await;
    // A control character cannot reach the pusher's terminal.
    assert!(line.contains("`prot` [2J , did"), "{line:?}");
    until(&mut lines, "pre-receive hook declined").await;
    assert!(!soon(child.wait()).await.unwrap().success());
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
}

#[tokio::test]
async fn a_call_that_is_dropped_without_a_verdict_refuses_the_push() {
    let (bench, mut hooks) = bench().await;
    bench.commit(&[("a.txt", "1")], "first").await;
    let (mut child, mut lines) = bench.push(&["origin", "main"]);
    drop(next(&mut hooks, HookKind::PreReceive).await);
    until(&mut lines, "lost before it had judged").await;
    until(&mut lines, "push again").await;
    assert!(!soon(child.wait()).await.unwrap().success());
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
}

#[tokio::test]
async fn without_a_server_behind_the_hooks_nothing_is_stored_and_the_way_out_is_named() {
    let (bench, hooks) = bench().await;
    drop(hooks);
    std::fs::remove_file(bench.scratch.0.join("hooks.socket")).unwrap();
    bench.commit(&[("a.txt", "1")], "first").await;
    let (ok, _, said) = bench.try_run(["push", "origin", "main"]).await;
    assert!(!ok);
    assert!(said.contains("start it with `slipway up`"), "{said}");
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
}

#[tokio::test]
async fn what_a_push_brings_can_be_read_before_it_is_stored() {
    let (bench, mut hooks) = bench().await;
    let file = "project: shop\n";
    let commit = bench.commit(&[("slipway.yaml", file)], "first").await;
    let (mut child, _lines) = bench.push(&["origin", "main"]);
    let call = next(&mut hooks, HookKind::PreReceive).await;
    assert!(call.objects.is_quarantine());
    let read = call.objects.read(commit, "slipway.yaml", 1000).await;
    assert_eq!(read.unwrap().as_deref(), Some(file.as_bytes()));
    assert_eq!(call.objects.commit(commit).await.unwrap().subject, "first");
    assert_eq!(call.objects.tree(commit).await.unwrap().len(), 1);
    let outside = bench.git.view(&bench.project).unwrap();
    assert!(matches!(outside.commit(commit).await, Err(GitError::Missing { .. })));
    call.end(0).await.unwrap();
    next(&mut hooks, HookKind::PostReceive).await.end(0).await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
    assert_eq!(outside.commit(commit).await.unwrap().id, commit);
}

#[tokio::test]
async fn push_options_reach_both_hooks() {
    let (bench, mut hooks) = bench().await;
    bench.commit(&[("a.txt", "1")], "first").await;
    let args = ["-o", "ci.detach", "-o", "fixes=1f3c9ab", "origin", "main"];
    let (mut child, _lines) = bench.push(&args);
    for kind in [HookKind::PreReceive, HookKind::PostReceive] {
        let call = next(&mut hooks, kind).await;
        assert_eq!(call.options, ["ci.detach", "fixes=1f3c9ab"]);
        call.end(0).await.unwrap();
    }
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn many_commits_branches_and_tags_travel_in_one_push_and_come_back_by_clone() {
    let (bench, mut hooks) = bench().await;
    let mut stream = String::new();
    for n in 0..64 {
        stream += &format!(
            "commit refs/heads/main\ncommitter Kim <k@x> {n} +0000\ndata 3\nc{n:02}\nM 644 inline f{n}\ndata 2\n{n:02}\n\n"
        );
    }
    bench.import(stream).await;
    bench.run(["tag", "-a", "v1", "-m", "one", "main~3"]).await;
    bench.run(["branch", "feature", "main~5"]).await;
    let (mut child, _lines) = bench.push(&["origin", "main", "feature", "v1"]);
    let call = next(&mut hooks, HookKind::PreReceive).await;
    assert_eq!(call.refs.len(), 3);
    let head = call.refs.iter().find(|one| one.name == "refs/heads/main").unwrap();
    let brought = call.objects.commits(None, head.new.unwrap(), 1000).await.unwrap();
    assert_eq!(brought.len(), 64);
    call.end(0).await.unwrap();
    next(&mut hooks, HookKind::PostReceive).await.end(0).await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());

    let copy = bench.scratch.0.join("copy");
    let remote = format!("{}/shop.git", bench.url);
    bench.run(["clone", "--quiet", &remote, copy.to_str().unwrap()]).await;
    assert!(copy.join("f63").exists());
}

#[tokio::test]
async fn a_branch_can_be_forced_back_and_deleted_and_the_hooks_see_it() {
    let (bench, mut hooks) = bench().await;
    let first = bench.commit(&[("a.txt", "1")], "first").await;
    let second = bench.commit(&[("a.txt", "2")], "second").await;
    let steps: [(&[&str], _, _); 3] = [
        (&["origin", "main:x"], None, Some(second)),
        (&["--force", "origin", "main~1:x"], Some(second), Some(first)),
        (&["origin", ":x"], Some(first), None),
    ];
    // Another branch holds HEAD, which git does not let be deleted.
    for (args, old, new) in [(&["origin", "main"][..], None, Some(second))].into_iter().chain(steps) {
        let (mut child, _lines) = bench.push(args);
        for kind in [HookKind::PreReceive, HookKind::PostReceive] {
            let call = next(&mut hooks, kind).await;
            assert_eq!((call.refs[0].old, call.refs[0].new), (old, new));
            call.end(0).await.unwrap();
        }
        assert!(soon(child.wait()).await.unwrap().success());
    }
    // What a change was made of can still be read.
    let view = bench.git.view(&bench.project).unwrap();
    assert_eq!(view.commit(second).await.unwrap().subject, "second");
}

#[tokio::test]
async fn any_file_name_survives_the_way_into_a_reading() {
    let (bench, hooks) = bench().await;
    let _hooks = accept_all(hooks);
    let names: [&[u8]; 5] = ["größe/ü.rs".as_bytes(), b"a\nb", b"x\xff\xfey", b"back\\slash", b" -rf : *"];
    std::fs::create_dir(bench.work.join("größe")).unwrap();
    for name in names {
        let path = bench.work.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(path, name).unwrap();
    }
    let commit = bench.commit(&[], "strange").await;
    bench.run(["push", "origin", "main"]).await;
    let view = bench.git.view(&bench.project).unwrap();
    let mut wanted: Vec<RepoPath> = names.map(|name| RepoPath::new(name).unwrap()).to_vec();
    wanted.sort();
    assert_eq!(view.changed(None, commit).await.unwrap(), wanted);
    for path in &wanted {
        let content = view.read(commit, path, 100).await.unwrap();
        assert_eq!(content.as_deref(), Some(path.as_bytes()), "{path}");
    }
    let lease = bench.git.lease(&bench.project, commit).await.unwrap();
    for name in names {
        let path = lease.path().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(path).unwrap(), name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_to_many_projects_at_once_all_arrive() {
    let (bench, hooks) = bench().await;
    let hooks = accept_all(hooks);
    let commit = bench.commit(&[("a.txt", "1")], "first").await;
    let pushes = (0..12).map(|n| {
        let remote = format!("{}/p{}.git", bench.url, n % 4);
        let bench = &bench;
        async move { bench.run(["push".to_owned(), remote, format!("main:b{n}")]).await }
    });
    futures::future::join_all(pushes).await;
    let projects = bench.git.projects().unwrap();
    assert_eq!(projects.len(), 4);
    for project in projects {
        let refs = bench.git.view(&project).unwrap().refs().await.unwrap();
        assert_eq!(refs.len(), 3);
        assert!(refs.iter().all(|one| one.target == commit));
    }
    soon(bench.git.drained()).await;
    hooks.abort();
}

#[tokio::test]
async fn a_push_on_the_machine_by_path_calls_the_same_hooks() {
    let (bench, mut hooks) = bench().await;
    let commit = bench.commit(&[("a.txt", "1")], "first").await;
    bench.git.create(&bench.project).await.unwrap();
    let place = bench.scratch.0.join("git/shop.git");
    let (mut child, _lines) = bench.push(&[place.to_str().unwrap(), "main"]);
    for kind in [HookKind::PreReceive, HookKind::PostReceive] {
        let call = next(&mut hooks, kind).await;
        assert_eq!((call.push.as_deref(), call.pusher.as_deref()), (None, None));
        assert_eq!(call.refs[0].new, Some(commit));
        call.end(0).await.unwrap();
    }
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_push_larger_than_its_limit_is_refused_and_nothing_is_stored() {
    let scratch = Scratch::new();
    let mut options = options(&scratch);
    options.limits.push_bytes_max = 100_000;
    let (bench, hooks) = bench_with(scratch, options).await;
    let _hooks = accept_all(hooks);
    bench.commit(&[("noise", &noise(300_000))], "large").await;
    let (ok, _, said) = bench.try_run(["push", "origin", "main"]).await;
    assert!(!ok, "{said}");
    assert_eq!(bench.ref_at("refs/heads/main").await, None);
    soon(bench.git.drained()).await;
}

/// The peak of a process is that of all its tests: this one has a process of its own.
#[test]
fn a_large_push_and_its_clone_flow_through_flat_memory() {
    const ALONE: &str = "SLIPWAY_GIT_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(a_large_push_and_its_clone());
    }
    let name = "pushing::a_large_push_and_its_clone_flow_through_flat_memory";
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let said = alone.args(["--exact", name]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&said.stderr));
}

async fn a_large_push_and_its_clone() {
    let (bench, hooks) = bench().await;
    let _hooks = accept_all(hooks);
    let megabytes = std::env::var("SLIPWAY_GIT_TEST_MB").ok();
    let megabytes: usize = megabytes.and_then(|text| text.parse().ok()).unwrap_or(64);
    let path = bench.work.join("noise");
    let source = std::fs::File::open("/dev/urandom").unwrap();
    let mut noise = std::io::Read::take(source, (megabytes as u64) << 20);
    std::io::copy(&mut noise, &mut std::fs::File::create(&path).unwrap()).unwrap();
    bench.run(["config", "core.compression", "0"]).await;
    bench.commit(&[], "large").await;
    bench.run(["push", "origin", "main"]).await;
    let copy = bench.scratch.0.join("copy");
    let remote = format!("{}/shop.git", bench.url);
    bench.run(["clone", "--quiet", "--bare", &remote, copy.to_str().unwrap()]).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 40 << 10, "peak {peak} kB for {megabytes} MB");
}

fn noise(bytes: usize) -> String {
    let mut state: u32 = 1;
    let digits = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (state >> 24) as u8 % 90)
    });
    digits.take(bytes).collect()
}
