//! The node's end of the link: dials the control plane, says what happens, does what is asked.
//!
//! In: the socket's path, events. Out: answers. While nobody is there, events are dropped: everything is shown anew
//! to whoever comes. Never lets one slow question hold up another.

use crate::life::Common;
use crate::logs;
use crate::protocol::{Ask, Refusal, Say};
use crate::smoke::smoke;
use crate::supervisor::Message;
use crate::traffic;
use slipway_link::{Call, Dialler, Inbox, Incoming, Peer};
use slipway_model::InstanceId;
use slipway_ports::NodeEvent;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

/// Questions and log streams that go on at once; above it, further questions wait.
const QUESTIONS_MAX: usize = 256;

/// What the uplink needs to answer.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) common: Arc<Common>,
    pub(crate) supervisor: mpsc::Sender<Message>,
    streams: Arc<Mutex<HashMap<u64, AbortHandle>>>,
}

impl Desk {
    pub(crate) fn new(common: Arc<Common>, supervisor: mpsc::Sender<Message>) -> Desk {
        Desk { common, supervisor, streams: Arc::default() }
    }
}

/// Stays connected for ever. Dropping the future ends the connection.
pub(crate) async fn run(mut dialler: Dialler, desk: Desk, mut outbox: mpsc::Receiver<NodeEvent>) {
    loop {
        let connecting = dialler.connect();
        tokio::pin!(connecting);
        let (peer, inbox) = loop {
            tokio::select! {
                connected = &mut connecting => break connected,
                event = outbox.recv() => if event.is_none() { return },
            }
        };
        serve(&peer, inbox, &desk, &mut outbox).await;
        peer.end();
    }
}

async fn serve(peer: &Peer, mut inbox: Inbox, desk: &Desk, outbox: &mut mpsc::Receiver<NodeEvent>) {
    let mut questions = JoinSet::new();
    if desk.supervisor.send(Message::ShowAll).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            incoming = inbox.next(), if questions.len() < QUESTIONS_MAX => match incoming {
                Some(Incoming::Call(call)) => answer(call, peer, desk, &mut questions),
                // The control plane says nothing without asking.
                Some(Incoming::Event(_)) => {}
                None => return,
            },
            event = outbox.recv() => {
                let Some(event) = event else { return };
                if peer.event(&Say::Event { event }).await.is_err() {
                    return;
                }
            }
            () = peer.ended() => return,
            Some(_) = questions.join_next(), if !questions.is_empty() => {}
        }
    }
}

fn answer(call: Call, peer: &Peer, desk: &Desk, questions: &mut JoinSet<()>) {
    let (peer, desk) = (peer.clone(), desk.clone());
    match call.read::<Ask>() {
        Ok(Ask::Logs { stream, wanted }) => {
            let streams = Arc::clone(&desk.streams);
            let handle = questions.spawn(async move {
                call.answer(&()).await;
                let data = desk.common.starter.data.clone();
                logs::serve(data, &desk.common.bell, peer, stream, wanted).await;
                desk.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
            });
            streams.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, handle);
        }
        Ok(ask) => {
            questions.spawn(async move { do_it(ask, call, &desk).await });
        }
        Err(error) => {
            questions.spawn(async move { call.fail(&error.to_string()).await });
        }
    }
}

async fn do_it(ask: Ask, call: Call, desk: &Desk) {
    match ask {
        Ask::Wish { wish } => {
            let taken = desk.ask(|answer| Message::Wish(Box::new(wish), answer)).await;
            let ends = || Err(Refusal::Refused { reason: "the node is ending".into() });
            call.answer(&taken.unwrap_or_else(ends)).await;
        }
        Ask::Observe { lane } => {
            let seen = desk.ask(|answer| Message::Observe(lane, answer)).await;
            call.answer(&seen.flatten()).await;
        }
        Ask::Smoke { lane, release, requests } => {
            let ready: Option<Vec<InstanceId>> = desk.ask(|answer| Message::Ready(lane, release, answer)).await;
            let answers = smoke(&desk.common.inside, &ready.unwrap_or_default(), &requests).await;
            call.answer(&answers).await;
        }
        Ask::LogTail { lane, release, lines } => {
            let data = desk.common.starter.data.clone();
            let read = tokio::task::spawn_blocking(move || logs::tail(&data, &lane, &release, lines));
            call.answer(&read.await.unwrap_or_default()).await;
        }
        Ask::Counts { lane } => call.answer(&traffic::counts(&desk.common.proxy, &lane)).await,
        Ask::LogsEnd { stream } => {
            let handle = desk.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
            if let Some(handle) = handle {
                handle.abort();
            }
            call.answer(&()).await;
        }
        Ask::StopEverything => {
            desk.ask(Message::StopEverything).await;
            call.answer(&()).await;
        }
        // Answered by its caller, because it goes on.
        Ask::Logs { .. } => call.fail("a log stream is not a question").await,
    }
}

impl Desk {
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.supervisor.send(message(answer)).await.ok()?;
        answered.await.ok()
    }
}
