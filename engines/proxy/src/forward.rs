//! The road of one request: given to instances until one has taken it, answered.
//!
//! In: a request that was admitted. Out: always an answer, unless the client is gone. Gives a request to a second
//! instance only while no byte of it was sent to the first.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use http::{Method, StatusCode};

use crate::access::AccessRecord;
use crate::answer::Answer;
use crate::asked::Asked;
use crate::clock::{Clock, Phase};
use crate::exchange::{Exchange, Outcome};
use crate::instance::{InFlight, Instance};
use crate::limits::Limits;
use crate::link::{self, Link};
use crate::listener::{Binding, Client};
use crate::pages::{self, Page, Reader, Refusal};
use crate::routes::{ServiceRoute, fnv};
use crate::side::{Fault, Piece};
use crate::stats::samples::FailureKind;
use crate::table::Protocol;
use crate::transfer::{self, Stop, Transfer, Tunnelled};
use crate::unavailable::takes_html;
use crate::wire::Framing;

/// Heads that may come before the final one; a program that sends more does so by mistake.
const INTERIM_MAX: usize = 16;

/// A client, over whichever protocol.
pub(crate) trait ClientSide: Tunnelled {
    /// Begins the response. `keep` is whether the connection may go on behind it; says whether it will.
    fn begin(&mut self, answer: &Answer, old: bool, keep: bool) -> bool;
    /// A head that is not the final one.
    fn inform(&mut self, answer: &Answer);
    /// Drops what is left of the request's body, if all of it has come already.
    fn skip_body(&mut self) -> bool;
    /// Breaks off, so that what was sent is not taken for all.
    fn abort(&mut self);
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    Again,
    Close,
    /// Closed, once what the client still sends has been read away: closing with unread bytes would reset the
    /// connection, and the client might never see the answer.
    Linger,
}

/// Answers one request.
pub(crate) async fn answer<C: ClientSide>(client: &Arc<Client>, clock: &Clock, side: &mut C, asked: &Asked) -> After {
    let started = Instant::now();
    clock.enter(Phase::Answer);
    let Some(route) = client.find(&asked.host) else {
        client.log_refusal(&asked.method, asked.path(), StatusCode::NOT_FOUND, started);
        return say(client, clock, side, asked, pages::refuse(Refusal::Unknown, &asked.method)).await;
    };
    let at_first = Arc::clone(&route);
    let mut exchange = Exchange::new(client, asked, &route.counters, started);
    let outcome = match route.counters.in_flight.load(Relaxed) > client.limits().in_flight_per_service_max {
        true => Err(Refusal::TooManyInFlight.into()),
        false => {
            let search = Search {
                ticket: route.counters.ticket(),
                user: match asked.user {
                    std::net::IpAddr::V4(v4) => fnv(&v4.octets()),
                    std::net::IpAddr::V6(v6) => fnv(&v6.octets()),
                },
                client,
                route,
                tried: Vec::new(),
            };
            match search.run(&mut exchange, clock, side).await {
                Ok(taken) => Given { client, clock, side, asked, exchange: &mut exchange }.finish(taken).await,
                Err(refusal) => Err(refusal.into()),
            }
        }
    };
    let refusal = match outcome {
        Ok(Ended { outcome, after }) => {
            exchange.finish(outcome);
            return after;
        }
        Err(Failed::Gone) => return After::Close,
        Err(Failed::Refused(refusal)) => refusal,
    };
    let reader = Reader { takes_html: takes_html(asked.text()), notice: &at_first.notice };
    clock.goes_on(Phase::Writing);
    say(client, clock, side, asked, pages::end(refusal, reader, exchange)).await
}

/// Sends a page.
pub(crate) async fn say<C: ClientSide>(
    client: &Client,
    clock: &Clock,
    side: &mut C,
    asked: &Asked,
    page: Page,
) -> After {
    let whole = side.skip_body();
    let keep = !page.closes && whole && asked.keep && !client.is_finishing();
    let keep = side.begin(&page.answer, asked.old, keep);
    let put = side.put(page.text.as_bytes()).and_then(|()| side.end(&[]));
    match put.is_ok() && transfer::sent(side, clock).await {
        false => After::Close,
        true if keep => After::Again,
        true => After::Linger,
    }
}

/// How an exchange ended once the client has the head of the response.
struct Ended {
    outcome: Outcome,
    after: After,
}

/// Why the client gets no response of an instance.
enum Failed {
    Refused(Refusal),
    /// The client is gone itself.
    Gone,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        Failed::Refused(refusal)
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Failed {
        Failed::Refused(match stop {
            Stop::ClientGone => return Failed::Gone,
            Stop::ClientLate => Refusal::BodyLate,
            Stop::ClientMalformed => Refusal::BodyMalformed,
            Stop::TooLarge => Refusal::BodyTooLarge,
            Stop::Broken => Refusal::Broken,
            Stop::Late => Refusal::TimedOut,
        })
    }
}

