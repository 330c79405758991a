//! The bare repositories: their folder, configuration and hooks; making, removing, moving refs.
//!
//! In: names of projects and refs. Out: changed repositories.
//! Never: leaves a half-made repository under its name, moves a ref that is not where the
//! caller believes it to be.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::command::{Program, ReadLimit, failed};
use crate::error::GitError;
use crate::frames::{HookKind, SOCKET_LINK};
use crate::git::{Git, GitOptions};
use crate::listener::RefUpdate;
use crate::names::{Oid, ProjectName, is_ref_name};

/// The configuration that every repository includes.
const SHARED_CONFIG: &str = "slipway.gitconfig";

/// The configuration of one repository. The rest is in [`SHARED_CONFIG`], so that an upgrade
/// rewrites one file.
const OWN_CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[include]\n\tpath = ../slipway.gitconfig\n";

/// Folders that are being made or removed; what a crash left of them goes at the next start.
const SCRATCH_PREFIX: &str = ".scratch-";

/// What a killed receive-pack leaves in `objects/` is removed after this time.
const QUARANTINE_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

const CHANGE: ReadLimit = ReadLimit { wait: Duration::from_secs(60), bytes: 1 << 20 };

/// Packing a large repository takes minutes.
const MAINTENANCE: ReadLimit = ReadLimit { wait: Duration::from_secs(3600), bytes: 1 << 20 };

/// Makes the root folder ready: configuration, hooks, no remains of a crash.
pub(crate) fn prepare_root(options: &GitOptions) -> Result<(), GitError> {
    let hooks = options.root.join("hooks");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&hooks).map_err(GitError::file("create", &hooks))?;
    let config = options.root.join(SHARED_CONFIG);
    let text = shared_config(&hooks, options.limits.push_bytes_max);
    replace(&config, |fresh| fs::write(fresh, &text))?;
    for kind in [HookKind::PreReceive, HookKind::PostReceive] {
        let exe = &options.hook_exe;
        replace(&hooks.join(kind.name()), |fresh| symlink(exe, fresh))?;
    }
    let socket = &options.hook_socket;
    replace(&hooks.join(SOCKET_LINK), |fresh| symlink(socket, fresh))?;
    remove_remains(&options.root)
}

/// What git says it can do when it is pushed to: the words behind the first ref of its greeting. They depend on the
/// program and on our configuration alone, so an empty repository tells them.
pub(crate) async fn what_receive_pack_can(program: &Program, root: &Path) -> Result<String, GitError> {
    let scratch = root.join(format!("{SCRATCH_PREFIX}{}-greeting", std::process::id()));
    init(program, &scratch).await?;
    let asked = program
        .ask("receive-pack", &scratch)
        .args(["--stateless-rpc", "--http-backend-info-refs"])
        .arg(scratch.as_os_str());
    let greeting = program.read_all(asked, Vec::new(), CHANGE).await;
    let _ = fs::remove_dir_all(&scratch);
    let greeting = String::from_utf8_lossy(&greeting?).into_owned();
    let words = greeting.split_once('\0').and_then(|(_, rest)| rest.lines().next());
    words.map(str::to_owned).ok_or_else(|| GitError::Unexpected {
        command: "receive-pack",
        subject: "an empty repository".to_owned(),
        detail: format!("{greeting:?}"),
    })
}

async fn init(program: &Program, folder: &Path) -> Result<(), GitError> {
    let asked = program.ask("init", folder).args(["--quiet", "--bare", "--template=", "--initial-branch=main"]);
    program.read_all(asked, Vec::new(), CHANGE).await?;
    fs::write(folder.join("config"), OWN_CONFIG).map_err(GitError::file("write", folder.join("config")))
}

