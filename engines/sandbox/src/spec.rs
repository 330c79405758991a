//! What a sandbox is to be. In: values from worker and node. Out: the one document that a shim gets over its stdin.
//! Secrets travel only there: never in arguments, never in a file outside the sandbox's own tmpfs.

use crate::error::SandboxError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// The version of [`Spec`] that this build writes; it reads this one only, since shim and caller are one binary.
pub const SPEC_VERSION: u32 = 1;
/// Steps of one run; a job with more is refused.
pub const STEPS_MAX: usize = 256;
/// All secrets of one run together; their tmpfs is sized by it.
pub const SECRETS_BYTES_MAX: usize = 1024 * 1024;
/// The folder that is HOME and writable under [`Root::HostTools`].
pub const HOME: &str = "/home/build";
/// Where secrets are found inside when the spec does not say otherwise.
pub const SECRETS_FOLDER: &str = "/run/secrets";

/// Everything that a shim needs to know of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Version of this document.
    pub v: u32,
    /// Name of the run: letters, digits, `.`, `_`, `-`; at most 64.
    pub id: String,
    /// State folder of this run, absolute; made if missing (mode 0700). Holds log, socket, exit record and writable layers.
    pub dir: PathBuf,
    /// Instance or job.
    pub kind: Kind,
    /// What `/` is.
    pub root: Root,
    /// Folders and files of the host that are shown inside.
    pub binds: Vec<Bind>,
    /// A kept checkout, writable inside, unchanged outside.
    pub workspace: Option<Workspace>,
    /// Host name inside.
    pub hostname: String,
    /// What the sandbox may reach.
    pub network: Network,
    /// Limits, each with what happens at it.
    pub limits: Limits,
    /// Which ids of the host stand behind the ids inside.
    pub ids: Ids,
    /// Who the steps run as inside: empty (root), `uid`, `uid:gid`, `name` or `name:group` of the root's `/etc/passwd`.
    pub user: String,
    /// Files in `secrets_folder`, mode 0400, owned by `user`. Their values are masked in the log.
    pub secrets: Vec<Secret>,
    /// Folder of the secrets inside.
    pub secrets_folder: PathBuf,
    /// Further values to mask. Values under [`crate::MASK_BYTES_MIN`] bytes are not masked: they would garble the log and hide nothing.
    pub masks: Vec<SecretBytes>,
    /// What runs, in this order, up to the first that fails. An instance has exactly one.
    pub steps: Vec<Step>,
    /// From SIGTERM to SIGKILL when a step passes its time limit.
    pub kill_grace_ms: u64,
}

impl Spec {
    /// A spec with nothing in it but a root: no network, default limits, root inside.
    pub fn new(id: impl Into<String>, dir: impl Into<PathBuf>, kind: Kind, root: Root) -> Self {
        let id = id.into();
        Self {
            v: SPEC_VERSION,
            hostname: id.clone(),
            id,
            dir: dir.into(),
            kind,
            root,
            binds: Vec::new(),
            workspace: None,
            network: Network::None,
            limits: Limits::default(),
            ids: Ids::Automatic,
            user: String::new(),
            secrets: Vec::new(),
            secrets_folder: PathBuf::from(SECRETS_FOLDER),
            masks: Vec::new(),
            steps: Vec::new(),
            kill_grace_ms: 2_000,
        }
    }

    /// Refuses what could not run or would be unsafe to try.
    pub fn check(&self) -> Result<(), SandboxError> {
        let refuse = |text: String| Err(SandboxError::Spec(text));
        if self.v != SPEC_VERSION {
            return refuse(format!("version {} is not version {SPEC_VERSION}", self.v));
        }
        if !is_plain_name(&self.id) {
            return refuse(format!("`{}` is no id", self.id));
        }
        if self.hostname.len() > 64 || self.hostname.contains(|c: char| c.is_whitespace() || c == '\0') {
            return refuse(format!("`{}` is no host name", self.hostname));
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return refuse(format!("{} steps; allowed are 1 to {STEPS_MAX}", self.steps.len()));
        }
        if self.kind == Kind::Instance && self.steps.len() != 1 {
            return refuse("an instance has exactly one step".into());
        }
        if let Some(step) = self.steps.iter().find(|step| step.argv.is_empty()) {
            return refuse(format!("step `{}` has no command", step.name));
        }
        if let Some(secret) = self.secrets.iter().find(|secret| !is_plain_name(&secret.name)) {
            return refuse(format!("`{}` is no name for a secret's file", secret.name));
        }
        if self.secrets.iter().map(|secret| secret.bytes.0.len()).sum::<usize>() > SECRETS_BYTES_MAX {
            return refuse(format!("the secrets are larger than {SECRETS_BYTES_MAX} bytes"));
        }
        self.check_paths()
    }

