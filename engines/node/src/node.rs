//! The node process: puts the parts together, and takes them apart in order.
//!
//! In: options. Out: a node that runs until it is told to leave. Never stops an instance by ending (unless told so).

use crate::adopt;
use crate::fd_store::Keeper;
use crate::files::private_folder;
use crate::images::ImageFolder;
use crate::inside::Inside;
use crate::life::Common;
use crate::listeners::Listeners;
use crate::options::{Ending, Leave, NodeError, NodeOptions, Say};
use crate::runs::Bell;
use crate::start::Starter;
use crate::state::StateFolder;
use crate::supervisor::{self, Message, Supervisor, Surroundings};
use crate::traffic;
use crate::uplink::{self, Desk};
use rustix::fs::{FlockOperation, flock};
use slipway_link::{Dialler, Hello, Kind};
use slipway_proxy::{Certificates, Proxy};
use slipway_sandbox::Launcher;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Messages to the supervisor that wait; above it, senders wait.
const MESSAGES: usize = 1_024;
/// Events to the control plane that wait; above it, lanes are shown again later.
const EVENTS: usize = 1_024;
/// For all instances to be drained and stopped; each has its own deadlines, this is above them all.
const STOP_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Between two looks at the files of certificates.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(10);

/// Beyond the deadline for open requests.
const LEAVE_MARGIN: Duration = Duration::from_secs(5);

/// A node that is ready to run.
pub struct Node {
    parts: JoinSet<()>,
    supervisor: mpsc::Sender<Message>,
    leave: oneshot::Sender<supervisor::Leave>,
    leave_within: Duration,
    addresses: Vec<SocketAddr>,
    /// Held for as long as the node lives.
    _lock: File,
}

impl Node {
    /// Finds what its predecessor left, binds its sockets, and begins to work. Must be called within a tokio
    /// runtime. Dropping the node leaves all instances running.
    ///
    /// # Errors
    /// When its folder or an address cannot be used.
    pub async fn start(options: NodeOptions) -> Result<Node, NodeError> {
        let data = options.data.clone();
        private_folder(&data).map_err(|e| NodeError::io(format!("making of folder `{}`", data.display()), e))?;
        let lock = lock(&options)?;
        let states = Arc::new(StateFolder::open(&data)?);
        let stored = states.load()?;
        let finding = data.clone();
        let found = tokio::task::spawn_blocking(move || adopt::find(&finding)).await;
        let found = found.map_err(std::io::Error::other).and_then(|found| found);
        let found = found.map_err(|e| NodeError::io(format!("search for instances in `{}`", data.display()), e))?;
        let inside = Arc::new(Inside::default());
        let connector: Arc<dyn slipway_proxy::Connector> = Arc::clone(&inside) as Arc<dyn slipway_proxy::Connector>;
        let proxy = Proxy::new(options.proxy_limits.clone(), connector, getrandom::u64().map_err(no_chance)?);
        let say = Arc::clone(&options.say);
        proxy.set_warning_hook(Box::new(move |line| say(line)));
        let keeper = Keeper::new(options.fd_store_socket.clone());
        let mut parts = JoinSet::new();
        let mut listeners = Listeners::bind(&data, &options.proxy_addresses, keeper.clone(), proxy.clone())?;
        let addresses = listeners.host_addresses();
        if !options.tls_addresses.is_empty() {
            let certificates = Certificates::read(options.certificates.clone())?;
            listeners.bind_tls(&options.tls_addresses, certificates.clone())?;
            parts.spawn(renew(certificates, Arc::clone(&options.say)));
        }
        let common = Arc::new(Common {
            starter: Starter {
                data: data.clone(),
                launcher: Launcher::new(options.shim_exe.clone()),
                images: ImageFolder::new(&data, Arc::clone(&options.unpack)),
                log_bytes: options.log_bytes,
                memory_bytes: options.memory_bytes,
            },
            inside,
            proxy: proxy.clone(),
            bell: Bell::new(),
            ended_kept: options.ended_kept,
        });
        let (own, inbox) = mpsc::channel(MESSAGES);
        let (outbox, events) = mpsc::channel(EVENTS);
        let around = Surroundings {
            common: Arc::clone(&common),
            states,
            listeners,
            inbox,
            own: own.clone(),
            outbox: outbox.clone(),
        };
        let (leave, leaving) = oneshot::channel();
        parts.spawn(Supervisor::new(around, stored, found).run(leaving));
        let dialler = Dialler::new(&options.serve_socket, Hello::new(Kind::Node, options.name.clone()));
        parts.spawn(uplink::run(dialler, Desk::new(common, own.clone()), events));
        parts.spawn(traffic::push(proxy, outbox, own.clone()));
        parts.spawn(async move { keeper.watch().await });
        Ok(Node { parts, supervisor: own, leave, leave_within: options.leave_within, addresses, _lock: lock })
    }

    /// Where host names are served.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Runs until told to leave, and leaves as told.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn run(options: NodeOptions, leave: Leave) -> Result<(), NodeError> {
        let node = Node::start(options).await?;
        match leave.await {
            Ending::LeaveRunning => {}
            Ending::StopInstances => node.stop_instances().await,
        }
        node.leave().await;
        Ok(())
    }

    /// Drains and stops every instance; the wishes stay, so that the next node starts them again.
    pub async fn stop_instances(&self) {
        let (done, all) = oneshot::channel();
        if self.supervisor.send(Message::StopEverything(done)).await.is_ok() {
            let _ = tokio::time::timeout(STOP_WITHIN, all).await;
        }
    }

    /// Ends the node: open requests end in time, instances go on, the descriptor store keeps the sockets.
    pub async fn leave(mut self) {
        let (done, gone) = oneshot::channel();
        let leave = supervisor::Leave { within: self.leave_within, done };
        if self.leave.send(leave).is_ok() {
            // Its own deadline is inside; this one is for a disk that hangs.
            let _ = tokio::time::timeout(self.leave_within + LEAVE_MARGIN, gone).await;
        }
        self.parts.shutdown().await;
    }
}

/// Reads certificates again when their files have changed. What is wrong with new ones is said; the old ones serve on.
async fn renew(certificates: Certificates, say: Say) {
    loop {
        tokio::time::sleep(CERTIFICATES_LOOK).await;
        let looked = certificates.clone();
        match tokio::task::spawn_blocking(move || looked.reload()).await {
            Ok(Ok(true)) => say("the certificates of the proxy have changed and were read again"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => say(&format!("new certificates cannot be used, the former ones stay in use: {error}")),
        }
    }
}

fn no_chance(error: getrandom::Error) -> NodeError {
    NodeError::io("choosing of a seed", std::io::Error::other(error))
}

fn lock(options: &NodeOptions) -> Result<File, NodeError> {
    let path = options.data.join("lock");
    let failed = |e| NodeError::io(format!("lock file `{}`", path.display()), e);
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(NodeError::InUse { data: options.data.clone() }),
        Err(e) => Err(failed(e.into())),
    }
}
