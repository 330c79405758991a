//! `slipway token`: a token is shown once, when it is made.

use crate::cli::Global;
use crate::client::{encode, find};
use crate::commands::acts::confirm;
use crate::commands::ask::print_json;
use crate::exit::{Done, Exit, USAGE};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// What a token may do, as `Right` of the server names it.
const RIGHTS: [&str; 7] = ["read", "push", "run", "deploy", "approve", "secrets", "admin"];

/// Tokens.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    act: TokenAct,
}

#[derive(Debug, Subcommand)]
enum TokenAct {
    /// Tokens, without their values
    Ls,
    /// Make one; it is printed once, on standard output
    Add(Add),
    /// Remove one by its id
    Rm {
        /// The id that `ls` shows
        id: String,
        /// Do not ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// Whose it is
    name: String,
    /// What it may: read, push, run, deploy, approve, secrets, admin
    #[arg(long, value_delimiter = ',', default_value = "read,push,run,deploy")]
    rights: Vec<String>,
    /// For so many days
    #[arg(long)]
    days: Option<u64>,
}

/// `slipway token`.
pub async fn token(global: &Global, token: &Token) -> Done {
    let client = find(global)?;
    match &token.act {
        TokenAct::Ls => {
            let all: Vec<Value> = client.get("/api/v1/tokens").await?;
            if global.json {
                return print_json(&all);
            }
            for token in &all {
                let text = |key: &str| token.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
                let rights: Vec<&str> = token
                    .get("rights")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                println!("{}  {:<16} {}  until {}", text("id"), text("name"), rights.join(","), text("expires"));
            }
            Ok(())
        }
        TokenAct::Add(add) => {
            if let Some(wrong) = add.rights.iter().find(|right| !RIGHTS.contains(&right.as_str())) {
                return Err(Exit::new(USAGE, format!("there is no right `{wrong}`"))
                    .hint(format!("there are {}", RIGHTS.join(", "))));
            }
            let body = json!({ "name": add.name, "rights": add.rights, "project": global.project, "days": add.days });
            let made: Value = client.send(Method::POST, "/api/v1/tokens", &body).await?;
            if global.json {
                return print_json(&made);
            }
            println!("{}", made.get("token").and_then(Value::as_str).unwrap_or_default());
            eprintln!("it is not shown again");
            Ok(())
        }
        TokenAct::Rm { id, yes } => {
            if !yes {
                eprintln!("will remove token {id}; who uses it is locked out at once");
                confirm()?;
            }
            let _: Value = client.json(Method::DELETE, &format!("/api/v1/tokens/{}", encode(id)), Bytes::new()).await?;
            println!("{id} is removed");
            Ok(())
        }
    }
}
