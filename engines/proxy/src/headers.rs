//! Header hygiene: what belongs to one connection stays on it, and where a request came from is
//! told by the proxy rather than by the client.
//!
//! In: heads of requests and responses. Out: the same, cleaned. Never changes end-to-end fields
//! (RFC 9110 section 7.6.1).

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::listener::Client;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// A client's own request id is kept up to this length.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// A chain of proxies longer than this is cut to its last part: the peer alone.
const FORWARDED_FOR_BYTES_MAX: usize = 1024;

/// Removes what belongs to the connection only. A sender may name further fields in `Connection`,
/// but not those on which the framing or routing rests.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// The name of the control plane's own session cookie.
const OWN_COOKIE: &[u8] = b"slipway=";

/// Cookies do not know ports: a browser that is signed in to the control plane sends its session to every service of
/// the same host name. No service may see it.
fn remove_own_cookie(headers: &mut HeaderMap) {
    let is_own = |pair: &[u8]| pair.trim_ascii().starts_with(OWN_COOKIE);
    let carries = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(is_own);
    if !headers.get_all(COOKIE).iter().any(carries) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| {
            let pairs: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_own(pair)).collect();
            HeaderValue::from_bytes(pairs.join(&b';').trim_ascii()).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|b| *b == b',') {
            let token = token.trim_ascii();
            let usual = ["keep-alive", "close"];
            if usual.iter().any(|u| token.eq_ignore_ascii_case(u.as_bytes())) {
                continue;
            }
            named.extend(HeaderName::from_bytes(token).ok().filter(|name| *name != HOST && *name != CONTENT_LENGTH));
        }
    }
    named
}

/// Makes the head of a request fit for an instance. `host` is what the client asked for; `chunked`
/// says that the body has no length known beforehand.
pub(crate) fn for_instance(headers: &mut HeaderMap, client: &Client, host: &HeaderValue, chunked: bool) -> HeaderValue {
    remove_hop_by_hop(headers);
    remove_own_cookie(headers);
    // The proxy itself has answered `Expect: 100-continue` by the time it reads the body.
    for name in [EXPECT, PROXY_AUTHORIZATION, TRAILER] {
        headers.remove(name);
    }
    if chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    headers.insert(HOST, host.clone());
    set_forwarded(headers, client, host);
    match headers.get(&X_REQUEST_ID).filter(|id| is_request_id(id)) {
        Some(id) => id.clone(),
        None => {
            let id = new_request_id();
            headers.insert(X_REQUEST_ID, id.clone());
            id
        }
    }
}

fn set_forwarded(headers: &mut HeaderMap, client: &Client, host: &HeaderValue) {
    let own = &client.peer_text;
    if client.trusted {
        let chain = headers.get(&X_FORWARDED_FOR).and_then(|chain| {
            let text = [chain.as_bytes(), b", ", own.as_bytes()].concat();
            HeaderValue::from_bytes(&text).ok().filter(|chain| chain.len() <= FORWARDED_FOR_BYTES_MAX)
        });
        headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| own.clone()));
        let http = || HeaderValue::from_static("http");
        headers.entry(X_FORWARDED_PROTO).or_insert_with(http);
        let asked = || host.clone();
        headers.entry(X_FORWARDED_HOST).or_insert_with(asked);
        return;
    }
    headers.remove(FORWARDED);
    headers.remove(X_REAL_IP);
    headers.insert(X_FORWARDED_FOR, own.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_FORWARDED_HOST, host.clone());
}

/// The user's address: the peer's, or what trusted proxies say of it: the last address in the
/// chain that is not itself one of theirs.
pub(crate) fn user_address(headers: &HeaderMap, client: &Client) -> IpAddr {
    if !client.trusted {
        return client.peer;
    }
    let trusted = &client.limits().trusted_proxies;
    let chain = headers.get(&X_FORWARDED_FOR).and_then(|c| c.to_str().ok());
    let mut hops = chain.unwrap_or_default().rsplit(',');
    hops.find_map(|hop| {
        let address: IpAddr = hop.trim().parse().ok()?;
        let proxy = trusted.iter().any(|network| network.contains(address));
        (!proxy).then_some(address)
    })
    .unwrap_or(client.peer)
}

/// Makes the head of a response fit for the client.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112 section 6.3: the transfer coding is what counts, the length is a lie.
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX && bytes.iter().all(u8::is_ascii_graphic)
}

/// 32 hexadecimal digits: 16 random ones of this process, 16 counted from a random start.
fn new_request_id() -> HeaderValue {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| getrandom::u64().unwrap_or(0));
    let number = process.rotate_left(32) ^ NEXT.fetch_add(1, Relaxed);
    let mut text = [0_u8; 32];
    let whole = (u128::from(process) << 64) | u128::from(number);
    for (at, digit) in text.iter_mut().enumerate() {
        let nibble = (whole >> (124 - at * 4)) as u8 & 0xf;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_the_control_plane_reaches_no_service() {
        for (sent, passed) in [
            ("slipway=abc", None),
            ("a=1; slipway=abc; b=2", Some("a=1; b=2")),
            ("slipway=abc; b=2", Some("b=2")),
            ("my-slipway=1", Some("my-slipway=1")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(sent));
            remove_own_cookie(&mut headers);
            assert_eq!(headers.get(COOKIE).map(|value| value.to_str().unwrap()), passed, "{sent}");
        }
    }
}
