//! `slipway secret`: names and versions; values come from standard input, never from an argument.

use crate::cli::Global;
use crate::client::{encode, find};
use crate::commands::ask::{path, print_json};
use crate::exit::{Done, Exit, USAGE};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use std::io::{IsTerminal, Read};

/// Secrets.
#[derive(Debug, Args)]
pub struct Secret {
    #[command(subcommand)]
    act: SecretAct,
}

#[derive(Debug, Subcommand)]
enum SecretAct {
    /// Names, versions, who set them
    Ls,
    /// Set one; the value comes from standard input
    Add(Named),
    /// Remove one
    Rm(Named),
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
        SecretAct::Ls => {
            let all: Vec<Value> = client.get(&path(&client, "secrets").await?).await?;
            if global.json {
                return print_json(&all);
            }
            for secret in &all {
                let text = |key: &str| secret.get(key).and_then(Value::as_str).unwrap_or_default();
                println!(
                    "{:<32} version {}  set {} by {}",
                    text("key"),
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
            Ok(())
        }
        SecretAct::Rm(named) => {
            let _: Value = client.json(Method::DELETE, &path(&client, &address(named)).await?, Bytes::new()).await?;
            println!("{} is removed", named.name);
            Ok(())
        }
    }
}

fn value() -> Result<Bytes, Exit> {
    if std::io::stdin().is_terminal() {
        eprintln!("the value, then Ctrl-D:");
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(1024 * 1024).read_to_end(&mut bytes).map_err(crate::exit::surroundings)?;
    // `echo value | slipway secret add` should not put a line break into the secret.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(Exit::new(USAGE, "no value came on standard input").hint("slipway secret add NAME < file"));
    }
    Ok(Bytes::from(bytes))
}
