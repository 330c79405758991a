//! The sandbox's network, seen from a shim that lives in it. In: a port. Out: connected sockets, the list of what listens.
//! Never connects anywhere but to the sandbox's own loopback.

use crate::error::{Doing, Failure};
use crate::standing::Standing;
use crate::sys;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Listening sockets reported at most.
const LISTENING_MAX: usize = 256;

/// The namespaces that this process shares with its sandbox, and the host's network, which it came from. Making a network
/// takes the kernel longer than anything else of a sandbox, hence before the run is known.
pub enum Apart {
    /// In a network of its own.
    Own {
        /// The host's, for who may go back to it: the machine's root.
        host: Option<OwnedFd>,
        /// Its own.
        own: OwnedFd,
    },
    /// Still in the host's.
    Shared,
}

impl Apart {
    /// Moves this process into namespaces of its own, with a loopback that works.
    pub fn new(standing: &Standing) -> Result<Self, Failure> {
        let host = standing.is_root().then(current).transpose()?;
        sys::unshare(sys::NEW_SHARED | sys::NEW_NETWORK).doing("namespaces")?;
        loopback_up()?;
        // Any user inside may serve on port 80, and ping.
        fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").doing("opening of low ports")?;
        let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
        Ok(Self::Own { host, own: current()? })
    }

    /// As [`Apart::new`], in the host's network.
    pub fn sharing() -> Result<Self, Failure> {
        sys::unshare(sys::NEW_SHARED).doing("namespaces")?;
        Ok(Self::Shared)
    }

    /// Goes back to the host's network.
    pub fn enter_host(&self) -> Result<(), Failure> {
        match self {
            Self::Shared => Ok(()),
            Self::Own { host: Some(host), .. } => {
                sys::setns(host.as_fd(), sys::NEW_NETWORK).doing("entering the host's network")
            }
            Self::Own { host: None, .. } => Err(Failure::new("entering the host's network", "only root can go back")),
        }
    }

    /// Its own network.
    pub fn own(&self) -> Result<BorrowedFd<'_>, Failure> {
        match self {
            Self::Own { own, .. } => Ok(own.as_fd()),
            Self::Shared => Err(Failure::new("network namespace", "the sandbox shares the host's")),
        }
    }

    /// Does something in the host's network.
    pub fn in_host<T>(&self, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.enter_host()?;
        let done = act();
        sys::setns(self.own()?, sys::NEW_NETWORK).doing("entering the network namespace")?;
        done
    }
}

fn current() -> Result<OwnedFd, Failure> {
    fs::File::open("/proc/self/ns/net").map(OwnedFd::from).doing("open of the network namespace")
}

fn loopback_up() -> Result<(), Failure> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).doing("socket")?;
    sys::loopback_up(socket.as_fd()).doing("start of the loopback device")
}

/// A connection attempt.
pub enum Attempt {
    /// Done.
    Connected(OwnedFd),
    /// The listener's queue is full; the socket becomes writable when it is decided.
    Pending(OwnedFd),
    /// Nothing listens, on neither loopback address.
    Refused,
}

/// Connects to a port of the loopback, IPv4 first, without waiting.
pub fn begin_connect(port: u16) -> Result<Attempt, Errno> {
    match try_connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Err(Errno::CONNREFUSED) => {}
        other => return other,
    }
    match try_connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Err(Errno::CONNREFUSED | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::NETUNREACH) => Ok(Attempt::Refused),
        other => other,
    }
}

fn try_connect(address: SocketAddr) -> Result<Attempt, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::INPROGRESS) => settle(socket),
        Err(e) => Err(e),
    }
}

/// On the loopback a connection is decided before connect(2) returns, unless the listener's queue is full.
fn settle(socket: OwnedFd) -> Result<Attempt, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Ok(Attempt::Pending(socket));
    }
    rustix::net::sockopt::socket_error(&socket)?.map(|()| Attempt::Connected(socket))
}

/// How a pending attempt ended, once its socket is writable.
pub fn finish_connect(socket: OwnedFd) -> Result<Attempt, Errno> {
    match rustix::net::sockopt::socket_error(&socket)? {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::CONNREFUSED | Errno::CONNRESET) => Ok(Attempt::Refused),
        Err(e) => Err(e),
    }
}

/// What listens inside: addresses and ports.
pub fn listening() -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(parse_listener));
    }
    found.sort();
    found.dedup();
    found.truncate(LISTENING_MAX);
    found
}

/// `  0: 0100007F:1F90 00000000:0000 0A …` (proc_net_tcp.txt); addresses are 32-bit words in the machine's byte order.
fn parse_listener(line: &str) -> Option<SocketAddr> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let word = |n: usize| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if address.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let mut bytes = [0; 16];
        for n in 0..4 {
            bytes[n * 4..n * 4 + 4].copy_from_slice(&word(n)?);
        }
        IpAddr::from(bytes)
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections() {
        for (line, want) in [
            ("  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000", Some("127.0.0.1:8080")),
            ("  1: 00000000:0050 00000000:0000 0A 0", Some("0.0.0.0:80")),
            ("  2: 0100007F:1F90 0100007F:9999 01 0", None),
            (
                "  3: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 0",
                Some("[::1]:3000"),
            ),
            ("garbage", None),
        ] {
            assert_eq!(parse_listener(line).map(|a| a.to_string()).as_deref(), want, "{line}");
        }
    }
}
