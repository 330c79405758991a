//! An ordinary user's way out of a sandbox: a program that takes its packets and opens sockets for it ([`Stack`]). In: the network and
//! user namespace of a shim. Out: a default route in that network. Never the host's loopback, no port in either direction.
//!
//! The program has to start where the shim came from, with the rights of its user. So a guard is forked before the shim leaves:
//! it starts the program when it is told, and ends it when the shim is gone, however that ended.

use crate::error::{Doing, Failure, errno_text};
use crate::netlink::{CREATE_NEW, Message, Netlink};
use crate::spec::Stack;
use crate::{sys, wire};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From its start to a default route. A program that cannot open its device may wait for ever.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at the routes, which nobody announces.
const LOOK: Duration = Duration::from_millis(2);
const FOLDERS: [&str; 5] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/bin", "/run/current-system/sw/bin"];
const DEVICE: &str = "/dev/net/tun";
const WORDS_BYTES_MAX: usize = 1024;
const NEW_ROUTE: u16 = 24;
/// Where `slirp4netns` answers for the host's name servers.
pub const SLIRP_NAME_SERVER: &str = "nameserver 10.0.2.3\n";

impl Stack {
    /// All, the better first.
    pub const ALL: [Stack; 2] = [Stack::Pasta, Stack::Slirp4netns];

    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Stack::Pasta => "pasta",
            Stack::Slirp4netns => "slirp4netns",
        }
    }

    /// Where its program is, if it is installed.
    pub fn found(self) -> Option<PathBuf> {
        FOLDERS.iter().map(|folder| Path::new(folder).join(self.program())).find(|path| path.is_file())
    }

    fn command(self, program: &Path, network: &str, user: &str) -> Command {
        let mut command = Command::new(program);
        match self {
            Stack::Pasta => {
                command.args([
                    "--foreground",
                    "--quiet",
                    "--config-net",
                    "--ipv4-only",
                    "--no-map-gw",
                    "--no-netns-quit",
                ]);
                command.args([
                    "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--userns", user, "--netns", network,
                ]);
            }
            Stack::Slirp4netns => {
                command.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]);
                command.arg(format!("--userns-path={user}")).args([network, "tap0"]);
            }
        }
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    stack: Stack,
    /// Whose network. A path to an open descriptor would not do: who joins the user namespace cannot look outside any more.
    shim: u32,
}

#[derive(Debug, Serialize, Deserialize)]
enum Say {
    /// The program runs, and comes with it; these addresses are the host's own.
    Started(Vec<Ipv4Addr>),
    Failed(Failure),
}

/// The process that stays in the host's network. It ends when this is dropped.
pub struct Guard {
    socket: OwnedFd,
}

/// A way out; it ends when this is dropped.
pub struct WayOut {
    program: OwnedFd,
    guard: Guard,
}

impl Drop for WayOut {
    fn drop(&mut self) {
        // The guard does the same; it might have been killed.
        let _ = pidfd_send_signal(&self.program, Signal::KILL);
    }
}

impl Guard {
    /// Forks it. `leave` gives up what the new process must not hold.
    pub fn fork(leave: impl FnOnce()) -> io::Result<Guard> {
        let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        if sys::clone(0)? == 0 {
            drop(mine);
            leave();
            keep(&theirs);
            sys::exit_now(0);
        }
        Ok(Guard { socket: mine })
    }

    /// Gives this process's network a way out. Others of this user must be able to look at this process's namespaces.
    pub fn connect(self, stack: Stack) -> Result<WayOut, Failure> {
        let until = Instant::now() + START_LIMIT;
        let ask = Ask { stack, shim: std::process::id() };
        wire::send(self.socket.as_fd(), &ask, None).doing("start of the network program")?;
        let (addresses, program) = match self.hear(START_LIMIT)? {
            Some((Say::Started(addresses), Some(program))) => (addresses, program),
            Some((Say::Failed(failure), _)) => return Err(failure),
            _ => return Err(late(stack)),
        };
        let way_out = WayOut { program, guard: self };
        while !has_default_route(&fs::read_to_string("/proc/self/net/route").unwrap_or_default()) {
            if let Some((Say::Failed(failure), _)) = way_out.guard.hear(LOOK)? {
                return Err(failure);
            }
            if Instant::now() > until {
                return Err(late(stack));
            }
        }
        wall(&addresses).doing("walls of the sandbox's network")?;
        Ok(way_out)
    }

    fn hear(&self, limit: Duration) -> Result<Option<wire::Received<Say>>, Failure> {
        if !wire::readable_within(&self.socket, limit).doing("wait for the network program")? {
            return Ok(None);
        }
        let heard = wire::receive(self.socket.as_fd(), false).doing("answer of the network program's guard")?;
        heard.ok_or_else(|| Failure::new("outbound network", "the guard of its program ended")).map(Some)
    }
}

