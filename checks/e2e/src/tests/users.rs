//! What is different where an ordinary user runs Slipway, and what is not.

use crate::http::get;
use crate::machine::level;
use crate::repo::{Repo, VERIFY, file, service};
use crate::world::World;

const OTHER_USER: &str =
    "FROM scratch\nCOPY server /server\nCOPY behaviour /behaviour\nUSER 1000\nENTRYPOINT [\"/server\"]\n";

#[test]
fn an_image_with_a_user_of_its_own_runs_as_that_or_is_refused_with_the_reason() {
    let world = World::start();
    let repo = Repo::web(&world, "other", 1);
    repo.write("web/Dockerfile", OTHER_USER);
    repo.commit("one");
    if level() == "single-id" {
        repo.push_main().says("user `1000`: it needs a second id").says("`slipway doctor`").not("LIVE");
        return;
    }
    repo.push_main().says("LIVE production web r1");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    let log = repo.slipway(&["logs", "web"]).expect(0).out;
    assert_eq!(log.contains("belong to root inside"), level() != "root", "{log}");
}

#[test]
fn a_limit_that_this_account_cannot_keep_is_said_with_the_run() {
    let world = World::start();
    let repo = Repo::web(&world, "limited", 1);
    let limited = service("web", 1).replace("    jobs:", "    resources: { memory: 64MiB, cpu: 1 }\n    jobs:");
    repo.write("slipway.yaml", &file(&[limited]));
    repo.commit("one");
    repo.push_main().says("LIVE production web r1");
    let log = repo.slipway(&["logs", "web"]).expect(0).out;
    repo.behave("web", "version two");
    let plan = repo.slipway(&["plan"]).expect(0).out;
    assert_eq!(plan.contains("`web`: resources.memory will not be kept on this machine"), level() != "root", "{plan}");
    for note in ["memory is not limited to 64 MiB: ", "cpu is not limited to 1.000 cores: "] {
        assert_eq!(log.contains(note), level() != "root", "{log}");
    }
}

#[test]
fn a_job_with_a_network_has_a_way_out_and_one_without_has_none() {
    let world = World::start();
    let repo = Repo::web(&world, "outward", 1);
    let routes =
        "awk '$2 == \"00000000\" { found = 1 } END { print found ? \"a way out\" : \"no way out\" }' /proc/net/route";
    repo.script("web/test.sh", routes);
    let jobs = "jobs:\n      near: { run: ./test.sh, network: off }\n      test: { run: ./test.sh, network: on }\n";
    let web = format!("  web:\n    path: web\n    port: 8080\n    health: /health\n    replicas: 1\n    {jobs}");
    repo.write("slipway.yaml", &format!("services:\n{web}environments:\n  production:\n    verify: {{ {VERIFY} }}\n"));
    repo.commit("one");
    repo.push_main().says("LIVE production web r1");
    assert!(repo.slipway(&["logs", "web/test"]).expect(0).out.contains("a way out"));
    assert!(repo.slipway(&["logs", "web/near"]).expect(0).out.contains("no way out"));
}
