//! The node's listening sockets: one or more for host names, also over TLS, one per lane.
//!
//! In: addresses and ports, as configured or as they were. Out: sockets that serve, the same ports as before. They
//! are taken over from the descriptor store of `up` when they wait there, and put into it as soon as they are bound,
//! so that new connections wait instead of failing while no node runs.

use crate::fd_store::Keeper;
use crate::files::{read_if_there, replace};
use crate::options::NodeError;
use slipway_model::Lane;
use slipway_proxy::{Binding, Certificates, Listener, Proxy};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A taken port gives way to one of so many next ones, then to any free one.
const NEXT_PORTS: u16 = 100;

/// The sockets of one node.
pub(crate) struct Listeners {
    keeper: Keeper,
    proxy: Proxy,
    /// Where lanes' ports are bound.
    ip: IpAddr,
    hosts: Vec<(SocketAddr, Option<TcpListener>, Option<Listener>)>,
    tls: Vec<(SocketAddr, Option<TcpListener>, Option<Listener>)>,
    certificates: Option<Certificates>,
    lanes: BTreeMap<Lane, LanePort>,
    /// Those that waited in the store and were not asked for yet.
    waiting: BTreeMap<String, TcpListener>,
    opened: bool,
}

/// A lane's port.
struct LanePort {
    /// As the wish says; 0 is any.
    asked: u16,
    port: u16,
    socket: Option<TcpListener>,
    listener: Option<Listener>,
}

