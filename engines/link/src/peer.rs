//! One connection after its greeting.
//!
//! In: calls and events of this side, frames of the other. Out: answers within their deadline, an [`Inbox`] of what
//! the other side asks and says, in its order. Never: a call without a deadline, an answer to the wrong call, a
//! silent peer that is taken for a living one.
//!
//! Two tasks per connection: one writes what is queued, one reads. An inbox that nobody empties stops the reading
//! (and so the other side) at its limit; a task that handles incoming calls must therefore not make calls itself
//! before it takes the next, but spawn.

use crate::error::LinkError;
use crate::frame::{Frame, FrameKind, read_frame};
use crate::greeting::Hello;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Frames that wait to be written; above it, senders wait.
const QUEUE_FRAMES: usize = 256;
/// Messages that wait to be taken; above it, nothing more is read.
const INBOX_MESSAGES: usize = 256;
/// Queued frames are written together up to so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// After so long without a frame the other side is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(15);
/// After so long without a frame it is not.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A connection. Cheap to clone; it ends when all clones are gone, or the other side ends it.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Frame>,
}

struct Shared {
    hello: Hello,
    version: u32,
    numbers: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Frame>>>,
    /// Becomes true when the connection has ended.
    ended: watch::Sender<bool>,
}

/// What the other side asks and says. Ends with the connection.
#[derive(Debug)]
pub struct Inbox {
    messages: mpsc::Receiver<Incoming>,
}

/// One message of the other side.
#[derive(Debug)]
pub enum Incoming {
    /// It wants an answer.
    Call(Call),
    /// It does not.
    Event(Event),
}

/// A call of the other side. Dropping it unanswered fails the call.
#[derive(Debug)]
pub struct Call {
    frame: Frame,
    queue: mpsc::Sender<Frame>,
    answered: bool,
}

/// An event of the other side.
#[derive(Debug)]
pub struct Event {
    frame: Frame,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("hello", &self.shared.hello).finish_non_exhaustive()
    }
}

impl Peer {
    /// Takes a greeted connection over. Must be called within a tokio runtime.
    pub(crate) fn start(stream: UnixStream, hello: Hello, version: u32) -> (Peer, Inbox) {
        let (queue, queued) = mpsc::channel(QUEUE_FRAMES);
        let (inbox, messages) = mpsc::channel(INBOX_MESSAGES);
        let shared = Arc::new(Shared {
            hello,
            version,
            numbers: AtomicU64::new(1),
            waiting: Mutex::default(),
            ended: watch::Sender::new(false),
        });
        let (reader, writer) = stream.into_split();
        let reading = Reading { shared: Arc::clone(&shared), queue: queue.downgrade(), inbox };
        tokio::spawn(write_all(writer, queued, Arc::clone(&shared)));
        tokio::spawn(reading.run(reader));
        (Peer { shared, queue }, Inbox { messages })
    }

    /// What the dialling side said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// The version both speak.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.shared.version
    }

    /// Whether the connection still stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !*self.shared.ended.borrow()
    }

    /// Returns when the connection has ended.
    pub async fn ended(&self) {
        let mut ended = self.shared.ended.subscribe();
        // The sender lives in `shared`, so this can only end by the value.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Ends the connection.
    pub fn end(&self) {
        self.shared.end();
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When no answer came in time, the connection ended, or the other side failed at it.
    pub async fn call<Q: Serialize, A: DeserializeOwned>(&self, question: &Q, limit: Duration) -> Result<A, LinkError> {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let frame = Frame::of(FrameKind::Call, number, question)?;
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(number, answer);
        // Whatever comes: the entry goes away with this call.
        let _entry = Entry { shared: &self.shared, number };
        let exchange = async {
            self.send(frame).await?;
            answered.await.map_err(|_| self.shared.closed())
        };
        let answer = tokio::time::timeout(limit, exchange).await.map_err(|_| LinkError::Timeout {
            peer: self.shared.hello.title(),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        })??;
        match answer.kind {
            FrameKind::Failed => Err(LinkError::Failed { peer: self.shared.hello.title(), text: answer.read()? }),
            _ => answer.read(),
        }
    }

    /// Says something; returns when it is queued, waiting while the queue is full.
    ///
    /// # Errors
    /// When the connection has ended, or the event is too large.
    pub async fn event<E: Serialize>(&self, event: &E) -> Result<(), LinkError> {
        self.send(Frame::of(FrameKind::Event, 0, event)?).await
    }

    async fn send(&self, frame: Frame) -> Result<(), LinkError> {
        let mut ended = self.shared.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => Err(self.shared.closed()),
            sent = self.queue.send(frame) => sent.map_err(|_| self.shared.closed()),
        }
    }
}

/// A call that waits.
struct Entry<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.number);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Frame>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> LinkError {
        LinkError::Closed { peer: self.hello.title() }
    }

    /// Fails every call that waits, and tells who watches.
    fn end(&self) {
        self.ended.send_replace(true);
        self.waiting().clear();
    }
}

