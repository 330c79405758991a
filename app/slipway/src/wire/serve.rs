//! The control plane put together: engines behind ports, stages over ports, the server over the road.
//!
//! In: the data folder and addresses. Out: a running control plane. Never: instances or jobs of its own.

use crate::exit::{Done, Exit, SURROUNDINGS, chain, surroundings};
use crate::paths::Data;
use crate::wire::clock::{SystemClock, now};
use crate::wire::images::LocalImages;
use crate::wire::logs::LocalLogs;
use crate::wire::repository::GitRepository;
use crate::wire::run_steps::{SandboxSteps, end_left_over};
use crate::wire::trees::GitTrees;
use slipway_blobs::Blobs;
use slipway_change::{Road, Stages};
use slipway_git::{Git, GitOptions};
use slipway_link::{Kind, Links};
use slipway_model::{Lane, hex};
use slipway_node::NodeClient;
use slipway_ports::{Clock, Store};
use slipway_registry::{Action, Challenge, FileIndex, Registry, Repository};
use slipway_server::{Auth, CleanUp, Parts, SealedSecrets, Server, Swept};
use slipway_store::Journal;
use slipway_vault::Vault;
use slipway_worker::{LinkLine, WorkerClient};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// A host name's label has at most so many bytes (RFC 1035 §2.3.4).
const LABEL: usize = 63;
/// Between two clean-ups of what nobody refers to any more.
const CLEAN_UP: Duration = Duration::from_secs(6 * 60 * 60);
/// Content younger than this is not cleaned up: its reference may be on its way.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

/// What the control plane is told at its start.
pub struct ServeOptions {
    /// The data folder.
    pub data: Data,
    /// Where it listens.
    pub http: SocketAddr,
    /// Where the proxy listens, for the addresses it shows.
    pub proxy: SocketAddr,
    /// The domain under which services are reached.
    pub domain: String,
}

/// Runs the control plane until `leave` resolves.
pub async fn serve(options: ServeOptions, leave: impl Future<Output = ()>) -> Done {
    let data = options.data.clone();
    for folder in [data.0.clone(), data.run(), data.work(), data.logs()] {
        make_private(&folder)?;
    }
    let lock = lock(&data.run().join("serve.lock"), "control plane")?;
    // What a build that was killed left behind; nobody else builds here.
    if let Err(error) = end_left_over(&data.work().join("build")) {
        eprintln!("{} folders of builds that were killed: {}", now(), chain(&*error));
    }
    let journal: Arc<dyn Store> = Arc::new(Journal::open(&data.journal(), Arc::new(now)).map_err(surroundings)?);
    let vault = Vault::open(&data.key()).map_err(surroundings)?;
    let auth = Arc::new(Auth::open(journal.clone()).await.map_err(|error| Exit::new(SURROUNDINGS, error))?);
    auth.first(&first_token(&data)?, now()).await.map_err(|error| Exit::new(SURROUNDINGS, error))?;
    let secrets = Arc::new(SealedSecrets::new(journal.clone(), vault));
    let engines = engines(&data, &auth).await?;
    let hosts = Hosts::new(options.domain.clone());
    let road = road(&data, journal, &engines, secrets.clone(), &hosts);
    let listener = TcpListener::bind(options.http).await.map_err(|error| taken(options.http, &error))?;
    let address = listener.local_addr().map_err(surroundings)?;
    let proxy_port = options.proxy.port();
    let url = Arc::new(move |lane: &Lane| format!("http://{}:{proxy_port}", hosts.of(lane)));
    let parts = Parts {
        road: road.clone(),
        git: engines.git.clone(),
        auth,
        secrets,
        logs: Arc::new(LocalLogs { worker: engines.worker.clone(), node: engines.node.clone() }),
        registry: slipway_registry::router(engines.registry.clone()),
        clean_up: asked(&road, &engines),
        away: away(&engines),
        url,
        data: data.0.clone(),
        address: format!("http://{address}"),
        hosts: vec![options.domain.clone(), options.http.ip().to_string()],
    };
    let server = Server::new(parts);
    let steps = engines.steps.clone();
    let done = run(road, server, engines, listener, leave).await;
    // Commands of Dockerfiles do not outlive who waits for them.
    tokio::task::spawn_blocking(move || steps.leave()).await.map_err(surroundings)?;
    drop(lock);
    done
}

struct Engines {
    git: Git,
    blobs: Blobs,
    registry: Registry,
    index: Arc<FileIndex>,
    trees: Arc<GitTrees>,
    steps: Arc<SandboxSteps>,
    worker: WorkerClient,
    line: LinkLine,
    node: NodeClient,
    events: Mutex<Option<tokio::sync::mpsc::Receiver<slipway_ports::NodeEvent>>>,
    links: Mutex<Option<Links>>,
}