/// An instance has begun to get the request.
struct Taken {
    link: Link,
    flight: InFlight,
    /// Bytes of the body that it has already.
    sent: usize,
}

/// A request that an instance has.
struct Given<'a, 'e, C> {
    client: &'a Client,
    clock: &'a Clock,
    side: &'a mut C,
    asked: &'a Asked,
    exchange: &'a mut Exchange<'e>,
}

impl<C: ClientSide> Given<'_, '_, C> {
    async fn finish(self, taken: Taken) -> Result<Ended, Failed> {
        let Taken { link, flight, sent } = taken;
        let limits = self.client.limits();
        if self.asked.expects && matches!(link, Link::Http2(_)) {
            // Nobody else would say it: flow control does the same within HTTP/2.
            self.side.inform(&Answer::own(StatusCode::CONTINUE));
        }
        let mut transfer = Transfer::new(self.side, link, self.clock, limits, self.asked, sent);
        let answer = final_answer(&mut transfer, self.asked).await?;
        if answer.set_own_cookie {
            self.exchange.service().set_own_cookie(&self.client.shared);
        }
        self.exchange.answers(answer.status);
        let keep = self.asked.keep && !self.client.is_finishing();
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            transfer.client.begin(&answer, self.asked.old, true);
            self.exchange.upgraded();
            upgraded(transfer.client, &mut transfer.instance, &flight, self.clock).await;
            return Ok(Ended { outcome: Outcome::Answered, after: After::Close });
        }
        let keep = transfer.client.begin(&answer, self.asked.old, keep);
        let exchange = &mut *self.exchange;
        let body = transfer.body(|data| exchange.body_passes(data)).await;
        let uploaded = transfer.is_uploaded();
        let Transfer { client, instance: link, .. } = transfer;
        let outcome = match body {
            Ok(()) => Outcome::Answered,
            Err(Stop::Broken) => Outcome::Failed(FailureKind::Broken),
            Err(Stop::Late) => Outcome::Failed(FailureKind::TimedOut),
            // It had its status.
            Err(Stop::ClientGone | Stop::ClientLate | Stop::ClientMalformed | Stop::TooLarge) => Outcome::Answered,
        };
        if body.is_err() {
            client.abort();
            return Ok(Ended { outcome, after: After::Close });
        }
        if uploaded && answer.keep {
            link.give_back(flight.instance(), limits);
        }
        // The instance is done; the client may take its time.
        drop(flight);
        let sent = transfer::sent(client, self.clock).await;
        let after = match (sent, keep && uploaded) {
            (false, _) => After::Close,
            (true, true) => After::Again,
            (true, false) if uploaded => After::Close,
            (true, false) => After::Linger,
        };
        Ok(Ended { outcome, after })
    }
}

/// The head of the response; what comes before it is passed on.
async fn final_answer<C: ClientSide>(transfer: &mut Transfer<'_, C>, asked: &Asked) -> Result<Answer, Failed> {
    for _ in 0..INTERIM_MAX {
        let answer = transfer.answer().await?;
        match answer.status {
            StatusCode::SWITCHING_PROTOCOLS if asked.upgrade.is_some() && answer.upgrade.is_some() => {
                return Ok(answer);
            }
            // Nobody asked to switch protocols.
            StatusCode::SWITCHING_PROTOCOLS => return Err(Refusal::Broken.into()),
            status if !status.is_informational() => return Ok(answer),
            // Sent only to those who wait for it; HTTP/1.0 knows no interim answers.
            StatusCode::CONTINUE if !asked.expects => {}
            _ if asked.old => {}
            _ => {
                transfer.client.inform(&answer);
                if !transfer::sent(transfer.client, transfer.clock).await {
                    return Err(Failed::Gone);
                }
            }
        }
    }
    Err(Refusal::Broken.into())
}

/// Bytes in both directions, until they end or the instance's drain does.
async fn upgraded<C: ClientSide>(side: &mut C, link: &mut Link, flight: &InFlight, clock: &Clock) {
    let tunnel = flight.instance().tunnel();
    side.open();
    link.open();
    tokio::select! {
        biased;
        () = transfer::tunnel(side, link, clock) => {}
        () = tunnel.cut() => {
            // What the instance has said goes out before the end does.
            transfer::sent(side, clock).await;
            let _ = poll_fn(|cx| side.poll_close(cx)).await;
        }
    }
}

/// What one instance made of the request.
enum Attempt {
    Taken(Link, usize),
    /// No byte was sent.
    Unsent,
    /// The request itself is at fault.
    Lost(Refusal),
}

/// Looks for an instance that takes the request.
struct Search<'a> {
    client: &'a Client,
    route: Arc<ServiceRoute>,
    ticket: u64,
    user: u64,
    tried: Vec<Arc<Instance>>,
}

