//! The road of one request: admitted, given to instances until one has taken it, answered.
//!
//! In: a request. Out: always a response. Repeats a request only while no byte of it was sent: hyper
//! hands it back then (`try_send_request`), and only then.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::access::AccessRecord;
use crate::admit::{admit, find};
use crate::body::{BodyFault, Download, RequestBody, ResponseBody, Turn};
use crate::clock::Phase;
use crate::exchange::Exchange;
use crate::headers;
use crate::instance::{InFlight, Instance};
use crate::listener::Client;
use crate::pages::{self, Reader, Refusal};
use crate::routes::{ServiceRoute, fnv};
use crate::unavailable::takes_html;
use crate::upstream::{self, Pooled};

/// Answers one request.
pub(crate) async fn answer(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    let number = client.request_begins();
    let turn = Turn(Arc::clone(&client));
    let (parts, body) = request.into_parts();
    let mut response = match place(&client, number, &parts, &body) {
        Ok((host, route)) => serve(route, host, parts, body, turn, started).await,
        Err(refusal) => {
            client.log_refusal(&parts, refusal.status(), started);
            pages::refuse(refusal, turn)
        }
    };
    if client.is_finishing() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

fn place(
    client: &Client,
    number: u64,
    parts: &request::Parts,
    body: &Incoming,
) -> Result<(HeaderValue, Arc<ServiceRoute>), Refusal> {
    let host = admit(client, number, parts, body)?;
    let route = find(client, &client.shared.routes.load(), &host).ok_or(Refusal::Unknown)?;
    Ok((host, route))
}

async fn serve(
    route: Arc<ServiceRoute>,
    host: HeaderValue,
    mut parts: request::Parts,
    body: Incoming,
    turn: Turn,
    started: Instant,
) -> Response<ResponseBody> {
    let client = Arc::clone(&turn.0);
    let at_first = Arc::clone(&route);
    let reader = Reader { takes_html: takes_html(&parts.headers), notice: &at_first.notice };
    let user = headers::user_address(&parts.headers, &client);
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    let id = headers::for_instance(&mut parts.headers, &client, &host, chunked);
    let mut exchange = Exchange::new(&client, &route.counters, &parts, id, started);
    let in_flight_max = client.limits().in_flight_per_service_max;
    if route.counters.in_flight.load(Relaxed) > in_flight_max {
        return pages::end(Refusal::TooManyInFlight, reader, exchange, turn);
    }
    parts.uri = origin_form(parts.uri);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let body = RequestBody::new(body, &client);
    let upload = body.progress();
    let search = Search {
        ticket: route.counters.ticket(),
        user: match user {
            std::net::IpAddr::V4(v4) => fnv(&v4.octets()),
            std::net::IpAddr::V6(v6) => fnv(&v6.octets()),
        },
        host,
        client,
        route,
        tried: Vec::new(),
    };
    let request = Request::from_parts(parts, body);
    let taken = match search.run(&mut exchange, request).await {
        Ok(taken) => taken,
        Err(refusal) => {
            let fault = upload.and_then(|upload| upload.fault());
            let refusal = match fault {
                Some(BodyFault::TooLarge) => Refusal::BodyTooLarge,
                Some(BodyFault::Broken) => Refusal::BodyBroken,
                None => refusal,
            };
            return pages::end(refusal, reader, exchange, turn);
        }
    };
    let (mut parts, inner) = taken.response.into_parts();
    if parts.status.is_informational() {
        // Nobody asked to switch protocols.
        return pages::end(Refusal::Broken, reader, exchange, turn);
    }
    headers::for_client(&mut parts.headers);
    parts.version = Version::HTTP_11;
    exchange.answers(parts.status);
    let download = Download { inner, exchange, flight: taken.flight, connection: Some(taken.connection), upload };
    Response::from_parts(parts, ResponseBody::from_instance(download, turn))
}

/// Instances are asked in origin form, whatever the client wrote.
fn origin_form(uri: Uri) -> Uri {
    if uri.scheme().is_none() && uri.authority().is_none() {
        return uri;
    }
    let path = uri.into_parts().path_and_query;
    Uri::from(path.unwrap_or(PathAndQuery::from_static("/")))
}

/// An instance has taken the request and answered.
struct Taken {
    response: Response<Incoming>,
    connection: Pooled,
    flight: InFlight,
}

/// What one instance made of the request.
enum Attempt {
    Answered(Response<Incoming>, Pooled),
    /// No byte was sent: here it is again.
    Unsent(Request<RequestBody>),
    /// Something was sent and no answer came.
    Lost(Refusal),
}

/// Looks for an instance that takes the request.
struct Search {
    client: Arc<Client>,
    host: HeaderValue,
    route: Arc<ServiceRoute>,
    ticket: u64,
    user: u64,
    tried: Vec<Arc<Instance>>,
}

impl Search {
    async fn run(mut self, exchange: &mut Exchange, mut request: Request<RequestBody>) -> Result<Taken, Refusal> {
        let mut held = None;
        loop {
            let route = Arc::clone(&self.route);
            let Some(chosen) = route.choose(self.ticket, self.user, &self.tried) else {
                // What this table offered may be draining because a newer one has taken its place.
                if !self.refresh() {
                    held = Some(self.hold(held.take()).await?);
                }
                continue;
            };
            let counters = &chosen.release.counters;
            exchange.tries(counters, &chosen.flight.instance().id);
            match attempt(&self.client, &chosen.flight, request).await {
                Attempt::Answered(response, connection) => {
                    connection.clock().enter(Phase::Body);
                    return Ok(Taken { response, connection, flight: chosen.flight });
                }
                Attempt::Lost(refusal) => return Err(refusal),
                Attempt::Unsent(again) => {
                    request = again;
                    route.counters.record_connect_failure(counters);
                    self.tried.push(Arc::clone(chosen.flight.instance()));
                    self.refresh();
                }
            }
        }
    }

    /// Follows the table and says whether there is a newer one. A route that is gone is held on to:
    /// it has no instance to offer.
    fn refresh(&mut self) -> bool {
        let routes = self.client.shared.routes.load();
        match find(&self.client, &routes, &self.host) {
            Some(route) if !Arc::ptr_eq(&route, &self.route) => {
                self.route = route;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Waits for a newer table, as long as the service allows in all.
    async fn hold(&mut self, held: Option<Hold>) -> Result<Hold, Refusal> {
        let nothing = match self.tried.is_empty() {
            true => Refusal::NoInstance,
            false => Refusal::Unreachable,
        };
        let mut hold = match held {
            Some(hold) => hold,
            None => Hold::begin(&self.route, &self.client).ok_or(nothing)?,
        };
        // Subscribed first, so that no table comes unnoticed.
        while !self.refresh() {
            hold.wait().await.ok_or(nothing)?;
        }
        self.tried.clear();
        Ok(hold)
    }
}

/// A request that waits for an instance to become ready. Counted, so that waiting has a limit.
struct Hold {
    route: Arc<ServiceRoute>,
    changed: tokio::sync::watch::Receiver<u64>,
    until: tokio::time::Instant,
}

impl Hold {
    fn begin(route: &Arc<ServiceRoute>, client: &Client) -> Option<Hold> {
        if route.hold.is_zero() {
            return None;
        }
        let hold = Hold {
            route: Arc::clone(route),
            changed: client.shared.tables.subscribe(),
            until: tokio::time::Instant::now() + route.hold,
        };
        let held = route.counters.held.fetch_add(1, Relaxed);
        (held < client.limits().held_per_service_max).then_some(hold)
    }

    async fn wait(&mut self) -> Option<()> {
        if tokio::time::Instant::now() >= self.until {
            return None;
        }
        let changed = tokio::time::timeout_at(self.until, self.changed.changed()).await;
        changed.ok()?.ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.route.counters.held.fetch_sub(1, Relaxed);
    }
}

async fn attempt(client: &Client, flight: &InFlight, mut request: Request<RequestBody>) -> Attempt {
    let instance = flight.instance();
    let shared = &client.shared;
    loop {
        let (mut connection, fresh) = match pooled(instance).await {
            Some(connection) => (connection, false),
            None => match upstream::open(instance, &*shared.connector, &shared.limits).await {
                Ok(connection) => (connection, true),
                Err(_) => return Attempt::Unsent(request),
            },
        };
        request.body_mut().attach(connection.clock());
        let mut error = match connection.send(request).await {
            Ok(response) => return Attempt::Answered(response, connection),
            Err(error) => error,
        };
        match error.take_message() {
            // It died in the pool; that says nothing about the instance.
            Some(message) if !fresh => request = message,
            Some(message) => return Attempt::Unsent(message),
            None if connection.clock().timed_out() => return Attempt::Lost(Refusal::TimedOut),
            None => return Attempt::Lost(Refusal::Broken),
        }
    }
}

async fn pooled(instance: &Instance) -> Option<Pooled> {
    while let Some(mut connection) = instance.take_idle() {
        if connection.is_usable().await {
            return Some(connection);
        }
    }
    None
}

impl Client {
    /// Tells the access log of a request that reached no service.
    fn log_refusal(&self, parts: &request::Parts, status: StatusCode, started: Instant) {
        let Some(hook) = self.shared.access.get() else {
            return;
        };
        hook(&AccessRecord {
            project: "",
            environment: "",
            service: "",
            release: "",
            instance: "",
            method: &parts.method,
            path: parts.uri.path(),
            status: status.as_u16(),
            latency: started.elapsed(),
            bytes: 0,
            request_id: "",
        });
    }
}
