//! Words for people about rollouts.

use crate::record::State;
use slipway_model::rollout::Phase;

/// What everybody who comes may read while nothing is ready. Never a reason: it may quote what an instance wrote.
#[must_use]
pub fn notice(state: &State) -> String {
    let release = format!("r{}", state.head.to.number);
    match state.phase {
        Phase::Queued | Phase::Gated | Phase::Prepared | Phase::Expanded => format!("{release} is being prepared"),
        Phase::Provisioning | Phase::Probing => format!("{release} is being started"),
        Phase::Stepping | Phase::Promoting => format!("{release} is taking over"),
        Phase::Baking | Phase::Contracting | Phase::Succeeded => {
            format!("{release} was serving and its instances are not ready any more")
        }
        Phase::Returning | Phase::Capturing | Phase::Restoring => match &state.head.from {
            Some(from) => format!("{release} was not good and r{} is being brought back", from.number),
            None => format!("{release} was not good and there is no earlier release to go back to"),
        },
        Phase::RolledBack => match &state.head.from {
            Some(from) => format!("r{} was serving and its instances are not ready any more", from.number),
            None => format!("{release} was taken back"),
        },
        Phase::NeedsHuman => format!("{release} could not be brought into service; a person has to look at it"),
        Phase::Dropped => format!("{release} was not started"),
    }
}
