//! A sandbox's way out: a pair of links and an address of its own. In: the sandbox's first process. Out: a network namespace that
//! reaches the world through the host's address translation ([`crate::nat`]). The links end with the namespace.

use crate::error::{Doing, Failure};
use crate::nat::{self, LINK_PREFIX, NETWORK};
use crate::netlink::{CREATE_NEW, Message, Netlink, REQUEST};
use std::fs;
use std::io;
use std::net::IpAddr;

/// Pairs of addresses in the network: four addresses each.
const SLOTS: u32 = 1 << 15;
/// Slots tried; a slot is taken when its link's name is.
const TRIES: u32 = 256;
const INSIDE_LINK: &str = "eth0";
const PREFIX_BITS: u8 = 30;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const INET: u8 = libc::AF_INET as u8;

/// A link whose inner end waits to be set up.
pub struct WayOut {
    host: [u8; 4],
    inside: [u8; 4],
}

/// Makes the links and the translation. Called in the host's network namespace.
pub fn connect(pid: libc::pid_t, id: &str) -> Result<WayOut, Failure> {
    nat::ensure()?;
    let route = Netlink::route().doing("open of the routing socket")?;
    let hash = id.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    for slot in (0..TRIES).map(|n| hash.wrapping_add(n) % SLOTS) {
        let name = format!("{LINK_PREFIX}{slot}");
        match route.request(vec![pair(&name, pid)]) {
            Ok(()) => {
                let [host, inside] = addresses(slot);
                // Its link-local address would lead to the host past the addresses that are walled off.
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
                bring_up(&route, &name, host).doing_on("setup of link", &name)?;
                return Ok(WayOut { host, inside });
            }
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) => return Err(e).doing_on("making of link", &name),
        }
    }
    Err(Failure::new("outbound network", "too many sandboxes have one already"))
}

impl WayOut {
    /// Sets up the inner end. Called in the sandbox's network namespace.
    pub fn furnish_inside(&self) -> Result<(), Failure> {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE_LINK}/disable_ipv6"), "1");
        let route = Netlink::route().doing("open of the routing socket")?;
        bring_up(&route, INSIDE_LINK, self.inside).doing("setup of the link inside")?;
        // family, prefix 0, main table, static, everywhere, unicast (rtnetlink(7))
        let fixed = [INET, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let default = Message::new(NEW_ROUTE, CREATE_NEW, &fixed).attribute(5, &self.host);
        route.request(vec![default]).doing("default route inside")
    }
}

/// The host's and the inner address of a slot.
fn addresses(slot: u32) -> [[u8; 4]; 2] {
    let base = u32::from_be_bytes(NETWORK) + slot * 4;
    [(base + 1).to_be_bytes(), (base + 2).to_be_bytes()]
}

/// A pair of links of which the second is born in the sandbox.
fn pair(name: &str, pid: libc::pid_t) -> Message {
    let no_link = [0; 16];
    Message::new(NEW_LINK, CREATE_NEW, &no_link).text(3, name).nest(18, &[], |m| {
        m.text(1, "veth")
            .nest(2, &[], |m| m.nest(1, &no_link, |m| m.text(3, INSIDE_LINK).attribute(19, &pid.to_ne_bytes())))
    })
}

fn bring_up(route: &Netlink, name: &str, address: [u8; 4]) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = netdevice::name_to_index(&socket, name)?;
    let mut fixed = vec![INET, PREFIX_BITS, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    let add = Message::new(NEW_ADDRESS, CREATE_NEW, &fixed).attribute(2, &address).attribute(1, &address);
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let fixed = [[0; 4], index.to_ne_bytes(), up, up].concat();
    route.request(vec![add])?;
    route.request(vec![Message::new(NEW_LINK, REQUEST, &fixed)])
}

/// A resolv.conf for inside: the host's name servers, without those that only the host itself reaches.
pub fn name_servers() -> Vec<u8> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .map(|text| reachable(&text))
        .find(|text| text.contains("nameserver"))
        .unwrap_or_default()
        .into_bytes()
}

fn reachable(text: &str) -> String {
    let keeps = |line: &&str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["nameserver", address, ..] => address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() && !ip.is_loopback()),
        ["search" | "options" | "domain", ..] => true,
        _ => false,
    };
    text.lines().filter(keeps).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_hosts_loopback_are_left_out() {
        let text = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fd00::1\nsearch lan\n";
        assert_eq!(reachable(text), "nameserver 10.0.0.2\nsearch lan\n");
    }

    #[test]
    fn slots_do_not_overlap() {
        assert_eq!(addresses(0), [[198, 18, 0, 1], [198, 18, 0, 2]]);
        assert_eq!(addresses(SLOTS - 1), [[198, 19, 255, 253], [198, 19, 255, 254]]);
    }
}
