//! A control plane, a node and a client in one process.

use slipway_link::{Kind, Links};
use slipway_model::instance::{InstanceSeen, InstanceSpec, InstanceState, LaneSeen, LaneWish, Slot};
use slipway_model::release::{Health, Places, Resources, Stop};
use slipway_model::{Digest, EnvironmentName, Lane, ProjectName, ReleaseId, ServiceName};
use slipway_node::{Node, NodeClient, NodeEvent, NodeOptions, Unpack, Unpacked};
use slipway_ports::{Fleet, FleetError};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Far more than anything here takes; a test that reaches it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const TESTBED: &str = env!("CARGO_BIN_EXE_slipway-node-testbed");

pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: it does not happen in time"),
    }
}

/// A scratch folder that goes away, together with what runs in it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("slipway-node-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn node(&self) -> PathBuf {
        self.0.join("node")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let instances = std::fs::read_dir(self.node().join("instances")).into_iter().flatten().flatten();
        for run in instances.flat_map(|i| std::fs::read_dir(i.path()).into_iter().flatten().flatten()) {
            if let Ok(slipway_sandbox::Attached::Running(shim)) = slipway_sandbox::attach(&run.path()) {
                let _ = shim.kill();
                let _ = shim.wait(LIMIT);
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An image that holds the testbed and the libraries it needs.
struct TestImage;

static LAYER: OnceLock<PathBuf> = OnceLock::new();

impl Unpack for TestImage {
    fn unpack(&self, image: &Digest, _into: &Path) -> Result<Unpacked, String> {
        if *image == Digest::of(b"broken") {
            return Err("layer 2 is damaged".into());
        }
        let layer = LAYER.get_or_init(|| {
            let layer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-layer");
            let _ = std::fs::remove_dir_all(&layer);
            std::fs::create_dir_all(&layer).unwrap();
            let listed = std::process::Command::new("ldd").arg(TESTBED).output().unwrap();
            let text = String::from_utf8(listed.stdout).unwrap();
            let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
            for file in libraries {
                let target = layer.join(&file[1..]);
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                std::fs::copy(file, target).unwrap();
            }
            std::fs::copy(TESTBED, layer.join("testbed")).unwrap();
            layer
        });
        Ok(Unpacked {
            layers: vec![layer.clone()],
            entrypoint: vec!["/testbed".into()],
            env: vec!["FROM_IMAGE=yes".into()],
            ..Unpacked::default()
        })
    }
}

/// What the control plane has heard.
#[derive(Default, Clone)]
pub struct Heard {
    pub lanes: HashMap<Lane, LaneSeen>,
    pub history: Vec<LaneSeen>,
    pub traffic: HashMap<Lane, slipway_model::traffic::LaneTraffic>,
    pub up: bool,
}

pub struct World {
    pub client: NodeClient,
    pub heard: watch::Receiver<Heard>,
    pub node: Option<Node>,
    pub scratch: Scratch,
    pub fd_store: Mutex<Option<PathBuf>>,
    /// The node's limit for instances whose service names none.
    pub memory_bytes: Option<u64>,
}

impl World {
    pub async fn new() -> World {
        let mut world = World::without_node();
        world.start().await;
        world
    }

    pub fn without_node() -> World {
        let scratch = Scratch::new();
        let (client, mut events) = NodeClient::new();
        let (sender, heard) = watch::channel(Heard::default());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                sender.send_modify(|heard| match event {
                    NodeEvent::Seen(seen) => {
                        heard.history.push(seen.clone());
                        heard.lanes.insert(seen.lane.clone(), seen);
                    }
                    NodeEvent::Traffic(traffic) => {
                        heard.traffic.insert(traffic.lane.clone(), traffic);
                    }
                    NodeEvent::Connected { up } => {
                        // What the former node said is no answer of the next.
                        heard.lanes.clear();
                        heard.up = up;
                    }
                });
            }
        });
        let mut links = Links::bind(&scratch.0.join("run/serve.sock")).unwrap();
        let serving = client.clone();
        tokio::spawn(async move {
            loop {
                let (peer, inbox) = links.accept().await;
                assert_eq!(peer.hello().kind, Kind::Node);
                let client = serving.clone();
                tokio::spawn(async move { client.serve(peer, inbox).await });
            }
        });
        World { client, heard, node: None, scratch, fd_store: Mutex::default(), memory_bytes: None }
    }

    pub async fn start(&mut self) {
        let socket = self.scratch.0.join("run/serve.sock");
        let mut options = NodeOptions::new(self.scratch.node(), socket, TESTBED.into(), Arc::new(TestImage));
        options.memory_bytes = self.memory_bytes.or(options.memory_bytes);
        options.fd_store_socket = self.fd_store.lock().unwrap().clone();
        self.node = Some(Node::start(options).await.unwrap());
        self.hears("the node connects", |heard| heard.up.then_some(())).await;
    }

    /// As if the node's process were killed.
    pub async fn crash(&mut self) {
        drop(self.node.take());
        self.hears("the node is gone", |heard| (!heard.up).then_some(())).await;
    }

    pub async fn hears<T>(&self, what: &str, mut part: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut heard = self.heard.clone();
        let waiting = async {
            loop {
                if let Some(found) = part(&heard.borrow_and_update()) {
                    return found;
                }
                heard.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: it does not happen; seen: {:#?}", self.heard.borrow().lanes),
        }
    }

    /// The lane, once it is as wanted.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&LaneSeen) -> bool) -> LaneSeen {
        self.hears(what, |heard| heard.lanes.get(&lane("api")).filter(|seen| wanted(seen)).cloned()).await
    }

    /// So many instances of each release in these states, and none else.
    pub async fn settles(&self, epoch: u64, wanted: &[(&str, InstanceState, usize)]) -> LaneSeen {
        let all = wanted.iter().map(|(_, _, count)| count).sum::<usize>();
        self.sees(&format!("{wanted:?}"), |seen| {
            let count = |(release, state, count): &(&str, InstanceState, usize)| {
                in_state(seen, release, *state).len() == *count
            };
            seen.epoch == epoch && seen.instances.len() == all && wanted.iter().all(count)
        })
        .await
    }

    pub async fn wish(&self, wish: LaneWish) -> Result<(), FleetError> {
        soon("the wish is taken", self.client.wish(wish)).await
    }

    pub fn proxy(&self) -> SocketAddr {
        self.node.as_ref().unwrap().addresses()[0]
    }

    /// Status and body, through the proxy by host name.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.proxy(), "api.localhost", path).await
    }
}

