//! Several people with a token each.

use crate::http::get;
use crate::repo::Repo;
use crate::world::{Said, World, said};

fn token(repo: &Repo<'_>, name: &str, rights: &str) -> String {
    let made = repo.slipway(&["token", "add", name, "--rights", rights]).expect(0);
    made.out.trim().to_owned()
}

fn with(repo: &Repo<'_>, token: &str, arguments: &[&str]) -> Said {
    said(repo.world.command(&repo.root, arguments).env("SLIPWAY_TOKEN", token))
}

// R033
#[test]
fn two_people_share_a_repository_over_the_network_each_with_a_token() {
    let world = World::start();
    let kims = Repo::web(&world, "shared", 1);
    let (kim, lee) = (token(&kims, "kim", "read,push"), token(&kims, "lee", "read,push"));
    kims.commit("one");
    let denied = kims.pushing_with(&kim, &["slipway", "main"]).end().says("may not make one").says("hint:");
    assert!(!denied.ok);
    // Nobody made the project before: its address is known from its name.
    kims.push_main().says("LIVE");
    kims.succeeded("web");
    let address = format!("{}/git/shared.git", world.url);
    let lees = Repo { world: &world, root: world.dir.join("of-lee"), project: "shared".into() };
    said(&mut kims.git_command(&lee, &["clone", "-q", "-o", "slipway", &address, lees.root.to_str().unwrap()]))
        .expect(0);
    kims.behave("web", "version of kim");
    assert!(kims.pushing_with(&kim, &["slipway", "main"]).end().says("LIVE").ok);
    kims.succeeded("web");
    // Who pushes on top of what is not there any more changes nothing.
    let dockerfile = std::fs::read_to_string(lees.root.join("web/Dockerfile")).unwrap();
    lees.write("web/Dockerfile", &format!("{dockerfile}ENV ADDED=by-lee\n"));
    lees.commit("by lee");
    let late = lees.pushing_with(&lee, &["slipway", "main"]).end().says("rejected");
    assert!(!late.ok, "{}", late.text);
    assert_eq!(kims.status()["changes"].as_array().map(Vec::len), Some(2));
    said(&mut lees.git_command(&lee, &["pull", "-q", "--rebase", "slipway", "main"])).expect(0);
    assert!(lees.pushing_with(&lee, &["slipway", "main"]).end().says("LIVE production web r3").ok);
    let says = |path: &str| get(&kims.address("web"), path).unwrap().body;
    assert_eq!((says("/").as_str(), says("/env/ADDED").as_str()), ("version of kim", "by-lee"));
    let history = with(&kims, &kim, &["history", "--json"]).expect(0).json();
    let by: Vec<&str> = history.as_array().unwrap().iter().map(|line| line["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["lee", "kim", "owner"]);
    // A token may what it was made for, as long as it is there.
    let refused = with(&kims, &lee, &["rollback", "web", "-y"]);
    assert!(refused.code != 0 && refused.err.contains("`lee` may not rollback here"), "{refused:?}");
    let list = kims.slipway(&["token", "ls", "--json"]).expect(0).json();
    let id =
        list.as_array().unwrap().iter().find(|one| one["name"] == "lee").unwrap()["id"].as_str().unwrap().to_owned();
    kims.slipway(&["token", "rm", &id, "-y"]).expect(0);
    lees.behave("web", "version of somebody");
    assert!(!lees.pushing_with(&lee, &["slipway", "main"]).end().ok);
    assert_eq!(says("/"), "version of kim");
}

// R347
#[test]
fn nothing_new_comes_into_a_frozen_environment_and_what_waits_goes_in_afterwards() {
    let world = World::start();
    let repo = Repo::web(&world, "frozen", 1);
    for version in ["version one", "version two"] {
        repo.behave("web", version);
        repo.push_main().says("LIVE");
        repo.succeeded("web");
    }
    repo.slipway(&["freeze", "nowhere", "-y"]).expect(2);
    repo.slipway(&["unfreeze", "production", "-y"]).expect(1);
    repo.slipway(&["freeze", "production", "-y", "--reason", "the holidays"]).expect(0);
    let commit = repo.behave("web", "version three");
    repo.push_main().says("WAITING production web r3: production is frozen by owner: the holidays");
    let status = repo.slipway(&["status"]).expect(0).out;
    assert!(status.contains("production   frozen by owner: the holidays: slipway unfreeze production"), "{status}");
    // Who goes back does not wait for the end of holidays.
    repo.slipway(&["rollback", "web", "-y", "--wait"]).expect(0);
    repo.until("r1 serves", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    repo.slipway(&["deploy", &commit, "--env", "production", "-y", "--wait"]).expect(4);
    repo.slipway(&["unfreeze", "production", "-y"]).expect(0);
    repo.until("r3 serves", "web", |lane| lane["release"]["number"] == 3 && lane["phase"] == "succeeded");
    assert_eq!(repo.status()["environments"][0]["frozen"], false);
}
