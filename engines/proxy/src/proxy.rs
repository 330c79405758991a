//! The proxy as its owner holds it.
//!
//! In: tables, listening sockets, orders to drain. Out: counts, counters, changes. The owner decides
//! everything; the proxy only does it. Cheap to clone; all clones are one proxy.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use crate::access::{AccessHook, WarningHook};
use crate::connect::Connector;
use crate::instance::Instance;
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::listener::{self, Binding, Listener};
use crate::routes::{ReleaseRoute, Routes, ServiceRoute};
use crate::stats::ServiceCounters;
use crate::stats::change::{Changes, Recorded};
use crate::stats::samples::Sample;
use crate::stats::snapshot::Stats;
use crate::table::{Backend, BackendState, Service, ServiceKey, Table, TableError};
use crate::tls::Certificates;

/// Counters of services that left the table are kept up to so many services in all.
const SERVICES_KEPT_MAX: usize = 1024;

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// What connections, requests and watchers share.
pub(crate) struct Shared {
    pub(crate) limits: Arc<Limits>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) routes: ArcSwap<Routes>,
    /// Counts the tables; who holds requests waits for the next.
    pub(crate) tables: watch::Sender<u64>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) recorded: Arc<Recorded>,
    pub(crate) access: OnceLock<AccessHook>,
    warning: OnceLock<WarningHook>,
    lanes: OnceLock<Lanes>,
    seed: u64,
    registry: Mutex<Registry>,
}

/// What lives on from table to table.
#[derive(Default)]
struct Registry {
    services: HashMap<ServiceKey, Arc<ServiceCounters>>,
    instances: HashMap<String, Arc<Instance>>,
}

/// An instance still had requests at the deadline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instance `{instance}` still has {count} requests in flight")]
pub struct StillInFlight {
    /// Which instance.
    pub instance: String,
    /// How many.
    pub count: usize,
}

/// What is open at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Client connections.
    pub connections: usize,
    /// Requests that instances have.
    pub in_flight: usize,
    /// Services in the table.
    pub services: usize,
}

impl Proxy {
    /// A proxy with an empty table and no listener. By the seed the order is chosen in which releases take requests.
    pub fn new(limits: Limits, connector: Arc<dyn Connector>, seed: u64) -> Self {
        let connections = limits.connections_max.min(Semaphore::MAX_PERMITS);
        Proxy {
            shared: Arc::new(Shared {
                connections: Arc::new(Semaphore::new(connections)),
                limits: Arc::new(limits),
                connector,
                routes: ArcSwap::from_pointee(Routes::empty()),
                tables: watch::Sender::new(0),
                recorded: Arc::default(),
                access: OnceLock::new(),
                warning: OnceLock::new(),
                lanes: OnceLock::new(),
                seed,
                registry: Mutex::default(),
            }),
        }
    }

    /// Sets what is called with every finished request. The first call counts; says whether this
    /// was it.
    pub fn set_access_hook(&self, hook: AccessHook) -> bool {
        self.shared.access.set(hook).is_ok()
    }

    /// Sets what is told of things that the people who run the node should know. The first call counts; says whether
    /// this was it.
    pub fn set_warning_hook(&self, hook: WarningHook) -> bool {
        self.shared.warning.set(hook).is_ok()
    }

