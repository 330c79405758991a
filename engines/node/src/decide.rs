//! What follows from a wish and what is there. Pure.
//!
//! In: the wish of one lane, its instances. Out: who serves, who retires, who stops, how many start; the weights
//! that can be routed. Never: I/O, a clock, chance.

use slipway_model::instance::{LaneWish, Slot};
use slipway_model::{InstanceId, ReleaseId};
use std::collections::{BTreeMap, BTreeSet};

/// Instances that one lane may ask for; above it the wish is refused.
pub(crate) const INSTANCES_MAX: u32 = 500;
/// The proxy takes weights up to this sum.
const WEIGHTS_SUM_MAX: u64 = 10_000;

/// Where an instance is in its life, as the node itself sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its process starts or is not ready yet.
    Starting,
    /// Its newest probe was good.
    Ready,
    /// It was ready; its newest probes were bad.
    Unready,
    /// It ended by itself.
    BackingOff,
    /// Withdrawn for good; its requests end.
    Draining,
    /// It was told to end.
    Stopping,
    /// Gone.
    Stopped,
}

impl Phase {
    /// Whether it is on its way out.
    pub(crate) fn is_leaving(self) -> bool {
        match self {
            Phase::Draining | Phase::Stopping | Phase::Stopped => true,
            Phase::Starting | Phase::Ready | Phase::Unready | Phase::BackingOff => false,
        }
    }
}

/// What an instance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Gets traffic once it is ready.
    Serving,
    /// Stays alive without traffic.
    Retiring,
}

/// One instance, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Have {
    pub(crate) id: InstanceId,
    pub(crate) release: ReleaseId,
    pub(crate) phase: Phase,
    pub(crate) role: Role,
    /// Rises with every new instance.
    pub(crate) born: u64,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The role of every instance that stays.
    pub(crate) roles: Vec<(InstanceId, Role)>,
    /// Instances that go.
    pub(crate) stop: Vec<InstanceId>,
    /// New instances: index of the slot, how many.
    pub(crate) start: Vec<(usize, u32)>,
}

/// One slot per release, one weight per release, each host once: a wish may name a release twice when it moves to itself.
pub(crate) fn normalise(mut wish: LaneWish) -> LaneWish {
    let mut slots: Vec<Slot> = Vec::new();
    for slot in wish.slots {
        match slots.iter_mut().find(|s| s.release == slot.release) {
            Some(known) => {
                known.serving = known.serving.saturating_add(slot.serving);
                known.retiring = known.retiring.saturating_add(slot.retiring);
            }
            None => slots.push(slot),
        }
    }
    let mut weights: Vec<(ReleaseId, u32)> = Vec::new();
    for (release, weight) in wish.weights {
        match weights.iter_mut().find(|(known, _)| *known == release) {
            Some((_, known)) => *known = known.saturating_add(weight),
            None => weights.push((release, weight)),
        }
    }
    for host in &mut wish.hosts {
        host.make_ascii_lowercase();
    }
    // The first one is the one that people are shown.
    let mut known = BTreeSet::new();
    wish.hosts.retain(|host| known.insert(host.clone()));
    wish.slots = slots;
    wish.weights = weights;
    wish
}

/// Why a wish cannot be taken, as it stands.
pub(crate) fn refuse(wish: &LaneWish) -> Option<String> {
    let asked: u64 = wish.slots.iter().map(|s| u64::from(s.serving) + u64::from(s.retiring)).sum();
    if asked > u64::from(INSTANCES_MAX) {
        return Some(format!("`{}` asks for {asked} instances; a lane may have {INSTANCES_MAX}", wish.lane));
    }
    let host_ok = |host: &str| {
        let letters = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        (1..=253).contains(&host.len()) && letters
    };
    if let Some(bad) = wish.hosts.iter().find(|host| !host_ok(host)) {
        return Some(format!("`{bad}` of `{}` is not a host name", wish.lane));
    }
    let unportable = wish.slots.iter().find(|slot| slot.spec.port == 0);
    unportable.map(|slot| format!("release `{}` of `{}` has no port", slot.release, wish.lane))
}

