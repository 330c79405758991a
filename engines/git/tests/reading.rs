//! Questions about a repository.

use slipway_git::{Candidate, Endpoint, EntryKind, GitError, Oid, ProjectName, Pusher, RepoPath};

use crate::support::{Bench, accept_all, bench};

async fn pushed() -> (Bench, Oid, Oid) {
    let (bench, hooks) = bench().await;
    // It ends with the runtime of the test.
    accept_all(hooks);
    let first = bench.commit(&[("a.txt", "one\n"), ("d/b.txt", "b")], "first").await;
    std::os::unix::fs::symlink("a.txt", bench.work.join("link")).unwrap();
    let message = "second: more\n\nWhy not.\n\nSlipway-Fixes: 1f3c9ab\nSigned-off-by: Kim";
    let second = bench.commit(&[("a.txt", "two\n")], message).await;
    bench.run(["tag", "-a", "v1", "-m", "one", "HEAD~1"]).await;
    bench.run(["branch", "feature/x", "HEAD~1"]).await;
    bench.run(["push", "origin", "main", "v1", "feature/x"]).await;
    (bench, first, second)
}

#[tokio::test]
async fn a_commit_tells_its_message_and_parents() {
    let (bench, first, second) = pushed().await;
    let view = bench.git.view(&bench.project).unwrap();
    let commit = view.commit(second).await.unwrap();
    assert_eq!(commit.parents, [first]);
    assert_eq!(commit.subject, "second: more");
    assert_eq!(commit.author_email, "kim@example.org");
    assert!(commit.message.contains("Why not."));
    assert!(commit.at_ms > 1_600_000_000_000);
    let new = view.commits(Some(first), second, 10).await.unwrap();
    assert_eq!(new, [commit]);
    assert_eq!(view.commits(None, second, 1).await.unwrap().len(), 1);
    assert_eq!(view.commits(Some(second), first, 10).await.unwrap(), []);
}

#[tokio::test]
async fn trees_files_and_differences_are_what_was_committed() {
    let (bench, first, second) = pushed().await;
    let view = bench.git.view(&bench.project).unwrap();
    let tree = view.tree(second).await.unwrap();
    let shown: Vec<_> = tree.iter().map(|entry| (entry.path.to_string(), entry.kind)).collect();
    let wanted = [
        ("a.txt".to_owned(), EntryKind::File),
        ("d/b.txt".to_owned(), EntryKind::File),
        ("link".to_owned(), EntryKind::Symlink),
    ];
    assert_eq!(shown, wanted);
    assert_eq!(view.changed(Some(first), second).await.unwrap(), ["a.txt", "link"]);
    assert_eq!(view.changed(None, first).await.unwrap(), ["a.txt", "d/b.txt"]);

    assert_eq!(view.read(second, "a.txt", 4).await.unwrap().unwrap(), b"two\n");
    for missing in ["none", "d", "a.txt/x"] {
        assert_eq!(view.read(second, missing, 100).await.unwrap(), None, "{missing}");
    }
    assert!(matches!(view.read(second, "a.txt", 3).await, Err(GitError::TooLarge { .. })));
    assert!(matches!(view.read(second, "../a", 3).await, Err(GitError::Path { .. })));

    let diff = view.diff(first, second, &[], 10_000).await.unwrap();
    assert!(diff.text.contains("-one\n+two\n"), "{}", diff.text);
    assert!(!diff.cut);
    let only = [RepoPath::new("link").unwrap()];
    let diff = view.diff(first, second, &only, 10_000).await.unwrap();
    assert!(!diff.text.contains("+two"));
    let diff = view.diff(first, second, &[], 20).await.unwrap();
    assert!(diff.cut && diff.text.len() == 20);
}

#[tokio::test]
async fn ancestry_and_branches_are_answered_and_a_missing_commit_is_an_error() {
    let (bench, first, second) = pushed().await;
    let view = bench.git.view(&bench.project).unwrap();
    assert!(view.is_ancestor(first, second).await.unwrap());
    assert!(!view.is_ancestor(second, first).await.unwrap());
    let branches = view.branches_containing(first).await.unwrap();
    assert_eq!(branches, ["refs/heads/feature/x", "refs/heads/main"]);
    assert_eq!(view.branches_containing(second).await.unwrap(), ["refs/heads/main"]);
    let missing = Oid::parse(&"1".repeat(40)).unwrap();
    assert!(matches!(view.is_ancestor(missing, first).await, Err(GitError::Failed { .. })));
    assert!(view.commit(missing).await.is_err());
    assert!(view.tree(missing).await.is_err());
    assert!(view.changed(Some(missing), first).await.is_err());
}