impl Inbox {
    /// The next message; nothing once the connection has ended and all was taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.messages.recv().await
    }
}

impl Call {
    /// What is asked.
    ///
    /// # Errors
    /// When it is not the expected type.
    pub fn read<Q: DeserializeOwned>(&self) -> Result<Q, LinkError> {
        self.frame.read()
    }

    /// Answers.
    pub async fn answer<A: Serialize>(mut self, answer: &A) {
        let frame = Frame::of(FrameKind::Answer, self.frame.number, answer)
            .unwrap_or_else(|error| failed(self.frame.number, &error.to_string()));
        self.answered = true;
        // The connection may have ended: then nobody waits for it.
        let _ = self.queue.send(frame).await;
    }

    /// Says why it cannot be answered.
    pub async fn fail(mut self, text: &str) {
        self.answered = true;
        let _ = self.queue.send(failed(self.frame.number, text)).await;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.queue.try_send(failed(self.frame.number, "it was not answered"));
        }
    }
}

fn failed(number: u64, text: &str) -> Frame {
    let body = serde_json::to_vec(text).unwrap_or_else(|_| b"\"it failed\"".to_vec());
    Frame { kind: FrameKind::Failed, number, body }
}

impl Event {
    /// What is said.
    ///
    /// # Errors
    /// When it is not the expected type.
    pub fn read<E: DeserializeOwned>(&self) -> Result<E, LinkError> {
        self.frame.read()
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<Frame>, shared: Arc<Shared>) {
    let mut ended = shared.ended.subscribe();
    let mut bytes = Vec::new();
    loop {
        let frame = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => break,
            frame = queued.recv() => frame,
        };
        let Some(frame) = frame else { break };
        frame.write(&mut bytes);
        while bytes.len() < BATCH_BYTES {
            match queued.try_recv() {
                Ok(frame) => frame.write(&mut bytes),
                Err(_) => break,
            }
        }
        // A side that takes no byte for so long is as silent as one that sends none.
        let written = tokio::time::timeout(SILENCE_MAX, writer.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
        bytes.clear();
        if bytes.capacity() > BATCH_BYTES {
            bytes = Vec::new();
        }
    }
    let _ = writer.shutdown().await;
    shared.end();
}

/// The reading side of a connection. It does not keep the connection open by itself.
struct Reading {
    shared: Arc<Shared>,
    queue: mpsc::WeakSender<Frame>,
    inbox: mpsc::Sender<Incoming>,
}

impl Reading {
    async fn run(self, reader: OwnedReadHalf) {
        let mut reader = BufReader::new(reader);
        let mut ended = self.shared.ended.subscribe();
        loop {
            let frame = tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => break,
                frame = self.next_frame(&mut reader) => frame,
            };
            let Some(frame) = frame else { break };
            if !self.take(frame).await {
                break;
            }
        }
        self.shared.end();
    }

    /// The next frame; nothing when the other side is gone, or silent for too long.
    async fn next_frame(&self, reader: &mut BufReader<OwnedReadHalf>) -> Option<Frame> {
        let read = read_frame(reader);
        tokio::pin!(read);
        let since = Instant::now();
        loop {
            let asked = since.elapsed() >= PING_AFTER;
            let until = since + if asked { SILENCE_MAX } else { PING_AFTER };
            match tokio::time::timeout_at(until, &mut read).await {
                Ok(frame) => return frame.ok().flatten(),
                Err(_) if asked => return None,
                Err(_) => {
                    let ping = self.queue.upgrade()?.try_send(Frame::empty(FrameKind::Ping));
                    // A full queue: the other side will be found out by the writing.
                    drop(ping);
                }
            }
        }
    }

    /// Says whether to go on.
    async fn take(&self, frame: Frame) -> bool {
        match frame.kind {
            FrameKind::Answer | FrameKind::Failed => {
                let waiting = self.shared.waiting().remove(&frame.number);
                // Nobody waits any more: its deadline has passed.
                let _ = waiting.map(|waiting| waiting.send(frame));
                true
            }
            FrameKind::Call => {
                let Some(queue) = self.queue.upgrade() else { return false };
                let call = Call { frame, queue, answered: false };
                self.deliver(Incoming::Call(call)).await
            }
            FrameKind::Event => self.deliver(Incoming::Event(Event { frame })).await,
            FrameKind::Ping => {
                let Some(queue) = self.queue.upgrade() else { return false };
                let _ = queue.try_send(Frame::empty(FrameKind::Pong));
                true
            }
            FrameKind::Pong => true,
            FrameKind::Hello | FrameKind::Welcome | FrameKind::Refuse => false,
        }
    }

    async fn deliver(&self, message: Incoming) -> bool {
        let mut ended = self.shared.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => false,
            // Without an inbox this side listens to nothing, but may still ask.
            _ = self.inbox.send(message) => true,
        }
    }
}
