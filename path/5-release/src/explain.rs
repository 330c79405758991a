//! Words for people about gates.

use slipway_model::fact::Gate;

/// A gate's answer in one line.
#[must_use]
pub fn line(gate: &Gate) -> String {
    match gate {
        Gate::Open { passed } if passed.is_empty() => "every gate is open".into(),
        Gate::Open { passed } => passed.join("; "),
        Gate::Wait { reason, .. } => format!("waits: {reason}"),
        Gate::Refused { reason, .. } => format!("refused: {reason}"),
        Gate::Identical { reason } => format!("identical: {reason}"),
    }
}
