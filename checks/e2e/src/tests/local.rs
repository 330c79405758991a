//! Commands on the working tree: nothing is pushed, nothing is changed.

use crate::repo::{Repo, file, service};
use crate::world::World;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;

// R077 R464
#[test]
fn the_same_jobs_run_on_the_working_tree_before_anything_is_pushed() {
    let world = World::start();
    let repo = Repo::web(&world, "desk", 1);
    repo.commit("one");
    repo.write(".gitignore", "ignored\n");
    repo.write("web/ignored", "x");
    repo.write("web/fresh", "new and not yet added");
    repo.script("web/test.sh", "cat fresh; test ! -e ignored; test \"$CI\" = true; echo made > made-here");
    let said = repo.slipway(&["run", "web/test"]).expect(0);
    assert!(said.out.contains("new and not yet added") && said.out.contains("web/test: passed"), "{said:?}");
    assert!(!repo.root.join("web/made-here").exists(), "a job wrote into the working tree");
    repo.script("web/test.sh", "echo 'error: not like this'; exit 4");
    let failed = repo.slipway(&["run"]).expect(1);
    assert!(failed.out.contains("web/test: failed") && failed.err.contains("did not pass"), "{failed:?}");
    let unknown = repo.slipway(&["run", "web/tset"]).expect(2);
    assert!(unknown.err.contains("web/test"), "{unknown:?}");
    let json = repo.slipway(&["run", "--json"]).expect(1);
    assert!(json.out.contains("\"exit_code\": 4"), "{json:?}");
}

// R440
#[test]
fn plan_lint_and_explain_answer_without_a_server() {
    let world = World::start();
    let repo = Repo::web(&world, "quiet", 2);
    repo.commit("one");
    let plan = repo.slipway(&["plan"]).expect(0).out;
    for item in ["web/test", "image", "release"] {
        assert!(plan.contains(item), "`{item}` is missing in:\n{plan}");
    }
    let items = repo.slipway(&["plan", "--json"]).expect(0).json();
    assert_eq!(items["items"].as_array().map(Vec::len), Some(3));
    assert!(repo.slipway(&["lint"]).expect(0).out.contains("slipway.yaml is good"));
    let key = repo.slipway(&["explain", "services.web.replicas"]).expect(0).out;
    assert!(key.contains(": 2  (") && key.contains("slipway.yaml:6"), "{key}");
    let default = repo.slipway(&["explain", "environments.production.strategy.rolling.max_unavailable"]).expect(0).out;
    assert!(default.contains("built in"), "{default}");
    repo.slipway(&["explain", "services.web.nothing"]).expect(2);
    repo.write("slipway.yaml", "services:\n  web: { path: web, replica: 2 }\n");
    let broken = repo.slipway(&["lint"]).expect(1).err;
    assert!(broken.contains("slipway.yaml:2:") && broken.contains("replicas"), "{broken}");
    repo.slipway(&["plan"]).expect(1);
    let nowhere = crate::world::said(&mut world.command(&world.dir, &["lint"])).expect(2);
    assert!(nowhere.err.contains("hint:"), "{nowhere:?}");
}

type Results = BTreeMap<String, (String, Option<i64>, Vec<String>)>;

fn result(name: &Value, outcome: &Value) -> (String, (String, Option<i64>, Vec<String>)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = outcome["first_error"].as_array().into_iter().flatten().map(text).collect();
    (text(name), (text(&outcome["result"]), outcome["exit_code"].as_i64(), errors))
}

// A33 R009 R464
#[test]
fn the_same_file_gives_the_same_results_on_a_server_and_without_one() {
    let world = World::start();
    let repo = Repo::web(&world, "both", 1);
    let jobs = "      make: { run: ./make.sh, produces: [made], network: off }\n      \
                use: { run: cat $SLIPWAY_ARTIFACTS/web/make/web/made, needs: [make], network: off }\n      \
                fails: { run: ./fails.sh, needs: [make], network: off }\n";
    repo.write("slipway.yaml", &file(&[service("web", 1) + jobs]));
    repo.script("web/make.sh", "echo $SLIPWAY_PROJECT $SLIPWAY_SERVICE $CI $SLIPWAY_EVENT > made");
    repo.script("web/fails.sh", "cat $SLIPWAY_ARTIFACTS/web/make/web/made; echo 'error: three is odd' >&2; exit 6");
    let commit = repo.commit("one");
    repo.push_main().says("fails web        failed").says("FAILED").not("LIVE");
    let change = world.api(&format!("/api/v1/projects/both/changes/{commit}"));
    let on_server: Results = change["jobs"].as_array().unwrap().iter().map(|job| result(&job["name"], job)).collect();
    let said_there = repo.slipway(&["logs", "web/use"]).expect(0).out;
    assert_eq!(world.end(Signal::INT), Some(0));
    repo.slipway(&["status"]).expect(3);
    let local = repo.slipway(&["run", "--json"]).expect(1).out;
    let ran = serde_json::Deserializer::from_str(&local).into_iter::<Value>();
    let here: Results = ran.map(|job| job.unwrap()).map(|job| result(&job["name"], &job["outcome"])).collect();
    assert_eq!(here, on_server);
    let failed = ("failed".to_owned(), Some(6), vec!["error: three is odd".to_owned()]);
    assert_eq!((here.len(), &here["web/fails"]), (4, &failed));
    let said_here = repo.slipway(&["run", "web/use"]).expect(0).out;
    assert!(
        said_there.contains("both web true push") && said_here.contains("both web true push"),
        "{said_there}{said_here}"
    );
}
