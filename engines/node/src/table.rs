//! The proxy's table, from the lanes.
//!
//! In: lanes with their ports, weights and instances. Out: one [`Table`] for all. Pure. Never routes to what is not
//! ready (R223), and never to what retires.

use crate::decide::{Have, Phase, Role};
use slipway_model::{At, Lane, ReleaseId};
use slipway_proxy::{Affinity, Backend, BackendState, Notice, Protocol, Service, ServiceKey, Table, Upstreams};

/// The proxy takes so many releases per service; beyond it those that only drain are left out.
const RELEASES_MAX: usize = 16;

/// A lane, as far as routing needs it.
pub(crate) struct Route<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) hosts: &'a [String],
    pub(crate) port: u16,
    /// As they can be routed now.
    pub(crate) weights: &'a [(ReleaseId, u32)],
    pub(crate) instances: &'a [Have],
    /// What is going on, from the wish.
    pub(crate) notice: &'a str,
    /// Since when nothing is ready.
    pub(crate) down_since: Option<At>,
}

/// The proxy's name of a lane.
pub(crate) fn key_of(lane: &Lane) -> ServiceKey {
    ServiceKey {
        project: lane.project.to_string(),
        environment: lane.environment.to_string(),
        service: lane.service.to_string(),
    }
}

pub(crate) fn table<'a>(routes: impl Iterator<Item = Route<'a>>) -> Table {
    Table { services: routes.map(service).collect() }
}

fn service(route: Route<'_>) -> Service {
    let mut names: Vec<&ReleaseId> = route.weights.iter().map(|(release, _)| release).collect();
    for one in route.instances {
        if !names.contains(&&one.release) {
            names.push(&one.release);
        }
    }
    names.truncate(RELEASES_MAX);
    let releases = names.into_iter().map(|release| {
        let weight = route.weights.iter().find(|(named, _)| named == release).map_or(0, |(_, weight)| *weight);
        let ours = route.instances.iter().filter(|one| &one.release == release);
        Upstreams { release: release.to_string(), weight, backends: ours.filter_map(backend).collect() }
    });
    Service {
        key: key_of(route.lane),
        hosts: route.hosts.to_vec(),
        ports: if route.port == 0 { Vec::new() } else { vec![route.port] },
        affinity: Affinity::None,
        protocol: Protocol::Http1,
        hold_ms: 0,
        notice: notice(&route),
        releases: releases.collect(),
    }
}

/// What the proxy says while nothing is ready.
fn notice(route: &Route<'_>) -> Notice {
    let lane = route.lane;
    Notice {
        text: route.notice.to_owned(),
        since: route.down_since.map(|since| since.to_string()).unwrap_or_default(),
        command: format!("slipway why {} --env {}", lane.service, lane.environment),
    }
}

fn backend(one: &Have) -> Option<Backend> {
    let state = match (one.phase, one.role) {
        (Phase::Ready, Role::Serving) => BackendState::Serving,
        (Phase::Ready, Role::Retiring) | (Phase::Unready | Phase::Draining, _) => BackendState::Draining,
        (Phase::Starting | Phase::BackingOff | Phase::Stopping | Phase::Stopped, _) => return None,
    };
    Some(Backend { instance: one.id.to_string(), state })
}
