//! The head of a response: one text, whatever the instance speaks and the client speaks.
//!
//! In: what an instance answered, or a page of the proxy. Out: a head for the client. Never lets a service set the
//! control plane's session.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::time::UNIX_EPOCH;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::Header;

use crate::asked::Asked;
use crate::headers::{self, Known, Options, known, push};
use crate::wire::Framing;
use crate::wire::head::content_length;

/// Room for the fields of a head.
const FIELDS_MAX: usize = 256;

/// The instance did not answer in HTTP, or in a way that two readers could understand differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAnswer;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Fields, each with its line end; nothing about framing or the connection.
    text: Vec<u8>,
    has_date: bool,
    /// Of the body that follows.
    pub(crate) framing: Framing,
    /// What `Content-Length` says, also where no body follows (`HEAD`, 304).
    length: Option<u64>,
    /// The connection can be used again behind the body.
    pub(crate) keep: bool,
    /// To which protocol it changes.
    pub(crate) upgrade: Option<Vec<u8>>,
    /// A service tried to set the control plane's session; it does not.
    pub(crate) set_own_cookie: bool,
}

impl Answer {
    /// An own one, without a body so far.
    pub(crate) fn own(status: StatusCode) -> Answer {
        Answer {
            status,
            text: Vec::with_capacity(256),
            has_date: false,
            framing: Framing::None,
            length: None,
            keep: true,
            upgrade: None,
            set_own_cookie: false,
        }
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        push(&mut self.text, name.as_bytes(), value.as_bytes());
    }

    /// A body of so many bytes follows; none does to `HEAD`.
    pub(crate) fn with_body(&mut self, bytes: u64, method: &Method) {
        self.length = Some(bytes);
        self.framing = if *method == Method::HEAD { Framing::None } else { Framing::Length(bytes) };
    }

