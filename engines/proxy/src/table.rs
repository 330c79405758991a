//! What is routed where: the table that the node writes and the proxy obeys.
//!
//! In: JSON or values made by the node. Out: the same, validated. Never holds run-time state; the
//! compiled form with its counters is in `routes`.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The sum of the weights of one service must not exceed this; basis points are the finest share.
pub(crate) const WEIGHTS_SUM_MAX: u32 = 10_000;
/// More releases of one service than this are never routed at once.
pub(crate) const RELEASES_MAX: usize = 16;
/// A DNS name is at most this long (RFC 1035 section 2.3.4).
const HOST_LENGTH_MAX: usize = 253;

/// Every route of the proxy. Replaced as a whole by [`crate::Proxy::apply`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The services, in any order.
    pub services: Vec<Service>,
}

/// Whom a route serves: one service of one environment of one project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The project's name.
    pub project: String,
    /// The environment's name.
    pub environment: String,
    /// The service's name.
    pub service: String,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.environment, self.service)
    }
}

/// One service and how its requests are shared out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Whom the route serves.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Host names without port, in any case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Ports: a listener bound to one of these serves this service whatever the host name is.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// How a request finds its release.
    #[serde(default)]
    pub affinity: Affinity,
    /// What its instances speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// How long a new request waits when no instance is ready, in milliseconds; at most
    /// `Limits::hold_max`. 0, the default, answers 503 at once, so that an outage is seen as one.
    #[serde(default)]
    pub hold_ms: u64,
    /// What is said to those who come while no instance is ready.
    #[serde(default)]
    pub notice: Notice,
    /// The releases, **the oldest first**: with [`Affinity::Client`] cohorts fill from the last one,
    /// so that raising its weight only moves users forward.
    pub releases: Vec<Upstreams>,
}

/// What is said to everybody who comes while no instance is ready; what is empty is not said. It is public: nothing
/// that an instance has written belongs into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// What is going on: one sentence.
    pub text: String,
    /// Since when no instance is ready.
    pub since: String,
    /// The command that explains it to the people who run the service.
    pub command: String,
}

/// How a request finds its release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Each request by itself, in exact proportion to the weights.
    #[default]
    None,
    /// By a hash of the client's address: the same client stays with its release.
    Client,
}

/// What the instances of a service speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1; HTTP/2 for calls of gRPC, which exist in no other.
    #[default]
    Http1,
    /// HTTP/2 without TLS, from its first byte ("prior knowledge", RFC 9113 section 3.3).
    H2c,
}

/// The instances of one release and its share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstreams {
    /// The release's id, unique within the service.
    pub release: String,
    /// The share, relative to the sum over the service's releases. 0 receives nothing, ever.
    pub weight: u32,
    /// The instances.
    pub backends: Vec<Backend>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The instance's id, unique within the table; what the [`crate::Connector`] is asked for.
    pub instance: String,
    /// Whether it takes new requests.
    pub state: BackendState,
}

/// Whether an instance takes new requests. One that is not ready yet is not in the table at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Takes new requests.
    Serving,
    /// Finishes what it has and gets nothing new.
    Draining,
}

/// Why a table was refused. The former table stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The same service twice.
    #[error("service `{0}` is listed twice")]
    ServiceTwice(ServiceKey),
    /// The same host at two services.
    #[error("host `{host}` is claimed by `{first}` and `{second}`")]
    HostTwice {
        /// The host.
        host: String,
        /// The service that has it already.
        first: Box<ServiceKey>,
        /// The service that wants it too.
        second: Box<ServiceKey>,
    },
    /// The same port at two services.
    #[error("port {port} is claimed by `{first}` and `{second}`")]
    PortTwice {
        /// The port.
        port: u16,
        /// The service that has it already.
        first: Box<ServiceKey>,
        /// The service that wants it too.
        second: Box<ServiceKey>,
    },
    /// Not a host name.
    #[error("`{host}` of service `{service}` is not a host name")]
    BadHost {
        /// What was given.
        host: String,
        /// By which service.
        service: ServiceKey,
    },
    /// The same release twice in one service.
    #[error("release `{release}` is listed twice in service `{service}`")]
    ReleaseTwice {
        /// The release.
        release: String,
        /// The service.
        service: ServiceKey,
    },
    /// The same instance twice in the table.
    #[error("instance `{0}` is listed twice")]
    InstanceTwice(String),
    /// Too many releases in one service.
    #[error("service `{service}` routes {count} releases, the limit is {RELEASES_MAX}")]
    TooManyReleases {
        /// The service.
        service: ServiceKey,
        /// How many.
        count: usize,
    },
    /// Weights too large.
    #[error("the weights of service `{service}` add up to {sum}, the limit is {WEIGHTS_SUM_MAX}")]
    WeightsTooLarge {
        /// The service.
        service: ServiceKey,
        /// Their sum.
        sum: u64,
    },
}

impl Table {
    /// Checks what `Table`'s types do not.
    pub(crate) fn validate(&self) -> Result<(), TableError> {
        let mut keys = HashSet::new();
        let mut instances = HashSet::new();
        for service in &self.services {
            if !keys.insert(&service.key) {
                return Err(TableError::ServiceTwice(service.key.clone()));
            }
            service.validate()?;
            for backend in service.releases.iter().flat_map(|r| &r.backends) {
                if !instances.insert(backend.instance.as_str()) {
                    return Err(TableError::InstanceTwice(backend.instance.clone()));
                }
            }
        }
        Ok(())
    }
}

impl Service {
    fn validate(&self) -> Result<(), TableError> {
        let service = || self.key.clone();
        if self.releases.len() > RELEASES_MAX {
            return Err(TableError::TooManyReleases { service: service(), count: self.releases.len() });
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.releases.iter().find(|r| !names.insert(&r.release)) {
            return Err(TableError::ReleaseTwice { release: twice.release.clone(), service: service() });
        }
        let sum: u64 = self.releases.iter().map(|r| u64::from(r.weight)).sum();
        if sum > u64::from(WEIGHTS_SUM_MAX) {
            return Err(TableError::WeightsTooLarge { service: service(), sum });
        }
        match self.hosts.iter().find(|host| !is_host(host)) {
            Some(host) => Err(TableError::BadHost { host: host.clone(), service: service() }),
            None => Ok(()),
        }
    }
}

/// Whether this may stand before the colon of a `Host` header: a DNS name or an IPv4 address, or an
/// IPv6 address in brackets.
pub(crate) fn is_host(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !name.is_empty()
        && name.len() <= HOST_LENGTH_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}
