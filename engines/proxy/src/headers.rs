//! Header hygiene: what belongs to one connection stays on it, and where a request came from is told by the proxy
//! rather than by the client.
//!
//! In: fields of requests, responses and trailers. Out: which are passed on, and those of the proxy. Never changes
//! end-to-end fields (RFC 9110 section 7.6.1) but those that say who asked.

use std::io::Write;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use httparse::Header;

use crate::listener::Client;
use crate::wire::head::tokens;

/// A client's own request id is kept up to this length.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// A chain of proxies longer than this is cut to its last part: the peer alone.
const CHAIN_BYTES_MAX: usize = 1024;
/// Fields in one block of trailers.
const TRAILERS_MAX: usize = 64;

/// Fields that mean something to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    /// `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings`: between two neighbours only.
    Neighbour,
    ProxyAuthorization,
    RealIp,
    RequestId,
    SetCookie,
    /// A forwarding field spelled with `_`, which CGI and its heirs cannot tell from the true one.
    Spelled,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    Other,
}

/// Which field this is.
pub(crate) fn known(name: &str) -> Known {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let candidate = match name.len() {
        2 if is("te") => Known::Te,
        4 if is("host") => Known::Host,
        4 if is("date") => Known::Date,
        6 if is("cookie") => Known::Cookie,
        6 if is("expect") => Known::Expect,
        7 if is("upgrade") => Known::Upgrade,
        7 if is("trailer") => Known::Trailer,
        9 if is("forwarded") => Known::Forwarded,
        9 if is("x-real-ip") => Known::RealIp,
        10 if is("connection") => Known::Connection,
        10 if is("keep-alive") => Known::Neighbour,
        10 if is("set-cookie") => Known::SetCookie,
        12 if is("x-request-id") => Known::RequestId,
        14 if is("content-length") => Known::ContentLength,
        14 if is("http2-settings") => Known::Neighbour,
        15 if is("x-forwarded-for") => Known::XForwardedFor,
        16 if is("x-forwarded-host") => Known::XForwardedHost,
        16 if is("proxy-connection") => Known::Neighbour,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        17 if is("x-forwarded-proto") => Known::XForwardedProto,
        19 if is("proxy-authorization") => Known::ProxyAuthorization,
        _ => Known::Other,
    };
    if candidate == Known::Other && name.bytes().any(|byte| byte == b'_') && spells_forwarded(name) {
        return Known::Spelled;
    }
    candidate
}

fn spells_forwarded(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    matches!(
        known(&dashed),
        Known::XForwardedFor | Known::XForwardedHost | Known::XForwardedProto | Known::RealIp | Known::RequestId
    )
}

/// One line of a head.
pub(crate) fn push(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// What `Connection` says, over all its fields.
#[derive(Debug, Default)]
pub(crate) struct Options<'b> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Fields that end here, too.
    pub(crate) named: Vec<&'b [u8]>,
}

impl<'b> Options<'b> {
    pub(crate) fn read(&mut self, value: &'b [u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.named.push(token);
            }
        }
    }

    pub(crate) fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// The name of the control plane's own session cookie.
const OWN_COOKIE: &[u8] = b"slipway=";

fn is_own(pair: &[u8]) -> bool {
    pair.trim_ascii().starts_with(OWN_COOKIE)
}

/// Cookies do not know ports: a browser that is signed in to the control plane sends its session to every service of
/// the same host name. No service may see it. `None`: the value is passed as it is.
pub(crate) fn without_own_cookie(value: &[u8]) -> Option<Vec<u8>> {
    let pairs = || value.split(|byte| *byte == b';');
    if !pairs().any(is_own) {
        return None;
    }
    let kept: Vec<&[u8]> = pairs().filter(|pair| !is_own(pair)).collect();
    Some(kept.join(&b';').trim_ascii().to_vec())
}

/// Whether a service tries to set the control plane's session, with which it could make a person act in its name.
pub(crate) fn sets_own_cookie(value: &[u8]) -> bool {
    is_own(value.split(|byte| *byte == b';').next().unwrap_or_default())
}