    /// Reads a whole head of HTTP/1.
    pub(crate) fn read(head: &[u8], asked: &Asked, fields_max: usize) -> Result<Answer, BadAnswer> {
        let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let room = room.get_mut(..fields_max.min(FIELDS_MAX)).unwrap_or_default();
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, head, room) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) | Err(_) => return Err(BadAnswer),
        }
        let status = StatusCode::from_u16(response.code.unwrap_or(0)).map_err(|_| BadAnswer)?;
        let mut answer = Answer::own(status);
        let mut options = Options::default();
        let mut chunked = false;
        for field in response.headers.iter() {
            match known(field.name) {
                Known::Connection => options.read(field.value),
                Known::ContentLength => {
                    answer.length = Some(content_length(answer.length, field.value).map_err(|_| BadAnswer)?);
                }
                Known::TransferEncoding if chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                    return Err(BadAnswer);
                }
                Known::TransferEncoding => chunked = true,
                Known::Upgrade => answer.upgrade = Some(field.value.to_vec()),
                _ => {}
            }
        }
        let old = response.version == Some(0);
        answer.keep = if old { options.keep_alive } else { !options.close };
        if chunked {
            // RFC 9112 section 6.3: the transfer coding is what counts, the length is a lie.
            answer.keep &= answer.length.take().is_none();
        }
        answer.framing = match (answer.has_no_body(asked), chunked, answer.length) {
            (true, _, _) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::UntilClose,
        };
        answer.keep &= answer.framing != Framing::UntilClose;
        for field in response.headers.iter().filter(|field| !options.names(field.name)) {
            answer.pass(field.name, field.value);
        }
        Ok(answer)
    }

    /// Reads a head of HTTP/2; `ended` says that no body follows.
    pub(crate) fn from_http2(status: StatusCode, fields: &HeaderMap, ended: bool, asked: &Asked) -> Answer {
        let mut answer = Answer::own(status);
        for (name, value) in fields {
            if *name == http::header::CONTENT_LENGTH {
                answer.length = value.to_str().ok().and_then(|length| length.parse().ok());
            }
            answer.pass(name.as_str(), value.as_bytes());
        }
        let ended = ended || answer.has_no_body(asked);
        answer.framing = match (ended, answer.length) {
            (true, _) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Chunked,
        };
        answer
    }

    fn pass(&mut self, name: &str, value: &[u8]) {
        match known(name) {
            Known::SetCookie if headers::sets_own_cookie(value) => self.set_own_cookie = true,
            Known::Connection
            | Known::ContentLength
            | Known::Neighbour
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade => {}
            Known::Date => {
                self.has_date = true;
                push(&mut self.text, name.as_bytes(), value);
            }
            Known::Cookie
            | Known::Expect
            | Known::Forwarded
            | Known::Host
            | Known::ProxyAuthorization
            | Known::RealIp
            | Known::RequestId
            | Known::SetCookie
            | Known::Spelled
            | Known::Trailer
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedProto
            | Known::Other => push(&mut self.text, name.as_bytes(), value),
        }
    }

    /// RFC 9110 section 6.4.1.
    fn has_no_body(&self, asked: &Asked) -> bool {
        asked.method == Method::HEAD
            || self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// How the body goes to a client of HTTP/1: in chunks where its length is not known, and to an old one until the
    /// connection ends.
    pub(crate) fn framing_for(&self, old: bool) -> Framing {
        match self.framing {
            Framing::None => Framing::None,
            Framing::Length(length) => Framing::Length(length),
            Framing::Chunked | Framing::UntilClose if old => Framing::UntilClose,
            Framing::Chunked | Framing::UntilClose => Framing::Chunked,
        }
    }

    /// Writes the head for a client of HTTP/1; `keep` says whether more may be asked behind it.
    pub(crate) fn write(&self, out: &mut Vec<u8>, framing: Framing, old: bool, keep: bool) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.text);
        if !self.has_date && !self.status.is_informational() {
            with_date(|date| push(out, b"date", date.as_bytes()));
        }
        match (framing, self.length) {
            (Framing::Length(length), _) | (Framing::None, Some(length)) if self.may_have_length() => {
                push(out, b"content-length", length.to_string().as_bytes());
            }
            (Framing::Chunked, _) => push(out, b"transfer-encoding", b"chunked"),
            _ => {}
        }
        match (&self.upgrade, keep) {
            (Some(protocol), _) if self.status == StatusCode::SWITCHING_PROTOCOLS => {
                push(out, b"connection", b"upgrade");
                push(out, b"upgrade", protocol);
            }
            _ if self.status.is_informational() => {}
            (_, false) => push(out, b"connection", b"close"),
            (_, true) if old => push(out, b"connection", b"keep-alive"),
            (_, true) => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// RFC 9110 section 8.6.
    fn may_have_length(&self) -> bool {
        !self.status.is_informational() && self.status != StatusCode::NO_CONTENT
    }

    /// The fields for a client of HTTP/2.
    pub(crate) fn fields(&self) -> HeaderMap {
        let mut fields = parsed(&self.text);
        if !self.has_date && !self.status.is_informational() {
            let date = with_date(|date| HeaderValue::from_str(date).ok());
            fields.extend(date.map(|date| (http::header::DATE, date)));
        }
        if let Some(length) = self.length.filter(|_| self.may_have_length()) {
            fields.insert(http::header::CONTENT_LENGTH, length.into());
        }
        fields
    }
}

/// Lines of text as a map.
pub(crate) fn parsed(lines: &[u8]) -> HeaderMap {
    let mut block = lines.to_vec();
    block.extend_from_slice(b"\r\n");
    let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&block, &mut room) else {
        return HeaderMap::new();
    };
    let named = fields.iter().filter_map(|field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    });
    // Extending from pairs of two would replace; each is appended.
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in named {
        map.append(name, value);
    }
    map
}

/// The date of this second (RFC 9110 section 6.6.1), written once per second and thread.
fn with_date<T>(use_it: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = crate::clock::unix_seconds();
    WRITTEN.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            *second = now;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(now));
        }
        use_it(text)
    })
}
