//! What `slipway doctor` says, word for word, at the level at which the tests run.

use crate::machine::level;
use crate::world::World;
use std::path::Path;

/// Numbers and places that differ from run to run.
fn settled(text: &str, world: &World) -> String {
    let text = text.replace(&world.data().display().to_string(), "DATA").replace(&world.url, "URL");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = match (line.split_once("start to end "), line.split_once("git version ")) {
            (Some((before, _)), _) => format!("{before}start to end N ms"),
            (None, Some((before, _))) => format!("{before}git version N"),
            (None, None) => line.to_owned(),
        };
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[test]
fn doctor_says_the_level_its_proof_and_what_to_do_for_the_next() {
    let world = World::start();
    let golden = match level().as_str() {
        "root" => include_str!("../../golden/doctor-root.txt"),
        "subordinate-ids" => include_str!("../../golden/doctor-subordinate-ids.txt"),
        "single-id" => include_str!("../../golden/doctor-single-id.txt"),
        other => panic!("no such level: {other}"),
    };
    let said = world.slipway(&["doctor"]).expect(0);
    assert_eq!(settled(&said.out, &world), golden);
    let json = world.slipway(&["doctor", "--json"]).expect(0).json();
    let probe = &json["probe"];
    assert_eq!(probe["level"], level(), "{json:#}");
    assert_eq!(probe["next"].is_null(), level() == "root", "{json:#}");
    for check in probe["checks"].as_array().unwrap() {
        let (known, cause) = (check["ok"].as_bool().unwrap(), check["cause"].is_string());
        assert!(known != cause && check["proof"].is_string() == known, "{check:#}");
        assert_eq!(check["remedy"].is_string(), cause, "{check:#}");
    }
    assert!(!Path::new(&world.data().join("work/probe-up")).exists(), "`up` left its probe behind");
}
