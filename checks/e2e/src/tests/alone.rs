//! Several services in one repository: each goes its own way.

use crate::http::get;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::World;

// R174 R550 R552 R565
#[test]
fn a_service_is_built_and_released_alone_while_another_waits_for_its_approval() {
    let world = World::start();
    let repo = Repo::new(&world, "shops");
    repo.write(
        "slipway.yaml",
        &format!(
            "services:\n{}{}environments:\n  production:\n    approve: {{ count: 1, author: true }}\n    env: {{ PLACE: here }}\n    \
             verify: {{ {VERIFY} }}\n",
            service("api", 1),
            service("web", 1).replace("    jobs:", "    env: { COLOUR: red }\n    jobs:")
        ),
    );
    repo.add("api", "version api one");
    repo.add("web", "version web one");
    repo.commit("one");
    repo.push_main().says("WAITING production api r1").says("WAITING production web r1");
    repo.slipway(&["approve", "web@r1", "-y"]).expect(0);
    repo.until("web is live", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    repo.behave("web", "version web two");
    let pushed = repo.push_main().says("test web         passed").says("image web").says("WAITING production web r2");
    let pushed = pushed.not("test api").not("image api");
    repo.slipway(&["approve", "web@r2", "-y"]).expect(0);
    repo.until("web goes on", "web", |lane| lane["release"]["number"] == 2 && lane["phase"] == "succeeded");
    let api = repo.lane("production", "api");
    assert!(api["release"].is_null(), "api was released with it: {}", pushed.text);
    assert!(api["waiting"]["for"].as_str().is_some_and(|what| what.starts_with("r1: approval")), "{api}");
    repo.slipway(&["approve", "api@r1", "-y"]).expect(0);
    repo.until("api is live", "api", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    let body = |service: &str, path: &str| get(&repo.address(service), path).unwrap().body;
    assert_eq!((body("api", "/").as_str(), body("web", "/").as_str()), ("version api one", "version web two"));
    // Each has the configuration that is its own.
    assert_eq!((body("api", "/env/COLOUR").as_str(), body("web", "/env/COLOUR").as_str()), ("", "red"));
    assert_eq!((body("api", "/env/PLACE").as_str(), body("web", "/env/PLACE").as_str()), ("here", "here"));
    let history = |service: &str| {
        let lines = repo.slipway(&["history", service, "--json"]).expect(0).json();
        let releases: Vec<String> =
            lines.as_array().unwrap().iter().map(|line| line["release"].as_str().unwrap().to_owned()).collect();
        releases
    };
    assert_eq!((history("api"), history("web")), (vec!["r1".to_owned()], vec!["r2".to_owned(), "r1".to_owned()]));
}

#[test]
fn a_service_goes_after_the_one_that_it_needs_and_not_when_that_one_failed() {
    let world = World::start();
    let repo = Repo::new(&world, "needs");
    // By name `api` would be first.
    let api = service("api", 1).replace("    jobs:", "    needs: [web]\n    jobs:");
    repo.write("slipway.yaml", &file(&[api, service("web", 1)]));
    repo.add("api", "version one");
    repo.add("web", "version one\nexit 3");
    repo.commit("one");
    let pushed = repo.push_main().says("FAILED production web r1").says("REFUSED production api r1").says("needs web");
    let pushed = pushed.not("LIVE");
    assert!(repo.lane("production", "api")["release"].is_null(), "{}", pushed.text);
    let first = repo.head();
    repo.write("api/behaviour", "version two\n");
    repo.write("web/behaviour", "version two\n");
    repo.commit("two");
    let fixes = format!("fixes={}", &first[..7]);
    let pushed = repo.push(&["-o", &fixes, "slipway", "main"]).says("LIVE production web").says("LIVE production api");
    let at = |text: &str| pushed.text.find(text).unwrap();
    assert!(at("LIVE production web") < at("rollout api"), "api did not wait for web:\n{}", pushed.text);
}