impl Listeners {
    /// Binds the host-name sockets, or takes them over. Nothing is accepted before [`Listeners::open`].
    pub(crate) fn bind(
        data: &Path,
        addresses: &[SocketAddr],
        keeper: Keeper,
        proxy: Proxy,
    ) -> Result<Listeners, NodeError> {
        let waiting = keeper.take_all().into_iter().filter_map(|(name, fd)| Some((name, usable(fd)?))).collect();
        let ip = addresses.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::ip);
        let mut listeners = Listeners {
            keeper,
            proxy,
            ip,
            hosts: Vec::new(),
            tls: Vec::new(),
            certificates: None,
            lanes: BTreeMap::new(),
            waiting,
            opened: false,
        };
        let file = data.join("listeners.json");
        let kept = kept_ports(&file)?;
        for (number, wanted) in addresses.iter().enumerate() {
            let mut address = *wanted;
            if let (0, Some(kept)) = (address.port(), kept.get(number)) {
                address.set_port(*kept);
            }
            let socket = listeners.host_socket(&format!("hosts/{number}"), address, wanted.port() == 0)?;
            let bound = socket.local_addr().map_err(|source| NodeError::Listen { address, source })?;
            listeners.hosts.push((bound, Some(socket), None));
        }
        let ports: Vec<u16> = listeners.hosts.iter().map(|(bound, _, _)| bound.port()).collect();
        if ports != kept {
            let bytes = serde_json::to_vec(&ports).map_err(|e| NodeError::io("ports", e.into()))?;
            replace(&file, &bytes).map_err(|e| NodeError::io(format!("writing of `{}`", file.display()), e))?;
        }
        Ok(listeners)
    }

    /// Binds the sockets of TLS, or takes them over. The ports are what was asked for.
    pub(crate) fn bind_tls(&mut self, addresses: &[SocketAddr], certificates: Certificates) -> Result<(), NodeError> {
        for (number, wanted) in addresses.iter().enumerate() {
            let socket = self.host_socket(&format!("tls/{number}"), *wanted, wanted.port() == 0)?;
            let bound = socket.local_addr().map_err(|source| NodeError::Listen { address: *wanted, source })?;
            self.tls.push((bound, Some(socket), None));
        }
        self.certificates = Some(certificates);
        Ok(())
    }

    fn host_socket(&mut self, name: &str, address: SocketAddr, any: bool) -> Result<TcpListener, NodeError> {
        if let Some(socket) = self.waiting.remove(name)
            && socket.local_addr().is_ok_and(|bound| any || bound == address)
        {
            self.keeper.put(name, &socket);
            return Ok(socket);
        }
        let socket = match TcpListener::bind(address) {
            // The free port of last time is taken now; another free one is as good.
            Err(e) if any && e.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((address.ip(), 0)),
            other => other,
        };
        let socket = socket.map_err(|source| NodeError::Listen { address, source })?;
        self.keeper.put(name, &socket);
        Ok(socket)
    }

    /// Gives a lane its port: the one it has, the one it had, the one asked for, or a free one. Says which.
    pub(crate) fn lane(&mut self, lane: &Lane, asked: u16, had: u16) -> Result<u16, String> {
        if let Some(known) = self.lanes.get(lane)
            && (known.asked == asked || known.port == asked)
        {
            return Ok(known.port);
        }
        let name = format!("lane/{lane}");
        let wanted = if asked != 0 { asked } else { had };
        let waiting = self.waiting.remove(&name).filter(|socket| match socket.local_addr() {
            // A port that once gave way stays until it is changed by hand.
            Ok(bound) => wanted == 0 || bound.port() == wanted || bound.port() == had,
            Err(_) => false,
        });
        let socket = match waiting {
            Some(socket) => socket,
            None => self.free_near(wanted).map_err(|e| format!("no port for `{lane}` can be bound: {e}"))?,
        };
        let port = socket.local_addr().map_err(|e| format!("the port of `{lane}` is unknown: {e}"))?.port();
        self.keeper.put(&name, &socket);
        let mut place = LanePort { asked, port, socket: Some(socket), listener: None };
        if self.opened {
            place.open(&self.proxy);
        }
        self.lanes.insert(lane.clone(), place);
        Ok(port)
    }

    fn free_near(&self, wanted: u16) -> io::Result<TcpListener> {
        if wanted != 0 {
            for port in wanted..=wanted.saturating_add(NEXT_PORTS) {
                match TcpListener::bind((self.ip, port)) {
                    Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                    other => return other,
                }
            }
        }
        TcpListener::bind((self.ip, 0))
    }

    /// Takes a lane's port away.
    pub(crate) fn close(&mut self, lane: &Lane) {
        if self.lanes.remove(lane).is_some() {
            self.keeper.remove(&format!("lane/{lane}"));
        }
    }

    /// Serves from now on, also what comes later. Sockets that nobody asked for are given up.
    pub(crate) fn open(&mut self) {
        self.opened = true;
        for (_, socket, listener) in &mut self.hosts {
            if let Some(socket) = socket.take() {
                *listener = self.proxy.listen(socket, Binding::Hosts).ok();
            }
        }
        for (_, socket, listener) in &mut self.tls {
            if let (Some(certificates), Some(socket)) = (&self.certificates, socket.take()) {
                *listener = self.proxy.listen_tls(socket, Binding::Hosts, certificates).ok();
            }
        }
        for lane in self.lanes.values_mut() {
            lane.open(&self.proxy);
        }
        for name in std::mem::take(&mut self.waiting).into_keys() {
            self.keeper.remove(&name);
        }
    }

    /// Whether it serves.
    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    /// Where a lane is reached, for people; a port that gave way says so.
    pub(crate) fn addresses(&self, lane: &Lane, hosts: &[String]) -> Vec<String> {
        let port = self.hosts.first().map_or(0, |(bound, _, _)| bound.port());
        let mut addresses: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}")).collect();
        if let Some((bound, _, _)) = self.tls.first() {
            addresses.extend(hosts.iter().map(|host| format!("https://{host}:{}", bound.port())));
        }
        if let Some(place) = self.lanes.get(lane) {
            let own = SocketAddr::new(self.ip, place.port);
            let warning = if place.asked == 0 || place.asked == place.port {
                String::new()
            } else {
                format!(" (port {} is taken by another program)", place.asked)
            };
            addresses.push(format!("http://{own}{warning}"));
        }
        addresses
    }

    /// Where host names are served.
    pub(crate) fn host_addresses(&self) -> Vec<SocketAddr> {
        self.hosts.iter().map(|(bound, _, _)| *bound).collect()
    }

    /// Stops accepting; what is open ends within the limit or is cut off. The store keeps the sockets.
    pub(crate) async fn shut_down(self, within: std::time::Duration) {
        let hosts = self.hosts.into_iter().chain(self.tls).filter_map(|(_, _, listener)| listener);
        let lanes = self.lanes.into_values().filter_map(|lane| lane.listener);
        futures::future::join_all(hosts.chain(lanes).map(|listener| listener.shutdown(within))).await;
    }
}

impl LanePort {
    fn open(&mut self, proxy: &Proxy) {
        if let Some(socket) = self.socket.take() {
            // It fails only without a runtime or descriptors; the port then refuses, and host names still serve.
            self.listener = proxy.listen(socket, Binding::Port(self.port)).ok();
        }
    }
}

fn kept_ports(file: &Path) -> Result<Vec<u16>, NodeError> {
    let bytes = read_if_there(file).map_err(|e| NodeError::io(format!("reading of `{}`", file.display()), e))?;
    // An unreadable list costs a changed port, not a node.
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

fn usable(fd: OwnedFd) -> Option<TcpListener> {
    let socket = TcpListener::from(fd);
    socket.local_addr().ok().map(|_| socket)
}
