//! `slipway open`: the page in a browser, signed in by a one-time link.

use crate::cli::Global;
use crate::client::find;
use crate::commands::ask::print_json;
use crate::exit::Done;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

/// How to open.
#[derive(Debug, Args)]
pub struct Open {
    /// Only print the link
    #[arg(long)]
    print: bool,
}

/// `slipway open`.
pub async fn open(global: &Global, open: &Open) -> Done {
    let client = find(global)?;
    let answer: Value = client.send(Method::POST, "/api/v1/login", &json!({})).await?;
    if global.json {
        return print_json(&answer);
    }
    let url = answer.get("url").and_then(Value::as_str).unwrap_or_default();
    println!("{url}");
    eprintln!("works once, for ten minutes");
    if !open.print && std::env::var_os("DISPLAY").is_some() {
        // Without a browser the printed link is enough.
        let _ = std::process::Command::new("xdg-open")
            .arg(url)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
    }
    Ok(())
}
