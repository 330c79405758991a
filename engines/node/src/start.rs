//! Starts one process of an instance.
//!
//! In: what the instance shall be. Out: a running shim and the written-down facts of it, or a sentence why not.
//! Never a secret in an argument, an environment or a file outside the sandbox.

use crate::images::ImageFolder;
use crate::meta::Meta;
use crate::options::Unpacked;
use slipway_model::instance::InstanceSpec;
use slipway_sandbox::{Kind, Launcher, Limits, Network, Root, SandboxError, Secret, SecretBytes, Shim, Spec, Step};
use std::error::Error;
use std::path::PathBuf;

/// What all instances of a node share.
pub(crate) struct Starter {
    pub(crate) data: PathBuf,
    pub(crate) launcher: Launcher,
    pub(crate) images: ImageFolder,
    pub(crate) log_bytes: u64,
    /// Memory of an instance whose service names no limit.
    pub(crate) memory_bytes: Option<u64>,
}

impl Starter {
    /// Starts the process number `meta.run`. Changes `meta` to what it was started with, and writes it down first.
    pub(crate) async fn start(&self, meta: &mut Meta, spec: &InstanceSpec) -> Result<Shim, String> {
        let image = self.images.get(&spec.image).await?;
        meta.image = spec.image.clone();
        meta.spec_digest = spec.digest();
        meta.spec = InstanceSpec { secrets: Default::default(), ..spec.clone() };
        meta.env = environment(meta, spec, &image);
        meta.workdir = if image.workdir.is_empty() { "/".into() } else { image.workdir.clone() };
        meta.stop_signal = stop_signal(spec, &image);
        meta.memory_bytes = spec.resources.memory_bytes.or(self.memory_bytes);
        meta.ready = false;
        let sandbox = self.sandbox(meta, spec, &image)?;
        let (meta, data, launcher) = (meta.clone(), self.data.clone(), self.launcher.clone());
        let started = tokio::task::spawn_blocking(move || {
            meta.write(&data).map_err(|e| format!("instance `{}` cannot be written down: {e}", meta.id))?;
            meta.forget_old_runs(&data);
            launcher.launch(&sandbox).map_err(|e| format!("it could not be started: {}", whole(&e)))
        });
        // The image's folder stays in use until the launch is over.
        let result = started.await.map_err(|_| "the start broke off".to_owned())?;
        drop(image);
        result
    }

    fn sandbox(&self, meta: &Meta, spec: &InstanceSpec, image: &Unpacked) -> Result<Spec, String> {
        let argv = arguments(spec, image)?;
        let root = Root::Layers { lower: image.layers.clone() };
        let mut sandbox = Spec::new(meta.id.as_str(), meta.run_folder(&self.data), Kind::Instance, root);
        sandbox.network = Network::None;
        sandbox.user = image.user.clone();
        sandbox.limits = Limits {
            memory_bytes: meta.memory_bytes,
            cpu_millis: spec.resources.cpu_millis.map(|millis| u32::try_from(millis).unwrap_or(u32::MAX)),
            log_bytes: self.log_bytes,
            ..Limits::default()
        };
        if let Some(processes) = spec.resources.processes {
            sandbox.limits.processes = u32::try_from(processes).unwrap_or(u32::MAX);
        }
        let secrets = spec
            .secrets
            .iter()
            .map(|(name, secret)| Secret { name: name.clone(), bytes: SecretBytes(secret.0.clone()) });
        sandbox.secrets = secrets.collect();
        sandbox.steps = vec![Step {
            name: meta.lane.service.to_string(),
            argv,
            env: meta.env.clone(),
            cwd: PathBuf::from(&meta.workdir),
            timeout_ms: None,
        }];
        Ok(sandbox)
    }
}

fn arguments(spec: &InstanceSpec, image: &Unpacked) -> Result<Vec<String>, String> {
    let argv = match &spec.command {
        Some(command) => command.clone(),
        None => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
    };
    if argv.is_empty() {
        return Err("neither image nor service says what to run; fix: command: in slipway.yaml, or ENTRYPOINT of the Dockerfile".into());
    }
    Ok(argv)
}

/// The image's environment, under that of the service, under what the node adds.
fn environment(meta: &Meta, spec: &InstanceSpec, image: &Unpacked) -> Vec<(String, String)> {
    let pairs = image.env.iter().filter_map(|line| line.split_once('='));
    let mut env: std::collections::BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(spec.env.clone());
    env.entry("PATH".into()).or_insert_with(|| slipway_sandbox::PATH_DEFAULT.to_owned());
    env.insert("PORT".into(), spec.port.to_string());
    env.insert("SLIPWAY_RELEASE".into(), meta.release.to_string());
    env.insert("SLIPWAY_SERVICE".into(), meta.lane.service.to_string());
    env.insert("SLIPWAY_ENVIRONMENT".into(), meta.lane.environment.to_string());
    env.insert("SLIPWAY_INSTANCE".into(), meta.id.to_string());
    env.into_iter().collect()
}

/// SIGTERM is the default of the configuration: then the image's own wish counts (`STOPSIGNAL`).
fn stop_signal(spec: &InstanceSpec, image: &Unpacked) -> i32 {
    const TERM: i32 = 15;
    const NAMES: [(&str, i32); 8] =
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", TERM), ("WINCH", 28)];
    if spec.stop.signal != TERM || image.stop_signal.is_empty() {
        return spec.stop.signal;
    }
    let text = image.stop_signal.trim_start_matches("SIG");
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or(text.parse().ok().filter(|n| (1..=64).contains(n))).unwrap_or(TERM)
}

/// An error with its causes, in one line.
pub(crate) fn whole(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", whole(cause)),
        None => error.to_string(),
    }
}

/// Whether nothing is left of a run that could be spoken to.
pub(crate) fn is_gone(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Gone { .. })
}
