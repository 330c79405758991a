//! Git's smart HTTP protocol: push, fetch and clone (git: Documentation/gitprotocol-http).
//!
//! In: a request whose sender has been authenticated. Out: a response that streams what git
//! says, as it says it. Never: buffers a pack, judges rights, or serves the "dumb" protocol.

use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::command::Running;
use crate::frames::{PUSH_VARIABLE, PUSHER_VARIABLE};
use crate::git::Git;
use crate::http_body::RequestBody;
use crate::names::{Oid, ProjectName};
use crate::parse::RefEntry;
use crate::pump::{Pieces, Served};

/// How long a request waits for its turn before it is told to come again.
const TURN_WAIT: Duration = Duration::from_secs(30);

/// Longest `Git-Protocol` header that is handed on.
const PROTOCOL_BYTES_MAX: usize = 128;

/// Longest request of a fetch: what the client has and wants, a few bytes per ref.
const FETCH_REQUEST_BYTES_MAX: u64 = 64 << 20;

/// What git does for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Fetch and clone: reads.
    UploadPack,
    /// Push: writes.
    ReceivePack,
}

/// One of the four requests of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET info/refs?service=…`
    Advertise(Service),
    /// `POST git-upload-pack` or `git-receive-pack`
    Call(Service),
}

/// Who sends the request, as the caller authenticated it. It is told to the hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pusher {
    /// The name.
    pub name: String,
}

/// A request that is not served, in a form that git clients show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// One sentence.
    pub text: String,
}

impl Service {
    /// The name in URLs and headers: `git-upload-pack` or `git-receive-pack`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::UploadPack),
            "git-receive-pack" => Some(Self::ReceivePack),
            _ => None,
        }
    }
}

impl Endpoint {
    /// Reads what is asked for from the part of the path behind `PROJECT.git/`.
    ///
    /// # Errors
    /// A [`Refusal`] for anything that is not one of the four requests.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        if path == "info/refs" && (method == Method::GET || method == Method::HEAD) {
            let service = query
                .unwrap_or_default()
                .split('&')
                .find_map(|pair| pair.strip_prefix("service="))
                .and_then(Service::parse);
            return service.map(Self::Advertise).ok_or_else(|| {
                let text = "only git's smart HTTP protocol is served; use git 1.6.6 or newer";
                Refusal::new(StatusCode::FORBIDDEN, text)
            });
        }
        match Service::parse(path) {
            Some(service) if method == Method::POST => Ok(Self::Call(service)),
            Some(_) => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "use POST here")),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "git repositories have nothing at this path")),
        }
    }

    /// The service that this request is part of: what a right is needed for.
    pub fn service(self) -> Service {
        match self {
            Self::Advertise(service) | Self::Call(service) => service,
        }
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Git shows the body of an error only when it is plain text.
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        let headers = response.headers_mut();
        no_cache(headers);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn no_cache(headers: &mut HeaderMap) {
    let expired = HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT");
    let control = HeaderValue::from_static("no-cache, max-age=0, must-revalidate");
    headers.insert(header::EXPIRES, expired);
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::CACHE_CONTROL, control);
}

impl Git {
    /// Serves one request. The response streams; dropping it, or this future, means that the
    /// client is gone, which ends the hooks of a push but never undoes what was admitted.
    pub async fn serve(
        &self,
        project: &ProjectName,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: Body,
        pusher: &Pusher,
    ) -> Response {
        match self.try_serve(project, endpoint, headers, body, pusher).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn try_serve(
        &self,
        project: &ProjectName,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: Body,
        pusher: &Pusher,
    ) -> Result<Response, Refusal> {
        let service = endpoint.service();
        let view = self.view(project);
        let view = view.map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))?;
        let body = self.request_body(endpoint, headers, body)?;
        let turns = Arc::clone(self.turns(service));
        let turn = match tokio::time::timeout(TURN_WAIT, turns.acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => {
                let text = "too many git requests at the same time; try again";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
            }
        };
        let protocol = protocol(headers, service);
        if endpoint == Endpoint::Advertise(Service::ReceivePack)
            && protocol.is_empty()
            && let Ok(refs) = view.refs().await
        {
            return Ok(greeting(&refs, self.receives()));
        }
        let open = self.pushes().begin();
        let mut asked = view.ask(service.command()).arg("--stateless-rpc");
        if matches!(endpoint, Endpoint::Advertise(_)) {
            asked = asked.arg("--http-backend-info-refs");
        }
        let mut command = asked.arg(&view.git_dir).command;
        command
            .env_remove("GIT_DIR")
            .env("GIT_PROTOCOL", &protocol)
            .env(PUSH_VARIABLE, &open.id)
            .env(PUSHER_VARIABLE, &pusher.name)
            .stdin(if body.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let running = Running::spawn(command)
            .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let served = Served { running, open, turn, idle: self.limits().idle };
        let mut pieces = served.start(body);
        // The head waits for the first piece: both go out together, and a git that cannot serve
        // is an error status instead of an empty success.
        let mut first = pieces.recv().await.transpose()?;
        if let (Endpoint::Advertise(_), false) = (endpoint, protocol.contains("version=2")) {
            let rest = first.unwrap_or_default();
            first = Some([service_line(service).into_bytes(), rest.to_vec()].concat().into());
        }
        Ok(streamed(endpoint, first, pieces))
    }

