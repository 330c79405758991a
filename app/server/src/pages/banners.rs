//! What is wrong with the platform itself: cause, effect, remedy.
//!
//! In: troubles of the road, machines that are away, the disk. Out: banners on every page. Never: a change's failure.

use super::words::command;
use crate::Server;
use maud::{Markup, html};

/// With less room than this somebody has to act soon.
const ROOM_BYTES_LOW: u64 = 256 * 1024 * 1024;

/// Cause, effect, remedy.
#[derive(Debug, PartialEq, Eq)]
struct Banner {
    cause: String,
    effect: &'static str,
    remedy: &'static str,
}

/// All banners that are called for.
pub fn all(server: &Server) -> Markup {
    let free = rustix::fs::statvfs(&server.parts.data).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let found = found(&(server.parts.away)(), server.road().trouble(), free);
    html! {
        @for banner in &found {
            div class="banner" role="alert" {
                p { span class="pill bad" { span aria-hidden="true" { "✕" } " platform" } " " b { (banner.cause) } }
                p { (banner.effect) " " (command(banner.remedy)) }
            }
        }
    }
}

fn found(away: &[&'static str], trouble: Option<String>, free_bytes: Option<u64>) -> Vec<Banner> {
    let mut found = Vec::new();
    for part in away {
        let effect = match *part {
            "worker" => "Services keep serving. Jobs wait until a worker is back; nothing is lost. To find out more:",
            _ => "Services keep serving, and cannot be watched or changed meanwhile; rollouts wait. To find out more:",
        };
        found.push(Banner { cause: format!("The {part} is not connected."), effect, remedy: "slipway doctor" });
    }
    if let Some(free) = free_bytes.filter(|free| *free < ROOM_BYTES_LOW) {
        found.push(Banner {
            cause: format!("The disk of the data folder is nearly full: {} MiB are left.", free >> 20),
            effect: "Services keep serving. When nothing can be recorded any more, nothing new begins. Make room, or:",
            remedy: "slipway image gc",
        });
    }
    if let Some(trouble) = trouble {
        found.push(Banner {
            cause: format!("Something fails and is tried again: {trouble}"),
            effect: "What waits for it goes on by itself once it works; the rest is not touched. To find out more:",
            remedy: "slipway doctor",
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_the_platform_is_named_and_a_healthy_one_says_nothing() {
        assert_eq!(found(&[], None, Some(ROOM_BYTES_LOW)), []);
        let all = found(&["node", "worker"], Some("no space left".into()), Some(3 << 20));
        let causes: Vec<_> = all.iter().map(|banner| banner.cause.as_str()).collect();
        assert_eq!(
            causes,
            [
                "The node is not connected.",
                "The worker is not connected.",
                "The disk of the data folder is nearly full: 3 MiB are left.",
                "Something fails and is tried again: no space left",
            ]
        );
    }
}