async fn engines(data: &Data, auth: &Arc<Auth>) -> Result<Engines, Exit> {
    let in_use = slipway_worker::trees_in_use(&data.work()).map_err(surroundings)?;
    let exe = program()?;
    let steps = Arc::new(SandboxSteps::new(data.work(), exe.clone()));
    let mut git_options = GitOptions::new(data.git(), exe, data.hook_socket(), data.work().join("trees"));
    git_options.trees_in_use.clone_from(&in_use);
    let git = Git::open(git_options).await.map_err(surroundings)?;
    let blobs = Blobs::open(data.blobs()).map_err(surroundings)?;
    let index = Arc::new(FileIndex::open(data.registry()).map_err(|error| Exit::new(SURROUNDINGS, error))?);
    let registry = Registry::new(blobs.clone(), index.clone(), authorize(auth));
    let trees = Arc::new(GitTrees(git.clone()));
    let line = LinkLine::new();
    let worker = WorkerClient::new(Arc::new(line.clone()), trees.clone(), in_use);
    let (node, events) = NodeClient::new();
    let links = Links::bind(&data.link_socket()).map_err(surroundings)?;
    Ok(Engines {
        git,
        blobs,
        registry,
        index,
        trees,
        steps,
        worker,
        line,
        node,
        events: Mutex::new(Some(events)),
        links: Mutex::new(Some(links)),
    })
}

/// Which parts are not connected, for the pages to say so.
fn away(engines: &Engines) -> slipway_server::Away {
    let (node, line) = (engines.node.clone(), engines.line.clone());
    Arc::new(move || {
        let parts = [("node", node.is_connected()), ("worker", line.is_up())];
        parts.into_iter().filter(|(_, is_up)| !is_up).map(|(part, _)| part).collect()
    })
}

/// The registry asks the same table of rights as everything else.
fn authorize(auth: &Arc<Auth>) -> Arc<dyn slipway_registry::Authorize> {
    let auth = auth.clone();
    let allow = move |parts: &http::request::Parts, repository: Option<&Repository>, action: Action| {
        // Images are spoken of with tokens only: a browser would send its cookie for anybody.
        let caller =
            auth.caller(&parts.headers, now()).filter(|caller| !caller.browser).ok_or(Challenge::Unauthenticated)?;
        let project = repository
            .and_then(|repository| slipway_model::ProjectName::parse(repository.to_string().split('/').next()?).ok());
        let verb = match action {
            Action::Pull => "pull",
            Action::Push => "push",
        };
        if caller.may(verb, project.as_ref()) { Ok(()) } else { Err(Challenge::Forbidden) }
    };
    Arc::new(allow)
}

fn road(
    data: &Data,
    store: Arc<dyn Store>,
    engines: &Engines,
    secrets: Arc<SealedSecrets>,
    hosts: &Arc<Hosts>,
) -> Road {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let repository = Arc::new(GitRepository(engines.git.clone()));
    let images = Arc::new(LocalImages {
        blobs: engines.blobs.clone(),
        registry: engines.registry.clone(),
        index: engines.index.clone(),
        trees: engines.trees.clone(),
        work: data.work(),
        steps: engines.steps.clone(),
        under_way: Arc::default(),
    });
    let (node, worker) = (Arc::new(engines.node.clone()), Arc::new(engines.worker.clone()));
    let hosts = hosts.clone();
    Road::new(Stages {
        source: slipway_source::Source::new(slipway_source::Ports {
            store: store.clone(),
            repository: repository.clone(),
        }),
        plans: slipway_plan::Plans::new(slipway_plan::Ports {
            store: store.clone(),
            repository: repository.clone(),
            images: images.clone(),
            tools: tools_fingerprint(),
        }),
        jobs: slipway_jobs::Jobs::new(slipway_jobs::Ports {
            store: store.clone(),
            runner: worker,
            secrets: secrets.clone(),
            images: images.clone(),
        }),
        images: slipway_image::Building::new(slipway_image::Ports {
            store: store.clone(),
            images: images.clone(),
            clock: clock.clone(),
        }),
        releases: slipway_release::Releases::new(slipway_release::Ports {
            store: store.clone(),
            repository: repository.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
        }),
        rollouts: slipway_rollout::drive::Rollouts::new(slipway_rollout::drive::Ports {
            store: store.clone(),
            fleet: node.clone(),
            images,
            secrets,
            clock: clock.clone(),
            hosts: Arc::new(move |lane: &Lane| vec![hosts.of(lane)]),
        }),
        verify: slipway_verify::Verify::new(slipway_verify::Ports {
            store: store.clone(),
            fleet: node.clone(),
            metrics: node,
            repository,
            clock: clock.clone(),
        }),
        store,
        clock,
        complain: Box::new(|text| eprintln!("{} {text}", now())),
    })
}

