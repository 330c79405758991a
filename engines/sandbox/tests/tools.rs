//! Jobs on the host's tools, and the probe.

use crate::support::*;
use slipway_sandbox::*;
use std::time::Duration;

#[test]
fn cargo_test_runs_offline_without_touching_the_hosts_cargo_home() {
    let scratch = Scratch::new();
    let lower = scratch.0.join("crate");
    std::fs::create_dir_all(lower.join("src")).unwrap();
    std::fs::write(lower.join("Cargo.toml"), "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")
        .unwrap();
    std::fs::write(lower.join("src/lib.rs"), "#[test]\nfn works() {}\n").unwrap();
    let tools = host_tools();
    let mut spec = scratch.job("cargo test --offline");
    spec.root = tools.root();
    spec.steps[0].env = tools.env.clone();
    spec.steps[0].cwd = "/workspace".into();
    spec.workspace = Some(Workspace { lower: lower.clone(), target: "/workspace".into() });
    let ran = run(&spec);
    assert_eq!(ran.code(), 0, "{}", ran.text);
    assert!(ran.text.contains("test works ... ok"), "{}", ran.text);
    assert!(!lower.join("target").exists());
}

#[test]
fn the_probe_says_what_it_saw() {
    let scratch = Scratch::new();
    let probe = launcher().probe(&scratch.0, Duration::from_secs(30));
    assert_eq!(probe.level, level(), "{probe:#?}");
    assert_eq!(probe.next.is_none(), level() == Level::Root, "{probe:#?}");
    for check in &probe.checks {
        assert_eq!(check.ok, check.proof.is_some(), "{check:?}");
        assert_eq!(check.ok, check.cause.is_none() && check.remedy.is_none(), "{check:?}");
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}
