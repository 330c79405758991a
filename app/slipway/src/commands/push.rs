//! `slipway push`: `git push` that also exits as the change ends.

use crate::cli::Global;
use crate::client::{Client, encode, find};
use crate::commands::ask::{head, path};
use crate::commands::watch::{follow, interrupted, interruptible};
use crate::exit::{CHANGE, Done, Exit, WAITS, surroundings};
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
    let mut arguments = push.arguments.clone();
    if arguments.is_empty() {
        arguments = vec!["slipway".into(), "HEAD".into()];
    }
    // Without a token its end could not be seen: better to know before the push than after.
    let client = find(global)?;
    interruptible(pushed(&client, &arguments, global.json), LEFT).await
}

async fn pushed(client: &Client, arguments: &[String], json: bool) -> Done {
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
    match change.state {
        ChangeState::Live | ChangeState::Passed | ChangeState::Skipped => Ok(()),
        ChangeState::Failed | ChangeState::RolledBack | ChangeState::Cancelled => Err(Exit::silent(CHANGE)),
        ChangeState::Waiting => Err(Exit::silent(WAITS)),
        ChangeState::Queued | ChangeState::Running => follow(client, &change, json).await,
    }
}