impl Search<'_> {
    async fn run<C: ClientSide>(
        mut self,
        exchange: &mut Exchange<'_>,
        clock: &Clock,
        side: &mut C,
    ) -> Result<Taken, Refusal> {
        let mut held = None;
        loop {
            let route = Arc::clone(&self.route);
            let Some(chosen) = route.choose(self.ticket, self.user, &self.tried) else {
                // What this table offered may be draining because a newer one has taken its place.
                if !self.refresh(&exchange.asked.host) {
                    held = Some(self.hold(held.take(), &exchange.asked.host).await?);
                    clock.enter(Phase::Answer);
                }
                continue;
            };
            let counters = &chosen.release.counters;
            exchange.tries(counters, &chosen.flight.instance().id);
            match attempt(self.client, &chosen.flight, side, exchange.asked, route.protocol).await {
                Attempt::Taken(link, sent) => return Ok(Taken { link, flight: chosen.flight, sent }),
                Attempt::Lost(refusal) => return Err(refusal),
                Attempt::Unsent => {
                    route.counters.record_connect_failure(counters);
                    self.tried.push(Arc::clone(chosen.flight.instance()));
                    self.refresh(&exchange.asked.host);
                }
            }
        }
    }

    /// Follows the table and says whether there is a newer one. A route that is gone is held on to:
    /// it has no instance to offer.
    fn refresh(&mut self, host: &str) -> bool {
        match self.client.find(host) {
            Some(route) if !Arc::ptr_eq(&route, &self.route) => {
                self.route = route;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Waits for a newer table, as long as the service allows in all.
    async fn hold(&mut self, held: Option<Hold>, host: &str) -> Result<Hold, Refusal> {
        let nothing = match self.tried.is_empty() {
            true => Refusal::NoInstance,
            false => Refusal::Unreachable,
        };
        let mut hold = match held {
            Some(hold) => hold,
            None => Hold::begin(&self.route, self.client).ok_or(nothing)?,
        };
        // Subscribed first, so that no table comes unnoticed.
        while !self.refresh(host) {
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

/// Gives the request to an instance: over a connection that waits for one, as long as one is alive, else over a new
/// one.
async fn attempt<C: ClientSide>(
    client: &Client,
    flight: &InFlight,
    side: &mut C,
    asked: &Asked,
    protocol: Protocol,
) -> Attempt {
    let shared = &client.shared;
    let instance = flight.instance();
    loop {
        let (mut link, fresh) = if asked.grpc || protocol == Protocol::H2c {
            match link::call(instance, &*shared.connector, &shared.limits, asked).await {
                Ok(link) => (link, true),
                Err(_) => return Attempt::Unsent,
            }
        } else {
            match pooled(instance, &shared.limits) {
                Some(link) => (link, false),
                None => match link::open(instance, &*shared.connector, &shared.limits).await {
                    Ok(link) => (link, true),
                    Err(_) => return Attempt::Unsent,
                },
            }
        };
        // What of the body is there already goes with the head.
        let first = match asked.framing {
            Framing::None => Poll::Pending,
            _ => poll_fn(|cx| Poll::Ready(side.poll_piece(cx))).await,
        };
        let piece = match first {
            Poll::Ready(Err(Fault::Malformed)) => return Attempt::Lost(Refusal::BodyMalformed),
            Poll::Ready(Ok(Piece::Data)) => side.piece(),
            _ => &[],
        };
        if piece.len() as u64 > client.limits().body_bytes_max {
            return Attempt::Lost(Refusal::BodyTooLarge);
        }
        let sent = piece.len();
        if link.begin(asked, piece).is_err() {
            return Attempt::Lost(Refusal::BodyMalformed);
        }
        match poll_fn(|cx| link.poll_begun(cx)).await {
            Ok(()) => {
                if sent > 0 {
                    side.consume();
                }
                return Attempt::Taken(link, sent);
            }
            // It died in the pool; that says nothing about the instance.
            Err(_) if !fresh => {}
            Err(_) => return Attempt::Unsent,
        }
    }
}

fn pooled(instance: &Instance, limits: &Limits) -> Option<Link> {
    while let Some(pooled) = instance.take_idle() {
        if !pooled.is_stale(limits.pool_idle) && pooled.is_usable() {
            return Some(pooled.into_link());
        }
    }
    None
}

impl Client {
    /// The service that is asked for by this name, or by the port.
    fn find(&self, host: &str) -> Option<Arc<ServiceRoute>> {
        let routes = self.shared.routes.load();
        match self.binding {
            Binding::Port(port) => routes.by_port(port).cloned(),
            Binding::Hosts => routes.by_host(host).cloned(),
        }
    }

    /// Tells the access log of a request that reached no service.
    pub(crate) fn log_refusal(&self, method: &Method, path: &str, status: StatusCode, started: Instant) {
        let Some(hook) = self.shared.access.get() else {
            return;
        };
        hook(&AccessRecord {
            project: "",
            environment: "",
            service: "",
            release: "",
            instance: "",
            method,
            path,
            status: status.as_u16(),
            latency: started.elapsed(),
            bytes: 0,
            request_id: "",
        });
    }
}
