//! Users of the fake world: they send requests, and the router gives them to ready instances by weight.

use super::behaviour::Behaviour;
use super::lane::LaneModel;
use crate::Smoked;
use crate::fakes::chance::Chance;
use crate::fakes::tally::{Answered, count};
use slipway_model::policy::Smoke;
use slipway_model::{At, Digest, ReleaseId};
use std::collections::BTreeMap;

/// What users ask for; the last two are one pattern.
const REQUESTS: [&str; 8] = [
    "GET /",
    "GET /entries",
    "POST /entries",
    "GET /about",
    "GET /search",
    "GET /feed",
    "GET /items/17",
    "GET /items/4",
];

/// One round of requests. Returns how many nobody could take.
pub fn round(
    lane: &mut LaneModel,
    load: u64,
    behaviours: &BTreeMap<Digest, Behaviour>,
    chance: &mut Chance,
    at: At,
) -> u64 {
    let mut unserved = 0;
    for _ in 0..load {
        let request = chance.pick(&REQUESTS).copied().unwrap_or("GET /");
        let Some((release, instance, image)) = pick(lane, chance) else {
            unserved += 1;
            continue;
        };
        let default = Behaviour::default();
        let behaviour = behaviours.get(&image).unwrap_or(&default);
        let answered = Answered {
            request,
            failed: chance.below(1000) < behaviour.fails_permille(request),
            latency_us: behaviour.latency_us / 2 + chance.below(behaviour.latency_us),
            instance: &instance,
            at,
        };
        count(lane.counts.entry(release).or_default(), &answered);
    }
    unserved
}

/// The instance that gets a request: a release by weight among those with ready instances, then one of these.
fn pick(lane: &LaneModel, chance: &mut Chance) -> Option<(ReleaseId, String, Digest)> {
    let routed: Vec<(&ReleaseId, u64)> = lane
        .weights
        .iter()
        .filter(|(release, weight)| *weight > 0 && lane.ready_in_routing(release) > 0)
        .map(|(release, weight)| (release, u64::from(*weight)))
        .collect();
    let all: u64 = routed.iter().map(|(_, weight)| weight).sum();
    let mut point = chance.below(all);
    let (release, _) = routed.into_iter().find(|(_, weight)| {
        let here = point < *weight;
        point = point.saturating_sub(*weight);
        here
    })?;
    let ready: Vec<_> = lane.instances.iter().filter(|one| &one.release == release && one.is_in_routing()).collect();
    let one = chance.pick(&ready)?;
    Some((release.clone(), one.id.to_string(), one.image.clone()))
}

/// Smoke requests to every ready instance of a release.
pub fn smoke(
    lane: &LaneModel,
    release: &ReleaseId,
    requests: &[Smoke],
    behaviours: &BTreeMap<Digest, Behaviour>,
    chance: &mut Chance,
) -> Vec<Smoked> {
    let default = Behaviour::default();
    let mut answers = Vec::new();
    for one in lane.instances.iter().filter(|one| &one.release == release && one.is_ready()) {
        let behaviour = behaviours.get(&one.image).unwrap_or(&default);
        for asked in requests {
            let request = format!("{} {}", asked.method, asked.path);
            let failed = chance.below(1000) < behaviour.fails_permille(&request);
            answers.push(Smoked {
                instance: one.id.to_string(),
                status: if failed { 500 } else { 200 },
                latency_us: behaviour.latency_us,
                body: String::new(),
                request,
            });
        }
    }
    answers
}
