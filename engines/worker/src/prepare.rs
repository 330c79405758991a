//! Turns a request into a sandbox.
//!
//! In: the request, the folder with its files, what the machine allows. Out: the sandbox's specification. Pure.

use crate::folder::{Folder, folder_name};
use crate::handover::{ARTIFACTS, INPUTS, OUTPUTS, SUMMARY};
use crate::options::JobLimits;
use slipway_model::job::StepDef;
use slipway_ports::RunRequest;
use slipway_sandbox::{
    Bind, Kind, Limits, Network, Outbound, Root, SECRETS_FOLDER, Secret, SecretBytes, Spec, Step, Workspace,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a job finds the repository's files, everywhere the same: paths are part of what compilers remember.
pub const WORKSPACE: &str = "/workspace";
/// Where a job finds what Slipway gives it, and leaves what Slipway takes.
const SHARED: &str = "/run/slipway";
/// The same on every machine, so that nothing can depend on it.
const HOSTNAME: &str = "slipway-job";
/// From SIGTERM to SIGKILL.
pub(crate) const KILL_GRACE_MS: u64 = 2_000;

/// What the machine gives to a job.
pub(crate) struct Ground {
    /// What `/` is.
    pub root: Root,
    /// Environment of the root: PATH, HOME, the tools' variables.
    pub env: Vec<(String, String)>,
    /// How the network is reached.
    pub outbound: Outbound,
    /// Limits.
    pub limits: JobLimits,
}

/// A sandbox, and what people must know about it.
pub(crate) struct Prepared {
    pub spec: Spec,
    pub notes: Vec<String>,
}

/// The sandbox of a request.
pub(crate) fn prepare(request: &RunRequest, tree: &Path, folder: &Folder, ground: Ground) -> Prepared {
    let mut notes = Vec::new();
    let mut spec = Spec::new(folder_name(&request.run), folder.sandbox(), Kind::Job, ground.root);
    spec.hostname = HOSTNAME.to_owned();
    spec.workspace = Some(Workspace { lower: tree.to_owned(), target: PathBuf::from(WORKSPACE) });
    spec.binds = vec![Bind { source: folder.shared(), target: PathBuf::from(SHARED), read_only: false }];
    spec.network = match (request.job.network, ground.outbound) {
        (false, _) => Network::None,
        (true, outbound) => {
            if outbound == Outbound::Shared {
                notes.push("network: shared with this machine, not isolated; `slipway doctor` says why".to_owned());
            }
            outbound.network()
        }
    };
    spec.limits = Limits {
        memory_bytes: ground.limits.memory_bytes,
        cpu_millis: ground.limits.cpu_millis,
        processes: ground.limits.processes,
        file_bytes: ground.limits.file_bytes,
        log_bytes: ground.limits.log_bytes,
    };
    spec.kill_grace_ms = KILL_GRACE_MS;
    spec.secrets = secrets(request);
    let cwd = Path::new(WORKSPACE).join(&request.job.folder);
    spec.steps = request.job.steps.iter().map(|step| sandbox_step(request, step, &ground.env, &cwd)).collect();
    Prepared { spec, notes }
}

fn secrets(request: &RunRequest) -> Vec<Secret> {
    let secret = |(name, value): (&String, &slipway_model::Secret)| Secret {
        name: name.clone(),
        bytes: SecretBytes(value.0.clone()),
    };
    request.secrets.iter().map(secret).collect()
}

fn sandbox_step(request: &RunRequest, step: &StepDef, ground: &[(String, String)], cwd: &Path) -> Step {
    let mut env: BTreeMap<String, String> = ground.iter().cloned().collect();
    env.insert("TMPDIR".into(), "/tmp".into());
    env.extend(request.env.clone());
    env.extend(step.env.clone());
    // Last: a variable of the configuration must not lead elsewhere.
    env.insert("SLIPWAY_OUTPUTS".into(), format!("{SHARED}/{OUTPUTS}"));
    env.insert("SLIPWAY_INPUTS".into(), format!("{SHARED}/{INPUTS}"));
    env.insert("SLIPWAY_ARTIFACTS".into(), format!("{SHARED}/{ARTIFACTS}"));
    env.insert("SLIPWAY_SUMMARY".into(), format!("{SHARED}/{SUMMARY}"));
    env.insert("SLIPWAY_SECRETS".into(), SECRETS_FOLDER.into());
    let limit = step.timeout_ms.unwrap_or(u64::MAX).min(request.job.timeout_ms);
    Step {
        name: step.name.clone(),
        argv: ["sh", "-e", "-c", &step.run].map(str::to_owned).to_vec(),
        env: env.into_iter().collect(),
        cwd: cwd.to_owned(),
        // Holds while no worker watches, too.
        timeout_ms: Some(limit),
    }
}