    /// Replaces all routes in one step. Requests in flight stay with their instances; instances
    /// that are draining or gone get nothing new, and their idle connections are closed.
    pub fn apply(&self, table: Table) -> Result<(), TableError> {
        table.validate()?;
        let mut registry = self.shared.registry();
        let limits = &self.shared.limits;
        let recorded = &self.shared.recorded;
        let seed = self.shared.seed;
        let routes = Routes::compile(Arc::new(table), |service| registry.route(service, limits, recorded, seed))?;
        let table = Arc::clone(&routes.table);
        registry.allow_serving(&table);
        self.shared.routes.store(Arc::new(routes));
        registry.refuse_others(&table);
        registry.forget(&table);
        drop(registry);
        self.shared.tables.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.shared.routes.load().table)
    }

    /// Serves a listening socket until the handle is shut down or dropped. Must be called within
    /// a tokio runtime.
    pub fn listen(&self, socket: std::net::TcpListener, binding: Binding) -> io::Result<Listener> {
        listener::listen(Arc::clone(&self.shared), socket, binding, None)
    }

    /// The same over TLS, with HTTP/2 for those who can.
    pub fn listen_tls(
        &self,
        socket: std::net::TcpListener,
        binding: Binding,
        certificates: &Certificates,
    ) -> io::Result<Listener> {
        listener::listen(Arc::clone(&self.shared), socket, binding, Some(certificates.acceptor()))
    }

    /// Gives an instance nothing new from now on, whatever later tables say, and closes its idle
    /// connections. An instance that is not in the table has nothing to drain.
    pub fn drain(&self, instance: &str) {
        if let Some(instance) = self.shared.instance(instance) {
            instance.refuse(true);
        }
    }

    /// How many requests an instance has. After `drain` it only falls.
    pub fn in_flight(&self, instance: &str) -> usize {
        let instance = self.shared.instance(instance);
        instance.map_or(0, |instance| instance.in_flight())
    }

    /// Waits until an instance has no request. Meaningful after [`Proxy::drain`], or after a table
    /// without it.
    pub async fn drained(&self, instance: &str, within: Duration) -> Result<(), StillInFlight> {
        let Some(found) = self.shared.instance(instance) else {
            return Ok(());
        };
        found.drained(within).await.map_err(|count| StillInFlight { instance: instance.to_owned(), count })
    }

    /// The counters of a service; `None` if it has never been in the table.
    pub fn snapshot(&self, service: &ServiceKey) -> Option<Stats> {
        let counters = self.shared.registry().services.get(service).cloned();
        Some(counters?.read())
    }

    /// The last failed requests of a release, the newest last, at most 20.
    pub fn samples(&self, service: &ServiceKey, release: &str) -> Vec<Sample> {
        let counters = self.shared.registry().services.get(service).cloned();
        counters.map_or_else(Vec::new, |counters| counters.samples(release))
    }

    /// A watcher of counters that has seen all up to now.
    pub fn changes(&self) -> Changes {
        Changes::new(Arc::clone(&self.shared))
    }

    /// What is open at the moment.
    pub fn gauges(&self) -> Gauges {
        let limits = &self.shared.limits;
        let most = limits.connections_max.min(Semaphore::MAX_PERMITS);
        let registry = self.shared.registry();
        Gauges {
            connections: most.saturating_sub(self.shared.connections.available_permits()),
            in_flight: registry.instances.values().map(|i| i.in_flight()).sum(),
            services: self.shared.routes.load().table.services.len(),
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn warn(&self, text: &str) {
        if let Some(hook) = self.warning.get() {
            hook(text);
        }
    }

    /// The threads that serve, started at the first call.
    pub(crate) fn lanes(&self) -> io::Result<&Lanes> {
        if let Some(lanes) = self.lanes.get() {
            return Ok(lanes);
        }
        // Of two first calls at once, one starts threads that end again.
        let started = Lanes::start(self.limits.threads)?;
        Ok(self.lanes.get_or_init(|| started))
    }

    fn instance(&self, id: &str) -> Option<Arc<Instance>> {
        self.registry().instances.get(id).cloned()
    }

    pub(crate) fn services(&self) -> Vec<Arc<ServiceCounters>> {
        self.registry().services.values().cloned().collect()
    }
}

impl Registry {
    fn route(&mut self, service: &Service, limits: &Limits, recorded: &Arc<Recorded>, seed: u64) -> ServiceRoute {
        let key = &service.key;
        let counters = self.services.entry(key.clone());
        let counters = counters.or_insert_with(|| Arc::new(ServiceCounters::new(key.clone(), Arc::clone(recorded))));
        let counters = Arc::clone(counters);
        let routed: Vec<&str> = service.releases.iter().map(|r| &*r.release).collect();
        let releases = service.releases.iter().map(|upstreams| {
            let serving = upstreams.backends.iter().filter_map(|b| self.serving(b, limits.threads));
            let serving = serving.collect();
            let release = counters.release(&upstreams.release, &routed);
            ReleaseRoute::new(release, upstreams.weight, serving)
        });
        let releases = releases.collect();
        ServiceRoute::new(counters, service, limits.hold_max, releases, seed)
    }

    /// The instance of a backend, made known; `None` if it gets nothing new.
    fn serving(&mut self, backend: &Backend, lanes: usize) -> Option<Arc<Instance>> {
        let id = &backend.instance;
        let instance = self.instances.entry(id.clone());
        let instance = instance.or_insert_with(|| Arc::new(Instance::new(id, lanes)));
        (backend.state == BackendState::Serving).then(|| Arc::clone(instance))
    }

    fn allow_serving(&self, table: &Table) {
        for backend in serving(table) {
            if let Some(instance) = self.instances.get(&backend.instance) {
                instance.allow();
            }
        }
    }

    fn refuse_others(&self, table: &Table) {
        let serving: HashSet<&str> = serving(table).map(|b| b.instance.as_str()).collect();
        for (id, instance) in &self.instances {
            if !serving.contains(id.as_str()) {
                instance.refuse(false);
            }
        }
    }

    /// Forgets what is neither in the table nor has a request, and counters above the limit.
    fn forget(&mut self, table: &Table) {
        let backends = table.services.iter().flat_map(|s| &s.releases);
        let known: HashSet<&str> = backends.flat_map(|r| r.backends.iter().map(|b| b.instance.as_str())).collect();
        self.instances.retain(|id, instance| known.contains(id.as_str()) || instance.in_flight() > 0);
        if self.services.len() > SERVICES_KEPT_MAX {
            let routed: HashSet<&ServiceKey> = table.services.iter().map(|s| &s.key).collect();
            self.services.retain(|key, _| routed.contains(key));
        }
    }
}

fn serving(table: &Table) -> impl Iterator<Item = &Backend> {
    let releases = table.services.iter().flat_map(|s| &s.releases);
    let backends = releases.flat_map(|r| &r.backends);
    backends.filter(|b| b.state == BackendState::Serving)
}
