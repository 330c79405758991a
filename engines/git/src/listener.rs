//! The server's end of the hooks.
//!
//! In: connections of hook processes. Out: one [`HookCall`] per hook, with the pushed refs,
//! options and a view of the pushed objects; lines and the verdict go back through it.
//! Never: keeps a hook whose pusher is gone, or lets one slow hook hold up another.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::durable;
use crate::error::GitError;
use crate::frames::{ALIVE_EVERY, CALL_BYTES_MAX, Call, Frame, HookKind, VERSION, with_short_path};
use crate::git::Git;
use crate::names::{Oid, ProjectName};
use crate::objects::ObjectView;
use crate::pushes::PushState;

/// How long a hook may take to say what it wants.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// How long a line may wait for a pusher who does not read.
const LINE_WAIT: Duration = Duration::from_secs(60);

/// How many calls may wait to be taken.
const CALLS_WAITING_MAX: usize = 64;

/// How many hooks may be connected before they have said what they want.
const CALLERS_MAX: usize = 64;

/// Receives the calls of hooks. Dropping it stops listening; open calls go on.
pub struct HookListener {
    calls: mpsc::Receiver<HookCall>,
    accepting: JoinHandle<()>,
}

/// One ref of a push; nothing means that it does not exist before or after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Its full name.
    pub name: String,
    /// Where it was; for a new ref nothing.
    pub old: Option<Oid>,
    /// Where it goes; for a deleted ref nothing.
    pub new: Option<Oid>,
}

/// The hook is gone: its pusher left, or it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pusher no longer listens")]
pub struct HookGone;

/// A hook that waits for its verdict. Dropping it without [`HookCall::end`] refuses the push in
/// pre-receive and changes nothing in post-receive.
pub struct HookCall {
    /// Which hook it is.
    pub kind: HookKind,
    /// The push that it belongs to; nothing when somebody pushed on the machine by path.
    pub push: Option<String>,
    /// The project pushed to.
    pub project: ProjectName,
    /// Who pushes, as the caller of [`Git::serve`] said; nothing as above.
    pub pusher: Option<String>,
    /// The refs that are to move, or moved.
    pub refs: Vec<RefUpdate>,
    /// The options of `git push -o`.
    pub options: Vec<String>,
    /// The objects, those that are not accepted yet included. In pre-receive it is good until
    /// [`HookCall::end`].
    pub objects: ObjectView,
    state: Option<Arc<PushState>>,
    /// In pre-receive: what the push brings becomes safe against a power cut meanwhile.
    safe: Option<JoinHandle<io::Result<()>>>,
    connection: Arc<Connection>,
}

struct Connection {
    stream: UnixStream,
    gone: watch::Sender<bool>,
    /// One frame at a time.
    writing: Mutex<()>,
}

impl HookListener {
    pub(crate) fn bind(git: Git, path: &Path) -> Result<Self, GitError> {
        // A socket that a killed serve left behind; two living ones are excluded by the lock of
        // the data folder.
        let _ = std::fs::remove_file(path);
        let listener =
            with_short_path(path, |short| UnixListener::bind(short)).map_err(GitError::file("listen on", path))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(GitError::file("protect", path))?;
        let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX);
        let accepting = tokio::spawn(accept(git, listener, sender));
        Ok(Self { calls, accepting })
    }

    /// The next call; nothing only after the runtime began to shut down.
    pub async fn next(&mut self) -> Option<HookCall> {
        self.calls.recv().await
    }
}

impl Drop for HookListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(git: Git, listener: UnixListener, calls: mpsc::Sender<HookCall>) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let Ok(turn) = Arc::clone(&callers).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others must end first, so do not spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (git, calls) = (git.clone(), calls.clone());
        tokio::spawn(async move {
            let taken = tokio::time::timeout(CALL_WAIT, take_call(&git, stream)).await;
            drop(turn);
            if let Ok(Some(call)) = taken {
                // The receiver ends with the server; the hook then sees a closed connection.
                let _ = calls.send(call).await;
            }
        });
    }
}

/// Reads a call and makes it ready for the caller; a broken one is told to the hook.
async fn take_call(git: &Git, stream: UnixStream) -> Option<HookCall> {
    if !is_one_of_us(&stream) {
        return None;
    }
    let connection = Arc::new(Connection { stream, gone: watch::Sender::new(false), writing: Mutex::new(()) });
    let line = connection.read_line().await?;
    match understood(git, &line, &connection) {
        Ok(call) => {
            if call.kind == HookKind::PostReceive {
                git.settle_head(&call.project, &call.refs);
            }
            let loss = call.state.as_ref().map(|state| state.watch_loss());
            tokio::spawn(watch_over(connection, loss));
            Some(call)
        }
        Err(why) => {
            let text = format!(" refused: the receive hook was not understood: {why}");
            // The hook ends in any case when the connection closes.
            let _ = connection.send(&Frame::Line(text)).await;
            let _ = connection.send(&Frame::Exit(1)).await;
            None
        }
    }
}

