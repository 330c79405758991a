//! A request as it goes to an instance: one text, whatever the client speaks and the instance speaks.
//!
//! In: the head of a request. Out: the head for instances with what the proxy needs to know of it, or why it is
//! refused before anything is asked of an instance. Never looks at the body.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;

use http::Method;
use httparse::Header;

use crate::headers::{self, Known, Options, known, push};
use crate::listener::{Binding, Client};
use crate::pages::Refusal;
use crate::table::is_host;
use crate::wire::Framing;
use crate::wire::head::{BadHead, bad, content_length, tokens};

/// Room for the fields of a head; a limit above it is cut to it.
const FIELDS_MAX: usize = 256;

/// A request that was admitted.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Request line and fields, each with its line end; nothing about framing or the connection.
    text: Vec<u8>,
    /// The path without its query, in `text`.
    path: Range<usize>,
    request_id: Range<usize>,
    /// The name asked for: in lower case, without port and final dot.
    pub(crate) host: String,
    pub(crate) framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects: bool,
    /// To which protocol the client wants to change.
    pub(crate) upgrade: Option<Vec<u8>>,
    /// The client understands trailers.
    pub(crate) takes_trailers: bool,
    /// The client speaks HTTP/1.0.
    pub(crate) old: bool,
    /// The client wants to ask more on this connection.
    pub(crate) keep: bool,
    /// It is a call of gRPC, which needs HTTP/2 all the way.
    pub(crate) grpc: bool,
    /// Whose request it is.
    pub(crate) user: IpAddr,
}

/// A request that was not.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The client speaks HTTP/1.0.
    pub(crate) old: bool,
}

/// From where the text of a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// As the client wrote it.
    Http1,
    /// Written from a stream of HTTP/2, whose framing is this.
    Http2(Framing),
}

impl From<BadHead> for Refusal {
    fn from(bad: BadHead) -> Refusal {
        match bad {
            BadHead::Malformed(why) => Refusal::Malformed(why),
            BadHead::TooLarge => Refusal::HeadTooLarge,
        }
    }
}

impl Asked {
    /// Reads a whole head.
    pub(crate) fn read(client: &Client, head: &[u8], spoken: Spoken) -> Result<Asked, Refused> {
        let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let most = client.limits().header_count_max.min(FIELDS_MAX);
        let mut request = httparse::Request::new(&mut []);
        let refused = |refusal, method: Option<&str>, path: Option<&str>, old| Refused {
            refusal,
            method: method.and_then(|method| method.parse().ok()).unwrap_or_default(),
            path: path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
            old,
        };
        match request.parse_with_uninit_headers(head, room.get_mut(..most).unwrap_or_default()) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(refused(Refusal::Malformed("not a whole head"), None, None, false));
            }
            Err(error) => return Err(refused(bad(error).into(), None, None, false)),
        }
        let old = request.version == Some(0);
        let line = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let asked = Reading { client, fields: request.headers, old, spoken }.admit(line.0, line.1);
        asked.map_err(|refusal| refused(refusal, Some(line.0), Some(line.1), old))
    }

    pub(crate) fn path(&self) -> &str {
        self.text.get(self.path.clone()).and_then(|path| std::str::from_utf8(path).ok()).unwrap_or_default()
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        let rest = self.text.get(self.path.start..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        rest.get(..end).and_then(|target| std::str::from_utf8(target).ok()).unwrap_or_default()
    }

    pub(crate) fn request_id(&self) -> &str {
        self.text.get(self.request_id.clone()).and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }

    /// Request line and fields, for whoever must look at them again.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Writes the head for an instance that speaks HTTP/1.1.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text);
        match self.framing {
            // Some servers insist on a length where a body is usual.
            Framing::None if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {
                push(out, b"content-length", b"0");
            }
            Framing::None | Framing::UntilClose => {}
            Framing::Length(length) => push(out, b"content-length", length.to_string().as_bytes()),
            Framing::Chunked => push(out, b"transfer-encoding", b"chunked"),
        }
        if self.expects {
            push(out, b"expect", b"100-continue");
        }
        match (&self.upgrade, self.takes_trailers) {
            (Some(protocol), _) => {
                push(out, b"connection", b"upgrade");
                push(out, b"upgrade", protocol);
            }
            (None, true) => out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n"),
            (None, false) => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A head that has been parsed.
struct Reading<'r> {
    client: &'r Client,
    fields: &'r [Header<'r>],
    old: bool,
    spoken: Spoken,
}

