//! What a worker is started with.
//!
//! In: folders, limits, what others provide. Out: options with usual values. Never: reads a configuration file.

use slipway_blobs::Blobs;
use slipway_model::Digest;
use slipway_ports::Fut;
use slipway_sandbox::{HostTools, Outbound};
use std::any::Any;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a worker needs.
pub struct WorkerOptions {
    /// Its folder (`DATA/work`); one worker at a time.
    pub work: PathBuf,
    /// Where logs of ended jobs are kept (`DATA/logs`).
    pub logs: PathBuf,
    /// The content store.
    pub blobs: Blobs,
    /// The program that becomes the shim; see [`slipway_sandbox::Launcher::new`].
    pub shim: PathBuf,
    /// Makes folders of an image's layers; without it a job that names an image is refused.
    pub unpack: Option<Arc<dyn Unpack>>,
    /// Jobs at once; further ones wait in the order in which they came.
    pub slots: NonZeroUsize,
    /// The machine's tools that jobs see.
    pub tools: HostTools,
    /// How a job that may use the network gets out, as the probe found.
    pub outbound: Outbound,
    /// Limits of each job.
    pub limits: JobLimits,
}

impl WorkerOptions {
    /// The usual options for a data folder: a slot per core, the machine's tools, a shared network.
    #[must_use]
    pub fn new(data: &Path, blobs: Blobs, shim: impl Into<PathBuf>) -> WorkerOptions {
        WorkerOptions {
            work: data.join("work"),
            logs: data.join("logs"),
            blobs,
            shim: shim.into(),
            unpack: None,
            slots: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            tools: slipway_sandbox::host_tools(),
            outbound: Outbound::Shared,
            limits: JobLimits::default(),
        }
    }
}

/// Limits of one job, and of what is kept of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Memory and tmpfs together; none: no limit, for a machine without a memory controller.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    pub processes: u32,
    /// The largest file.
    pub file_bytes: Option<u64>,
    /// Log kept of one job: its beginning and its end.
    pub log_bytes: u64,
    /// Logs kept of all ended jobs together; the oldest go first.
    pub logs_bytes: u64,
    /// One artifact.
    pub artifact_bytes: u64,
    /// One output.
    pub output_bytes: u64,
    /// Outputs of one job.
    pub outputs: usize,
    /// Outcomes that are remembered; the oldest go first.
    pub outcomes: usize,
}

impl Default for JobLimits {
    fn default() -> JobLimits {
        JobLimits {
            memory_bytes: None,
            cpu_millis: None,
            processes: 4096,
            file_bytes: None,
            log_bytes: 8 << 20,
            logs_bytes: 4 << 30,
            artifact_bytes: 2 << 30,
            output_bytes: 1 << 20,
            outputs: 100,
            outcomes: 2000,
        }
    }
}

/// An image as a root.
pub struct Unpacked {
    /// Folders of its layers, the lowest first; never written.
    pub layers: Vec<PathBuf>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Keeps the folders while it lives.
    pub guard: Box<dyn Any + Send + Sync>,
}

/// Makes folders of an image's layers.
pub trait Unpack: Send + Sync {
    /// The layers of an image; the error says what is missing.
    fn unpack(&self, image: &Digest) -> Fut<'_, Result<Unpacked, String>>;
}
