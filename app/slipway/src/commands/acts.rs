//! Commands that act: they say what they will do and to whom, ask, and do it.

use crate::cli::{Act, Global};
use crate::client::find;
use crate::commands::ask::{commitish, head, path, print_json};
use crate::exit::{CHANGE, Done, Exit, USAGE};
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
        (Some(what), _) => commitish(what),
        (None, "rollback" | "abort") => String::new(),
        (None, _) => {
            head().ok_or_else(|| Exit::new(USAGE, format!("{verb} what?")).hint("name a commit, release or job"))?
        }
    };
    let asked = |dry_run: bool| json!({ "verb": verb, "what": what, "env": act.what.env, "to": to, "reason": act.reason, "dry_run": dry_run });
    let path = path(&client, "commands").await?;
    if !act.yes {
        let plan: Value = client.send(Method::POST, &path, &asked(true)).await?;
        for sentence in texts(&plan, "will") {
            eprintln!("will {sentence}");
        }
        confirm()?;
    }
    let done: Value = client.send(Method::POST, &path, &asked(false)).await?;
    if global.json {
        print_json(&done)?;
    } else {
        for sentence in texts(&done, "will").filter(|_| act.yes) {
            println!("{sentence}");
        }
        for sentence in texts(&done, "then") {
            println!("  {sentence}");
        }
        if !global.quiet && texts(&done, "then").next().is_none() {
            eprintln!("given; `slipway status` shows how it goes");
        }
    }
    // What may not be was said above; the shell has to know too.
    let refused = done.get("refused").and_then(Value::as_bool).unwrap_or_default();
    if refused { Err(Exit::silent(CHANGE)) } else { Ok(()) }
}

fn texts<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Asks whether to do it.
pub fn confirm() -> Done {
    if !std::io::stdin().is_terminal() {
        return Err(Exit::new(USAGE, "nobody is there to be asked").hint("add `-y` to do it without a question"));
    }
    eprint!("do it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(crate::exit::surroundings)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Exit::new(CHANGE, "not done")) }
}
