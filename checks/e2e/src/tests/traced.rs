//! From what runs to its code and back; the same image everywhere; what is kept.

use crate::http::get;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::{World, said};
use std::path::{Path, PathBuf};
use std::process::Command;

// R127 R148
#[test]
fn from_an_instance_to_its_code_and_from_a_commit_to_where_it_runs() {
    let world = World::start();
    let repo = Repo::web(&world, "traced", 1);
    let first = repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let commit = repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let instance = repo.instances("web")[0].0.clone();
    let shown = repo.slipway(&["image", "show", &instance]).expect(0).out;
    let release = repo.lane("production", "web")["release"].clone();
    let (id, digest, tag) = (&release["id"], &release["image"], &release["tag"]);
    for part in [id, digest, tag].map(|value| value.as_str().unwrap()) {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
    assert!(tag.as_str().unwrap().starts_with(&commit[..7]), "{tag}");
    let difference = format!("commit {} -> {}", &first[..7], &commit[..7]);
    for part in ["web@r2", "build   2", "runs in production", "since r1:", &commit, &difference] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
    // From the commit to where it runs, and from one that runs nowhere any more.
    for by in [["release", "show"], ["image", "show"]] {
        let shown = repo.slipway(&[by[0], by[1], &commit[..7]]).expect(0).out;
        assert!(shown.contains("web@r2") && shown.contains("runs in production"), "{shown}");
    }
    let shown = repo.slipway(&["release", "show", &first]).expect(0).out;
    assert!(shown.contains("web@r1") && shown.contains("runs in nothing"), "{shown}");
    repo.slipway(&["release", "show", "0000000"]).expect(1);
    // The printed commit is the exact code.
    let printed = repo.slipway(&["release", "show", "web@r1", "--json"]).expect(0).json();
    let clone = world.dir.join("clone");
    repo.git(&["clone", "-q", &format!("{}/git/traced.git", world.url), clone.to_str().unwrap()]).expect(0);
    let mut checkout = Command::new("git");
    let commit = printed["origin"]["commit"].as_str().unwrap();
    said(checkout.arg("-C").arg(&clone).args(["checkout", "-q", commit])).expect(0);
    assert_eq!(std::fs::read_to_string(clone.join("web/behaviour")).unwrap(), "version one\n");
    let ids: Vec<String> = [1, 2].map(|n| show_id(&repo, n)).into();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() >= 8), "{ids:?}");
}

fn show_id(repo: &Repo<'_>, number: u32) -> String {
    let shown = repo.slipway(&["release", "show", &format!("web@r{number}"), "--json"]).expect(0).json();
    shown["id"].as_str().unwrap().to_owned()
}

// R128 R129 R182
#[test]
fn one_image_runs_in_every_environment_with_the_configuration_of_each() {
    let world = World::start();
    let repo = Repo::web(&world, "config", 1);
    let yaml = |greeting: &str| {
        format!(
            "services:\n{}environments:\n  staging:\n    env: {{ GREETING: tests }}\n    verify: {{ {VERIFY} }}\n  \
             production:\n    after: staging\n    env: {{ GREETING: {greeting} }}\n    verify: {{ {VERIFY} }}\n",
            service("web", 1)
        )
    };
    repo.write("slipway.yaml", &yaml("welcome"));
    repo.commit("one");
    repo.push_main().says("LIVE staging web r1").says("LIVE production web r1");
    let says = |environment: &str| get(&repo.address_in(environment, "web"), "/env/GREETING").unwrap().body;
    assert_eq!((says("staging").as_str(), says("production").as_str()), ("tests", "welcome"));
    let image = |environment: &str| repo.lane(environment, "web")["release"]["image"].clone();
    assert_eq!(image("staging"), image("production"));
    let built = || world.events().iter().filter(|event| event["kind"] == "image.built").count();
    assert_eq!(built(), 1, "a promotion builds nothing");
    let before = image("production");
    repo.write("slipway.yaml", &yaml("hello"));
    repo.commit("another word");
    repo.push_main().says("LIVE production web r2");
    assert_eq!((says("staging").as_str(), says("production").as_str()), ("tests", "hello"));
    assert_eq!(image("production"), before, "configuration makes no other image");
    assert_eq!(built(), 1, "configuration makes no build");
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(blobs(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Nothing of the store is too young for a clean-up.
fn last_used_long_ago(store: &Path) {
    for blob in blobs(store) {
        let file = std::fs::File::options().write(true).open(&blob).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
}

// R143
#[test]
fn what_is_beyond_the_releases_that_are_retained_goes_and_is_made_again_when_it_comes_back() {
    let world = World::start();
    let repo = Repo::web(&world, "retained", 1);
    let yaml = file(&[service("web", 1)]).replace("    verify:", "    retain: 1\n    verify:");
    repo.write("slipway.yaml", &yaml);
    for version in ["one", "two", "three"] {
        repo.behave("web", &format!("version {version}"));
        repo.push_main().says("LIVE");
        repo.succeeded("web");
    }
    let images = || repo.slipway(&["image", "ls"]).expect(0).out;
    assert_eq!(images().lines().count(), 3, "{}", images());
    last_used_long_ago(&world.data().join("blobs"));
    let swept = repo.slipway(&["image", "gc", "--json"]).expect(0).json();
    assert!(swept["removed"].as_u64() > Some(0), "{swept}");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version three");
    // What can be returned to is whole.
    repo.slipway(&["rollback", "web", "-y"]).expect(0);
    repo.until("r2 serves", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
    repo.behave("web", "version one");
    repo.push_main().says("image web").says("LIVE production web r1");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
}

// R143
#[test]
fn a_clean_up_takes_what_nobody_needs_and_leaves_what_runs_and_what_can_be_returned_to() {
    let world = World::start();
    let repo = Repo::web(&world, "kept", 1);
    let jobs = "      make: { run: echo made > made, network: off, artifacts: { made: { paths: [made] } } }\n";
    repo.write("slipway.yaml", &file(&[service("web", 1) + jobs]));
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let store = world.data().join("blobs");
    let before = blobs(&store);
    let stray = upload_of_nobody(&store);
    let young = repo.slipway(&["image", "gc", "--json"]).expect(0).json();
    assert_eq!(young["removed"], 0, "what is young may be on its way: {young}");
    last_used_long_ago(&store);
    let swept = repo.slipway(&["image", "gc", "--json"]).expect(0).json();
    assert_eq!(swept["removed"], 1, "{swept}");
    let after = blobs(&store);
    assert!(!after.contains(&stray));
    assert!(before.iter().all(|blob| after.contains(blob)), "something that was needed is gone: {swept}");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
    repo.slipway(&["rollback", "web", "-y"]).expect(0);
    repo.until("r1 serves", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    let kim = repo.slipway(&["token", "add", "kim", "--rights", "read,push,deploy"]).expect(0).out;
    let mut as_kim = repo.world.command(&repo.root, &["image", "gc"]);
    assert_ne!(said(as_kim.env("SLIPWAY_TOKEN", kim.trim())).code, 0, "anybody may clean up");
}

/// A blob that nothing names, as an upload of which the rest never came leaves it; its file.
fn upload_of_nobody(store: &Path) -> PathBuf {
    let sum = said(Command::new("sh").args(["-c", "printf stray | sha256sum"])).expect(0).out;
    let hex = sum.split(' ').next().unwrap();
    let file = store.join("sha256").join(&hex[..2]).join(hex);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "stray").unwrap();
    file
}