pub fn in_state<'a>(seen: &'a LaneSeen, name: &str, state: InstanceState) -> Vec<&'a InstanceSeen> {
    seen.instances.iter().filter(|i| i.release == release(name) && i.state == state).collect()
}

/// The port of the lane's own.
pub fn own_port(seen: &LaneSeen) -> SocketAddr {
    seen.addresses.last().unwrap().trim_start_matches("http://").parse().unwrap()
}

pub async fn get(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    try_get(address, host, path).await.unwrap()
}

pub async fn try_get(address: SocketAddr, host: &str, path: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    };
    soon("an answer", exchange).await
}

pub fn lane(service: &str) -> Lane {
    Lane {
        project: ProjectName::parse("shop").unwrap(),
        environment: EnvironmentName::parse("production").unwrap(),
        service: ServiceName::parse(service).unwrap(),
    }
}

/// `a` → `aaaaaaaa`.
pub fn release(name: &str) -> ReleaseId {
    ReleaseId::parse(&name.repeat(8)).unwrap()
}

pub fn spec(env: &[(&str, &str)]) -> InstanceSpec {
    InstanceSpec {
        image: Digest::of(b"testbed"),
        command: None,
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        secrets: BTreeMap::new(),
        port: 3000,
        health: Health { path: Some("/health".into()), command: None, timeout_ms: 5_000, interval_ms: 1_000 },
        stop: Stop { before: None, before_request: None, signal: 15, grace_ms: 10_000 },
        drain_ms: 10_000,
        ready_ms: 20_000,
        resources: Resources::default(),
    }
}

pub fn slot(name: &str, serving: u32, retiring: u32, spec: &InstanceSpec) -> Slot {
    let places = Places { service: Some(3), keys: [("port".to_owned(), 4)].into() };
    Slot { release: release(name), number: 1, serving, retiring, spec: spec.clone(), places }
}

pub fn wish(epoch: u64, slots: Vec<Slot>, weights: &[(&str, u32)]) -> LaneWish {
    LaneWish {
        lane: lane("api"),
        epoch,
        slots,
        weights: weights.iter().map(|(name, weight)| (release(name), *weight)).collect(),
        hosts: vec!["api.localhost".into()],
        port: 0,
        notice: String::new(),
    }
}
