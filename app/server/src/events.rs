//! The event log as server-sent events, resumable by number.
//!
//! In: `after=N` (or `Last-Event-ID`), `project`, `change`. Out: one event per fact, in order, without gaps. Never: drops one
//! because the reader is slow; such a reader gets them from the journal.

use crate::{Caller, Problem, Server};
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use slipway_model::Fact;
use slipway_model::view::Event;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};

/// A silent stream says so now and then, so that a lost connection is noticed.
const KEEP_ALIVE_MS: u64 = 15_000;
/// Facts read at once: a plan of many services is large, and every stream holds what it has read.
const BATCH: usize = 50;
/// Streams at once.
const STREAMS: usize = 256;
/// Places of streams.
static PLACES: Semaphore = Semaphore::const_new(STREAMS);
/// A comment of the stream: everything before it had happened when it was asked for, all after it is new.
const NOW: &str = ": now\n\n";

#[derive(Deserialize)]
pub struct EventsQuery {
    after: Option<u64>,
    project: Option<String>,
    change: Option<String>,
}

struct Stream {
    server: Server,
    caller: Caller,
    project: Option<String>,
    change: Option<String>,
    live: broadcast::Receiver<Arc<Fact>>,
    ready: VecDeque<Arc<Fact>>,
    n: u64,
    caught_up: bool,
    said_now: bool,
    _place: SemaphorePermit<'static>,
}

/// `GET /api/v1/events`.
pub async fn events(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = PLACES.try_acquire() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "streams", format!("{STREAMS} event streams are open"))
            .hint("close one; each `slipway watch` and `slipway up` has one")
            .into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    // What is recorded counts, not what was read so far: a server that has just started still reads.
    let newest = *server.road().stages().store.newest().borrow();
    let stream = Stream {
        live: server.road().live(),
        n: query.after.or(last).unwrap_or(newest),
        project: query.project,
        change: query.change,
        server,
        caller,
        ready: VecDeque::new(),
        caught_up: false,
        said_now: false,
        _place: place,
    };
    let body = futures::stream::unfold(stream, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), stream))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(body)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some(fact) = self.ready.pop_front() {
                if fact.n <= self.n {
                    continue;
                }
                self.n = fact.n;
                let of_change = |wanted: &String| fact.change.as_ref().is_some_and(|change| change.as_str() == wanted);
                let wanted = self.project.as_ref().is_none_or(|project| fact.project.as_str() == project)
                    && self.change.as_ref().is_none_or(of_change);
                if wanted && self.caller.may("events", Some(&fact.project)) {
                    let data = serde_json::to_string(&Event::from(&*fact)).unwrap_or_default();
                    return Some(format!("id: {}\ndata: {data}\n\n", fact.n));
                }
            }
            if !self.caught_up {
                self.read_journal().await?;
                continue;
            }
            if !self.said_now {
                self.said_now = true;
                return Some(NOW.into());
            }
            let silence = self.server.road().stages().clock.sleep(KEEP_ALIVE_MS);
            tokio::select! {
                fact = self.live.recv() => match fact {
                    Ok(fact) => self.ready.push_back(fact),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.caught_up = false,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = silence => return Some(": still here\n\n".into()),
            }
        }
    }

    async fn read_journal(&mut self) -> Option<()> {
        let facts = self.server.road().stages().store.since(self.n, BATCH).await.ok()?;
        self.caught_up = facts.len() < BATCH;
        self.ready.extend(facts.into_iter().map(Arc::new));
        Some(())
    }
}
