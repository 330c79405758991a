//! `slipway secret`: names and versions; values come from standard input, never from an argument.

use crate::cli::Global;
use crate::client::{encode, find};
use crate::commands::acts::confirm;
use crate::commands::ask::{path, print_json};
use crate::exit::{Done, Exit, INTERRUPTED, USAGE, surroundings};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use std::io::{BufRead, IsTerminal, Read};

/// The longest value that is read; the server takes less.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;
const CTRL_C: u8 = 3;

/// Secrets.
#[derive(Debug, Args)]
pub struct Secret {
    #[command(subcommand)]
    act: SecretAct,
}

#[derive(Debug, Subcommand)]
enum SecretAct {
    /// Names, versions, who set them
    Ls {
        /// Only those of this environment
        #[arg(long)]
        env: Option<String>,
    },
    /// Set one; the value comes from standard input
    Add(Named),
    /// Remove one
    Rm {
        #[command(flatten)]
        named: Named,
        /// Do not ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Its name: A-Z, 0-9 and _
    name: String,
    /// The environment; without one it is for jobs
    #[arg(long)]
    env: Option<String>,
}

/// `slipway secret`.
pub async fn secret(global: &Global, secret: &Secret) -> Done {
    let client = find(global)?;
    let address = |named: &Named| {
        let env = named.env.as_ref().map(|env| format!("&env={}", encode(env))).unwrap_or_default();
        format!("secrets?name={}{env}", encode(&named.name))
    };
    match &secret.act {
        SecretAct::Ls { env } => {
            let mut all: Vec<Value> = client.get(&path(&client, "secrets").await?).await?;
            if let Some(env) = env {
                all.retain(|secret| place(secret).0 == Some(env.as_str()));
            }
            if global.json {
                return print_json(&all);
            }
            if all.is_empty() {
                eprintln!("no secrets are set; `slipway secret add NAME` sets one");
            }
            for secret in &all {
                let text = |key: &str| secret.get(key).and_then(Value::as_str).unwrap_or_default();
                let (env, name) = place(secret);
                println!(
                    "{name:<32} {:<16} version {}  set {} by {}",
                    env.map_or_else(|| "for jobs".to_owned(), |env| format!("in {env}")),
                    secret.get("version").and_then(Value::as_u64).unwrap_or(0),
                    text("set"),
                    text("by")
                );
            }
            Ok(())
        }
        SecretAct::Add(named) => {
            let value = value()?;
            let done: Value = client.json(Method::PUT, &path(&client, &address(named)).await?, value).await?;
            if global.json {
                return print_json(&done);
            }
            println!("{} is set, version {}", named.name, done.get("version").and_then(Value::as_u64).unwrap_or(0));
            let users = done.get("used_by").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            for service in users.filter(|_| !global.quiet) {
                let env = named.env.as_deref().unwrap_or_default();
                eprintln!(
                    "  instances of {service} keep the value that they began with: slipway restart {service} --env {env}"
                );
            }
            Ok(())
        }
        SecretAct::Rm { named, yes } => {
            if !yes {
                let place = named.env.as_ref().map_or_else(|| "for jobs".into(), |env| format!("in {env}"));
                eprintln!("will remove secret {} {place}; what needs it waits then", named.name);
                confirm()?;
            }
            let _: Value = client.json(Method::DELETE, &path(&client, &address(named)).await?, Bytes::new()).await?;
            println!("{} is removed", named.name);
            Ok(())
        }
    }
}

/// A listed secret's environment and name; `-` stands for jobs, which have none.
fn place(secret: &Value) -> (Option<&str>, &str) {
    let key = secret.get("key").and_then(Value::as_str).unwrap_or_default();
    match key.split_once('/') {
        Some(("-", name)) => (None, name),
        Some((env, name)) => (Some(env), name),
        None => (None, key),
    }
}

fn value() -> Result<Bytes, Exit> {
    let mut bytes = if std::io::stdin().is_terminal() {
        typed()?
    } else {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(VALUE_BYTES_MAX).read_to_end(&mut bytes).map_err(surroundings)?;
        bytes
    };
    // `echo value | slipway secret add` should not put a line break into the secret.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(Exit::new(USAGE, "no value came on standard input").hint("slipway secret add NAME < file"));
    }
    Ok(Bytes::from(bytes))
}

/// One line of a terminal, which does not show it.
fn typed() -> Result<Vec<u8>, Exit> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    eprint!("the value (not shown), then Enter: ");
    let shown = tcgetattr(&stdin).map_err(surroundings)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // Ctrl-C would leave a terminal that shows nothing: it is a character here, and means the same.
    hidden.local_modes.remove(LocalModes::ISIG);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(surroundings)?;
    let mut bytes = Vec::new();
    let read = stdin.lock().take(VALUE_BYTES_MAX).read_until(b'\n', &mut bytes);
    let _ = tcsetattr(&stdin, OptionalActions::Now, &shown);
    eprintln!("");
    read.map_err(surroundings)?;
    if bytes.contains(&CTRL_C) {
        return Err(Exit::silent(INTERRUPTED));
    }
    Ok(bytes)
}
