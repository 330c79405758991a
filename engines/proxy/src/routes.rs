//! The table in the form that a request needs: every lookup done, every share worked out.
//!
//! In: a valid table, the counters and instances that live on across tables. Out: for a host or a
//! port its service, for a request its release and instance. Immutable; replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::deck::Deck;
use crate::instance::{InFlight, Instance};
use crate::stats::{ReleaseCounters, ServiceCounters};
use crate::table::{Affinity, Notice, Protocol, Service, Table, TableError};

/// Cohorts are counted in basis points.
const COHORTS: u64 = 10_000;
/// Up to so many instances the least busy one is found by looking at all of them; among more, two
/// are compared ("The Power of Two Choices", Mitzenmacher 2001).
const LOOK_AT_ALL_MAX: usize = 8;

pub(crate) struct Routes {
    pub(crate) table: Arc<Table>,
    hosts: HashMap<Box<str>, Arc<ServiceRoute>>,
    ports: HashMap<u16, Arc<ServiceRoute>>,
}

pub(crate) struct ServiceRoute {
    pub(crate) counters: Arc<ServiceCounters>,
    pub(crate) hold: Duration,
    pub(crate) notice: Notice,
    pub(crate) protocol: Protocol,
    affinity: Affinity,
    releases: Vec<ReleaseRoute>,
    deck: Deck,
    weights_sum: u64,
}

pub(crate) struct ReleaseRoute {
    pub(crate) counters: Arc<ReleaseCounters>,
    weight: u32,
    serving: Vec<Arc<Instance>>,
}

/// A release and an instance of it that has the request now.
pub(crate) struct Chosen<'a> {
    pub(crate) release: &'a ReleaseRoute,
    pub(crate) flight: InFlight,
}

impl Routes {
    pub(crate) fn empty() -> Self {
        Routes { table: Arc::default(), hosts: HashMap::new(), ports: HashMap::new() }
    }

    /// `route` makes the run-time form of one service.
    pub(crate) fn compile(
        table: Arc<Table>,
        mut route: impl FnMut(&Service) -> ServiceRoute,
    ) -> Result<Routes, TableError> {
        let mut routes = Routes::empty();
        routes.claim_all(&table)?;
        for service in &table.services {
            let route = Arc::new(route(service));
            for host in &service.hosts {
                routes.hosts.insert(normal(host), Arc::clone(&route));
            }
            for port in &service.ports {
                routes.ports.insert(*port, Arc::clone(&route));
            }
        }
        routes.table = table;
        Ok(routes)
    }

    /// No host and no port may belong to two services.
    fn claim_all(&self, table: &Table) -> Result<(), TableError> {
        let mut hosts = HashMap::new();
        let mut ports = HashMap::new();
        for service in &table.services {
            for host in &service.hosts {
                let first = hosts.insert(normal(host), &service.key);
                if let Some(first) = first.filter(|first| **first != service.key) {
                    return Err(TableError::HostTwice {
                        host: host.clone(),
                        first: Box::new(first.clone()),
                        second: Box::new(service.key.clone()),
                    });
                }
            }
            for port in &service.ports {
                let first = ports.insert(*port, &service.key);
                if let Some(first) = first.filter(|first| **first != service.key) {
                    return Err(TableError::PortTwice {
                        port: *port,
                        first: Box::new(first.clone()),
                        second: Box::new(service.key.clone()),
                    });
                }
            }
        }
        Ok(())
    }

    /// `host` in lower case, without port and final dot.
    pub(crate) fn by_host(&self, host: &str) -> Option<&Arc<ServiceRoute>> {
        self.hosts.get(host)
    }

    pub(crate) fn by_port(&self, port: u16) -> Option<&Arc<ServiceRoute>> {
        self.ports.get(&port)
    }
}

fn normal(host: &str) -> Box<str> {
    host.trim_end_matches('.').to_ascii_lowercase().into()
}

