//! Commands that only ask: `status`, `logs`, `why`, `history`.

use crate::cli::{Global, What};
use crate::client::{Client, NO_PROJECT, encode, find};
use crate::exit::{Done, Exit};
use crate::term;
use crate::wire::clock::now;
use clap::Args;
use slipway_model::text::{printable, printable_log};
use slipway_model::view::{HistoryLine, Status};

/// What to show of a log.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    what: What,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Of a service: so many lines of the past
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 200)]
    tail: u32,
    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only lines of standard error
    #[arg(long)]
    failed: bool,
}

/// What to show of the history.
#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    what: What,
    /// Only lines that contain this: a person, commit, release, reason
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Prints data as JSON on standard output.
pub fn print_json(value: &impl serde::Serialize) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(crate::exit::surroundings)?;
    println!("{text}");
    Ok(())
}

/// The path of the project's part of the API.
pub async fn path(client: &Client, rest: &str) -> Result<String, Exit> {
    Ok(format!("/api/v1/projects/{}/{rest}", encode(&client.project().await?)))
}

/// `slipway status`.
pub async fn status(global: &Global) -> Done {
    let client = find(global)?;
    let status: Status = match client.get(&path(&client, "status").await?).await {
        // The remote is there and nothing was pushed to it: that is a state, not a mistake.
        Err(exit) if exit.kind == NO_PROJECT && global.project.is_none() => return not_yet(global, &client).await,
        other => other?,
    };
    if global.json {
        return print_json(&status);
    }
    for line in slipway_feedback::status::lines(&status, now()) {
        println!("{}", paint(&printable(&line)));
    }
    Ok(())
}

async fn not_yet(global: &Global, client: &Client) -> Done {
    let project = client.project().await?;
    if global.json {
        let nothing: [(); 0] = [];
        let (needs, changes, environments) = (nothing, nothing, nothing);
        return print_json(&serde_json::json!({ "project": project, "needs_you": needs, "changes": changes,
            "environments": environments }));
    }
    println!("{}", term::strong(&project));
    println!("  nothing was pushed yet");
    println!("        git push slipway main");
    Ok(())
}

fn paint(line: &str) -> String {
    if !line.starts_with(' ') && !line.is_empty() { term::strong(line) } else { term::line(line) }
}

fn named(what: &What) -> Result<String, Exit> {
    what.what.as_deref().map(commitish).or_else(head).ok_or_else(|| {
        Exit::new(crate::exit::USAGE, "of what?")
            .hint("name a service (`api`), a job (`api/test`), a release (`api@r41`) or a commit")
    })
}

/// The commit that is checked out here.
pub fn head() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "HEAD"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// `HEAD`, `HEAD~2`, `@^` mean commits of this working tree, not of the server's repository: their ids are asked for.
pub fn commitish(what: &str) -> String {
    if !is_of_here(what) {
        return what.to_owned();
    }
    let output = std::process::Command::new("git")
        .args(["rev-parse", "-q", "--verify", &format!("{what}^{{commit}}")])
        .stderr(std::process::Stdio::null())
        .output();
    let found = output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    found.filter(|id| !id.is_empty()).unwrap_or_else(|| what.to_owned())
}

fn is_of_here(what: &str) -> bool {
    let after = what.strip_prefix("HEAD").or_else(|| what.strip_prefix('@'));
    after.is_some_and(|rest| rest.is_empty() || rest.starts_with(['~', '^', '@', '{']))
}

/// `slipway logs`.
pub async fn logs(global: &Global, logs: &Logs) -> Done {
    let client = find(global)?;
    let what = named(&logs.what)?;
    let mut query = format!("logs?what={}&follow={}&tail={}", encode(&what), logs.follow, logs.tail);
    if let Some(env) = &logs.what.env {
        query.push_str(&format!("&env={}", encode(env)));
    }
    let json = global.json;
    client
        .lines(&path(&client, &query).await?, |line| {
            let wanted = logs.grep.as_ref().is_none_or(|text| line.contains(text.as_str()))
                && (!logs.failed || line.contains(" ! "));
            if wanted && json {
                println!("{}", serde_json::json!({ "line": line }));
            } else if wanted {
                println!("{}", printable_log(line));
            }
            None
        })
        .await
}

/// `slipway why`.
pub async fn why(global: &Global, what: &What) -> Done {
    let client = find(global)?;
    let mut query = format!("why?what={}", encode(&named(what)?));
    if let Some(env) = &what.env {
        query.push_str(&format!("&env={}", encode(env)));
    }
    let answer: serde_json::Value = client.get(&path(&client, &query).await?).await?;
    if global.json {
        return print_json(&answer);
    }
    for line in answer.get("lines").and_then(|lines| lines.as_array()).into_iter().flatten() {
        println!("{}", printable(line.as_str().unwrap_or_default()));
    }
    Ok(())
}

/// `slipway history`.
pub async fn history(global: &Global, history: &History) -> Done {
    let client = find(global)?;
    let mut query = format!("history?limit={}", history.limit);
    let filters = [("env", &history.what.env), ("service", &history.what.what), ("search", &history.search)];
    for (name, value) in filters {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    let lines: Vec<HistoryLine> = client.get(&path(&client, &query).await?).await?;
    if global.json {
        return print_json(&lines);
    }
    for line in &lines {
        let took = slipway_model::time::words(line.took_ms);
        println!(
            "{}  {:<12} {:<10} {:<5} {} {:<12} {} by {}",
            line.at,
            line.lane.environment.as_str(),
            line.lane.service.as_str(),
            line.release,
            line.commit.short(),
            line.result,
            took,
            line.by
        );
        if !line.reason.is_empty() {
            println!("    {}", line.reason);
        }
    }
    if lines.is_empty() {
        let asked = history.search.is_some() || history.what.env.is_some() || history.what.what.is_some();
        println!("{}", if asked { "nothing that was deployed is like that" } else { "nothing was deployed yet" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_that_of_the_working_tree_and_other_names_are_the_servers() {
        for here in ["HEAD", "HEAD~2", "HEAD^", "@", "@~1", "@{1}"] {
            assert!(is_of_here(here), "{here}");
        }
        for there in ["main", "HEADING", "api@r41", "1f3c9ab", "api/test"] {
            assert!(!is_of_here(there), "{there}");
        }
    }
}
