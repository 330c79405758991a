//! Words for people about rollouts.

use crate::record::State;
use slipway_model::rollout::Phase;

/// What a rollout waits for, in one sentence.
#[must_use]
pub fn waits_for(state: &State) -> String {
    let release = format!("r{}", state.head.to.number);
    let lane = format!("{} {}", state.head.lane.environment, state.head.lane.service);
    match state.phase {
        Phase::Queued => format!("{lane} {release} waits for its turn"),
        Phase::Gated | Phase::Prepared | Phase::Expanded => {
            format!("{lane} {release} is being prepared")
        }
        Phase::Provisioning => format!("{lane} {release} is being started"),
        Phase::Probing => format!("{lane} {release}: {}", state.reason),
        Phase::Stepping => format!("{lane} {release} is being judged: {}", state.reason),
        Phase::Promoting => format!("{lane} {release} takes all traffic"),
        Phase::Baking => format!("{lane} {release} is live and watched"),
        Phase::Contracting => format!("{lane} {release} finishes"),
        Phase::Returning => format!("{lane} {release}: traffic goes back"),
        Phase::Capturing => format!("{lane} {release}: evidence is being kept"),
        Phase::Restoring => format!("{lane} {release}: the old release gets its capacity back"),
        Phase::Succeeded => format!("{lane} {release} serves"),
        Phase::RolledBack => format!("{lane} {release} was taken back: {}", state.reason),
        Phase::NeedsHuman => format!("{lane} {release} needs a person: {}", state.reason),
        Phase::Dropped => format!("{lane} {release} was not started: {}", state.reason),
    }
}
