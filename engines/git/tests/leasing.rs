//! Kept checkouts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use slipway_git::{Git, GitError, Oid};

use crate::support::{Bench, Scratch, accept_all, bench, bench_with, options, soon};

async fn pushed(trees_max: u32) -> (Bench, Vec<Oid>) {
    let scratch = Scratch::new();
    let mut options = options(&scratch);
    options.limits.trees_per_project_max = trees_max;
    options.limits.tree_wait = Duration::from_secs(5);
    let (bench, hooks) = bench_with(scratch, options).await;
    accept_all(hooks);
    let attributes = "*.bin filter=evil\n*.lfs filter=lfs diff=lfs merge=lfs -text\n";
    let mut commits = Vec::new();
    let files = [
        ("a.txt", "1"),
        ("gone/deep/b.txt", "b"),
        (".gitignore", "*.log\n"),
        (".gitattributes", attributes),
        ("x.bin", "raw"),
        ("x.lfs", "version https://git-lfs.github.com/spec/v1\n"),
        ("kept.log", "tracked though ignored"),
    ];
    commits.push(bench.commit(&files, "one").await);
    fs::remove_dir_all(bench.work.join("gone")).unwrap();
    commits.push(bench.commit(&[("a.txt", "2"), ("run", "#!/bin/sh\n")], "two").await);
    fs::remove_file(bench.work.join("a.txt")).unwrap();
    commits.push(bench.commit(&[("a.txt/now/a/folder", "3")], "three").await);
    // A submodule whose repository nobody has.
    let link = format!("160000,{},sub", commits[0]);
    bench.run(["update-index", "--add", "--cacheinfo", &link]).await;
    bench.run(["commit", "--quiet", "-m", "four"]).await;
    commits.push(bench.head().await);
    bench.run(["push", "origin", "main"]).await;
    (bench, commits)
}