    fn check_paths(&self) -> Result<(), SandboxError> {
        let mut absolute: Vec<&Path> = vec![&self.dir, &self.secrets_folder];
        absolute.extend(self.binds.iter().flat_map(|bind| [bind.source.as_path(), &bind.target]));
        absolute.extend(self.workspace.iter().flat_map(|w| [w.lower.as_path(), &w.target]));
        match &self.root {
            Root::HostTools { tools, caches } => {
                absolute.extend(tools.iter().map(PathBuf::as_path));
                absolute.extend(caches.iter().flat_map(|c| [c.lower.as_path(), &c.target]));
            }
            Root::Layers { lower } => {
                if lower.is_empty() {
                    return Err(SandboxError::Spec("an image root has no layer".into()));
                }
                absolute.extend(lower.iter().map(PathBuf::as_path));
            }
        }
        for path in absolute {
            if !path.is_absolute() {
                return Err(SandboxError::Spec(format!("`{}` is not absolute", path.display())));
            }
        }
        if let Ids::Fixed { outside, count } = self.ids
            && (outside == 0 || count == 0 || outside.checked_add(count).is_none())
        {
            return Err(SandboxError::Spec(format!("ids {outside}+{count} are not a range above 0")));
        }
        Ok(())
    }
}

/// A file name without a path in it.
fn is_plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.bytes().all(|b| b == b'.')
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Serves until it is stopped; SIGTERM goes to its main process only, `ptrace` is denied.
    Instance,
    /// Runs to its end; SIGTERM goes to the step's process group, `ptrace` among its own processes is allowed (leak sanitizers need it).
    Job,
}

/// What `/` is inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// The host's programs, read-only: `/usr`, `/bin`, `/lib*`, `/opt`, a harmless part of `/etc`; see [`crate::host_tools`].
    HostTools {
        /// Further folders, shown read-only at the same path.
        tools: Vec<PathBuf>,
        /// Folders that stay unchanged outside and are writable inside.
        caches: Vec<Workspace>,
    },
    /// Unpacked image layers, the lowest first.
    Layers {
        /// Folders of the layers; never written.
        lower: Vec<PathBuf>,
    },
}

/// A folder or file of the host, shown inside (nosuid, nodev, without mounts below it).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Path outside.
    pub source: PathBuf,
    /// Path inside; made if missing.
    pub target: PathBuf,
    /// Whether writes fail.
    pub read_only: bool,
}

/// A read-only folder with a writable overlay in the run's state folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workspace {
    /// Folder outside; never written.
    pub lower: PathBuf,
    /// Path inside.
    pub target: PathBuf,
}

/// What the sandbox may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Its own loopback only.
    None,
    /// Its own network with a way out by NAT; never the host's loopback. For the machine's root only.
    Outbound,
    /// Its own network with a way out through a program that speaks for it; never the host's loopback. For ordinary users only.
    UserMode(Stack),
    /// The host's network: no isolation is claimed.
    Host,
}

/// A program that is the network of an ordinary user's sandbox: it takes packets and opens sockets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// `pasta`, of the package passt.
    Pasta,
    /// `slirp4netns`.
    Slirp4netns,
}

/// Limits of one run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Memory and tmpfs together; beyond it the kernel kills, and the step ends as out of memory.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU; beyond it the processes wait.
    pub cpu_millis: Option<u32>,
    /// Processes and threads; beyond it `fork` fails.
    pub processes: u32,
    /// The largest single file; beyond it writes fail. Not a limit of the sum: no portable file system has one per folder.
    pub file_bytes: Option<u64>,
    /// Log kept on disk: the first half and the newest half; between them lines are dropped and counted.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: None, cpu_millis: None, processes: 4096, file_bytes: None, log_bytes: 8 * 1024 * 1024 }
    }
}

/// Which ids of the host stand behind ids 0.. inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// 65,536 ids above 2^30, chosen by the run's id, so that two runs rarely share one and no host user has one.
    Automatic,
    /// These.
    Fixed {
        /// First id outside.
        outside: u32,
        /// How many.
        count: u32,
    },
}

impl Ids {
    /// First id outside, and how many.
    pub fn range(self, id: &str) -> (u32, u32) {
        match self {
            Self::Fixed { outside, count } => (outside, count),
            Self::Automatic => {
                // FNV-1a: spread is all that is asked of it.
                let hash = id.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
                (0x4000_0000 + (hash % 8192) * 65536, 65536)
            }
        }
    }
}

/// One file under the secrets folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secret {
    /// File name.
    pub name: String,
    /// Content.
    pub bytes: SecretBytes,
}

/// Bytes that print as `****`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// One command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// Name for people and the record.
    pub name: String,
    /// Program and arguments; a program without `/` is looked up in the step's PATH, inside.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Working folder inside.
    pub cwd: PathBuf,
    /// Time limit; none for instances.
    pub timeout_ms: Option<u64>,
}

impl Step {
    /// A step in `/` with a usual PATH and no time limit.
    pub fn new(name: impl Into<String>, argv: &[&str]) -> Self {
        Self {
            name: name.into(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            env: vec![("PATH".into(), crate::PATH_DEFAULT.into())],
            cwd: PathBuf::from("/"),
            timeout_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_as_stars() {
        let secret = Secret { name: "token".into(), bytes: "hunter22".into() };
        assert!(!format!("{secret:?}").contains("hunter22")); // R518
    }

    #[test]
    fn names_with_a_path_in_them_are_refused() {
        for name in ["", "..", ".", "a/b", "a\0b", "ä"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name("shop-r41.2"));
    }

    #[test]
    fn ids_outside_lie_above_those_of_any_host_user() {
        for id in ["a", "shop-1", "shop-2"] {
            let (first, count) = Ids::Automatic.range(id);
            assert!(first >= 1 << 30 && u64::from(first) + u64::from(count) <= 1 << 31);
        }
    }
}