/// What its fields say, taken together.
#[derive(Default)]
struct Said<'r> {
    host: Option<&'r [u8]>,
    length: Option<u64>,
    chunked: bool,
    options: Options<'r>,
    upgrade: Option<&'r [u8]>,
    expects: bool,
    takes_trailers: bool,
    grpc: bool,
    request_id: Option<&'r [u8]>,
}

impl<'r> Reading<'r> {
    fn admit(&self, method: &str, target: &str) -> Result<Asked, Refusal> {
        if target.len() > self.client.limits().uri_bytes_max {
            return Err(Refusal::UriTooLong);
        }
        let method: Method = method.parse().map_err(|_| Refusal::Malformed("not a method"))?;
        // CONNECT would open a tunnel; TRACE would show a script its own cookies.
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let said = self.said()?;
        let framing = self.framing(&said)?;
        if let Framing::Length(length) = framing
            && length > self.client.limits().body_bytes_max
        {
            return Err(Refusal::BodyTooLarge);
        }
        let (authority, target) = split(target, &method)?;
        let host = self.host(said.host, authority)?;
        let name = name_of(host).unwrap_or_default().into_owned();
        let upgrade = said.upgrade.filter(|_| self.may_upgrade(&said, framing));
        let mut asked = Asked {
            method,
            text: Vec::with_capacity(512),
            path: 0..0,
            request_id: 0..0,
            host: name,
            framing,
            expects: said.expects && framing != Framing::None && !self.old,
            upgrade: upgrade.map(<[u8]>::to_vec),
            takes_trailers: said.takes_trailers,
            old: self.old,
            keep: if self.old { said.options.keep_alive } else { !said.options.close },
            grpc: said.grpc,
            user: headers::user_address(self.client, self.fields),
        };
        self.write(&mut asked, &said, target, host);
        Ok(asked)
    }

