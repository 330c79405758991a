//! The proxy's own answers: a status, and a line of text or a page that says why.
//!
//! In: a reason. Out: a response. Never names hosts, services or addresses beyond those of the
//! route that the request itself reached.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::body::{ResponseBody, Turn};
use crate::exchange::{Exchange, Outcome};
use crate::headers::X_REQUEST_ID;
use crate::stats::samples::FailureKind;
use crate::table::Notice;
use crate::unavailable::Unavailable;

/// Why the proxy answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400, with what is wrong with the request.
    Malformed(&'static str),
    /// 404 for a host or port without a route.
    Unknown,
    /// 405 for `CONNECT` and `TRACE`.
    Method,
    /// 408 for a request body that broke off.
    BodyBroken,
    /// 413.
    BodyTooLarge,
    /// 414.
    UriTooLong,
    /// 501 for an upgrade.
    Upgrade,
    /// 502 for a connection that broke, or an answer that was not HTTP.
    Broken,
    /// 503 because no instance is ready.
    NoInstance,
    /// 503 because no instance could be reached.
    Unreachable,
    /// 503 because of a limit.
    TooManyInFlight,
    /// 504.
    TimedOut,
}

impl Refusal {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Unknown => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BodyBroken => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            Refusal::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Refusal::Broken => StatusCode::BAD_GATEWAY,
            Refusal::NoInstance | Refusal::Unreachable | Refusal::TooManyInFlight => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn outcome(self, tried: bool) -> Outcome {
        match self {
            Refusal::Broken => Outcome::Failed(FailureKind::Broken),
            Refusal::TimedOut => Outcome::Failed(FailureKind::TimedOut),
            Refusal::Unreachable | Refusal::NoInstance if tried => Outcome::Failed(FailureKind::Unreachable),
            Refusal::Unreachable | Refusal::NoInstance => Outcome::Unavailable,
            Refusal::TooManyInFlight => Outcome::Overloaded,
            Refusal::Malformed(_)
            | Refusal::Unknown
            | Refusal::Method
            | Refusal::BodyBroken
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong
            | Refusal::Upgrade => Outcome::Refused,
        }
    }

    /// `of` is `SERVICE in ENVIRONMENT`, where the request has reached one.
    fn text(self, of: &str) -> String {
        match self {
            Refusal::Malformed(why) => format!("bad request: {why}"),
            Refusal::Unknown => "nothing is served under this name".to_owned(),
            Refusal::Method => "this method is not served here".to_owned(),
            Refusal::BodyBroken => "the request body did not arrive".to_owned(),
            Refusal::BodyTooLarge => "the request body is too large".to_owned(),
            Refusal::UriTooLong => "the path and query are too long".to_owned(),
            Refusal::Upgrade => "upgrades such as WebSocket are not supported by this proxy yet".to_owned(),
            Refusal::Broken => format!("an instance of {of} broke the connection off"),
            Refusal::NoInstance => format!("no instance of {of} is ready"),
            Refusal::Unreachable => format!("no instance of {of} can be reached"),
            Refusal::TooManyInFlight => format!("too many requests to {of} at once"),
            Refusal::TimedOut => format!("an instance of {of} did not answer in time"),
        }
    }

    /// What was read of the request may not be all of it, so nothing can follow on the connection.
    fn closes(self) -> bool {
        match self {
            Refusal::Malformed(_)
            | Refusal::Method
            | Refusal::BodyBroken
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong
            | Refusal::Upgrade => true,
            Refusal::Unknown
            | Refusal::Broken
            | Refusal::NoInstance
            | Refusal::Unreachable
            | Refusal::TooManyInFlight
            | Refusal::TimedOut => false,
        }
    }
}

/// Who reads the answer, and what there is to be told of the service.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) takes_html: bool,
    pub(crate) notice: &'a Notice,
}

/// The answer to a request that reached no service.
pub(crate) fn refuse(refusal: Refusal, turn: Turn) -> Response<ResponseBody> {
    page(refusal, Bytes::from(refusal.text("") + "\n"), turn)
}

/// The answer to a request that reached a service; ends its exchange.
pub(crate) fn end(refusal: Refusal, reader: Reader<'_>, mut exchange: Exchange, turn: Turn) -> Response<ResponseBody> {
    let key = &exchange.service().key;
    let what = refusal.text(&format!("{} in {}", key.service, key.environment));
    let request_id = exchange.request_id.clone();
    let id = request_id.to_str().unwrap_or_default();
    let (text, is_html) = match refusal {
        Refusal::NoInstance | Refusal::Unreachable => {
            let page = Unavailable { what: &what, notice: reader.notice, request_id: id };
            (if reader.takes_html { page.html() } else { page.text() }, reader.takes_html)
        }
        Refusal::Malformed(_)
        | Refusal::Unknown
        | Refusal::Method
        | Refusal::BodyBroken
        | Refusal::BodyTooLarge
        | Refusal::UriTooLong
        | Refusal::Upgrade
        | Refusal::Broken
        | Refusal::TooManyInFlight
        | Refusal::TimedOut => (format!("{what}\nrequest {id}\n"), false),
    };
    exchange.answered_by_proxy(refusal.status(), text.len());
    let outcome = refusal.outcome(exchange.was_tried());
    exchange.finish(outcome);
    let mut response = page(refusal, Bytes::from(text), turn);
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    if is_html {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        // It has no scripts and loads nothing, whatever a notice says.
        let only_styles = "default-src 'none'; style-src 'unsafe-inline'";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(only_styles));
    }
    response
}

fn page(refusal: Refusal, text: Bytes, turn: Turn) -> Response<ResponseBody> {
    if refusal.closes() {
        turn.0.linger();
    }
    let mut response = Response::new(ResponseBody::page(text, turn));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    // It says how things are now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if refusal == Refusal::Method {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if refusal.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
