//! `slipway doctor`: what of this machine works, with causes and remedies.

use crate::cli::Global;
use crate::client::find;
use crate::commands::ask::print_json;
use crate::exit::{Done, Exit, SURROUNDINGS, surroundings};
use crate::paths::Data;
use crate::term;
use crate::wire::serve::program;
use slipway_sandbox::{Launcher, Level, Outbound, Probe};
use std::time::Duration;

/// A probe that takes longer has found out enough.
const PROBE: Duration = Duration::from_secs(20);

/// `slipway doctor`.
pub async fn doctor(global: &Global) -> Done {
    let data = Data::find(global.data.clone());
    let exe = program()?;
    let scratch = std::env::temp_dir().join(format!("slipway-doctor-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| {
        Exit::new(SURROUNDINGS, format!("`{}` cannot be made: {error}", scratch.display()))
            .hint("set TMPDIR to a folder that this account may write in")
    })?;
    let place = scratch.clone();
    let probe =
        tokio::task::spawn_blocking(move || Launcher::new(exe).probe(&place, PROBE)).await.map_err(surroundings)?;
    let _ = slipway_sandbox::remove_folder(&scratch);
    let server = match find(global) {
        Ok(client) => client.get::<serde_json::Value>("/api/v1/whoami").await.map(|_| client.url),
        Err(exit) => Err(exit),
    };
    let git = std::process::Command::new("git")
        .arg("--version")
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    if global.json {
        print_json(&serde_json::json!({ "probe": probe, "data": data.0, "server": server.ok(), "git": git.ok() }))?;
        return verdict(&probe);
    }
    for line in lines(&probe) {
        println!("{line}");
    }
    match git {
        Ok(version) => println!("  {} {:<18} {version}", term::good("ok  "), "git"),
        Err(error) => println!("  {} {:<18} {error}; install the package `git`", term::bad("no  "), "git"),
    }
    match &server {
        Ok(url) => println!("  {} {:<18} {url}", term::good("ok  "), "server"),
        Err(exit) => {
            println!("  {} {:<18} {}", term::soft("--  "), "server", exit.what);
            if let Some(hint) = &exit.hint {
                println!("       {hint}");
            }
        }
    }
    println!("data folder: {}", data.0.display());
    if let Some(next) = &probe.next {
        println!("for the next level: {next}");
    }
    verdict(&probe)
}

fn verdict(probe: &Probe) -> Done {
    if probe.level == Level::Refused {
        return Err(refused(probe));
    }
    Ok(())
}

/// Why nothing can run here, and what a person can do about it.
pub fn refused(probe: &Probe) -> Exit {
    let failed = probe.checks.iter().find(|check| !check.ok);
    let why = failed.and_then(|check| check.cause.clone()).unwrap_or_default();
    let exit = Exit::new(SURROUNDINGS, format!("this account can make no sandbox here: {why}"));
    let remedy = failed.and_then(|check| check.remedy.clone());
    exit.hint(remedy.unwrap_or_else(|| "`slipway doctor` says more".to_owned()))
}

/// What was found, line by line.
fn lines(probe: &Probe) -> Vec<String> {
    let mut lines = vec![
        format!("sandbox level: {}", probe.level.word()),
        format!("  {}", meaning(probe.level)),
        format!("network of jobs that want one: {}", probe.outbound.word()),
    ];
    if probe.level == Level::Refused {
        lines.truncate(2);
    } else {
        lines.push(format!("  {}", way_out(probe.outbound)));
    }
    for check in &probe.checks {
        let mark = if check.ok { term::good("ok  ") } else { term::bad("no  ") };
        let seen = if check.ok { &check.proof } else { &check.cause };
        lines.push(format!("  {mark} {:<18} {}", check.name, seen.as_deref().unwrap_or_default()));
        lines.extend(check.remedy.as_ref().map(|remedy| format!("       {remedy}")));
    }
    lines
}

fn meaning(level: Level) -> &'static str {
    match level {
        Level::Root => "jobs and instances are isolated; files of images keep their owners",
        Level::SubordinateIds => {
            "jobs and instances are isolated; users inside are users of their own; files of checkouts and images belong to root inside"
        }
        Level::SingleId => {
            "jobs and instances are isolated; everything inside is root inside: an image with another USER is refused"
        }
        Level::Refused => "no job and no instance can run here",
    }
}

fn way_out(outbound: Outbound) -> &'static str {
    match outbound {
        Outbound::Nat | Outbound::Pasta | Outbound::Slirp4netns => {
            "a network of their own that leads past this machine, never to it; instances and `network: off` have no way out"
        }
        Outbound::Shared => {
            "they share this machine's network, without isolation; instances and `network: off` have one of their own, without a way out"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_sandbox::Check;

    fn check(name: &str, ok: bool, seen: &str, remedy: &str) -> Check {
        let text = |wanted: bool| wanted.then(|| seen.to_owned());
        let remedy = (!ok).then(|| remedy.to_owned());
        Check { name: name.to_owned(), ok, proof: text(ok), cause: text(!ok), remedy }
    }

    fn shown(level: Level, outbound: Outbound, checks: Vec<Check>) -> String {
        lines(&Probe { level, checks, outbound, next: None }).join("\n")
    }

    #[test]
    fn what_works_is_proved_and_what_does_not_ends_in_what_to_do() {
        let checks = vec![
            check("sandbox", true, "a step ran in namespaces of its own, start to end 14 ms", ""),
            check("subordinate ids", false, "`/etc/subuid` has no range for `ann`", "as root: `usermod …`"),
        ];
        let text = shown(Level::SingleId, Outbound::Shared, checks);
        let want = "\
sandbox level: single-id
  jobs and instances are isolated; everything inside is root inside: an image with another USER is refused
network of jobs that want one: shared-network
  they share this machine's network, without isolation; instances and `network: off` have one of their own, without a way out
  ok   sandbox            a step ran in namespaces of its own, start to end 14 ms
  no   subordinate ids    `/etc/subuid` has no range for `ann`
       as root: `usermod …`";
        assert_eq!(text, want);
    }

    #[test]
    fn where_nothing_can_run_no_network_is_promised() {
        let checks = vec![check("sandbox", false, "namespaces: operation not permitted", "run it elsewhere")];
        let text = shown(Level::Refused, Outbound::Shared, checks);
        let want = "\
sandbox level: refused
  no job and no instance can run here
  no   sandbox            namespaces: operation not permitted
       run it elsewhere";
        assert_eq!(text, want);
    }
}