    fn said(&self) -> Result<Said<'r>, Refusal> {
        let mut said = Said::default();
        for field in self.fields {
            let value = field.value;
            match known(field.name) {
                Known::Host if said.host.is_some() => return Err(Refusal::Malformed("more than one host")),
                Known::Host => said.host = Some(value.trim_ascii()),
                Known::ContentLength => said.length = Some(content_length(said.length, value)?),
                // Codings that are not undone here would be lost with the field; two of them are an attack.
                Known::TransferEncoding if said.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                    return Err(Refusal::Malformed("a transfer-encoding other than `chunked`"));
                }
                Known::TransferEncoding => said.chunked = true,
                Known::Connection => said.options.read(value),
                Known::Upgrade if said.upgrade.is_some() => return Err(Refusal::Malformed("more than one upgrade")),
                Known::Upgrade => said.upgrade = Some(value.trim_ascii()),
                Known::Expect => said.expects |= value.trim_ascii().eq_ignore_ascii_case(b"100-continue"),
                Known::Te => said.takes_trailers |= tokens(value).any(|t| t.eq_ignore_ascii_case(b"trailers")),
                Known::RequestId if headers::is_request_id(value) => said.request_id = Some(value),
                Known::Other if field.name.eq_ignore_ascii_case("content-type") => {
                    said.grpc = value.starts_with(b"application/grpc") && !value.starts_with(b"application/grpc-web");
                }
                _ => {}
            }
        }
        Ok(said)
    }

    fn framing(&self, said: &Said<'_>) -> Result<Framing, Refusal> {
        if let Spoken::Http2(framing) = self.spoken {
            return Ok(match (framing, said.length) {
                (Framing::None, _) => Framing::None,
                (_, Some(length)) => Framing::Length(length),
                (framing, None) => framing,
            });
        }
        match (said.length, said.chunked) {
            // RFC 9112 section 6.3 lets a server process this, but it is how requests are smuggled.
            (Some(_), true) => Err(Refusal::Malformed("both content-length and transfer-encoding")),
            // HTTP/1.0 has no transfer codings; who stands between may not know this one.
            (None, true) if self.old => Err(Refusal::Malformed("a transfer-encoding in HTTP/1.0")),
            (None, true) => Ok(Framing::Chunked),
            (Some(0), false) => Ok(Framing::Length(0)),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, false) => Ok(Framing::None),
        }
    }

    /// The host as it was given, with its port. RFC 9112 section 3.2.2: that of an absolute target counts.
    fn host(&self, field: Option<&'r [u8]>, authority: Option<&'r str>) -> Result<&'r [u8], Refusal> {
        if field.is_none() && !(self.old && matches!(self.client.binding, Binding::Port(_))) {
            return Err(Refusal::Malformed("no host"));
        }
        let host = authority.map(str::as_bytes).or(field).unwrap_or_default();
        let is_one = |host: &[u8]| name_of(host).is_some_and(|name| is_host(&name));
        if (field.is_some() || authority.is_some()) && !is_one(host) {
            return Err(Refusal::Malformed("not a host"));
        }
        Ok(host)
    }

    /// An upgrade asks for a tunnel, behind which no body can come. `h2c` is an offer that may be ignored
    /// (RFC 9110 section 7.8): some clients make it with every request.
    fn may_upgrade(&self, said: &Said<'_>, framing: Framing) -> bool {
        let offers_h2c = || tokens(said.upgrade.unwrap_or_default()).any(|token| token.eq_ignore_ascii_case(b"h2c"));
        self.spoken == Spoken::Http1
            && !self.old
            && said.options.upgrade
            && matches!(framing, Framing::None | Framing::Length(0))
            && !offers_h2c()
    }

    fn write(&self, asked: &mut Asked, said: &Said<'_>, target: &str, host: &[u8]) {
        let text = &mut asked.text;
        text.extend_from_slice(asked.method.as_str().as_bytes());
        text.push(b' ');
        let path = target.find('?').unwrap_or(target.len());
        asked.path = text.len()..text.len() + path;
        text.extend_from_slice(target.as_bytes());
        text.extend_from_slice(b" HTTP/1.1\r\n");
        push(text, b"host", host);
        for field in self.fields {
            let passes = match known(field.name) {
                Known::Other | Known::Date | Known::SetCookie => !said.options.names(field.name),
                Known::Cookie => match headers::without_own_cookie(field.value) {
                    None => true,
                    Some(kept) => {
                        if !kept.is_empty() {
                            push(text, b"cookie", &kept);
                        }
                        false
                    }
                },
                Known::Expect => !field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue"),
                Known::RealIp => self.client.trusted,
                // A trailer can come only where the body is in chunks.
                Known::Trailer => asked.framing == Framing::Chunked,
                Known::Connection
                | Known::ContentLength
                | Known::Forwarded
                | Known::Host
                | Known::Neighbour
                | Known::ProxyAuthorization
                | Known::RequestId
                | Known::Spelled
                | Known::Te
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedProto => false,
            };
            if passes {
                push(text, field.name.as_bytes(), field.value);
            }
        }
        headers::push_origin(text, self.client, self.fields, host);
        text.extend_from_slice(b"x-request-id: ");
        let begin = text.len();
        match said.request_id {
            Some(id) => text.extend_from_slice(id),
            None => text.extend_from_slice(&headers::new_request_id()),
        }
        asked.request_id = begin..text.len();
        text.extend_from_slice(b"\r\n");
    }
}

/// A target as authority, where it has one, and origin form.
fn split<'t>(target: &'t str, method: &Method) -> Result<(Option<&'t str>, &'t str), Refusal> {
    if target.contains('#') {
        return Err(Refusal::Malformed("a fragment in the target"));
    }
    if target.starts_with('/') || (target == "*" && *method == Method::OPTIONS) {
        return Ok((None, target));
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(rest) = scheme.and_then(|scheme| target.get(scheme.len()..)) else {
        return Err(Refusal::Malformed("not a target"));
    };
    match rest.find(['/', '?']) {
        Some(at) if rest.as_bytes().get(at) == Some(&b'/') => Ok((rest.get(..at), rest.get(at..).unwrap_or("/"))),
        Some(_) => Err(Refusal::Malformed("a target without a path")),
        None => Ok((Some(rest), "/")),
    }
}

/// The name in a `Host` field, in lower case, without port and final dot.
fn name_of(host: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(host).ok()?;
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (text.get(..colon)?, text.get(colon + 1..)?),
        _ => (text, ""),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !port.is_empty() && !is_port(port) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}
