//! `slipway watch`: a change as it goes, line by line, until it is decided.

use crate::cli::{Global, What};
use crate::client::{Client, encode, find};
use crate::commands::ask::{commitish, head, path};
use crate::exit::{CHANGE, Done, Exit, INTERRUPTED, USAGE, WAITS};
use crate::term;
use clap::Args;
use slipway_feedback::Follow;
use slipway_model::view::{ChangeView, Event, Status};
use slipway_model::{Actor, Fact, Lane};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to watch, and for how long.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    what: What,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// `slipway watch`.
pub async fn watch(global: &Global, watch: Watch) -> Done {
    let client = find(global)?;
    let what = watch.what.what.as_deref().map(commitish).or_else(head);
    let Some(what) = what else { return Err(Exit::new(USAGE, "watch what?").hint("name a commit, branch or release")) };
    let change: ChangeView = client.get(&path(&client, &format!("changes/{}", encode(&what))).await?).await?;
    let following =
        interruptible(follow(&client, &change, global.json), "the work goes on; `slipway watch` follows it again");
    let Some(seconds) = watch.timeout else { return following.await };
    match tokio::time::timeout(Duration::from_secs(seconds), following).await {
        Ok(done) => done,
        Err(_) => Err(Exit::new(WAITS, format!("{} is not decided after {seconds} s", change.commit.short()))
            .hint("`slipway status` shows what it waits for")),
    }
}

/// Ends with a word when Ctrl-C is pressed: what was watched is not what stops.
pub async fn interruptible(doing: impl Future<Output = Done>, word: &str) -> Done {
    tokio::select! {
        // What is interrupted may end by the same key press: that is no end of its own.
        biased;
        _ = tokio::signal::ctrl_c() => Err(interrupted(word)),
        done = doing => done,
    }
}

/// The end by Ctrl-C.
pub fn interrupted(word: &str) -> Exit {
    eprintln!("\n{word}");
    Exit::silent(INTERRUPTED)
}

/// Follows a change from its beginning until it is decided; the exit is that of the change.
pub async fn follow(client: &Client, change: &ChangeView, json: bool) -> Done {
    let mut follow = Follow::new(change.received);
    let urls = urls(client).await;
    let url =
        |lane: &Lane| urls.get(&(lane.environment.to_string(), lane.service.to_string())).cloned().unwrap_or_default();
    let project = client.project().await?;
    let query = format!("/api/v1/events?after=0&project={}&change={}", encode(&project), change.id);
    // What it waited for in the past is no end: only the newest word counts until all that happened was seen.
    let (mut is_now, mut over) = (false, None);
    client
        .lines(&query, |line| {
            if line == ": now" {
                is_now = true;
                return over.map(exit);
            }
            let data = line.strip_prefix("data: ")?;
            let event: Event = serde_json::from_str(data).ok()?;
            if event.change.as_ref() != Some(&change.id) {
                return None;
            }
            if json {
                println!("{data}");
            }
            let said = follow.take(&fact(&event)?, &url);
            for line in said.lines.iter().filter(|_| !json) {
                println!("{}", term::line(line));
            }
            over = said.over;
            over.filter(|_| is_now).map(exit)
        })
        .await
}

fn exit(code: i32) -> Done {
    match code {
        0 => Ok(()),
        4 => Err(Exit::silent(WAITS)),
        _ => Err(Exit::silent(CHANGE)),
    }
}

/// The fact that an event tells of.
pub fn fact(event: &Event) -> Option<Fact> {
    let body = serde_json::json!({ "kind": event.kind, "data": event.data });
    Some(Fact {
        n: event.n,
        v: event.v,
        at: event.at,
        project: event.project.clone(),
        stream: String::new(),
        version: 0,
        change: event.change.clone(),
        actor: Actor(event.actor.clone()),
        body: serde_json::from_value(body).ok()?,
    })
}

async fn urls(client: &Client) -> BTreeMap<(String, String), String> {
    let Ok(path) = path(client, "status?changes=0").await else { return BTreeMap::new() };
    let Ok(status) = client.get::<Status>(&path).await else { return BTreeMap::new() };
    let lanes = status
        .environments
        .iter()
        .flat_map(|environment| environment.services.iter().map(move |lane| (environment, lane)));
    lanes.map(|(environment, lane)| ((environment.name.to_string(), lane.name.to_string()), lane.url.clone())).collect()
}
