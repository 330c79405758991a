//! The handle that the server holds.
//!
//! In: where repositories, hooks, socket and checkouts lie. Out: [`Git`], which is cheap to clone.
//! Never: two handles on the same folders at one time (the caller holds the lock of the data
//! folder).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::command::Program;
use crate::error::GitError;
use crate::http_serve::Service;
use crate::listener::{HookListener, RefUpdate};
use crate::names::ProjectName;
use crate::objects::ObjectView;
use crate::odb::Odbs;
use crate::pushes::Pushes;
use crate::repository;
use crate::trees::Trees;

/// Where things lie.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// The folder of the repositories (`DATA/git`).
    pub root: PathBuf,
    /// The program that git starts as a hook: this product's own binary.
    pub hook_exe: PathBuf,
    /// The socket on which the server waits for hooks.
    pub hook_socket: PathBuf,
    /// The folder of the kept checkouts (`DATA/work/trees`).
    pub trees: PathBuf,
    /// Checkouts that jobs of a former life still use; they are not moved until
    /// [`Git::adopt_tree`] was called for them and its lease dropped.
    pub trees_in_use: Vec<PathBuf>,
    /// The git program.
    pub git_exe: PathBuf,
    /// The limits.
    pub limits: Limits,
}

/// How much is allowed at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pushes served at the same time, those that only watch included.
    pub pushes_max: usize,
    /// Fetches and clones served at the same time.
    pub fetches_max: usize,
    /// Size of one push.
    pub push_bytes_max: u64,
    /// How long a client or git may be silent. A push that only watches is not silent: git
    /// sends an empty packet every five seconds.
    pub idle: Duration,
    /// Kept checkouts per project.
    pub trees_per_project_max: u32,
    /// How long [`Git::lease`] waits for a checkout.
    pub tree_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pushes_max: 256,
            fetches_max: 32,
            push_bytes_max: 4 << 30,
            idle: Duration::from_secs(300),
            trees_per_project_max: 4,
            tree_wait: Duration::from_secs(600),
        }
    }
}

impl GitOptions {
    /// Options with the `git` of the search path, the default limits and no checkout in use.
    pub fn new(
        root: impl Into<PathBuf>,
        hook_exe: impl Into<PathBuf>,
        hook_socket: impl Into<PathBuf>,
        trees: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root: root.into(),
            hook_exe: hook_exe.into(),
            hook_socket: hook_socket.into(),
            trees: trees.into(),
            trees_in_use: Vec::new(),
            git_exe: PathBuf::from("git"),
            limits: Limits::default(),
        }
    }
}

/// All repositories of one server.
#[derive(Clone)]
pub struct Git(Arc<Shared>);

struct Shared {
    program: Arc<Program>,
    /// What this git can do when it is pushed to, as it says so itself.
    receives: String,
    odbs: Arc<Odbs>,
    root: PathBuf,
    hook_socket: PathBuf,
    limits: Limits,
    pushes: Arc<Pushes>,
    push_turns: Arc<Semaphore>,
    fetch_turns: Arc<Semaphore>,
    trees: Arc<Trees>,
}

impl Git {
    /// Makes the folders, writes the configuration and the hooks anew (so that an upgrade takes
    /// effect), and finds the kept checkouts.
    ///
    /// # Errors
    /// [`GitError::TooOld`], [`GitError::Start`] without git, [`GitError::File`].
    pub async fn open(mut options: GitOptions) -> Result<Self, GitError> {
        // Git runs elsewhere than we do.
        for path in [&mut options.root, &mut options.hook_exe, &mut options.hook_socket, &mut options.trees] {
            *path = std::path::absolute(&*path).map_err(GitError::file("find", path.clone()))?;
        }
        let program = Arc::new(Program::new(options.git_exe.clone()));
        let (version, found) = program.version().await?;
        if version < (2, 38) {
            return Err(GitError::TooOld { found });
        }
        repository::prepare_root(&options)?;
        let receives = repository::what_receive_pack_can(&program, &options.root).await?;
        let limits = options.limits;
        let trees = Trees::open(&options.trees, &options.trees_in_use, limits)?;
        Ok(Self(Arc::new(Shared {
            program,
            receives,
            odbs: Arc::default(),
            root: options.root,
            hook_socket: options.hook_socket,
            limits,
            pushes: Arc::new(Pushes::new()),
            push_turns: Arc::new(Semaphore::new(limits.pushes_max)),
            fetch_turns: Arc::new(Semaphore::new(limits.fetches_max)),
            trees: Arc::new(trees),
        })))
    }

    /// Begins to listen for hooks on the socket of the options. Do this before serving pushes:
    /// without a listener every push is refused.
    ///
    /// # Errors
    /// [`GitError::File`] when the socket cannot be made.
    pub fn listen(&self) -> Result<HookListener, GitError> {
        HookListener::bind(self.clone(), &self.0.hook_socket)
    }

    /// Reads a repository.
    ///
    /// # Errors
    /// [`GitError::NoSuchProject`].
    pub fn view(&self, project: &ProjectName) -> Result<ObjectView, GitError> {
        let git_dir = self.git_dir(project);
        if !git_dir.join("HEAD").is_file() {
            return Err(GitError::NoSuchProject(project.to_string()));
        }
        let (program, odbs) = (Arc::clone(&self.0.program), Arc::clone(&self.0.odbs));
        Ok(ObjectView { program, odbs, git_dir, quarantine: None })
    }

    /// How many pushes, fetches and clones are served, and each change of that.
    pub fn served(&self) -> watch::Receiver<usize> {
        self.0.pushes.served()
    }

    /// Resolves when no push, fetch or clone is served.
    pub async fn drained(&self) {
        self.0.pushes.drained().await;
    }

    pub(crate) fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.0.root.join(format!("{project}.git"))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn receives(&self) -> &str {
        &self.0.receives
    }

    pub(crate) fn odbs(&self) -> &Odbs {
        &self.0.odbs
    }

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.0.program
    }

    pub(crate) fn pushes(&self) -> &Arc<Pushes> {
        &self.0.pushes
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn trees(&self) -> &Arc<Trees> {
        &self.0.trees
    }

    pub(crate) fn turns(&self, service: Service) -> &Arc<Semaphore> {
        match service {
            Service::UploadPack => &self.0.fetch_turns,
            Service::ReceivePack => &self.0.push_turns,
        }
    }

    /// After a push: a `HEAD` that points nowhere gets a branch that exists.
    pub(crate) fn settle_head(&self, project: &ProjectName, refs: &[RefUpdate]) {
        repository::settle_head(&self.git_dir(project), refs);
    }
}