/// Tells an instance who asked. What the client said of it counts only if it is a trusted proxy.
pub(crate) fn push_origin(text: &mut Vec<u8>, client: &Client, fields: &[Header<'_>], host: &[u8]) {
    let given = |wanted: Known| {
        let fields = fields.iter().filter(move |field| client.trusted && known(field.name) == wanted);
        fields.map(|field| field.value.trim_ascii()).filter(|value| !value.is_empty())
    };
    push(text, b"x-forwarded-for", &chain(given(Known::XForwardedFor), client.peer_text.as_bytes()));
    let scheme = if client.secure { &b"https"[..] } else { b"http" };
    push(text, b"x-forwarded-proto", given(Known::XForwardedProto).next_back().unwrap_or(scheme));
    push(text, b"x-forwarded-host", given(Known::XForwardedHost).next_back().unwrap_or(host));
    let mut own = Vec::with_capacity(96);
    // RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
    own.extend_from_slice(b"for=");
    match client.peer {
        IpAddr::V4(_) => own.extend_from_slice(client.peer_text.as_bytes()),
        // Writing to memory cannot fail.
        IpAddr::V6(_) => drop(write!(own, "\"[{}]\"", client.peer_text)),
    }
    if !host.is_empty() {
        // A host that was admitted holds neither quotes nor backslashes.
        own.extend_from_slice(b";host=\"");
        own.extend_from_slice(host);
        own.extend_from_slice(b"\"");
    }
    own.extend_from_slice(b";proto=");
    own.extend_from_slice(scheme);
    push(text, b"forwarded", &chain(given(Known::Forwarded), &own));
}

fn chain<'a>(before: impl Iterator<Item = &'a [u8]>, own: &[u8]) -> Vec<u8> {
    let mut chain = Vec::with_capacity(own.len());
    for part in before {
        chain.extend_from_slice(part);
        chain.extend_from_slice(b", ");
    }
    if chain.len() + own.len() > CHAIN_BYTES_MAX {
        chain.clear();
    }
    chain.extend_from_slice(own);
    chain
}

/// The user's address: the peer's, or what trusted proxies say of it: the last address in the
/// chain that is not itself one of theirs.
pub(crate) fn user_address(client: &Client, fields: &[Header<'_>]) -> IpAddr {
    if !client.trusted {
        return client.peer;
    }
    let trusted = &client.limits().trusted_proxies;
    let chains = fields.iter().rev().filter(|field| known(field.name) == Known::XForwardedFor);
    let mut hops = chains.flat_map(|field| field.value.rsplit(|byte| *byte == b','));
    hops.find_map(|hop| {
        let address: IpAddr = std::str::from_utf8(hop).ok()?.trim().parse().ok()?;
        let proxy = trusted.iter().any(|network| network.contains(address));
        (!proxy).then_some(address)
    })
    .unwrap_or(client.peer)
}

pub(crate) fn is_request_id(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX && value.iter().all(u8::is_ascii_graphic)
}

/// 32 hexadecimal digits: 16 random ones of this process, 16 counted from a random start.
pub(crate) fn new_request_id() -> [u8; 32] {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| getrandom::u64().unwrap_or(0));
    let number = process.rotate_left(32) ^ NEXT.fetch_add(1, Relaxed);
    let whole = (u128::from(process) << 64) | u128::from(number);
    std::array::from_fn(|at| {
        let nibble = (whole >> (124 - at * 4)) as u8 & 0xf;
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    })
}

/// Lines of trailers that may pass: what a receiver might merge into the head must not say how a message is framed,
/// routed, trusted or processed (RFC 9110 section 6.5.1). `None` if they are not fields.
pub(crate) fn trailers(block: &[u8]) -> Option<Vec<u8>> {
    if block == b"\r\n" {
        return Some(Vec::new());
    }
    let mut room = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let httparse::Status::Complete((_, fields)) = httparse::parse_headers(block, &mut room).ok()? else {
        return None;
    };
    let mut text = Vec::with_capacity(block.len());
    for field in fields.iter().filter(|field| may_trail(field.name)) {
        push(&mut text, field.name.as_bytes(), field.value);
    }
    Some(text)
}

/// The same of trailers of HTTP/2.
pub(crate) fn trailer_lines(trailers: &http::HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name.as_str())) {
        push(&mut text, name.as_str().as_bytes(), value.as_bytes());
    }
    text
}

/// See [`trailers`].
fn may_trail(name: &str) -> bool {
    const NEVER: [&str; 14] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "range",
        "www-authenticate",
        "proxy-authenticate",
    ];
    known(name) == Known::Other && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_the_control_plane_reaches_no_service() {
        for (sent, passed) in [
            ("slipway=abc", Some("")),
            ("a=1; slipway=abc; b=2", Some("a=1; b=2")),
            ("slipway=abc; b=2", Some("b=2")),
            ("my-slipway=1", None),
        ] {
            let kept = without_own_cookie(sent.as_bytes());
            assert_eq!(kept.as_deref(), passed.map(str::as_bytes), "{sent}");
        }
        assert!(sets_own_cookie(b"slipway=x; Path=/") && sets_own_cookie(b" slipway=; Max-Age=0"));
        assert!(!sets_own_cookie(b"a=slipway=x") && !sets_own_cookie(b"my-slipway=x; slipway=1"));
    }

    #[test]
    fn trailers_that_could_pose_as_something_else_do_not_pass() {
        let block = b"Grpc-Status: 0\r\nContent-Length: 5\r\nX_Forwarded_For: 1\r\nX-Sum: a b\r\nCookie: c\r\n\r\n";
        let passed = trailers(block).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(passed.as_deref(), Some("Grpc-Status: 0\r\nX-Sum: a b\r\n"));
        assert_eq!(trailers(b"no field\r\n\r\n"), None);
    }
}