/// Decides over one lane. Ready ones stay before others, serving ones before retiring ones, newer before older.
pub(crate) fn plan(wish: &LaneWish, have: &[Have]) -> Plan {
    let mut plan = Plan::default();
    let alive = || have.iter().filter(|one| !one.phase.is_leaving());
    for (index, slot) in wish.slots.iter().enumerate() {
        let mut ours: Vec<&Have> = alive().filter(|one| one.release == slot.release).collect();
        ours.sort_by_key(|one| {
            let not_ready = match one.phase {
                Phase::Ready => 0,
                Phase::Starting => 1,
                Phase::Unready => 2,
                Phase::BackingOff | Phase::Draining | Phase::Stopping | Phase::Stopped => 3,
            };
            (not_ready, one.role != Role::Serving, std::cmp::Reverse(one.born))
        });
        let (serving, retiring) = (slot.serving as usize, slot.retiring as usize);
        for (place, one) in ours.iter().enumerate() {
            if place < serving {
                plan.roles.push((one.id.clone(), Role::Serving));
            } else if place < serving + retiring {
                plan.roles.push((one.id.clone(), Role::Retiring));
            } else {
                plan.stop.push(one.id.clone());
            }
        }
        let missing = (serving + retiring).saturating_sub(ours.len());
        if missing > 0 {
            plan.start.push((index, u32::try_from(missing).unwrap_or(INSTANCES_MAX)));
        }
    }
    let named = |one: &&Have| wish.slots.iter().any(|slot| slot.release == one.release);
    plan.stop.extend(alive().filter(|one| !named(one)).map(|one| one.id.clone()));
    plan
}

/// The weights that can be routed now: those of releases with a ready serving instance, within the proxy's limit.
pub(crate) fn effective_weights(wish: &LaneWish, have: &[Have]) -> Vec<(ReleaseId, u32)> {
    let mut ready: BTreeMap<&ReleaseId, u32> = BTreeMap::new();
    for one in have.iter().filter(|one| one.phase == Phase::Ready && one.role == Role::Serving) {
        *ready.entry(&one.release).or_default() += 1;
    }
    let sum: u64 = wish.weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let scaled = |weight: u32| match sum {
        0..=WEIGHTS_SUM_MAX => weight,
        // A share that is not nothing must not become nothing.
        _ if weight > 0 => u32::try_from((u64::from(weight) * (WEIGHTS_SUM_MAX - 16) / sum).max(1)).unwrap_or(1),
        _ => 0,
    };
    let can = |release: &ReleaseId| ready.contains_key(release);
    wish.weights
        .iter()
        .map(|(release, weight)| (release.clone(), if can(release) { scaled(*weight) } else { 0 }))
        .collect()
}

