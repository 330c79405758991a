//! Pure helpers of the drive: what a state asks of the node, and whether what runs is that.
//!
//! In: states, releases, observations. Out: wishes, weights, proofs. Never: I/O.

use crate::record::{Policy, State};
use slipway_model::instance::{InstanceSpec, LaneSeen, LaneWish, Slot};
use slipway_model::release::Release;
use slipway_model::{EnvironmentName, Lane, ReleaseId, Secret};
use slipway_ports::Smoked;
use std::collections::BTreeMap;

/// The numbers of a rollout to `to` in place of `from`.
pub fn policy(to: &Release, from: Option<&Release>, environment: &EnvironmentName) -> Policy {
    let config = to.bundle.environment(environment);
    let desired = config.map_or(1, |config| config.replicas);
    let (surge, unavailable) = config.map(|config| config.strategy).unwrap_or_default().counts(desired);
    Policy {
        desired,
        desired_old: from.map_or(0, |from| from.bundle.environment(environment).map_or(1, |config| config.replicas)),
        surge,
        unavailable,
        verify: config.map(|config| config.verify.clone()).unwrap_or_default(),
        ready_ms: to.bundle.spec.ready_ms,
    }
}

/// One release's instances as the node shall have them.
pub fn slot(release: &Release, lane: &Lane, secrets: BTreeMap<String, Secret>, serving: u32, retiring: u32) -> Slot {
    let spec = &release.bundle.spec;
    let env = release.bundle.environment(&lane.environment).map(|config| config.env.clone()).unwrap_or_default();
    Slot {
        release: release.id.clone(),
        number: release.number,
        serving,
        retiring,
        spec: InstanceSpec {
            image: release.bundle.image.clone(),
            command: spec.command.clone(),
            env,
            secrets,
            port: spec.port,
            health: spec.health.clone(),
            stop: spec.stop.clone(),
            drain_ms: spec.drain_ms,
            ready_ms: spec.ready_ms,
            resources: spec.resources,
        },
        places: release.places.clone(),
    }
}

/// Shares of traffic by release; releases without a share are left out.
pub fn weights(state: &State) -> Vec<(ReleaseId, u32)> {
    let mut weights = Vec::new();
    if state.weights.0 > 0 {
        weights.push((state.head.to.id.clone(), state.weights.0));
    }
    if let (Some(from), true) = (&state.head.from, state.weights.1 > 0) {
        weights.push((from.id.clone(), state.weights.1));
    }
    weights
}

/// Whether what runs is what was intended, part by part (R310).
pub fn proof(wanted: &LaneWish, seen: &LaneSeen) -> Result<(), String> {
    for slot in &wanted.slots {
        let spec = slot.spec.digest();
        for instance in seen.instances.iter().filter(|instance| instance.release == slot.release) {
            if instance.image != slot.spec.image {
                return Err(format!(
                    "instance `{}` runs image {}, intended is {}",
                    instance.id, instance.image, slot.spec.image
                ));
            }
            if instance.spec != spec {
                return Err(format!(
                    "instance `{}` runs with another configuration than r{}'s",
                    instance.id, slot.number
                ));
            }
        }
    }
    let known = |release: &ReleaseId| wanted.slots.iter().any(|slot| &slot.release == release);
    let stray = seen
        .instances
        .iter()
        .find(|instance| !known(&instance.release) && instance.state == slipway_model::instance::InstanceState::Ready);
    if let Some(stray) = stray {
        return Err(format!("instance `{}` of release {} serves and should not", stray.id, stray.release));
    }
    if seen
        .weights
        .iter()
        .any(|(release, weight)| *weight > 0 && !wanted.weights.iter().any(|(wish, _)| wish == release))
    {
        return Err("another release gets traffic".into());
    }
    Ok(())
}

/// The first smoke request that failed, in words; `None` when all are well.
pub fn smoke_failure(answers: &[Smoked]) -> Option<String> {
    answers.iter().find(|answer| answer.status == 0 || answer.status >= 500).map(|answer| match answer.status {
        0 => format!("smoke request {} to {} got no answer: {}", answer.request, answer.instance, answer.body),
        status => format!("smoke request {} to {} answered {status}", answer.request, answer.instance),
    })
}
