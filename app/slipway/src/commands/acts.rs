//! Commands that act: they say what they will do and to whom, ask, and do it.

use crate::cli::{Act, Global};
use crate::client::{Client, encode, find};
use crate::commands::ask::{commitish, head, path, print_json};
use crate::commands::watch::{fact, interruptible};
use crate::exit::{CHANGE, Done, Exit, USAGE, WAITS};
use crate::term;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use slipway_feedback::ticker::Ticker;
use slipway_model::fact::{Body, Gate};
use slipway_model::rollout::{Phase, Purpose};
use slipway_model::view::Event;
use slipway_model::{ReleaseId, RolloutId};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};

/// Said when Ctrl-C ended the waiting.
const LEFT: &str = "no longer waited for; it goes on: `slipway status` shows it";

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
        (None, "rollback" | "restart" | "abort") => String::new(),
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
        for sentence in texts(&done, "will").filter(|_| act.yes && !global.quiet) {
            eprintln!("will {sentence}");
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
    match (refused, act.wait) {
        (true, _) => Err(Exit::silent(CHANGE)),
        (false, true) => interruptible(ended(&client, &done, global.json), LEFT).await,
        (false, false) => Ok(()),
    }
}

/// Follows the rollouts of the lanes that an act is about, until each has ended or waits.
async fn ended(client: &Client, done: &Value, json: bool) -> Done {
    let text = |lane: &Value, key: &str| lane.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lanes = done.get("lanes").and_then(Value::as_array).into_iter().flatten();
    let mut open: BTreeMap<(String, String), Awaited> = lanes
        .map(|lane| ((text(lane, "environment"), text(lane, "service")), Awaited::new(text(lane, "release"))))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let after = done.get("n").and_then(Value::as_u64).unwrap_or(0);
    let query = format!("/api/v1/events?after={after}&project={}", encode(&client.project().await?));
    let (mut ticker, mut worst) = (Ticker::default(), 0);
    client
        .lines(&query, |line| {
            let data = line.strip_prefix("data: ")?;
            let event: Event = serde_json::from_str(data).ok()?;
            let fact = fact(&event)?;
            let lane = slipway_feedback::project::lane_of(&fact.body)?;
            let key = (lane.environment.to_string(), lane.service.to_string());
            let awaited = open.get_mut(&key)?;
            if !awaited.is_about(&fact.body) {
                return None;
            }
            let verdict = awaited.verdict(&fact.body);
            match ticker.take(&fact).filter(|_| !json) {
                Some(said) => println!("{}", term::line(&said)),
                None if json => println!("{data}"),
                None => {}
            }
            if let Some(code) = verdict {
                open.remove(&key);
                worst = worst.max(code);
            }
            open.is_empty().then(|| if worst == 0 { Ok(()) } else { Err(Exit::silent(worst)) })
        })
        .await
}

/// What is waited for in one lane.
struct Awaited {
    /// The release; empty: new instances of what serves.
    release: String,
    /// Its rollout, once it began.
    rollout: Option<RolloutId>,
}

impl Awaited {
    fn new(release: String) -> Awaited {
        Awaited { release, rollout: None }
    }

    fn is_about(&mut self, body: &Body) -> bool {
        let meant = |release: &ReleaseId, purpose: Purpose| match self.release.as_str() {
            "" => purpose == Purpose::Refresh,
            wanted => release.as_str() == wanted,
        };
        match body {
            Body::ReleaseGated { candidate, .. } => meant(&candidate.release, candidate.purpose),
            Body::RolloutPhase(moved) if meant(&moved.head.to.id, moved.head.purpose) => {
                // One of the same release that began before may still be on its way back.
                if matches!(moved.phase, Phase::Queued | Phase::Succeeded) {
                    self.rollout = Some(moved.head.id.clone());
                }
                self.rollout.as_ref() == Some(&moved.head.id)
            }
            _ => false,
        }
    }

    /// The exit code of a fact that ends the wait.
    fn verdict(&self, body: &Body) -> Option<u8> {
        match body {
            Body::RolloutPhase(moved) => match moved.phase {
                Phase::Succeeded => Some(0),
                Phase::RolledBack | Phase::NeedsHuman | Phase::Dropped => Some(CHANGE),
                _ => None,
            },
            Body::ReleaseGated { gate: Gate::Identical { .. }, .. } => Some(0),
            Body::ReleaseGated { gate: Gate::Refused { .. }, .. } => Some(CHANGE),
            // What follows another environment goes on by itself.
            Body::ReleaseGated { gate: Gate::Wait { who, until, .. }, .. } if who.is_some() || until.is_some() => {
                Some(WAITS)
            }
            _ => None,
        }
    }
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
