//! The life of one git process that serves a client.
//!
//! In: the running process, the request body. Out: its output, piece by piece as it comes.
//! Never: kills a receive-pack that may be moving refs: when the client is gone its hooks are
//! told, its output is read away, and only a deadline ends it by force.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::command::{Running, shortened};
use crate::http_body::RequestBody;
use crate::http_serve::Refusal;
use crate::pushes::OpenPush;

/// Size of a piece; a pipe holds as much.
const PIECE_BYTES: usize = 64 << 10;

/// How many pieces may wait for a slow client.
const PIECES_WAITING_MAX: usize = 4;

/// How long git may go on after its client left, before the push was admitted.
const GRACE: Duration = Duration::from_secs(30);

/// The same after a push was admitted: moving very many refs takes a while and must not be cut.
const GRACE_ADMITTED: Duration = Duration::from_secs(600);

/// How long a fault may wait to be told to a slow client.
const FAULT_WAIT: Duration = Duration::from_secs(5);

/// What comes out of a served process.
pub(crate) type Pieces = mpsc::Receiver<Result<Bytes, Refusal>>;

/// One served process with all that must live as long as it.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) open: OpenPush,
    pub(crate) turn: OwnedSemaphorePermit,
    pub(crate) idle: Duration,
}

/// Why the output is no longer handed on.
enum Stop {
    /// Git closed its output.
    Ended,
    /// The client is gone or reads nothing.
    ClientGone,
    /// The request cannot be served to its end.
    Fault(Refusal),
}

impl Served {
    /// Lets it run; the pieces end when git does. Dropping the receiver means that the client
    /// is gone.
    pub(crate) fn start(mut self, body: Option<RequestBody>) -> Pieces {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let (stdin, stdout, stderr) = self.running.take_pipes();
        let (fault, faults) = oneshot::channel();
        // It ends by itself when git or the client does, and has its own limits.
        tokio::spawn(async move {
            if let (Some(body), Some(stdin)) = (body, stdin)
                && let Err(refusal) = body.pour(stdin).await
            {
                // The receiver may have ended before.
                let _ = fault.send(refusal);
            }
        });
        tokio::spawn(async move {
            if let Some(stdout) = stdout {
                self.run(stdout, stderr, sender, faults).await;
            }
        });
        pieces
    }

    async fn run(
        mut self,
        mut stdout: ChildStdout,
        stderr: Option<ChildStderr>,
        sender: mpsc::Sender<Result<Bytes, Refusal>>,
        faults: oneshot::Receiver<Refusal>,
    ) {
        let said = tokio::spawn(shortened(stderr));
        let mut sent = false;
        let stop = self.hand_on(&mut stdout, &sender, faults, &mut sent).await;
        match stop {
            Stop::Ended => {
                let status = tokio::time::timeout(self.idle, self.running.wait()).await;
                let well = matches!(status, Ok(Ok(status)) if status.success());
                if !well && !sent {
                    let said = tokio::time::timeout(GRACE, said).await;
                    let said = said.ok().and_then(Result::ok).unwrap_or_default();
                    let text = format!("git could not serve this repository: {said}");
                    let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
                    // The client may be gone.
                    let _ = sender.send(Err(refusal)).await;
                }
            }
            Stop::ClientGone => self.wind_down(stdout, None, sender).await,
            Stop::Fault(refusal) => self.wind_down(stdout, Some(refusal), sender).await,
        }
        drop(self.turn);
    }

    async fn hand_on(
        &self,
        stdout: &mut ChildStdout,
        sender: &mpsc::Sender<Result<Bytes, Refusal>>,
        mut faults: oneshot::Receiver<Refusal>,
        sent: &mut bool,
    ) -> Stop {
        let mut buffer = BytesMut::new();
        let mut body_done = false;
        loop {
            if buffer.capacity() < PIECE_BYTES / 8 {
                buffer.reserve(PIECE_BYTES);
            }
            tokio::select! {
                () = sender.closed() => return Stop::ClientGone,
                fault = &mut faults, if !body_done => match fault {
                    Ok(refusal) => return Stop::Fault(refusal),
                    Err(_) => body_done = true,
                },
                read = stdout.read_buf(&mut buffer) => match read {
                    Ok(0) | Err(_) => return Stop::Ended,
                    Ok(_) => {
                        let piece = buffer.split().freeze();
                        let taken = sender.send_timeout(Ok(piece), self.idle).await;
                        if taken.is_err() {
                            return Stop::ClientGone;
                        }
                        *sent = true;
                    }
                },
                () = tokio::time::sleep(self.idle), if body_done => {
                    let text = "git said nothing for too long";
                    return Stop::Fault(Refusal::new(StatusCode::GATEWAY_TIMEOUT, text));
                }
            }
        }
    }

    /// Lets git end by itself: its hooks are told, its output is read away so that it never
    /// dies by a broken pipe half-way, and a deadline is kept.
    async fn wind_down(
        &mut self,
        mut stdout: ChildStdout,
        refusal: Option<Refusal>,
        sender: mpsc::Sender<Result<Bytes, Refusal>>,
    ) {
        self.open.state.lose();
        if let Some(refusal) = refusal {
            // The client may be gone as well, or read nothing.
            let _ = sender.send_timeout(Err(refusal), FAULT_WAIT).await;
        }
        drop(sender);
        let running = &mut self.running;
        let end = async {
            // An error is an end as well.
            let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
            let _ = running.wait().await;
        };
        tokio::pin!(end);
        if tokio::time::timeout(GRACE, &mut end).await.is_ok() {
            return;
        }
        if self.open.state.is_admitted() {
            // When this runs out too, dropping the process kills its group.
            let _ = tokio::time::timeout(GRACE_ADMITTED, end).await;
        }
    }
}
