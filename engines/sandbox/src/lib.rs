//! Sandboxes for jobs and instances, and the shim that owns each. In: a [`Spec`]. Out: a running [`Shim`], its log, its exit record.
//!
//! A shim is the same program branching off in `main` ([`shim_main`]). It outlives worker and node; what runs inside never outlives it.
//! This package never decides what is to run, and never opens a port of the host.

#[cfg(not(target_os = "linux"))]
compile_error!("sandboxes are made of Linux namespaces");

mod cgroup;
mod client;
mod delegated;
mod error;
mod escaped;
mod host_tools;
mod ids;
mod init;
mod launch;
mod log;
mod log_read;
mod mask;
mod merged;
mod mounts;
mod nat;
mod netlink;
mod netns;
mod outbound;
mod probe;
mod record;
mod seccomp;
mod settle;
mod shim;
mod spec;
mod stack;
mod standing;
mod subordinate;
mod sys;
mod wire;

pub use cgroup::limits_memory;
pub use client::{Connector, Follow, Shim};
pub use error::{Cause, Failure, SandboxError};
pub use host_tools::{HostTools, host_tools};
pub use launch::{Attached, Launcher, attach, release};
pub use log::{LINE_BYTES_MAX, LOG_BYTES_MIN, Stream};
pub use log_read::{LogChunk, LogLine, read_log, read_log_from};
pub use mask::{MASK_BYTES_MIN, Masks};
pub use merged::{Entry, EntryKind, Merged};
pub use probe::{Check, Level, Outbound, Probe};
pub use record::{Ended, Executed, ExitRecord, LogRecord, Status, StepRecord, Usage, read_record};
pub use settle::remove_folder;
pub use shim::{Setup, shim_main};
pub use spec::{
    Bind, HOME, Ids, Kind, Limits, Network, Root, SECRETS_FOLDER, SPEC_VERSION, Secret, SecretBytes, Spec, Stack, Step,
    Workspace,
};
pub use wire::Command;

/// PATH of a step whose environment has none.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