fn late(stack: Stack) -> Failure {
    let why = format!("`{}` made no network within {} s", stack.program(), START_LIMIT.as_secs());
    Failure::new("outbound network", why)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal (proc_net_route.c)
fn has_default_route(text: &str) -> bool {
    const NONE: &str = "00000000";
    text.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 7 && fields[1] == NONE && fields[7] == NONE
    })
}

/// The program opens sockets on the host, so what is the host's own must not be asked of it: its addresses and those of
/// links, where clouds serve credentials. Nothing inside may change a route.
fn wall(addresses: &[Ipv4Addr]) -> io::Result<()> {
    let route = Netlink::route()?;
    let own = addresses.iter().map(|address| (*address, 32));
    for (address, bits) in own.chain([(Ipv4Addr::new(169, 254, 0, 0), 16)]) {
        // family, prefix, main table, static, everywhere, unreachable (rtnetlink(7))
        let fixed = [libc::AF_INET as u8, bits, 0, 0, 254, 4, 0, 7, 0, 0, 0, 0];
        match route.request(vec![Message::new(NEW_ROUTE, CREATE_NEW, &fixed).attribute(1, &address.octets())]) {
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// In the guard, until the shim is gone.
fn keep(shim: &OwnedFd) {
    let _ = rustix::process::setsid();
    sys::ignore_signal(libc::SIGHUP);
    sys::ignore_signal(libc::SIGPIPE);
    let Ok(Some((Ask { stack, shim: pid }, _))) = wire::receive::<Ask>(shim.as_fd(), true) else { return };
    match start(stack, pid) {
        Ok((child, program)) => {
            let started = Say::Started(own_addresses(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default()));
            let _ = wire::send(shim.as_fd(), &started, Some(program.as_fd()));
            attend(shim, stack, child, &program);
        }
        Err(failure) => drop(wire::send(shim.as_fd(), &Say::Failed(failure), None)),
    }
}

fn start(stack: Stack, shim: u32) -> Result<(Child, OwnedFd), Failure> {
    let name = stack.program();
    let failed = |why: String| Failure::new("outbound network", why);
    let program = stack.found().ok_or_else(|| failed(format!("`{name}` is not installed")))?;
    // Asked here: some versions wait for ever for a device that they may not open.
    if let Err(e) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return Err(failed(format!("`{DEVICE}` cannot be opened by this account: {}", errno_text(&e))));
    }
    let started = stack.command(&program, &format!("/proc/{shim}/ns/net"), &format!("/proc/{shim}/ns/user")).spawn();
    let mut child = started.map_err(|e| failed(format!("`{name}` cannot be started: {}", errno_text(&e))))?;
    let known = Pid::from_raw(child.id() as i32).ok_or_else(|| failed(format!("`{name}` has no process")))?;
    match pidfd_open(known, PidfdFlags::empty()) {
        Ok(fd) => Ok((child, fd)),
        Err(e) => {
            let _ = child.kill();
            Err(failed(format!("`{name}` cannot be watched: {}", errno_text(&e.into()))))
        }
    }
}

/// Takes what the program says, so that it never waits; ends it with the shim.
fn attend(shim: &OwnedFd, stack: Stack, mut child: Child, program: &OwnedFd) {
    let mut output = child.stderr.take();
    let mut words = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(shim, PollFlags::IN), PollFd::new(program, PollFlags::IN)];
        fds.extend(output.as_ref().map(|output| PollFd::new(output, PollFlags::IN)));
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready.get(2) == Some(&true) {
            let mut buffer = [0_u8; 512];
            let got = output.as_mut().and_then(|output| output.read(&mut buffer).ok()).unwrap_or(0);
            words.extend_from_slice(&buffer[..got]);
            words.drain(..words.len().saturating_sub(WORDS_BYTES_MAX));
            if got == 0 {
                output = None;
            }
            // What it says at its end is all taken before its end is told.
            if got > 0 && !ready[0] {
                continue;
            }
        }
        if ready[0] || ready[1] {
            let _ = child.kill();
            let ended = child.wait();
            let last = String::from_utf8_lossy(&words).lines().rev().find(|l| !l.trim().is_empty()).map(str::to_owned);
            let how = last.unwrap_or_else(|| ended.map(|status| status.to_string()).unwrap_or_default());
            let why = format!("`{}` ended: {}", stack.program(), how.trim());
            let _ = wire::send(shim.as_fd(), &Say::Failed(Failure::new("outbound network", why)), None);
            return;
        }
    }
}

/// The host's addresses but for its loopback: `|-- ADDRESS` and below it `/32 host LOCAL` (proc_net(5), fib_trie).
fn own_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_told_from_others() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let near = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let far = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(!has_default_route(""));
        assert!(!has_default_route(&[head, near].concat()));
        assert!(has_default_route(&[head, near, far].concat()));
    }

    #[test]
    fn the_hosts_own_addresses_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n        \
                    /32 host LOCAL\n        |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           \
                    /32 host LOCAL\nLocal:\n        |-- 192.0.2.2\n           /32 host LOCAL\n";
        assert_eq!(own_addresses(trie), [Ipv4Addr::new(192, 0, 2, 2)]);
    }
}