async fn run(
    road: Road,
    server: Server,
    engines: Engines,
    listener: TcpListener,
    leave: impl Future<Output = ()>,
) -> Done {
    let hooks = engines.git.listen().map_err(surroundings)?;
    let links = engines.links.lock().unwrap_or_else(PoisonError::into_inner).take();
    let events = engines.events.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (Some(links), Some(mut events)) = (links, events) else { return Ok(()) };
    tokio::spawn(connect(links, engines.node.clone(), engines.line.clone()));
    let of_nodes = road.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            of_nodes.node_event(event);
        }
    });
    tokio::spawn(slipway_server::serve_hooks(server.clone(), hooks));
    tokio::spawn(clean_up(road.clone(), engines.registry.clone(), engines.git.clone()));
    if let Err(error) = slipway_server::push::reconcile(&road, &engines.git).await {
        eprintln!("{} reconciling refs: {error}", now());
    }
    let (driving, leaving) = (road.clone(), road.clone());
    let drive = tokio::spawn(async move { driving.run().await });
    let http = slipway_server::listen::serve(listener, server.router());
    tokio::select! {
        () = leave => {
            if let Err(error) = leaving.leave().await {
                eprintln!("{} leaving: {}", now(), chain(&error));
            }
            Ok(())
        }
        () = http => Err(Exit::new(SURROUNDINGS, "nothing listens any more")),
        ended = drive => match ended {
            Ok(Ok(())) => Err(Exit::new(SURROUNDINGS, "the journal's thread has ended")),
            Ok(Err(error)) => Err(Exit::new(SURROUNDINGS, chain(&error))),
            Err(error) => Err(Exit::new(crate::exit::BUG, format!("the road stopped: {error}"))),
        },
    }
}

async fn connect(mut links: Links, node: NodeClient, line: LinkLine) {
    loop {
        let (peer, inbox) = links.accept().await;
        match peer.hello().kind {
            Kind::Node => {
                let node = node.clone();
                tokio::spawn(async move { node.serve(peer, inbox).await });
            }
            Kind::Worker => {
                line.connected(peer);
                // It says nothing unasked, but its end shows only to whoever reads.
                tokio::spawn(async move {
                    let mut inbox = inbox;
                    while inbox.next().await.is_some() {}
                });
            }
        }
    }
}

async fn clean_up(road: Road, registry: Registry, git: Git) {
    loop {
        tokio::time::sleep(CLEAN_UP).await;
        if let Err(error) = sweep(&road, &registry, &git).await {
            eprintln!("{} clean-up: {error}", now());
            continue;
        }
        for name in git.projects().unwrap_or_default() {
            if let Err(error) = git.maintain(&name).await {
                eprintln!("{} packing `{name}`: {}", now(), chain(&error));
            }
        }
    }
}

/// The clean-up, when a person asks for it.
fn asked(road: &Road, engines: &Engines) -> CleanUp {
    let (road, registry, git) = (road.clone(), engines.registry.clone(), engines.git.clone());
    Arc::new(move || {
        let (road, registry, git) = (road.clone(), registry.clone(), git.clone());
        Box::pin(async move { sweep(&road, &registry, &git).await })
    })
}

/// Removes what nothing refers to: every tagged image, and so what runs and what can be returned to, and artifacts of
/// remembered results are pinned (R143).
async fn sweep(road: &Road, registry: &Registry, git: &Git) -> Result<Swept, String> {
    retire(road, registry, git).await?;
    let pins = pinned(road, git).await?;
    let registry = registry.clone();
    let task = tokio::task::spawn_blocking(move || registry.clean_up(|| Ok(pins), YOUNG, std::time::SystemTime::now()));
    let collected = task.await.map_err(|error| chain(&error))?.map_err(|error| chain(&error))?;
    Ok(Swept {
        kept: collected.kept,
        spared: collected.spared,
        removed: collected.removed.len() as u64,
        removed_bytes: collected.removed_bytes,
    })
}

/// Takes images out of the registry that are beyond what their environments retain; then nothing pins their layers.
async fn retire(road: &Road, registry: &Registry, git: &Git) -> Result<(), String> {
    for name in git.projects().map_err(|error| chain(&error))? {
        let Ok(project) = slipway_model::ProjectName::parse(name.as_str()) else { continue };
        for (service, image) in road.retire(&project).await? {
            let Ok(repository) = format!("{project}/{service}").parse::<Repository>() else { continue };
            let Ok(digest) = image.to_string().parse::<slipway_blobs::Digest>() else { continue };
            let registry = registry.clone();
            let forgotten = tokio::task::spawn_blocking(move || registry.forget(&repository, &digest)).await;
            forgotten.map_err(|error| chain(&error))?.map_err(|error| chain(&error))?;
        }
    }
    Ok(())
}

