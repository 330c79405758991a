//! Address translation and walls for sandboxes with a way out. In: nothing. Out: one nf_tables table of the host, made once.
//! It lets sandboxes reach what lies beyond the host, never the host itself, another sandbox or the cloud's metadata address; and
//! nobody reaches into a sandbox through it. It touches no packet of anybody else.

use crate::error::{Doing, Failure};
use crate::netlink::{APPEND, CREATE_NEW, Message, Netlink, REQUEST};
use std::fs;
use std::io;

/// Name of the table; the number rises when the rules change.
const TABLE: &str = "slipway1";
/// Names of the host's ends of links begin so.
pub const LINK_PREFIX: &str = "slw";
/// 198.18.0.0/15: set aside for tests between networks (RFC 2544), so that no real network has it.
pub const NETWORK: [u8; 4] = [198, 18, 0, 0];
const NETWORK_MASK: [u8; 4] = [255, 254, 0, 0];
const LINK_LOCAL: [u8; 4] = [169, 254, 0, 0];
const LINK_LOCAL_MASK: [u8; 4] = [255, 255, 0, 0];

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_INET: u8 = 1;
const IPV4: u8 = 2;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_PROTOCOL_FAMILY: u32 = 15;
const SOURCE_AT: u32 = 12;
const DESTINATION_AT: u32 = 16;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 8;

/// Makes sure that the table is there and the host forwards.
pub fn ensure() -> Result<(), Failure> {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    let netfilter = Netlink::netfilter().doing("open of nf_tables")?;
    if !exists(&netfilter).doing("look for the nf_tables table")? {
        match netfilter.request(table()) {
            // Two shims may start at once.
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.doing("making of the nf_tables table")?,
        }
    }
    if fs::read_to_string(FORWARD).doing_on("read of", FORWARD)?.trim() == "0" {
        fs::write(FORWARD, "1").doing_on("setting of", FORWARD)?;
    }
    Ok(())
}

fn exists(netfilter: &Netlink) -> io::Result<bool> {
    let message = Message::new(GET_TABLE, REQUEST, &[FAMILY_INET, 0, 0, 0]).text(1, TABLE);
    match netfilter.request(vec![message]) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The whole table, made at once or not at all.
fn table() -> Vec<Message> {
    let family = [FAMILY_INET, 0, 0, 0];
    let batch = |kind| Message::new(kind, 1, &[0, 0, 0, 10]);
    let chain = |name: &str, kind: &str, hook: u32, priority: i32| {
        Message::new(NEW_CHAIN, CREATE_NEW, &family)
            .text(1, TABLE)
            .text(3, name)
            .nest(4, &[], |m| m.number(1, hook).number(2, priority as u32))
            .text(7, kind)
    };
    let rule = |name: &str, fill: fn(Message) -> Message| {
        Message::new(NEW_RULE, APPEND, &family).text(1, TABLE).text(2, name).nest(4, &[], fill)
    };
    vec![
        batch(BATCH_BEGIN),
        Message::new(NEW_TABLE, CREATE_NEW, &family).text(1, TABLE),
        chain("input", "filter", 1, -10),
        chain("forward", "filter", 2, -10),
        chain("postrouting", "nat", 4, 100),
        rule("input", |m| drop(link(m, META_IN_NAME))),
        rule("forward", |m| drop(link(link(m, META_IN_NAME), META_OUT_NAME))),
        rule("forward", |m| drop(address(link(m, META_IN_NAME), DESTINATION_AT, LINK_LOCAL, LINK_LOCAL_MASK))),
        rule("forward", |m| drop(begins(link(m, META_OUT_NAME)))),
        rule("postrouting", |m| expression(address(m, SOURCE_AT, NETWORK, NETWORK_MASK), "masq", |m| m)),
        batch(BATCH_END),
    ]
}

fn expression(message: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    message.nest(1, &[], |m| m.text(1, name).nest(2, &[], fill))
}

fn meta(message: Message, key: u32) -> Message {
    expression(message, "meta", |m| m.number(2, key).number(1, 1))
}

/// Goes on if register 1 begins with `value` (or does not).
fn compare(message: Message, equal: bool, value: &[u8]) -> Message {
    expression(message, "cmp", |m| m.number(1, 1).number(2, u32::from(!equal)).nest(3, &[], |m| m.attribute(1, value)))
}

fn masked(message: Message, mask: &[u8]) -> Message {
    expression(message, "bitwise", |m| {
        m.number(1, 1).number(2, 1).number(3, mask.len() as u32).nest(4, &[], |m| m.attribute(1, mask)).nest(
            5,
            &[],
            |m| m.attribute(1, &[0; 4]),
        )
    })
}

/// The packet came (or goes) through a sandbox's link.
fn link(message: Message, key: u32) -> Message {
    compare(meta(message, key), true, LINK_PREFIX.as_bytes())
}

fn address(message: Message, at: u32, network: [u8; 4], mask: [u8; 4]) -> Message {
    let message = compare(meta(message, META_PROTOCOL_FAMILY), true, &[IPV4]);
    let message = expression(message, "payload", |m| m.number(1, 1).number(2, 1).number(3, at).number(4, 4));
    compare(masked(message, &mask), true, &network)
}

/// The packet begins a connection.
fn begins(message: Message) -> Message {
    let message = expression(message, "ct", |m| m.number(2, 0).number(1, 1));
    compare(masked(message, &STATE_NEW.to_ne_bytes()), false, &[0; 4])
}

fn drop(message: Message) -> Message {
    expression(message, "immediate", |m| m.number(1, 0).nest(2, &[], |m| m.nest(2, &[], |m| m.number(1, 0))))
}