fn understood(git: &Git, line: &[u8], connection: &Arc<Connection>) -> Result<HookCall, String> {
    let call: Call = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if call.v != VERSION {
        return Err(format!("it speaks version {} instead of {VERSION}", call.v));
    }
    let project = ProjectName::parse(&call.project).map_err(|error| error.to_string())?;
    let mut objects = git.view(&project).map_err(|error| error.to_string())?;
    if let Some(path) = call.quarantine.get("GIT_QUARANTINE_PATH") {
        // Only the name is believed, so a call cannot point anywhere else.
        let name = Path::new(path).file_name().unwrap_or_default();
        objects.quarantine = Some(objects.git_dir.join("objects").join(name));
    }
    let refs = call
        .refs
        .into_iter()
        .map(|one| {
            Ok(RefUpdate {
                old: Oid::parse_or_nothing(&one.old)?,
                new: Oid::parse_or_nothing(&one.new)?,
                name: one.name,
            })
        })
        .collect::<Result<_, GitError>>()
        .map_err(|error| error.to_string())?;
    let state = call.push.as_deref().and_then(|id| git.pushes().find(id));
    let quarantine = objects.quarantine.clone().filter(|_| call.kind == HookKind::PreReceive);
    let safe = quarantine.map(|folder| tokio::task::spawn_blocking(move || durable::make_safe(&folder)));
    Ok(HookCall {
        kind: call.kind,
        push: call.push,
        project,
        pusher: call.pusher,
        refs,
        options: call.options,
        objects,
        state,
        safe,
        connection: Arc::clone(connection),
    })
}

/// Only our own user (and root) may speak as a hook.
fn is_one_of_us(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Notices that the hook ended or its pusher left, and tells the hook that the server lives.
async fn watch_over(connection: Arc<Connection>, loss: Option<watch::Receiver<bool>>) {
    let lost = async {
        match loss {
            // An error means that the push ended.
            Some(mut loss) => drop(loss.wait_for(|lost| *lost).await),
            None => std::future::pending().await,
        }
    };
    let alive = async {
        while connection.send(&Frame::Alive(true)).await.is_ok() {
            tokio::time::sleep(ALIVE_EVERY).await;
        }
    };
    tokio::select! {
        () = lost => {}
        () = connection.closed() => {}
        () = alive => {}
    }
    connection.close();
}

impl Connection {
    async fn read_line(&self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.stream.readable().await.ok()?;
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => line.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            }
            if line.last() == Some(&b'\n') {
                return Some(line);
            }
            if line.len() > CALL_BYTES_MAX {
                return None;
            }
        }
    }

    /// Resolves when the other side closed; a hook says nothing after its call.
    async fn closed(&self) {
        let mut buffer = [0; 256];
        loop {
            if self.stream.ready(Interest::READABLE).await.is_err() {
                return;
            }
            match self.stream.try_read(&mut buffer) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn send(&self, frame: &Frame) -> Result<(), HookGone> {
        let line = frame.to_line().map_err(|_| HookGone)?;
        let work = async {
            let _turn = self.writing.lock().await;
            let mut left = line.as_slice();
            while !left.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(left) {
                    Ok(written) => left = &left[written..],
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            std::io::Result::Ok(())
        };
        match tokio::time::timeout(LINE_WAIT, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                self.close();
                Err(HookGone)
            }
        }
    }

    fn close(&self) {
        self.gone.send_replace(true);
        // Already closed is as good.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

impl HookCall {
    /// Writes one line into the pusher's terminal, behind `slipway `. Control characters become
    /// spaces, so no text can move the pusher's cursor.
    ///
    /// # Errors
    /// [`HookGone`] when nobody reads any more; the work itself goes on.
    pub async fn line(&self, text: &str) -> Result<(), HookGone> {
        if self.is_cancelled() {
            return Err(HookGone);
        }
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let text = text.chars().map(clean).collect();
        self.connection.send(&Frame::Line(text)).await
    }

    /// Ends the hook. In pre-receive 0 lets the push be stored and all else refuses it.
    ///
    /// # Errors
    /// [`HookGone`] when the hook did not get it: a push in pre-receive is then refused.
    pub async fn end(mut self, mut code: u8) -> Result<(), HookGone> {
        if let Some(safe) = self.safe.take()
            && code == 0
            && let Err(error) = safe.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        {
            self.line(&format!(" refused: what was pushed cannot be stored safely: {error}")).await?;
            self.line(" next: look at the disk of the server, then push again").await?;
            code = 1;
        }
        if self.is_cancelled() {
            return Err(HookGone);
        }
        if self.kind == HookKind::PreReceive
            && code == 0
            && let Some(state) = &self.state
        {
            state.admit();
        }
        self.connection.send(&Frame::Exit(code)).await
    }

    /// Resolves when the hook is gone: the pusher pressed Ctrl-C, lost the network, or git ended.
    pub async fn cancelled(&self) {
        let mut gone = self.connection.gone.subscribe();
        // The sender lives as long as `self`.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Whether the hook is gone.
    pub fn is_cancelled(&self) -> bool {
        *self.connection.gone.borrow()
    }
}

impl Drop for HookCall {
    fn drop(&mut self) {
        self.connection.close();
    }
}