#[tokio::test]
async fn what_people_call_a_commit_is_found() {
    let (bench, first, second) = pushed().await;
    let view = bench.git.view(&bench.project).unwrap();
    let pairs = [
        ("main", second),
        ("HEAD", second),
        ("main~1", first),
        ("main^", first),
        ("feature/x", first),
        ("v1", first),
        ("refs/tags/v1", first),
        (&second.to_string(), second),
        (&second.short(), second),
        (&first.to_string()[..12], first),
    ];
    for (revision, wanted) in pairs {
        assert_eq!(view.resolve(revision).await.unwrap(), wanted, "{revision}");
    }
    let blob = view.tree(second).await.unwrap()[0].id.to_string();
    let unknown = ["none", "-h", "--all", "main@{0}", ":/first", "", "main~9", "fffff", "x y", &blob];
    for revision in unknown {
        let found = view.resolve(revision).await;
        assert!(matches!(found, Err(GitError::UnknownRevision { .. })), "{revision}: {found:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_a_branch_and_a_tag_is_ambiguous_with_both_named() {
    let (bench, first, second) = pushed().await;
    let at = |name: &str| format!("refs/{name}/both");
    let git = &bench.git;
    git.update_ref(&bench.project, &at("heads"), None, Some(first)).await.unwrap();
    git.update_ref(&bench.project, &at("tags"), None, Some(second)).await.unwrap();
    let view = git.view(&bench.project).unwrap();
    let Err(error) = view.resolve("both").await else {
        panic!("it is ambiguous");
    };
    assert_eq!(error.to_string(), "`both` is ambiguous in `shop`: it could be `refs/heads/both`, `refs/tags/both`");
    let GitError::AmbiguousRevision { candidates, .. } = error else {
        panic!("{error:?}");
    };
    let tag = Candidate { name: at("tags"), commit: second };
    assert_eq!(candidates[1], tag);
    assert_eq!(view.resolve(&at("heads")).await.unwrap(), first);
}

#[tokio::test]
async fn a_ref_moves_only_from_where_it_is() {
    let (bench, first, second) = pushed().await;
    let (git, project) = (&bench.git, &bench.project);
    let name = "refs/heads/made";
    git.update_ref(project, name, None, Some(first)).await.unwrap();
    let again = git.update_ref(project, name, None, Some(second)).await;
    assert!(matches!(again, Err(GitError::RefMoved { found: Some(at), .. }) if at == first));
    git.update_ref(project, name, Some(first), Some(second)).await.unwrap();
    let stale = git.update_ref(project, name, Some(first), None).await;
    assert!(matches!(stale, Err(GitError::RefMoved { .. })));
    git.update_ref(project, name, Some(second), None).await.unwrap();
    assert_eq!(bench.ref_at(name).await, None);
    for bad in ["main", "--stdin", "refs/heads/a b", "refs/heads/../x"] {
        let tried = git.update_ref(project, bad, None, Some(first)).await;
        assert!(matches!(tried, Err(GitError::RefName(_))), "{bad}");
    }
}

#[tokio::test]
async fn a_project_is_made_once_and_removed_whole() {
    let (bench, _, second) = pushed().await;
    let git = &bench.git;
    let again = git.create(&bench.project).await;
    assert!(matches!(again, Err(GitError::ProjectExists(_))));
    let other = ProjectName::parse("other").unwrap();
    let (one, two) = tokio::join!(git.create(&other), git.create(&other));
    assert_eq!(i32::from(one.is_ok()) + i32::from(two.is_ok()), 1);

    let lease = git.lease(&bench.project, second).await.unwrap();
    let held = git.delete(&bench.project).await;
    assert!(matches!(held, Err(GitError::TreesInUse { .. })));
    drop(lease);
    git.delete(&bench.project).await.unwrap();
    assert_eq!(git.projects().unwrap(), [other]);
    assert!(matches!(git.view(&bench.project), Err(GitError::NoSuchProject(_))));
    let left = std::fs::read_dir(bench.scratch.0.join("git")).unwrap().count();
    // hooks, configuration, `other.git`
    assert_eq!(left, 3);
}

#[tokio::test]
async fn packing_keeps_everything_readable() {
    let (bench, first, second) = pushed().await;
    let (git, project) = (&bench.git, &bench.project);
    git.update_ref(project, "refs/heads/main", Some(second), Some(first)).await.unwrap();
    git.maintain(project).await.unwrap();
    let view = git.view(project).unwrap();
    assert_eq!(view.commit(second).await.unwrap().id, second);
    assert_eq!(view.resolve("main").await.unwrap(), first);
}

/// What git's own program says to a question about the hosted repository, its lines sorted.
async fn said(bench: &Bench, words: &[&str]) -> Vec<String> {
    let git_dir = bench.scratch.0.join("git/shop.git");
    let mut all = vec!["--git-dir".to_owned(), git_dir.display().to_string()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    let mut lines: Vec<String> = bench.run(all).await.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn what_is_read_here_is_what_git_says() {
    let (bench, _, _) = pushed().await;
    let deep = "d/e/f/g.txt";
    let third =
        bench.commit(&[(deep, "deep"), ("d/b.txt", "changed"), ("d.e", "beside"), ("d-e", "too")], "third").await;
    // A folder becomes a file, a file becomes a folder, a file becomes executable, one goes.
    std::fs::remove_dir_all(bench.work.join("d/e")).unwrap();
    std::fs::remove_file(bench.work.join("a.txt")).unwrap();
    std::fs::create_dir(bench.work.join("a.txt")).unwrap();
    bench.run(["update-index", "--chmod=+x", "d.e"]).await;
    std::fs::remove_file(bench.work.join("d-e")).unwrap();
    let fourth =
        bench.commit(&[("d/e", "now a file"), ("a.txt/inside", "x")], "fourth\nwith a second line\n\nbody").await;
    bench.run(["push", "origin", "main"]).await;
    let view = bench.git.view(&bench.project).unwrap();
    for packed in [false, true] {
        if packed {
            said(&bench, &["gc", "--quiet"]).await;
            said(&bench, &["pack-refs", "--all"]).await;
        }
        let tree = view.tree(fourth).await.unwrap();
        let ours: Vec<String> =
            tree.iter().map(|entry| format!("{:06o} {} {}", entry.mode, entry.id, entry.path)).collect();
        let format = "--format=%(objectmode) %(objectname) %(path)";
        let mut theirs = said(&bench, &["ls-tree", "-r", format, &fourth.to_string()]).await;
        theirs.sort_by(|one, other| one[48..].cmp(&other[48..]));
        assert_eq!(ours, theirs, "packed: {packed}");
        for (from, to) in [(third, fourth), (fourth, third)] {
            let ours: Vec<String> =
                view.changed(Some(from), to).await.unwrap().iter().map(ToString::to_string).collect();
            let words = ["diff-tree", "-r", "--no-renames", "--name-only", &from.to_string(), &to.to_string()];
            assert_eq!(ours, said(&bench, &words).await, "packed: {packed}");
        }
        let ours: Vec<String> =
            view.refs().await.unwrap().iter().map(|one| format!("{} {} {}", one.name, one.id, one.target)).collect();
        let format =
            "--format=%(refname) %(objectname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)";
        assert_eq!(ours, said(&bench, &["for-each-ref", format]).await, "packed: {packed}");
        let commit = view.commit(fourth).await.unwrap();
        let ours = [commit.tree.to_string(), commit.subject.clone(), (commit.at_ms / 1000).to_string()];
        for (field, ours) in ["%T", "%s", "%ct"].iter().zip(ours) {
            let format = format!("--format={field}");
            assert_eq!(said(&bench, &["log", "-1", &format, &fourth.to_string()]).await, [ours], "{field}");
        }
        let all = view.commits(None, fourth, 10).await.unwrap();
        assert_eq!(all.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>().len(), 4);
    }
    assert!(view.ref_target("refs/tags/v1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_push_is_greeted_as_git_would() {
    let (bench, _, _) = pushed().await;
    for project in ["shop", "empty"] {
        let name = ProjectName::parse(project).unwrap();
        if !bench.git.exists(&name) {
            bench.git.create(&name).await.unwrap();
        }
        let git_dir = bench.scratch.0.join(format!("git/{project}.git"));
        let git_dir = git_dir.to_str().unwrap();
        let theirs = bench.run(["receive-pack", "--stateless-rpc", "--http-backend-info-refs", git_dir]).await;
        let endpoint =
            Endpoint::parse(&http::Method::GET, "info/refs", Some("service=git-receive-pack")).expect("an endpoint");
        let pusher = Pusher { name: "kim".to_owned() };
        let answer =
            bench.git.serve(&name, endpoint, &http::HeaderMap::new(), axum::body::Body::empty(), &pusher).await;
        let ours = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&ours),
            format!("001f# service=git-receive-pack\n0000{theirs}"),
            "{project}"
        );
    }
}
