//! The proxy's own answers: a status, and a line of text or a page that says why.
//!
//! In: a reason. Out: a response. Never names hosts, services or addresses beyond those of the
//! route that the request itself reached.

use http::{Method, StatusCode};

use crate::answer::Answer;
use crate::exchange::{Exchange, Outcome};
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
    /// 400 for a body whose framing is broken.
    BodyMalformed,
    /// 408 for a body that did not come in time.
    BodyLate,
    /// 431.
    HeadTooLarge,
    /// 408 for a head that did not come in time.
    HeadLate,
    /// 413.
    BodyTooLarge,
    /// 414.
    UriTooLong,
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
            Refusal::Malformed(_) | Refusal::BodyMalformed => StatusCode::BAD_REQUEST,
            Refusal::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Unknown => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BodyLate | Refusal::HeadLate => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
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
            | Refusal::HeadTooLarge
            | Refusal::HeadLate
            | Refusal::BodyMalformed
            | Refusal::BodyLate
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong => Outcome::Refused,
        }
    }

    /// `of` is `SERVICE in ENVIRONMENT`, where the request has reached one.
    fn text(self, of: &str) -> String {
        match self {
            Refusal::Malformed(why) => format!("bad request: {why}"),
            Refusal::Unknown => "nothing is served under this name".to_owned(),
            Refusal::Method => "this method is not served here".to_owned(),
            Refusal::HeadTooLarge => "the head of the request is too large".to_owned(),
            Refusal::HeadLate => "the request did not arrive in time".to_owned(),
            Refusal::BodyMalformed => "bad request: the body is not framed as it says".to_owned(),
            Refusal::BodyLate => "the request body did not arrive in time".to_owned(),
            Refusal::BodyTooLarge => "the request body is too large".to_owned(),
            Refusal::UriTooLong => "the path and query are too long".to_owned(),
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
            | Refusal::HeadTooLarge
            | Refusal::HeadLate
            | Refusal::BodyMalformed
            | Refusal::BodyLate
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong => true,
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

/// An answer of the proxy, whole.
pub(crate) struct Page {
    pub(crate) answer: Answer,
    pub(crate) text: String,
    /// Nothing can follow on the connection.
    pub(crate) closes: bool,
}

/// The answer to a request that reached no service.
pub(crate) fn refuse(refusal: Refusal, method: &Method) -> Page {
    page(refusal, refusal.text("") + "\n", false, None, method)
}

/// The answer to a request that reached a service; ends its exchange.
pub(crate) fn end(refusal: Refusal, reader: Reader<'_>, mut exchange: Exchange<'_>) -> Page {
    let key = &exchange.service().key;
    let what = refusal.text(&format!("{} in {}", key.service, key.environment));
    let id = exchange.asked.request_id();
    let (text, is_html) = match refusal {
        Refusal::NoInstance | Refusal::Unreachable => {
            let page = Unavailable { what: &what, notice: reader.notice, request_id: id };
            (if reader.takes_html { page.html() } else { page.text() }, reader.takes_html)
        }
        Refusal::Malformed(_)
        | Refusal::HeadTooLarge
        | Refusal::HeadLate
        | Refusal::Unknown
        | Refusal::Method
        | Refusal::BodyMalformed
        | Refusal::BodyLate
        | Refusal::BodyTooLarge
        | Refusal::UriTooLong
        | Refusal::Broken
        | Refusal::TooManyInFlight
        | Refusal::TimedOut => (format!("{what}\nrequest {id}\n"), false),
    };
    let page = page(refusal, text, is_html, Some(id), &exchange.asked.method);
    exchange.answered_by_proxy(refusal.status(), page.text.len());
    let outcome = refusal.outcome(exchange.was_tried());
    exchange.finish(outcome);
    page
}

fn page(refusal: Refusal, text: String, is_html: bool, id: Option<&str>, method: &Method) -> Page {
    let mut answer = Answer::own(refusal.status());
    if is_html {
        answer.push("content-type", "text/html; charset=utf-8");
        // It has no scripts and loads nothing, whatever a notice says.
        answer.push("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
    } else {
        answer.push("content-type", "text/plain; charset=utf-8");
    }
    // It says how things are now.
    answer.push("cache-control", "no-store");
    if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
        answer.push("retry-after", "1");
    }
    if refusal == Refusal::Method {
        answer.push("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    if let Some(id) = id {
        answer.push("x-request-id", id);
    }
    answer.with_body(text.len() as u64, method);
    Page { answer, text, closes: refusal.closes() }
}
