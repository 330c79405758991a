//! `slipway doctor`: what of this machine works, with causes and remedies.

use crate::cli::Global;
use crate::client::find;
use crate::commands::ask::print_json;
use crate::exit::{Done, Exit, SURROUNDINGS, surroundings};
use crate::paths::Data;
use crate::term;
use crate::wire::serve::program;
use slipway_sandbox::{Launcher, Level};
use std::time::Duration;

/// A probe that takes longer has found out enough.
const PROBE: Duration = Duration::from_secs(20);

/// `slipway doctor`.
pub async fn doctor(global: &Global) -> Done {
    let data = Data::find(global.data.clone());
    let exe = program()?;
    let scratch = std::env::temp_dir().join(format!("slipway-doctor-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(surroundings)?;
    let place = scratch.clone();
    let probe =
        tokio::task::spawn_blocking(move || Launcher::new(exe).probe(&place, PROBE)).await.map_err(surroundings)?;
    let _ = std::fs::remove_dir_all(&scratch);
    let server = match find(global) {
        Ok(client) => client.get::<serde_json::Value>("/api/v1/whoami").await.map(|_| client.url),
        Err(exit) => Err(exit),
    };
    let git = std::process::Command::new("git")
        .arg("--version")
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    if global.json {
        return print_json(
            &serde_json::json!({ "probe": probe, "data": data.0, "server": server.ok(), "git": git.ok() }),
        );
    }
    let word = |shown: String| shown.to_lowercase();
    println!("sandbox level: {}", word(format!("{:?}", probe.level)));
    println!("network of jobs and instances: {}", word(format!("{:?}", probe.outbound)));
    for check in &probe.checks {
        let mark = if check.ok { term::good("ok  ") } else { term::bad("no  ") };
        println!("  {mark} {:<24} {}", check.name, check.proof.clone().unwrap_or_default());
        if !check.ok {
            println!(
                "       {}; {}",
                check.cause.clone().unwrap_or_default(),
                check.remedy.clone().unwrap_or_default()
            );
        }
    }
    match git {
        Ok(version) => println!("  {} {:<24} {version}", term::good("ok  "), "git"),
        Err(error) => println!("  {} {:<24} {error}; install the package `git`", term::bad("no  "), "git"),
    }
    match &server {
        Ok(url) => println!("  {} {:<24} {url}", term::good("ok  "), "server"),
        Err(exit) => {
            println!("  {} {:<24} {}", term::soft("--  "), "server", exit.what);
            if let Some(hint) = &exit.hint {
                println!("       {hint}");
            }
        }
    }
    println!("  data folder {}", data.0.display());
    if probe.level == Level::Root {
        return Ok(());
    }
    Err(Exit::new(SURROUNDINGS, "jobs and instances need level root for now")
        .hint("run `slipway up` as root; other levels are not yet supported"))
}
