//! Netlink messages (netlink(7)). In: message kinds, attributes. Out: acknowledged requests. Knows nothing of what the messages mean.

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Asks for an acknowledgement.
pub const REQUEST: u16 = 0x1 | 0x4;
/// Makes the object, and refuses if it is there.
pub const CREATE_NEW: u16 = REQUEST | 0x400 | 0x200;
/// Makes the object, behind its like.
pub const APPEND: u16 = REQUEST | 0x400 | 0x800;
const NESTED: u16 = 0x8000;
const HEADER_BYTES: usize = 16;
const ERROR: u16 = 2;
/// The kernel answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A message under construction.
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message with its fixed header behind the general one.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a text, ended by zero.
    pub fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number in network order, as netfilter wants it.
    pub fn number(self, kind: u16, number: u32) -> Self {
        self.attribute(kind, &number.to_be_bytes())
    }

    /// Adds an attribute that holds others, behind bytes of its own.
    pub fn nest(mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        let mut filled = fill(self);
        let length = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    fn asks_answer(&self) -> bool {
        self.bytes[6] & 0x4 != 0
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A socket to one part of the kernel, in the network namespace that this process is in now.
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// To links, addresses and routes.
    pub fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// To packet filters.
    pub fn netfilter() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
        Ok(Self { socket })
    }

    /// Sends messages as one and waits until each that asks for it is acknowledged; the first refusal is the error.
    pub fn request(&self, messages: Vec<Message>) -> io::Result<()> {
        let mut open: Vec<u32> = Vec::new();
        let mut bytes = Vec::new();
        for (n, message) in messages.into_iter().enumerate() {
            let sequence = n as u32 + 1;
            if message.asks_answer() {
                open.push(sequence);
            }
            bytes.extend(message.finish(sequence));
        }
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0_u8; 32 * 1024];
        while !open.is_empty() {
            if !crate::wire::readable_within(&self.socket, ANSWER_LIMIT)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (got, _) = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            for (sequence, error) in acknowledgements(&buffer[..got]) {
                if error != 0 {
                    return Err(io::Error::from_raw_os_error(-error));
                }
                open.retain(|n| *n != sequence);
            }
        }
        Ok(())
    }
}

/// Sequence number and error (0: done) of each acknowledgement.
fn acknowledgements(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let word = |bytes: &[u8], at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        word
    };
    let mut found = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let length = (u32::from_ne_bytes(word(bytes, 0)) as usize).clamp(HEADER_BYTES, bytes.len());
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if kind == ERROR && length >= HEADER_BYTES + 4 {
            found.push((u32::from_ne_bytes(word(bytes, 8)), i32::from_ne_bytes(word(bytes, HEADER_BYTES))));
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}
