//! What is refused before anything is asked of an instance.
//!
//! In: the head of a request. Out: the host it is for, or a reason. hyper has refused before this
//! what is not HTTP: bad header syntax, differing lengths, a transfer coding that does not end in
//! `chunked`, a head above the limit. Never looks at the body.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::listener::{Binding, Client};
use crate::pages::Refusal;
use crate::routes::{Routes, ServiceRoute};
use crate::table::is_host;

/// Checks a request and says for which host it is. `number` counts the connection's requests.
pub(crate) fn admit(
    client: &Client,
    number: u64,
    parts: &request::Parts,
    body: &Incoming,
) -> Result<HeaderValue, Refusal> {
    let uri = &parts.uri;
    let length = uri.path_and_query().map_or(0, |p| p.as_str().len());
    if length > client.limits().uri_bytes_max {
        return Err(Refusal::UriTooLong);
    }
    // CONNECT would open a tunnel; TRACE would show a script its own cookies.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    // RFC 9112 section 6.3 lets a server process this, but it is how requests are smuggled.
    if parts.headers.contains_key(TRANSFER_ENCODING) && client.had_both_lengths(number) {
        let why = "both content-length and transfer-encoding";
        return Err(Refusal::Malformed(why));
    }
    if body.size_hint().lower() > client.limits().body_bytes_max {
        return Err(Refusal::BodyTooLarge);
    }
    if wants_upgrade(parts) {
        return Err(Refusal::Upgrade);
    }
    host(client, parts)
}

/// Whether the client insists on another protocol. `h2c` is an offer that may be ignored.
fn wants_upgrade(parts: &request::Parts) -> bool {
    let Some(protocols) = parts.headers.get(UPGRADE) else {
        return false;
    };
    let tokens = |value: &HeaderValue, wanted: &[u8]| {
        let mut tokens = value.as_bytes().split(|b| *b == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    let mut connection = parts.headers.get_all(CONNECTION).iter();
    connection.any(|value| tokens(value, b"upgrade")) && !tokens(protocols, b"h2c")
}

fn host(client: &Client, parts: &request::Parts) -> Result<HeaderValue, Refusal> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::Malformed("more than one host"));
    }
    let old = parts.version == Version::HTTP_10;
    if field.is_none() && !(old && matches!(client.binding, Binding::Port(_))) {
        return Err(Refusal::Malformed("no host"));
    }
    // RFC 9112 section 3.2.2: the host of an absolute target counts, not the field.
    let host = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => Some(field.cloned().unwrap_or(HeaderValue::from_static(""))),
    };
    let host = host.ok_or(Refusal::Malformed("not a host"))?;
    if field.is_some() && !name_of(&host).is_some_and(|name| is_host(&name)) {
        return Err(Refusal::Malformed("not a host"));
    }
    Ok(host)
}

/// The name in a `Host` field, in lower case, without port and final dot.
fn name_of(host: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = host.to_str().ok()?;
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (text.get(..colon)?, text.get(colon + 1..)?),
        _ => (text, ""),
    };
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// The service for a request that was admitted.
pub(crate) fn find(client: &Client, routes: &Routes, host: &HeaderValue) -> Option<Arc<ServiceRoute>> {
    match client.binding {
        Binding::Port(port) => routes.by_port(port).cloned(),
        Binding::Hosts => routes.by_host(&name_of(host)?).cloned(),
    }
}
