//! Commands that act: they say what they will do and to whom, ask, and do it.

use crate::cli::{Act, Global};
use crate::client::find;
use crate::commands::ask::{head, path, print_json};
use crate::exit::{Done, Exit, USAGE};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};

/// Where to go back to.
#[derive(Debug, Args)]
pub struct Rollback {
    #[command(flatten)]
    pub act: Act,
    /// A release: `r39` or its id
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<String>,
}

/// Any act: what would be done, a question, the deed.
pub async fn act(global: &Global, verb: &str, act: &Act, to: Option<String>) -> Done {
    let client = find(global)?;
    let what = match (&act.what.what, verb) {
        (Some(what), _) => what.clone(),
        (None, "rollback" | "abort") => String::new(),
        (None, _) => {
            head().ok_or_else(|| Exit::new(USAGE, format!("{verb} what?")).hint("name a commit, release or job"))?
        }
    };
    let asked = |dry_run: bool| json!({ "verb": verb, "what": what, "env": act.what.env, "to": to, "reason": act.reason, "dry_run": dry_run });
    let path = path(&client, "commands").await?;
    if !act.yes {
        let plan: Value = client.send(Method::POST, &path, &asked(true)).await?;
        for sentence in sentences(&plan) {
            eprintln!("will {sentence}");
        }
        confirm()?;
    }
    let done: Value = client.send(Method::POST, &path, &asked(false)).await?;
    if global.json {
        return print_json(&done);
    }
    for sentence in sentences(&done).filter(|_| act.yes) {
        println!("{sentence}");
    }
    if !global.quiet {
        eprintln!("given; `slipway status` shows how it goes");
    }
    Ok(())
}

fn sentences(answer: &Value) -> impl Iterator<Item = &str> {
    answer.get("will").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn confirm() -> Done {
    if !std::io::stdin().is_terminal() {
        return Err(Exit::new(USAGE, "nobody is there to be asked").hint("add `-y` to do it without a question"));
    }
    eprint!("do it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(crate::exit::surroundings)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Exit::new(crate::exit::CHANGE, "not done")) }
}