/// Whether traffic goes where the wish says: nowhere if it says so, else at least one of its releases takes it.
pub(crate) fn is_routed(wish: &LaneWish, effective: &[(ReleaseId, u32)]) -> bool {
    let wants = wish.weights.iter().any(|(_, weight)| *weight > 0);
    !wants || effective.iter().any(|(_, weight)| *weight > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_model::instance::InstanceSpec;
    use slipway_model::release::{Health, Resources, Stop};
    use slipway_model::{Digest, EnvironmentName, Lane, ProjectName, ServiceName};

    fn release(name: &str) -> ReleaseId {
        ReleaseId::parse(&name.repeat(8)).unwrap()
    }

    fn wish(slots: &[(&str, u32, u32)], weights: &[(&str, u32)]) -> LaneWish {
        let spec = InstanceSpec {
            image: Digest::of(b"image"),
            command: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            port: 80,
            health: Health { path: None, command: None, timeout_ms: 1, interval_ms: 1 },
            stop: Stop { before: None, before_request: None, signal: 15, grace_ms: 1 },
            drain_ms: 1,
            ready_ms: 1,
            resources: Resources::default(),
        };
        LaneWish {
            lane: Lane {
                project: ProjectName::parse("shop").unwrap(),
                environment: EnvironmentName::parse("production").unwrap(),
                service: ServiceName::parse("api").unwrap(),
            },
            epoch: 1,
            slots: slots
                .iter()
                .map(|(r, serving, retiring)| Slot {
                    release: release(r),
                    number: 1,
                    serving: *serving,
                    retiring: *retiring,
                    spec: spec.clone(),
                    places: Default::default(),
                })
                .collect(),
            weights: weights.iter().map(|(r, w)| (release(r), *w)).collect(),
            hosts: vec![],
            port: 0,
            notice: String::new(),
        }
    }

    /// `a1 ready serving` in order of birth; the letter is the release.
    fn have(lines: &[&str]) -> Vec<Have> {
        let one = |(born, line): (usize, &&str)| {
            let words: Vec<&str> = line.split(' ').collect();
            let phase = match words[1] {
                "starting" => Phase::Starting,
                "ready" => Phase::Ready,
                "unready" => Phase::Unready,
                "backing-off" => Phase::BackingOff,
                "draining" => Phase::Draining,
                other => panic!("{other}"),
            };
            let role = if words[2] == "serving" { Role::Serving } else { Role::Retiring };
            let id = InstanceId::parse(words[0]).unwrap();
            Have { id, release: release(&words[0][..1]), phase, role, born: born as u64 }
        };
        lines.iter().enumerate().map(one).collect()
    }

    fn shown(plan: &Plan) -> String {
        let roles = plan
            .roles
            .iter()
            .map(|(id, role)| format!("{id} {}", if *role == Role::Serving { "serves" } else { "retires" }));
        let stops = plan.stop.iter().map(|id| format!("{id} stops"));
        let starts = plan.start.iter().map(|(slot, n)| format!("start {n} of slot {slot}"));
        roles.chain(stops).chain(starts).collect::<Vec<_>>().join(", ")
    }

    #[track_caller]
    fn check(slots: &[(&str, u32, u32)], lines: &[&str], wanted: &str) {
        assert_eq!(shown(&plan(&wish(slots, &[]), &have(lines))), wanted);
    }

    // R219
    #[test]
    fn exactly_as_many_as_wished_live() {
        check(&[("a", 2, 0)], &[], "start 2 of slot 0");
        check(&[("a", 2, 0)], &["a1 starting serving"], "a1 serves, start 1 of slot 0");
        check(&[("a", 1, 0)], &["a1 ready serving", "a2 ready serving"], "a2 serves, a1 stops");
        check(&[("b", 1, 0)], &["a1 ready serving"], "a1 stops, start 1 of slot 0");
        check(&[("a", 1, 0)], &["a1 draining serving"], "start 1 of slot 0");
    }

    #[test]
    fn a_retiring_one_returns_without_a_restart() {
        let two = ["a1 ready serving", "a2 ready serving"];
        check(&[("a", 1, 1)], &two, "a2 serves, a1 retires");
        check(&[("a", 2, 0)], &["a1 ready retiring", "a2 ready serving"], "a2 serves, a1 serves");
        check(&[("a", 1, 0)], &["a1 ready retiring", "a2 ready serving"], "a2 serves, a1 stops");
        check(&[("a", 0, 2)], &two, "a2 retires, a1 retires");
    }

    #[test]
    fn what_is_ready_serves_before_what_is_not() {
        check(&[("a", 1, 1)], &["a1 ready retiring", "a2 unready serving"], "a1 serves, a2 retires");
        check(&[("a", 1, 0)], &["a1 ready serving", "a2 starting serving"], "a1 serves, a2 stops");
        check(&[("a", 1, 0)], &["a1 backing-off serving", "a2 starting serving"], "a2 serves, a1 stops");
    }

    // R223
    #[test]
    fn only_releases_with_a_ready_serving_instance_get_weight() {
        let wish = wish(&[("a", 1, 0), ("b", 1, 0)], &[("a", 1), ("b", 2)]);
        let weights = |lines: &[&str]| {
            let effective = effective_weights(&wish, &have(lines));
            (effective.iter().map(|(_, w)| *w).collect::<Vec<_>>(), is_routed(&wish, &effective))
        };
        assert_eq!(weights(&["a1 ready serving", "b1 starting serving"]), (vec![1, 0], true));
        assert_eq!(weights(&["a1 ready serving", "b1 ready retiring"]), (vec![1, 0], true));
        assert_eq!(weights(&["a1 ready serving", "b1 ready serving"]), (vec![1, 2], true));
        assert_eq!(weights(&["a1 unready serving"]), (vec![0, 0], false));
    }

    #[test]
    fn weights_in_any_unit_fit_the_proxy() {
        let wish = wish(&[("a", 1, 0), ("b", 1, 0)], &[("a", 4_000_000_000), ("b", 1)]);
        let effective = effective_weights(&wish, &have(&["a1 ready serving", "b1 ready serving"]));
        assert_eq!(effective.iter().map(|(_, w)| *w).collect::<Vec<_>>(), [9983, 1]);
    }

    #[test]
    fn a_wish_beyond_the_limits_is_refused() {
        let asked = refuse(&wish(&[("a", 400, 101)], &[])).unwrap();
        assert_eq!(asked, "`shop/production/api` asks for 501 instances; a lane may have 500");
        assert_eq!(refuse(&wish(&[("a", 400, 100)], &[])), None);
    }

    #[test]
    fn a_release_that_moves_to_itself_is_one_slot() {
        let wish = normalise(wish(&[("a", 1, 0), ("a", 1, 1)], &[("a", 1), ("a", 1)]));
        assert_eq!((wish.slots[0].serving, wish.slots[0].retiring, wish.slots.len()), (2, 1, 1));
        assert_eq!(wish.weights, [(release("a"), 2)]);
    }
}
