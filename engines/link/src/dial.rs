//! The dialling side: node and worker look for their control plane, again and again.
//!
//! In: the socket's path. Out: greeted connections, one after the other. Never: a busy loop; the first try after a
//! loss is at once, then they are spaced.

use crate::error::LinkError;
use crate::greeting::{Hello, greet};
use crate::listen::reach;
use crate::peer::{Inbox, Peer};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// The first pause; doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// One try each 2 s costs nothing and is soon enough for a control plane that comes back.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Versions do not change by themselves: who was refused asks seldom.
const PAUSE_REFUSED: Duration = Duration::from_secs(10);
/// A connection that stood so long was a good one: the next try is at once.
const STOOD_WELL: Duration = Duration::from_secs(2);

/// Looks for the control plane.
#[derive(Debug)]
pub struct Dialler {
    path: PathBuf,
    hello: Hello,
    pause: Duration,
    connected: Option<Instant>,
    /// Why the last try failed, for whoever asks.
    failure: Option<LinkError>,
}

impl Dialler {
    /// Nothing is dialled yet.
    #[must_use]
    pub fn new(path: &Path, hello: Hello) -> Dialler {
        Dialler { path: path.to_owned(), hello, pause: Duration::ZERO, connected: None, failure: None }
    }

    /// The next connection; tries until there is one. Cancel safe: what was learnt of pauses is kept.
    pub async fn connect(&mut self) -> (Peer, Inbox) {
        if self.connected.take().is_some_and(|since| since.elapsed() >= STOOD_WELL) {
            self.pause = Duration::ZERO;
        }
        loop {
            tokio::time::sleep(self.pause).await;
            match self.try_once().await {
                Ok(connection) => {
                    self.failure = None;
                    self.connected = Some(Instant::now());
                    // Should it break at once, the second try waits.
                    self.pause = PAUSE_FIRST;
                    return connection;
                }
                Err(error) => {
                    self.pause = match &error {
                        LinkError::Refused { .. } => PAUSE_REFUSED,
                        _ => (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX),
                    };
                    self.failure = Some(error);
                }
            }
        }
    }

    /// Why the last try failed; nothing after a success.
    #[must_use]
    pub fn failure(&self) -> Option<&LinkError> {
        self.failure.as_ref()
    }

    /// One try, at once.
    ///
    /// # Errors
    /// When nobody listens there, or the other side refuses.
    pub async fn try_once(&self) -> Result<(Peer, Inbox), LinkError> {
        let failed = |e| LinkError::io(format!("connection to `{}`", self.path.display()), e);
        let reached = reach(&self.path).map_err(failed)?;
        let mut stream = UnixStream::connect(&reached.path).await.map_err(failed)?;
        let version = greet(&mut stream, &self.hello).await?;
        Ok(Peer::start(stream, self.hello.clone(), version))
    }
}
