//! Commands on the working tree: nothing is pushed, nothing is changed.

use crate::repo::Repo;
use crate::world::World;

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
