//! Requests and answers as values.
//!
//! In: the bytes of a request's head. Out: a [`Request`] or a [`Refusal`]; the
//! bytes of an answer. Never: sockets, clocks, guesses about malformed input.
//! Format: RFC 9112. Sections are named where a rule is not obvious.

/// More headers than any honest client sends.
const HEADERS_MAX: usize = 64;

/// One request with its whole body.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST` …, as sent.
    pub method: String,
    /// Without the query, not decoded.
    pub path: String,
    /// What follows the `?`; empty when there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most as long as the server's limit.
    pub body: Vec<u8>,
    pub(crate) keep_alive: bool,
}

impl Request {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What to look up in a table of routes: HEAD is answered as GET.
    pub fn route(&self) -> (&str, &str) {
        let method = if self.method == "HEAD" { "GET" } else { &self.method };
        (method, &self.path)
    }

    fn has_word(&self, name: &str, word: &str) -> bool {
        let mut lists = self.headers.iter().filter(|(known, _)| known == name);
        lists.any(|(_, list)| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
    }
}

/// A request that no service gets to see: the status to answer, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal(pub u16, pub &'static str);

/// Reads a head: everything before the empty line, without it.
pub(crate) fn parse_head(head: &[u8]) -> Result<Request, Refusal> {
    let head = str::from_utf8(head).map_err(|_| Refusal(400, "the head is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal(400, "the first line is not METHOD TARGET VERSION"));
    };
    if !is_token(method) {
        return Err(Refusal(400, "the method is not a word"));
    }
    if !target.starts_with('/') || target.contains(|c: char| c.is_control()) {
        return Err(Refusal(400, "the target must be a path"));
    }
    let modern = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: lines.map(parse_header).collect::<Result<_, _>>()?,
        body: Vec::new(),
        keep_alive: modern,
    };
    if request.headers.len() > HEADERS_MAX {
        return Err(Refusal(431, "more than 64 headers"));
    }
    let hosts = request.headers.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 || (modern && hosts == 0) {
        return Err(Refusal(400, "exactly one Host header is needed"));
    }
    if request.has_word("connection", "close") {
        request.keep_alive = false;
    } else if request.has_word("connection", "keep-alive") {
        request.keep_alive = true;
    }
    Ok(request)
}

/// How many bytes of body follow the head. Anything that two readers could
/// understand in two ways is refused (section 6.3: request smuggling).
pub(crate) fn body_length(request: &Request, bytes_max: usize) -> Result<usize, Refusal> {
    let mut lengths = request.headers.iter().filter(|(name, _)| name == "content-length");
    let length = lengths.next().map(|(_, value)| value.as_str());
    if request.header("transfer-encoding").is_some() {
        return Err(match length {
            None => Refusal(411, "a body needs a Content-Length here"),
            Some(_) => Refusal(400, "both Content-Length and Transfer-Encoding"),
        });
    }
    let Some(length) = length else { return Ok(0) };
    if lengths.next().is_some() || !length.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Refusal(400, "Content-Length is not one number"));
    }
    match length.parse() {
        Ok(length) if length <= bytes_max => Ok(length),
        Err(_) if length.is_empty() => Err(Refusal(400, "Content-Length is not one number")),
        _ => Err(Refusal(413, "the body is too large")),
    }
}

