//! `slipway status` for people: what needs you first, each problem with the next command (PAGES.md).
//!
//! In: a [`Status`]. Out: lines. Never: colour; the terminal adds it.

use slipway_model::instance::InstanceState;
use slipway_model::time::words;
use slipway_model::view::{InstanceView, LaneView, Need, Status, Waiting};
use slipway_model::{At, EnvironmentName};

/// The status as lines.
#[must_use]
pub fn lines(status: &Status, now: At) -> Vec<String> {
    let mut lines = vec![format!("{}", status.project)];
    if status.needs_you.is_empty() {
        lines.push("  nothing waits for you".into());
    }
    for need in &status.needs_you {
        let ago = words(now.since_ms(need.since));
        lines.push(format!("  {} (for {ago}): {}", need.what, need.why));
        lines.push(format!("        {}", need.command));
    }
    for environment in &status.environments {
        lines.push(String::new());
        let name = &environment.name;
        lines.push(if environment.frozen {
            format!("{name}   frozen by {}: slipway unfreeze {name}", environment.frozen_by)
        } else {
            name.to_string()
        });
        lines.extend(environment.services.iter().flat_map(|lane| {
            let mut lines = lane_lines(lane, &environment.name, status, now);
            lines.extend(taken_back(status, &environment.name, lane));
            lines
        }));
    }
    let moving: Vec<_> = status.changes.iter().filter(|change| !change.state.is_final()).collect();
    if !moving.is_empty() {
        lines.push(String::new());
        lines.push("moving now".into());
    }
    for change in moving {
        let ago = words(now.since_ms(change.received));
        lines.push(format!(
            "  {} {:<8} \"{}\" by {}, {ago} ago",
            change.commit.short(),
            change.state.word(),
            change.subject,
            change.author
        ));
    }
    lines
}

/// What was tried last and is not what serves, unless it stands among what needs you.
fn taken_back(status: &Status, environment: &EnvironmentName, lane: &LaneView) -> Option<String> {
    let title = format!("{environment} {} r", lane.name);
    if lane.phase != "rolled-back" || status.needs_you.iter().any(|need| need.what.starts_with(&title)) {
        return None;
    }
    let rollouts = status.changes.iter().flat_map(|change| &change.rollouts);
    let here = rollouts.filter(|rollout| &rollout.environment == environment && rollout.service == lane.name);
    let newest = here.filter(|rollout| rollout.phase == "rolled-back").max_by_key(|rollout| rollout.started)?;
    Some(format!("      {} was rolled back: slipway why {}@{}", newest.to, lane.name, newest.to))
}

/// How it stands, for people: that an attempt failed is no state of the release that serves.
fn stands(lane: &LaneView) -> &str {
    match (lane.phase.as_str(), &lane.release) {
        ("rolled-back", Some(_)) => "serves again",
        // That is how the one stands that asks to come; what serves goes on.
        ("queued" | "waiting" | "refused", Some(_)) => "serves",
        (phase, _) => phase,
    }
}

/// Instances that are ready, of those that belong to what serves; what goes beside them is counted apart. While
/// releases change places only the sum says whether users are served.
fn ready(lane: &LaneView) -> String {
    let is_ready = |instance: &InstanceView| instance.state == InstanceState::Ready;
    if lane.rollout.is_some() {
        let ready = lane.instances.iter().filter(|instance| is_ready(instance)).count();
        return format!("{ready} ready");
    }
    let serves = |instance: &&InstanceView| lane.release.as_ref().is_none_or(|serves| serves.id == instance.release);
    let own: Vec<&InstanceView> = lane.instances.iter().filter(serves).collect();
    let ready = own.iter().filter(|instance| is_ready(instance)).count();
    match lane.instances.len() - own.len() {
        0 => format!("{ready} of {} ready", own.len()),
        others => format!("{ready} of {} ready, {others} of another release", own.len()),
    }
}

/// Whether it stands among what needs you, word for word.
fn is_told(waiting: &Waiting, status: &Status) -> bool {
    let told = |need: &Need| waiting.next.as_ref() == Some(&need.command) && waiting.what.ends_with(&need.why);
    status.needs_you.iter().any(told)
}

fn lane_lines(lane: &LaneView, environment: &EnvironmentName, status: &Status, now: At) -> Vec<String> {
    let release = lane.release.as_ref().map_or_else(|| "-".into(), |release| format!("r{}", release.number));
    let mut lines =
        vec![format!("  {:<16} {release:<6} {:<12} {}   {}", lane.name.as_str(), stands(lane), ready(lane), lane.url)];
    if let Some(rollout) = &lane.rollout {
        let from = rollout.from.as_deref().unwrap_or("nothing");
        lines.push(format!(
            "      {from} -> {} by {}, for {}: {}",
            rollout.to,
            rollout.by,
            words(now.since_ms(rollout.started)),
            rollout.reason
        ));
    }
    let fails = lane.traffic.iter().any(|share| share.errors > 0);
    if lane.traffic.len() > 1 || fails {
        for share in &lane.traffic {
            lines.push(format!(
                "      {} {:>3} %  {} ready  5xx {} of {}",
                share.release, share.weight, share.ready, share.errors, share.requests
            ));
        }
    }
    for instance in lane.instances.iter().filter(|instance| !instance.reason.is_empty()) {
        lines.push(format!(
            "      {} {}: {}, for {}",
            instance.id,
            instance.state.word(),
            instance.reason,
            words(now.since_ms(instance.since))
        ));
    }
    if !lane.stale_secrets.is_empty() {
        let names = lane.stale_secrets.join(", ");
        let command = format!("slipway restart {} --env {environment}", lane.name);
        lines.push(format!("      {names} changed since its instances began: {command}"));
    }
    for held in &lane.held {
        let short = held.short();
        lines.push(format!("      {short} is held here, and what contains it waits: slipway unhold {short}"));
    }
    if let Some(waiting) = lane.waiting.as_ref().filter(|waiting| !is_told(waiting, status)) {
        lines.push(format!("      waits: {}", waiting.what));
        lines.extend(waiting.next.as_ref().map(|next| format!("        {next}")));
    }
    lines
}