impl ReleaseRoute {
    pub(crate) fn new(counters: Arc<ReleaseCounters>, weight: u32, serving: Vec<Arc<Instance>>) -> Self {
        ReleaseRoute { counters, weight, serving }
    }

    fn give(&self, ticket: u64, tried: &[Arc<Instance>]) -> Option<InFlight> {
        loop {
            // `enter` fails only after draining began, which takes the instance out of the choice.
            let flight = self.least_busy(ticket, tried)?.enter();
            if flight.is_some() {
                return flight;
            }
        }
    }

    fn least_busy(&self, ticket: u64, tried: &[Arc<Instance>]) -> Option<&Arc<Instance>> {
        let free =
            |instance: &&Arc<Instance>| !instance.is_draining() && !tried.iter().any(|t| Arc::ptr_eq(t, instance));
        let count = self.serving.len();
        let start = if count > LOOK_AT_ALL_MAX {
            let random = mix(ticket);
            let one = self.serving.get(index(random, count)).filter(free);
            let other = self.serving.get(index(random >> 32, count)).filter(free);
            if let (Some(one), Some(other)) = (one, other) {
                return Some([one, other]).map(
                    |[one, other]| {
                        if other.in_flight() < one.in_flight() { other } else { one }
                    },
                );
            }
            index(random, count)
        } else {
            index(ticket, count.max(1))
        };
        // Starting at another one each time, so that equally busy ones take turns.
        let (after, first) = self.serving.split_at(start);
        first.iter().chain(after).filter(free).min_by_key(|instance| instance.in_flight())
    }
}

fn index(number: u64, count: usize) -> usize {
    // The remainder is smaller than `count`, so it fits.
    usize::try_from(number % count as u64).unwrap_or(0)
}

impl ServiceRoute {
    pub(crate) fn new(
        counters: Arc<ServiceCounters>,
        service: &Service,
        hold_max: Duration,
        releases: Vec<ReleaseRoute>,
        seed: u64,
    ) -> Self {
        let weights: Vec<u32> = releases.iter().map(|release| release.weight).collect();
        ServiceRoute {
            deck: Deck::new(&weights, mix(seed ^ counters.seed())),
            counters,
            hold: Duration::from_millis(service.hold_ms).min(hold_max),
            notice: service.notice.clone(),
            protocol: service.protocol,
            affinity: service.affinity,
            releases,
            weights_sum: weights.iter().map(|w| u64::from(*w)).sum(),
        }
    }

    /// Chooses a release by weight or cohort, then its least busy instance. When no instance of that
    /// release can take the request, the others that have a weight are asked, newest first.
    /// `ticket` is the request's number within the service, `client` the hash of its client.
    pub(crate) fn choose(&self, ticket: u64, client: u64, tried: &[Arc<Instance>]) -> Option<Chosen<'_>> {
        let first = match self.affinity {
            Affinity::None => self.deck.turn(ticket)?,
            Affinity::Client => self.cohort(client)?,
        };
        let others = (0..self.releases.len()).rev().filter(|i| *i != first);
        std::iter::once(first).chain(others).find_map(|i| {
            let release = self.releases.get(i).filter(|r| r.weight > 0)?;
            let flight = release.give(ticket, tried)?;
            Some(Chosen { release, flight })
        })
    }

    /// Cohorts fill from the last release: a client belongs to it when its bucket lies below the
    /// release's share, so a larger share keeps every client that it had.
    fn cohort(&self, client: u64) -> Option<usize> {
        let bucket = mix(client ^ self.counters.seed()) % COHORTS;
        let position = bucket * self.weights_sum / COHORTS;
        let mut filled = 0;
        (0..self.releases.len()).rev().find(|i| {
            filled += self.releases.get(*i).map_or(0, |r| u64::from(r.weight));
            position < filled
        })
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a: the same on every machine and in every version, which cohorts need.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
