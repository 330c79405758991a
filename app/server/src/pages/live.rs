//! What keeps a page alive: a stream that says that something was recorded, and that the connection stands.
//!
//! In: `after=N`, the last fact that the page has seen. Out: `hello` with the newest fact and our build, `changed` when
//! facts of what the page may show were recorded, `beat` when not. Never: the facts themselves; the page asks for itself
//! again, which is the same HTML that a browser without scripts gets.

use super::assets;
use crate::{Caller, Problem, Server};
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;
use slipway_model::Fact;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};

/// Silence after which the stream says that it lives; a page that hears nothing for three of them says so.
const BEAT: Duration = Duration::from_secs(2);
/// Facts that come together are one change of the page.
const TOGETHER: Duration = Duration::from_millis(120);
/// Streams at once; beyond it pages are asked for again by time.
const STREAMS: usize = 512;
static PLACES: Semaphore = Semaphore::const_new(STREAMS);

#[derive(Deserialize)]
pub struct Asked {
    after: Option<u64>,
    project: Option<String>,
}

struct Stream {
    server: Server,
    caller: Caller,
    project: Option<String>,
    live: broadcast::Receiver<Arc<Fact>>,
    after: u64,
    greeted: bool,
    _place: SemaphorePermit<'static>,
}

/// `GET /live?after=N&project=NAME`.
pub async fn live(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(place) = PLACES.try_acquire() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "streams", format!("{STREAMS} pages are open"))
            .hint("close some; each open page has one stream")
            .into_response();
    };
    let live = server.road().live();
    let newest = server.road().look(|projection| projection.n);
    let stream = Stream {
        live,
        after: asked.after.unwrap_or(newest),
        project: asked.project.filter(|project| !project.is_empty()),
        server,
        caller,
        greeted: false,
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
        if !self.greeted {
            self.greeted = true;
            let n = self.server.road().look(|projection| projection.n);
            let behind = n != self.after;
            self.after = n;
            return Some(format!(
                "event: hello\ndata: {{\"n\":{n},\"behind\":{behind},\"build\":\"{}\"}}\n\n",
                assets::build()
            ));
        }
        // A session that has ended shows nothing any more.
        if self.caller.expires.is_some_and(|expires| expires <= self.server.now()) {
            return None;
        }
        match tokio::time::timeout(BEAT, self.wanted()).await {
            Err(_) => Some("event: beat\ndata: \n\n".into()),
            Ok(false) => None,
            Ok(true) => {
                let _ = tokio::time::timeout(TOGETHER, self.drain()).await;
                // The page must not ask before what it asks for was taken up.
                let n = self.server.road().look(|projection| projection.n);
                self.after = n;
                Some(format!("event: changed\ndata: {n}\n\n"))
            }
        }
    }

    /// Waits for a fact that the page is about; false when none will come any more.
    async fn wanted(&mut self) -> bool {
        loop {
            match self.live.recv().await {
                Ok(fact) => {
                    let of = self.project.as_ref().is_none_or(|project| fact.project.as_str() == project);
                    if of && self.caller.may("page", Some(&fact.project)) {
                        return true;
                    }
                }
                // It fell behind, so something was recorded.
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }

    async fn drain(&mut self) {
        while self.live.recv().await.is_ok() {}
    }
}