async fn pinned(road: &Road, git: &Git) -> Result<std::collections::HashSet<slipway_blobs::Digest>, String> {
    let mut pins = std::collections::HashSet::new();
    for name in git.projects().map_err(|error| chain(&error))? {
        let Ok(project) = slipway_model::ProjectName::parse(name.as_str()) else { continue };
        for (_, value) in road.stages().store.rows(&project, "reuse", "").await.map_err(|error| chain(&error))? {
            let text = value.to_string();
            // Whatever looks like a digest in a remembered result is one that it needs.
            pins.extend(text.split('"').filter_map(|word| word.parse::<slipway_blobs::Digest>().ok()));
        }
    }
    Ok(pins)
}

/// Host names of lanes: the one that came first keeps the plain name, a later one of the same name gets six digits.
pub struct Hosts {
    domain: String,
    given: Mutex<BTreeMap<String, Lane>>,
}

impl Hosts {
    fn new(domain: String) -> Arc<Hosts> {
        Arc::new(Hosts { domain, given: Mutex::default() })
    }

    fn of(&self, lane: &Lane) -> String {
        let plain = format!("{}-{}-{}", lane.service, lane.environment, lane.project);
        let digits: String = slipway_model::Digest::of(lane.to_string().as_bytes()).hex().chars().take(6).collect();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let free = given.get(&plain).is_none_or(|known| known == lane) && plain.len() <= LABEL;
        let label = if free {
            plain
        } else {
            let kept: String = plain.chars().take(LABEL - 7).collect();
            format!("{}-{digits}", kept.trim_end_matches('-'))
        };
        given.entry(label.clone()).or_insert_with(|| lane.clone());
        format!("{label}.{}", self.domain)
    }
}

/// Stands for the machine's tools in content keys: where each is, how large and how old.
fn tools_fingerprint() -> String {
    const TOOLS: [&str; 14] =
        ["sh", "cc", "ld", "make", "git", "cargo", "rustc", "go", "node", "npm", "python3", "java", "mvn", "cmake"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut text = String::new();
    for tool in TOOLS {
        let found =
            folders.iter().map(|folder| folder.join(tool)).find_map(|file| Some((file.canonicalize().ok()?, file)));
        if let Some((real, _)) = found
            && let Ok(meta) = real.metadata()
        {
            let age = meta
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or(0, |age| age.as_secs());
            text.push_str(&format!("{tool} {} {} {age}\n", real.display(), meta.len()));
        }
    }
    slipway_model::Digest::of(text.as_bytes()).to_string()
}

/// The token with which everything begins, made once.
fn first_token(data: &Data) -> Result<String, Exit> {
    let path = data.token();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = format!("slw_{}", hex(&slipway_vault::random::<24>().map_err(surroundings)?));
            slipway_vault::write_private(&path, token.as_bytes()).map_err(surroundings)?;
            Ok(token)
        }
        Err(error) => Err(Exit::new(SURROUNDINGS, format!("token file `{}`: {error}", path.display()))),
    }
}

/// A folder that only its owner enters.
pub fn make_private(folder: &Path) -> Done {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("folder `{}`: {error}", folder.display()));
    if !folder.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mode = folder.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// A lock that ends with the process, however it ends; the file names the process that holds it.
pub fn lock(path: &Path, what: &str) -> Result<std::fs::File, Exit> {
    use std::io::{Read, Seek, Write};
    let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("lock `{}`: {error}", path.display()));
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
    if file.try_lock().is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let exit = Exit::new(
            SURROUNDINGS,
            format!("a {what} runs on `{}` already, process {}", path.parent().unwrap_or(path).display(), pid.trim()),
        );
        return Err(exit.hint("`slipway status` shows it; `slipway down` stops it; another one needs another `--data`"));
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// The error for an address that cannot be listened on.
pub fn taken(address: SocketAddr, error: &std::io::Error) -> Exit {
    let exit = Exit::new(SURROUNDINGS, format!("cannot listen on {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => exit.hint(format!(
            "another program has port {}; choose one with `--http` or `--proxy`, or 0 for a free one",
            address.port()
        )),
        std::io::ErrorKind::PermissionDenied => exit.hint("ports below 1024 need root"),
        _ => exit,
    }
}

/// This program, for shims and hooks.
pub fn program() -> Result<PathBuf, Exit> {
    std::env::current_exe().map_err(|error| Exit::new(SURROUNDINGS, format!("this program's own path: {error}")))
}