/// Every setting has a reason.
fn shared_config(hooks: &Path, push_bytes_max: u64) -> String {
    let hooks = hooks.to_string_lossy();
    let hooks = hooks.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        r#"# Written by Slipway at every start; changes are lost.
[core]
	hooksPath = "{hooks}"
	# "Stored" is said to the pusher, so it must survive a power cut. Single objects are made safe by the server while
	# it judges the push (durable.rs): git does one after the other.
	fsync = pack,pack-metadata,commit-graph,reference
	# In quarantine git asks a process of its own for the refs of the same repository once more.
	alternateRefsCommand = true
	# Names that only other systems' file systems dislike are allowed here.
	protectNTFS = false
	protectHFS = false
[receive]
	advertisePushOptions = true
	denyNonFastForwards = false
	# Packing in front of the pusher would delay the end of the push.
	autogc = false
	keepAlive = 5
	maxInputSize = {push_bytes_max}
[receive "fsck"]
	# Harmless faults of old tools that real histories contain.
	zeroPaddedFilemode = ignore
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
	missingSpaceBeforeEmail = ignore
[transfer]
	fsckObjects = true
[uploadpack]
	allowFilter = true
	allowReachableSHA1InWant = true
[http]
	receivepack = true
[gc]
	# `maintain` decides when. A commit that something was made of never disappears.
	auto = 0
	autoDetach = false
	pruneExpire = never
	cruftPacks = true
"#
    )
}

/// Puts a new file or link in place of an old one in one step.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), GitError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // What a crash left may lie there.
    let _ = fs::remove_file(&fresh);
    make(&fresh).and_then(|()| fs::rename(&fresh, path)).map_err(GitError::file("write", path))
}

fn remove_remains(root: &Path) -> Result<(), GitError> {
    let entries = fs::read_dir(root).map_err(GitError::file("read", root))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Remains cost space only, so a failure here is no reason not to start.
        if name.starts_with(SCRATCH_PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        } else if name.ends_with(".git") {
            remove_quarantines(&entry.path().join("objects"));
        }
    }
    Ok(())
}

