//! The two bodies that pass through: the request's, with the limits of clients, and the response's,
//! whose end is the end of the exchange.
//!
//! In: frames of one connection. Out: the same frames on the other. Never buffers more than a frame
//! (and the first 512 bytes of a failed response, for its sample).
//!
//! hyper does not poll a body any more that says `is_end_stream`; whatever must happen at the end
//! therefore happens at the last frame, or in `Drop`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::clock::{Phase, UpstreamClock};
use crate::exchange::{Exchange, Outcome};
use crate::instance::InFlight;
use crate::listener::Client;
use crate::stats::samples::FailureKind;
use crate::upstream::Pooled;

/// Why a request body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("request body is larger than the limit")]
    TooLarge,
    #[error("client broke the request body off")]
    Broken,
}

// 0 while it runs.
const COMPLETE: u8 = 1;
const TOO_LARGE: u8 = 2;
const BROKEN: u8 = 3;

/// How far the request body is, for those who no longer hold it.
#[derive(Debug, Default)]
pub(crate) struct BodyProgress(AtomicU8);

impl BodyProgress {
    pub(crate) fn is_complete(&self) -> bool {
        self.0.load(Relaxed) == COMPLETE
    }

    pub(crate) fn fault(&self) -> Option<BodyFault> {
        match self.0.load(Relaxed) {
            TOO_LARGE => Some(BodyFault::TooLarge),
            BROKEN => Some(BodyFault::Broken),
            _ => None,
        }
    }
}

/// The body of a request on its way to an instance.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// It comes from the client while the request is on its way.
    Streaming(Box<Upload>),
}

pub(crate) struct Upload {
    inner: Incoming,
    left: u64,
    progress: Arc<BodyProgress>,
    client: Arc<Client>,
    upstream: Option<Arc<UpstreamClock>>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, client: &Arc<Client>) -> Self {
        if inner.is_end_stream() {
            return RequestBody::Empty;
        }
        RequestBody::Streaming(Box::new(Upload {
            inner,
            left: client.limits().body_bytes_max,
            progress: Arc::default(),
            client: Arc::clone(client),
            upstream: None,
        }))
    }

    pub(crate) fn progress(&self) -> Option<Arc<BodyProgress>> {
        match self {
            RequestBody::Empty => None,
            RequestBody::Streaming(upload) => Some(Arc::clone(&upload.progress)),
        }
    }

    /// Tells the body whose clock runs while the client owes a part of it.
    pub(crate) fn attach(&mut self, clock: &Arc<UpstreamClock>) {
        match self {
            RequestBody::Empty => {}
            RequestBody::Streaming(upload) => upload.upstream = Some(Arc::clone(clock)),
        }
    }
}

impl Upload {
    fn owes(&self, phase: Phase) {
        if phase == Phase::Uploading {
            self.client.clock.body_owed();
        } else {
            self.client.clock.body_progress();
        }
        if let Some(clock) = &self.upstream {
            clock.enter(phase);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(cx) else {
                self.owes(Phase::Uploading);
                return Poll::Pending;
            };
            self.owes(Phase::AwaitingHead);
            let frame = match next {
                None => {
                    self.progress.0.store(COMPLETE, Relaxed);
                    return Poll::Ready(None);
                }
                Some(Err(_)) => {
                    self.progress.0.store(BROKEN, Relaxed);
                    return Poll::Ready(Some(Err(BodyFault::Broken)));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers of a request are not passed on: they could pose as header fields.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.progress.0.store(TOO_LARGE, Relaxed);
                    return Poll::Ready(Some(Err(BodyFault::TooLarge)));
                }
            }
            if self.inner.is_end_stream() {
                self.progress.0.store(COMPLETE, Relaxed);
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Streaming(upload) => upload.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming(upload) => upload.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streaming(upload) => upload.inner.size_hint(),
        }
    }
}

/// Tells the client's clock that its request is over.
pub(crate) struct Turn(pub(crate) Arc<Client>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.clock.request_ends();
    }
}

/// The body of a response on its way to the client.
pub(crate) struct ResponseBody {
    source: Source,
    turn: Option<Turn>,
}

enum Source {
    Done,
    Page(Bytes),
    Instance(Box<Download>),
}

/// A response body that an instance still sends, and all that ends with it.
pub(crate) struct Download {
    pub(crate) inner: Incoming,
    pub(crate) exchange: Exchange,
    pub(crate) flight: InFlight,
    /// The connection, unless it cannot be used again.
    pub(crate) connection: Option<Pooled>,
    pub(crate) upload: Option<Arc<BodyProgress>>,
}

impl Download {
    fn complete(self) {
        let Download { exchange, flight, connection, upload, .. } = self;
        let uploaded = upload.is_none_or(|upload| upload.is_complete());
        if let Some(connection) = connection.filter(|_| uploaded) {
            connection.clock().enter(Phase::Idle);
            let most = exchange.client().limits().pool_connections_max;
            flight.instance().put_idle(connection, most);
        }
        drop(flight);
        exchange.finish(Outcome::Answered);
    }

    fn end(self, outcome: Outcome) {
        drop(self.connection);
        drop(self.flight);
        self.exchange.finish(outcome);
    }
}

impl ResponseBody {
    pub(crate) fn page(text: Bytes, turn: Turn) -> Self {
        ResponseBody { source: Source::Page(text), turn: Some(turn) }
    }

    pub(crate) fn from_instance(download: Download, turn: Turn) -> Self {
        let ended = download.inner.is_end_stream();
        let mut body = ResponseBody { source: Source::Instance(Box::new(download)), turn: Some(turn) };
        if ended {
            body.complete();
        }
        body
    }

    fn take(&mut self) -> Option<Box<Download>> {
        match std::mem::replace(&mut self.source, Source::Done) {
            Source::Instance(download) => Some(download),
            Source::Done | Source::Page(_) => None,
        }
    }

    fn complete(&mut self) {
        if let Some(download) = self.take() {
            download.complete();
        }
        self.turn = None;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let download = match &mut this.source {
            Source::Done => return Poll::Ready(None),
            Source::Page(text) => {
                let text = std::mem::take(text);
                this.complete();
                return Poll::Ready(Some(Ok(Frame::data(text))));
            }
            Source::Instance(download) => download,
        };
        match ready!(Pin::new(&mut download.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    download.exchange.body_passes(data);
                }
                if download.inner.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                if let Some(download) = this.take() {
                    let late = download.connection.as_ref();
                    let kind = match late.is_some_and(|c| c.clock().timed_out()) {
                        true => FailureKind::TimedOut,
                        false => FailureKind::Broken,
                    };
                    download.end(Outcome::Failed(kind));
                }
                this.turn = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Page(_) => false,
            Source::Instance(download) => download.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Page(text) => SizeHint::with_exact(text.len() as u64),
            Source::Instance(download) => download.inner.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(download) = self.take() {
            // Not all of the body was fetched: the client went away. It had its status.
            if download.inner.is_end_stream() {
                download.complete();
            } else {
                download.end(Outcome::Answered);
            }
        }
    }
}