fn parse_header(line: &str) -> Result<(String, String), Refusal> {
    let (name, value) = line.split_once(':').ok_or(Refusal(400, "a header without a colon"))?;
    if !is_token(name) {
        return Err(Refusal(400, "a header name is not a word"));
    }
    if value.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Refusal(400, "a header with a control character"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

fn is_token(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(allowed)
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    /// An answer in JSON; the body must be JSON already.
    pub fn json(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "application/json", body.into())
    }

    /// A page; the body must be escaped already.
    pub fn html(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "text/html; charset=utf-8", body.into())
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// 405, with the methods that would work, as in `GET, POST`.
    pub fn not_allowed(methods: &str) -> Response {
        Response::text(405, format!("use {methods}\n")).header("allow", methods)
    }

    /// Adds a header. Line breaks in the value become spaces, so that no value
    /// can start a header of its own.
    pub fn header(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.replace(['\r', '\n'], " ")));
        self
    }

    /// The body as it will be sent.
    pub fn body(&self) -> &str {
        &self.body
    }

    fn new(status: u16, kind: &str, body: String) -> Response {
        let response = Response { status, headers: Vec::new(), body };
        response.header("content-type", kind).header("x-content-type-options", "nosniff")
    }

    /// Head and body in one piece, so that they leave in one packet.
    pub(crate) fn to_bytes(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        let reason = reason_phrase(self.status);
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let length = self.body.len();
        out.push_str(&format!("content-length: {length}\r\nconnection: {connection}\r\n\r\n"));
        if !head_only {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head, and what becomes of it: a status, or method, path, query,
    /// whether the connection stays open, and the length of the body.
    fn check(head: &str, expected: &str) {
        let head = head.replace('\n', "\r\n");
        let seen = parse_head(head.as_bytes()).and_then(|request| {
            let length = body_length(&request, 1000)?;
            let Request { method, path, query, keep_alive, .. } = request;
            Ok(format!("{method} {path} [{query}] keep={keep_alive} body={length}"))
        });
        let seen = seen.unwrap_or_else(|Refusal(status, reason)| format!("{status} {reason}"));
        assert_eq!(seen, expected, "\n{head}");
    }

    #[test]
    fn heads_are_understood() {
        check("GET /a?b=c HTTP/1.1\nHost: x", "GET /a [b=c] keep=true body=0");
        check("GET / HTTP/1.0", "GET / [] keep=false body=0");
        check("GET / HTTP/1.0\nConnection: Keep-Alive", "GET / [] keep=true body=0");
        check("GET / HTTP/1.1\nHost: x\nConnection: te, close", "GET / [] keep=false body=0");
        check("POST / HTTP/1.1\nhOsT:x\nContent-Length: 12", "POST / [] keep=true body=12");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let post = |rest: &str| format!("POST / HTTP/1.1\nHost: x\n{rest}");
        check(&post("Content-Length: 1\nContent-Length: 2"), "400 Content-Length is not one number");
        check(&post("Content-Length: +1"), "400 Content-Length is not one number");
        check(&post("Content-Length:"), "400 Content-Length is not one number");
        check(&post("Content-Length: 1001"), "413 the body is too large");
        check(&post("Content-Length: 99999999999999999999"), "413 the body is too large");
        check(&post("Transfer-Encoding: chunked"), "411 a body needs a Content-Length here");
        check(&post("Transfer-Encoding: chunked\nContent-Length: 3"), "400 both Content-Length and Transfer-Encoding");
        check(&post("Content-Length : 3"), "400 a header name is not a word");
        check(&post(" folded: 3"), "400 a header name is not a word");
    }

    #[test]
    fn malformed_heads_are_refused() {
        check("GET /", "400 the first line is not METHOD TARGET VERSION");
        check("G@T / HTTP/1.1", "400 the method is not a word");
        check("GET http://x/ HTTP/1.1", "400 the target must be a path");
        check("GET / HTTP/2.0", "505 only HTTP/1.1 and HTTP/1.0 are spoken here");
        check("GET / HTTP/1.1", "400 exactly one Host header is needed");
        check("GET / HTTP/1.1\nHost: a\nHost: b", "400 exactly one Host header is needed");
        check("GET / HTTP/1.1\nHost: a\nnonsense", "400 a header without a colon");
        let many = format!("GET / HTTP/1.1\nHost: a{}", "\na: b".repeat(64));
        check(&many, "431 more than 64 headers");
    }

    #[test]
    fn a_header_value_cannot_start_another_header() {
        let bytes = Response::text(200, "ok").header("x-name", "a\r\nb: c").to_bytes(true, false);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("x-name: a  b: c\r\n"), "{text}");
        assert!(text.ends_with("content-length: 2\r\nconnection: keep-alive\r\n\r\nok"), "{text}");
    }
}