/// Every file below a folder, and every empty folder with a `/`.
fn listing(folder: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        let entries: Vec<_> = fs::read_dir(&at).unwrap().flatten().collect();
        let name = at.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        if entries.is_empty() {
            all.insert(format!("{name}/"));
        }
        for entry in entries {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                let path = entry.path();
                all.insert(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    all
}

async fn wanted(bench: &Bench, commit: Oid) -> BTreeSet<String> {
    let view = bench.git.view(&bench.project).unwrap();
    let tree = view.tree(commit).await.unwrap();
    let path = |entry: &slipway_git::TreeEntry| match entry.kind {
        slipway_git::EntryKind::Submodule => format!("{}/", entry.path),
        _ => entry.path.to_string(),
    };
    tree.iter().map(path).collect()
}

#[tokio::test]
async fn a_tree_moves_between_commits_and_is_exact_each_time() {
    let (bench, commits) = pushed(1).await;
    for n in [0, 1, 2, 3, 0, 3, 1, 0] {
        let lease = bench.git.lease(&bench.project, commits[n]).await.unwrap();
        assert_eq!(lease.commit(), commits[n]);
        assert_eq!(listing(lease.path()), wanted(&bench, commits[n]).await, "{n}");
        assert_eq!(fs::read_to_string(lease.path().join("x.bin")).unwrap(), "raw");
    }
    let trees = bench.scratch.0.join("trees/shop");
    assert_eq!(fs::read_dir(trees).unwrap().count(), 1);
}

/// Files below a folder with their mode and content, links with their target.
fn exactly(folder: &Path) -> BTreeSet<(String, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let one = |name: String| {
        let path = folder.join(name.trim_end_matches('/'));
        let about = fs::symlink_metadata(&path).unwrap();
        let content = if about.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else if about.is_dir() {
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        (name, about.mode() & 0o170_111, content)
    };
    listing(folder).into_iter().map(one).collect()
}

#[tokio::test]
async fn a_tree_that_is_moved_by_what_differs_is_the_same_as_one_made_by_git() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    let mut commits = vec![bench.commit(&[("a", "1"), ("d/e/f", "deep"), ("d/g", "g"), ("l", "file")], "one").await];
    // A folder becomes a file, a file a folder, a file a link, a file executable; a folder goes with its last file.
    fs::remove_dir_all(bench.work.join("d/e")).unwrap();
    fs::remove_file(bench.work.join("a")).unwrap();
    fs::remove_file(bench.work.join("l")).unwrap();
    std::os::unix::fs::symlink("d", bench.work.join("l")).unwrap();
    bench.run(["config", "core.fileMode", "true"]).await;
    fs::set_permissions(bench.work.join("d/g"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    commits.push(bench.commit(&[("a/b/c", "x"), ("d/e", "now a file")], "two").await);
    fs::remove_dir_all(bench.work.join("a")).unwrap();
    // The link becomes a folder of the name of what it led to.
    fs::remove_file(bench.work.join("l")).unwrap();
    commits.push(bench.commit(&[("l/g", "not d/g")], "three").await);
    let link = format!("160000,{},sub", commits[0]);
    bench.run(["update-index", "--add", "--cacheinfo", &link]).await;
    bench.run(["commit", "--quiet", "-m", "four"]).await;
    commits.push(bench.head().await);
    commits.push(bench.commit(&[(".gitattributes", "* text eol=crlf\n"), ("lines", "one\ntwo\n")], "five").await);
    bench.run(["push", "origin", "main"]).await;
    for (n, commit) in commits.iter().enumerate() {
        let fresh = bench.scratch.0.join(format!("fresh{n}"));
        bench.run(["worktree", "add", "--quiet", "--detach", fresh.to_str().unwrap(), &commit.to_string()]).await;
        fs::remove_file(fresh.join(".git")).unwrap();
    }
    for (round, n) in [0, 1, 2, 3, 2, 1, 0, 3, 0, 2, 4, 0, 4, 1].into_iter().enumerate() {
        let lease = bench.git.lease(&bench.project, commits[n]).await.unwrap();
        assert_eq!(exactly(lease.path()), exactly(&bench.scratch.0.join(format!("fresh{n}"))), "{round}: {n}");
    }
    assert_eq!(fs::read_dir(bench.scratch.0.join("trees/shop")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_submodule_hides_no_file_of_an_older_commit() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    let mut commits = vec![bench.commit(&[("a", "1")], "one").await];
    commits.push(bench.commit(&[("sub/x", "of the second")], "two").await);
    fs::remove_dir_all(bench.work.join("sub")).unwrap();
    bench.commit(&[(".gitattributes", "*.bin -text\n")], "three").await;
    bench.run(["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", commits[0])]).await;
    bench.run(["commit", "--quiet", "-m", "four"]).await;
    commits.push(bench.head().await);
    bench.run(["push", "origin", "main"]).await;
    for commit in [0, 1, 2, 1, 2] {
        let lease = bench.git.lease(&bench.project, commits[commit]).await.unwrap();
        assert_eq!(listing(lease.path()), wanted(&bench, commits[commit]).await, "{commit}");
    }
}

#[tokio::test]
async fn attributes_of_one_commit_change_no_byte_of_another() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    let plain = bench.commit(&[("e.txt", "one\ntwo\n")], "plain").await;
    let crlf = bench.commit(&[(".gitattributes", "*.txt text eol=crlf\n")], "crlf").await;
    let other = bench.commit(&[(".gitattributes", "*.bin -text\n")], "other").await;
    bench.run(["push", "origin", "main"]).await;
    let (lf, with_cr) = ("one\ntwo\n", "one\r\ntwo\r\n");
    for (commit, content) in [(crlf, with_cr), (plain, lf), (crlf, with_cr), (other, lf), (crlf, with_cr), (plain, lf)]
    {
        let lease = bench.git.lease(&bench.project, commit).await.unwrap();
        assert_eq!(fs::read_to_string(lease.path().join("e.txt")).unwrap(), content);
    }
}

#[tokio::test]
async fn folders_that_lie_too_deep_are_an_error_and_not_the_end() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    let deep = format!("{}f", "d/".repeat(3_000));
    let commit = "commit refs/heads/main\ncommitter Kim <k@x> 1 +0000\ndata 3\none\n";
    bench.import(format!("{commit}M 644 inline {deep}\ndata 1\nx\n\n")).await;
    bench.run(["push", "origin", "main"]).await;
    let view = bench.git.view(&bench.project).unwrap();
    let commit = view.resolve("main").await.unwrap();
    let error = view.tree(commit).await.unwrap_err();
    assert!(matches!(error, GitError::TooDeep { .. }) && error.is_of_content(), "{error}");
    assert!(bench.git.lease(&bench.project, commit).await.is_err());
}

#[tokio::test]
async fn a_few_bytes_that_are_a_billion_folders_are_an_error_and_not_the_end() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    let first = bench.commit(&[("a", "1")], "one").await;
    // The empty tree, then nine levels that name the one below ten times.
    let mut tree = bench.run(["hash-object", "-w", "-t", "tree", "/dev/null"]).await.trim().to_owned();
    for _ in 0..9 {
        let ten: String = (0..10).map(|n| format!("040000 tree {tree}\td{n}\n")).collect();
        let list = bench.scratch.0.join("ten");
        fs::write(&list, ten).unwrap();
        let command = format!("git mktree < {}", list.display());
        let made = std::process::Command::new("sh").args(["-c", &command]).current_dir(&bench.work).output().unwrap();
        tree = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    }
    let bomb = bench.run(["commit-tree", "-p", &first.to_string(), "-m", "bomb", &tree]).await;
    let bomb = Oid::parse(bomb.trim()).unwrap();
    bench.run(["push".to_owned(), "origin".to_owned(), format!("{bomb}:refs/heads/main")]).await;
    let view = bench.git.view(&bench.project).unwrap();
    for error in [view.tree(bomb).await.unwrap_err(), view.changed(Some(first), bomb).await.unwrap_err()] {
        assert!(matches!(error, GitError::TooManyFolders { .. }) && error.is_of_content(), "{error}");
    }
}

#[tokio::test]
async fn a_checkout_that_is_larger_than_the_disk_is_an_error_before_it_is_begun() {
    let (bench, hooks) = bench().await;
    accept_all(hooks);
    // One megabyte of zeros, a hundred thousand times: some hundred kilobytes in the repository.
    let first = bench.commit(&[("zeros", &"0".repeat(1 << 20))], "one").await;
    let blob = bench.run(["rev-parse", "HEAD:zeros"]).await.trim().to_owned();
    let mut tree = String::new();
    for (kind, mode, levels) in [("blob", "100644", 1), ("tree", "040000", 4)] {
        for level in 0..levels {
            let of = if kind == "blob" { &blob } else { &tree };
            let ten: String = (0..10).map(|n| format!("{mode} {kind} {of}\t{level}{n}\n")).collect();
            fs::write(bench.scratch.0.join("ten"), ten).unwrap();
            let command = format!("git mktree < {}", bench.scratch.0.join("ten").display());
            let made =
                std::process::Command::new("sh").args(["-c", &command]).current_dir(&bench.work).output().unwrap();
            tree = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        }
    }
    let bomb = bench.run(["commit-tree", "-p", &first.to_string(), "-m", "bomb", &tree]).await;
    let bomb = Oid::parse(bomb.trim()).unwrap();
    bench.run(["push".to_owned(), "origin".to_owned(), format!("{bomb}:refs/heads/main")]).await;
    let error = bench.git.lease(&bench.project, bomb).await.err().unwrap();
    assert!(matches!(error, GitError::NoRoom { needs_bytes, .. } if needs_bytes > 100_000 << 20), "{error}");
    // The tree is good for the next commit.
    let lease = bench.git.lease(&bench.project, first).await.unwrap();
    assert_eq!(listing(lease.path()), wanted(&bench, first).await);
}

#[tokio::test]
async fn leftovers_and_damage_do_not_survive_a_move() {
    let (bench, commits) = pushed(1).await;
    let lease = bench.git.lease(&bench.project, commits[0]).await.unwrap();
    let tree = lease.path().to_owned();
    drop(lease);
    fs::write(tree.join("left.log"), "ignored").unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fs::remove_file(tree.join("x.bin")).unwrap();
    fs::write(tree.join("kept.log"), "damaged").unwrap();
    let lease = bench.git.lease(&bench.project, commits[1]).await.unwrap();
    assert_eq!(listing(lease.path()), wanted(&bench, commits[1]).await);
    let text = fs::read_to_string(lease.path().join("kept.log")).unwrap();
    assert_eq!(text, "tracked though ignored");
}

#[tokio::test]
async fn jobs_of_one_commit_share_a_tree_and_another_commit_gets_its_own() {
    let (bench, commits) = pushed(2).await;
    let lease = async |n: usize| bench.git.lease(&bench.project, commits[n]).await.unwrap();
    let (one, again, two) = tokio::join!(lease(0), lease(0), lease(1));
    assert_eq!(one.path(), again.path());
    assert_ne!(one.path(), two.path());
    // A third commit waits until a tree is free, and is then told at once.
    let third = lease(2);
    tokio::pin!(third);
    assert!(futures::poll!(&mut third).is_pending());
    drop(one);
    assert!(futures::poll!(&mut third).is_pending());
    let path = again.path().to_owned();
    drop(again);
    let third = soon(third).await;
    assert_eq!(third.path(), path);
    assert_eq!(listing(two.path()), wanted(&bench, commits[1]).await);
}

#[tokio::test]
async fn a_lease_that_is_given_up_half_way_leaves_a_tree_that_is_made_anew() {
    let (bench, commits) = pushed(1).await;
    drop(bench.git.lease(&bench.project, commits[0]).await.unwrap());
    {
        let moving = bench.git.lease(&bench.project, commits[2]);
        tokio::pin!(moving);
        assert!(futures::poll!(&mut moving).is_pending());
    }
    let lease = soon(bench.git.lease(&bench.project, commits[1])).await.unwrap();
    assert_eq!(listing(lease.path()), wanted(&bench, commits[1]).await);
}

#[tokio::test]
async fn a_commit_that_does_not_exist_gives_an_error_and_blocks_nothing() {
    let (bench, commits) = pushed(1).await;
    let missing = Oid::parse(&"1".repeat(40)).unwrap();
    let tried = bench.git.lease(&bench.project, missing).await;
    assert!(matches!(tried, Err(GitError::Missing { .. })));
    bench.git.lease(&bench.project, commits[0]).await.unwrap();
}

#[tokio::test]
async fn after_a_crash_trees_in_use_stay_and_others_are_checked_before_use() {
    let (bench, commits) = pushed(2).await;
    let used = bench.git.lease(&bench.project, commits[0]).await.unwrap();
    let idle = bench.git.lease(&bench.project, commits[1]).await.unwrap();
    let (used_path, idle_path) = (used.path().to_owned(), idle.path().to_owned());
    fs::write(idle_path.join("a.txt"), "half written").unwrap();

    let mut options = options(&bench.scratch);
    options.trees_in_use = vec![used_path.clone()];
    options.limits.trees_per_project_max = 2;
    let git = Git::open(options).await.unwrap();
    let checked = git.lease(&bench.project, commits[1]).await.unwrap();
    assert_eq!(checked.path(), idle_path);
    assert_eq!(fs::read_to_string(checked.path().join("a.txt")).unwrap(), "2");
    let shared = git.lease(&bench.project, commits[0]).await.unwrap();
    assert_eq!(shared.path(), used_path);
    drop(shared);
    let third = git.lease(&bench.project, commits[2]);
    tokio::pin!(third);
    assert!(futures::poll!(&mut third).is_pending());
    let adopted = git.adopt_tree(&used_path).unwrap();
    assert_eq!(adopted.commit(), commits[0]);
    assert!(git.adopt_tree(&used_path).is_err());
    assert!(git.adopt_tree(Path::new("/etc")).is_err());
    drop(adopted);
    assert_eq!(soon(third).await.unwrap().path(), used_path);
}

#[tokio::test]
async fn idle_trees_can_be_removed_and_come_back() {
    let (bench, commits) = pushed(2).await;
    let held = bench.git.lease(&bench.project, commits[0]).await.unwrap();
    drop(bench.git.lease(&bench.project, commits[1]).await.unwrap());
    assert_eq!(bench.git.remove_idle_trees(&bench.project).await.unwrap(), 1);
    assert!(held.path().join("a.txt").exists());
    let back = bench.git.lease(&bench.project, commits[1]).await.unwrap();
    assert_eq!(listing(back.path()), wanted(&bench, commits[1]).await);
}