    fn request_body(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Option<RequestBody>, Refusal> {
        let Endpoint::Call(service) = endpoint else {
            return Ok(None);
        };
        let wanted = format!("application/x-{}-request", service.name());
        let given = headers.get(header::CONTENT_TYPE);
        if given.is_none_or(|given| given.as_bytes() != wanted.as_bytes()) {
            let text = format!("the content type must be {wanted}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let limits = self.limits();
        let bytes_max = match service {
            Service::UploadPack => FETCH_REQUEST_BYTES_MAX,
            Service::ReceivePack => limits.push_bytes_max,
        };
        RequestBody::new(headers, body, bytes_max, limits.idle).map(Some)
    }
}

/// The version that git may speak. Version 2 does not exist for pushes, and clients expect the
/// older greeting then.
fn protocol(headers: &HeaderMap, service: Service) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"=:.-_".contains(byte);
    let value = headers
        .get("git-protocol")
        .map(|value| value.as_bytes())
        .filter(|value| value.len() <= PROTOCOL_BYTES_MAX && value.iter().all(plain));
    let text = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    match service {
        Service::ReceivePack if text.contains("version=2") => String::new(),
        Service::UploadPack | Service::ReceivePack => text,
    }
}

/// What a push is greeted with: where the refs are and what git can do. Without a process of its own a push begins some
/// milliseconds earlier.
fn greeting(refs: &[RefEntry], can: &str) -> Response {
    let mut text = service_line(Service::ReceivePack);
    for (n, one) in refs.iter().enumerate() {
        let can = if n == 0 { format!("\0{can}") } else { String::new() };
        text += &packet(&format!("{} {}{can}\n", one.id, one.name));
    }
    if refs.is_empty() {
        text += &packet(&format!("{} capabilities^{{}}\0{can}\n", Oid::or_zeros(None)));
    }
    text += "0000";
    headed(Endpoint::Advertise(Service::ReceivePack), Body::from(text))
}

fn service_line(service: Service) -> String {
    packet(&format!("# service={}\n", service.name())) + "0000"
}

/// A line as the protocol frames it.
fn packet(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

fn streamed(endpoint: Endpoint, first: Option<Bytes>, pieces: Pieces) -> Response {
    headed(endpoint, Body::from_stream(Streamed { first, pieces }))
}

fn headed(endpoint: Endpoint, body: Body) -> Response {
    let kind = match endpoint {
        Endpoint::Advertise(service) => format!("application/x-{}-advertisement", service.name()),
        Endpoint::Call(service) => format!("application/x-{}-result", service.name()),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    no_cache(headers);
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// The body of a response: the first piece, then the others as they come.
struct Streamed {
    first: Option<Bytes>,
    pieces: Pieces,
}

impl Stream for Streamed {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let next = self.pieces.poll_recv(cx);
        next.map(|piece| piece.map(|piece| piece.map_err(|refusal| std::io::Error::other(refusal.text))))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Endpoint, Service};

    #[test]
    fn only_the_four_requests_of_the_protocol_are_served() {
        let pairs = [
            ("GET", "info/refs", Some("service=git-upload-pack"), "Advertise(UploadPack)"),
            ("GET", "info/refs", Some("a=b&service=git-receive-pack"), "Advertise(ReceivePack)"),
            ("POST", "git-upload-pack", None, "Call(UploadPack)"),
            ("POST", "git-receive-pack", None, "Call(ReceivePack)"),
            ("GET", "info/refs", None, "403"),
            ("GET", "info/refs", Some("service=git-shell"), "403"),
            ("GET", "git-upload-pack", None, "405"),
            ("GET", "objects/info/packs", None, "404"),
            ("POST", "info/refs", Some("service=git-upload-pack"), "404"),
        ];
        for (method, path, query, wanted) in pairs {
            let method: Method = method.parse().expect("a method");
            let got = match Endpoint::parse(&method, path, query) {
                Ok(endpoint) => format!("{endpoint:?}"),
                Err(refusal) => refusal.status.as_u16().to_string(),
            };
            assert_eq!(got, wanted, "{method} {path} {query:?}");
        }
        assert_eq!(Endpoint::Call(Service::UploadPack).service(), Service::UploadPack);
    }
}