fn remove_quarantines(objects: &Path) {
    let Ok(entries) = fs::read_dir(objects) else {
        return;
    };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|about| about.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let ours = entry.file_name().to_string_lossy().starts_with("tmp_objdir-");
        if ours && age.is_some_and(|age| age > QUARANTINE_AGE_MAX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Git creates a repository with a `HEAD` that names a branch which may never come. After a push
/// to such a repository, `HEAD` gets `main`, else `master`, else the first branch pushed.
pub(crate) fn settle_head(git_dir: &Path, refs: &[RefUpdate]) {
    let Ok(head) = fs::read_to_string(git_dir.join("HEAD")) else {
        return;
    };
    let current = head.trim().trim_start_matches("ref: ");
    if ref_exists(git_dir, current) {
        return;
    }
    let pushed: Vec<&str> = refs
        .iter()
        .filter(|one| one.new.is_some() && one.name.starts_with("refs/heads/"))
        .map(|one| one.name.as_str())
        .collect();
    let usual = ["refs/heads/main", "refs/heads/master"];
    let chosen = usual.into_iter().find(|name| pushed.contains(name));
    if let Some(name) = chosen.or(pushed.first().copied()) {
        // Only a default for clones: the next push tries again.
        let _ = replace(&git_dir.join("HEAD"), |fresh| fs::write(fresh, format!("ref: {name}\n")));
    }
}

fn ref_exists(git_dir: &Path, name: &str) -> bool {
    if git_dir.join(name).is_file() {
        return true;
    }
    let packed = fs::read(git_dir.join("packed-refs")).unwrap_or_default();
    packed.split(|byte| *byte == b'\n').any(|line| line.get(41..) == Some(name.as_bytes()))
}

impl Git {
    /// The projects that have a repository, sorted.
    ///
    /// # Errors
    /// [`GitError::File`].
    pub fn projects(&self) -> Result<Vec<ProjectName>, GitError> {
        let entries = fs::read_dir(self.root()).map_err(GitError::file("read", self.root()))?;
        let mut names: Vec<ProjectName> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                ProjectName::parse(name.strip_suffix(".git")?).ok()
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Whether a project has a repository.
    pub fn exists(&self, project: &ProjectName) -> bool {
        self.git_dir(project).join("HEAD").is_file()
    }

    /// Makes an empty repository.
    ///
    /// # Errors
    /// [`GitError::ProjectExists`], also when two create it at the same time; [`GitError::File`];
    /// or when git fails.
    pub async fn create(&self, project: &ProjectName) -> Result<(), GitError> {
        if self.exists(project) {
            return Err(GitError::ProjectExists(project.to_string()));
        }
        let scratch = self.scratch();
        init(self.program(), &scratch).await?;
        let place = self.git_dir(project);
        match fs::rename(&scratch, &place) {
            Ok(()) => Ok(()),
            Err(source) => {
                let _ = fs::remove_dir_all(&scratch);
                if self.exists(project) {
                    return Err(GitError::ProjectExists(project.to_string()));
                }
                Err(GitError::File { act: "create", path: place, source })
            }
        }
    }

    /// Removes a repository and its kept checkouts. Whoever still serves or reads it gets errors.
    ///
    /// # Errors
    /// [`GitError::NoSuchProject`]; [`GitError::TreesInUse`] while a job uses one of its
    /// checkouts; [`GitError::File`].
    pub async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        let place = self.view(project)?.git_dir;
        self.trees().forget(project).await?;
        self.odbs().forget(&place);
        let scratch = self.scratch();
        fs::rename(&place, &scratch).map_err(GitError::file("remove", &place))?;
        let gone = scratch.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(gone)).await;
        removed.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(GitError::file("remove", scratch))
    }

    /// Moves, makes (`old` is nothing) or removes (`new` is nothing) a ref. No hook runs.
    ///
    /// # Errors
    /// [`GitError::RefMoved`] when the ref is not at `old`; [`GitError::RefName`]; or when git
    /// fails.
    pub async fn update_ref(
        &self,
        project: &ProjectName,
        name: &str,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<(), GitError> {
        if !is_ref_name(name) {
            return Err(GitError::RefName(name.to_owned()));
        }
        let view = self.view(project)?;
        let asked = view.ask("update-ref").args(["--no-deref", "--stdin", "-z"]);
        let (from, to) = (Oid::or_zeros(old), Oid::or_zeros(new));
        let input = format!("update {name}\0{to}\0{from}\0").into_bytes();
        let subject = asked.subject.clone();
        let answer = self.program().read(asked, input, CHANGE).await?;
        if answer.status.success() {
            return Ok(());
        }
        let found = view.ref_target(name).await?;
        if found != old {
            return Err(GitError::RefMoved { name: name.to_owned(), expected: old, found });
        }
        Err(failed("update-ref", subject, &answer))
    }

    /// Sets the branch that a clone checks out. Without this call it is `main`, else `master`,
    /// else the first branch pushed.
    ///
    /// # Errors
    /// [`GitError::RefName`]; [`GitError::NoSuchProject`]; or when git fails.
    pub async fn set_head(&self, project: &ProjectName, branch: &str) -> Result<(), GitError> {
        let name = format!("refs/heads/{branch}");
        if !is_ref_name(&name) {
            return Err(GitError::RefName(name));
        }
        let asked = self.view(project)?.ask("symbolic-ref").args(["HEAD", &name]);
        self.program().read_all(asked, Vec::new(), CHANGE).await?;
        Ok(())
    }

    /// Packs a repository when many small pushes made it slow; else returns after milliseconds.
    /// No object disappears. To be called now and then, outside of a push.
    ///
    /// # Errors
    /// [`GitError::NoSuchProject`]; or when git fails.
    pub async fn maintain(&self, project: &ProjectName) -> Result<(), GitError> {
        let asked = self
            .view(project)?
            .ask("gc")
            .args(["--auto", "--quiet"])
            .config(&[("gc.auto", "4000"), ("gc.autoPackLimit", "50")]);
        self.program().read_all(asked, Vec::new(), MAINTENANCE).await?;
        Ok(())
    }

    fn scratch(&self) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);

        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SCRATCH_PREFIX}{}-{n}", std::process::id());
        self.root().join(name)
    }
}
