//! `slipway status` for people: what needs you first, each problem with the next command (PAGES.md).
//!
//! In: a [`Status`]. Out: lines. Never: colour; the terminal adds it.

use slipway_model::At;
use slipway_model::time::words;
use slipway_model::view::{LaneView, Status};

/// The status as lines.
#[must_use]
pub fn lines(status: &Status, now: At) -> Vec<String> {
    let mut lines = vec![format!("{}", status.project)];
    if status.needs_you.is_empty() {
        lines.push("  nothing waits for you".into());
    }
    for need in &status.needs_you {
        lines.push(format!("  {}: {}, for {}", need.what, need.why, words(now.since_ms(need.since))));
        lines.push(format!("        {}", need.command));
    }
    for environment in &status.environments {
        lines.push(String::new());
        lines.push(environment.name.to_string());
        lines.extend(environment.services.iter().flat_map(|lane| lane_lines(lane, now)));
    }
    let moving: Vec<_> = status.changes.iter().filter(|change| !change.state.is_final()).collect();
    if !moving.is_empty() {
        lines.push(String::new());
        lines.push("moving now".into());
    }
    for change in moving {
        let ago = words(now.since_ms(change.received));
        lines.push(format!(
            "  {} {:<8} {} by {}, {ago} ago",
            change.commit.short(),
            change.state.word(),
            change.subject,
            change.author
        ));
    }
    lines
}

fn lane_lines(lane: &LaneView, now: At) -> Vec<String> {
    let release = lane.release.as_ref().map_or_else(|| "-".into(), |release| format!("r{}", release.number));
    let ready = lane.instances.iter().filter(|i| i.state == slipway_model::instance::InstanceState::Ready).count();
    let mut lines = vec![format!(
        "  {:<16} {release:<6} {:<12} {ready} of {} ready   {}",
        lane.name.as_str(),
        lane.phase,
        lane.instances.len(),
        lane.url
    )];
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
    if lane.traffic.len() > 1 {
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
    if let Some(waiting) = &lane.waiting {
        lines.push(format!("      waits: {}", waiting.what));
        lines.extend(waiting.next.as_ref().map(|next| format!("        {next}")));
    }
    lines
}
