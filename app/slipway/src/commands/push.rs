//! `slipway push`: `git push` that also exits as the change ends.

use crate::cli::Global;
use crate::client::{Client, encode, find, remote};
use crate::commands::ask::{head, path};
use crate::commands::watch::{follow, interrupted, interruptible};
use crate::exit::{CHANGE, Done, Exit, USAGE, WAITS, surroundings};
use clap::Args;
use slipway_model::fact::ChangeState;
use slipway_model::view::ChangeView;
use std::os::unix::process::ExitStatusExt;

/// Said when Ctrl-C ended the watching.
const LEFT: &str = "no longer watched; what was stored goes on: `slipway watch` follows it";

/// What is handed to `git push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Arguments of `git push`; default: the remote `slipway` and this branch
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "GIT ARGS")]
    arguments: Vec<String>,
}

/// `slipway push`.
pub async fn push(global: &Global, push: &Push) -> Done {
    // Without a token its end could not be seen: better to know before the push than after.
    let client = find(global)?;
    let (mut arguments, remote) = (push.arguments.clone(), remote());
    let Some(remote) = remote.map(|remote| remote.name).or_else(|| names_remote(&arguments).then(String::new)) else {
        let name = client.project.clone().or_else(folder).unwrap_or_else(|| "NAME".into());
        return Err(Exit::new(USAGE, "this repository has no remote `slipway`")
            .hint(format!("git remote add slipway {}/git/{name}.git", client.url)));
    };
    if !names_remote(&arguments) {
        arguments.extend([remote, "HEAD".into()]);
    }
    interruptible(pushed(&client, &arguments, global.json), LEFT).await
}

async fn pushed(client: &Client, arguments: &[String], json: bool) -> Done {
    let known = |commit: String| async move {
        let path = path(client, &format!("changes/{}", encode(&commit))).await.ok()?;
        client.get::<ChangeView>(&path).await.ok().filter(|change| change.state.is_final())
    };
    let before = match head() {
        Some(commit) => known(commit).await,
        None => None,
    };
    // Git is in the same process group and hears of a Ctrl-C by itself.
    let status =
        tokio::process::Command::new("git").arg("push").args(arguments).status().await.map_err(surroundings)?;
    if status.signal() == Some(rustix::process::Signal::INT.as_raw()) {
        return Err(interrupted(LEFT));
    }
    if !status.success() {
        return Err(Exit::silent(CHANGE));
    }
    let Some(commit) = head() else { return Ok(()) };
    let change: ChangeView = client.get(&path(client, &format!("changes/{}", encode(&commit))).await?).await?;
    if before.as_ref().is_some_and(|before| before.id == change.id && before.state == change.state) {
        let short = change.commit.short();
        eprintln!("{short} was pushed before and is {}: slipway why {short}", change.state.word());
    }
    match change.state {
        ChangeState::Live | ChangeState::Passed | ChangeState::Skipped => Ok(()),
        ChangeState::Failed | ChangeState::RolledBack | ChangeState::Cancelled => Err(Exit::silent(CHANGE)),
        ChangeState::Waiting => Err(Exit::silent(WAITS)),
        ChangeState::Queued | ChangeState::Running => follow(client, &change, json).await,
    }
}

/// The name that a project of this repository would have.
fn folder() -> Option<String> {
    let folder = std::env::current_dir().ok()?;
    Some(folder.file_name()?.to_string_lossy().to_lowercase().replace(['_', '.', ' '], "-"))
}

/// Whether arguments of `git push` say where to; else they are options of a push to the usual place.
fn names_remote(arguments: &[String]) -> bool {
    const WITH_VALUE: [&str; 5] = ["-o", "--push-option", "--repo", "--receive-pack", "--exec"];
    let mut is_value = false;
    arguments.iter().any(|argument| {
        let names = !is_value && (argument == "--all" || argument == "--mirror" || !argument.starts_with('-'));
        is_value = !is_value && WITH_VALUE.contains(&argument.as_str());
        names
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_alone_leave_the_usual_place() {
        let names = |line: &str| names_remote(&line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>());
        for line in ["", "-f", "-o fixes=1f3c9ab", "--push-option ci.skip -f", "--push-option=ci.skip"] {
            assert!(!names(line), "{line}");
        }
        for line in ["slipway", "-f slipway", "-o ci.skip slipway main", "--all", "origin HEAD:main"] {
            assert!(names(line), "{line}");
        }
    }
}
