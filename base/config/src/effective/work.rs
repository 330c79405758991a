//! Services and jobs as they hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DetectedService, Effective, Facts, Origin, given, given_or_none};
use crate::model::{
    Bytes, Config, HealthCheck, Job, JobImage, Millis, RetryOn, SecretPlace, SecretUse, Service, Signal, Spanned,
    StopBefore, TagForm, Trigger, Work,
};
use crate::units::{MINUTE, SECOND};

/// One service as it holds in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// Its name.
    pub name: String,
    /// Its folder from the root, `.` for the root.
    pub path: Effective<String>,
    /// Its Dockerfile from the root.
    pub dockerfile: Effective<String>,
    /// The port that it listens on; instances get it as `PORT`.
    pub port: Effective<u16>,
    /// What shows that it is ready; nothing: the port accepts a connection.
    pub health: Effective<Option<HealthCheck>>,
    /// How long one answer may take.
    pub health_timeout: Effective<Millis>,
    /// How long to wait between two checks.
    pub health_interval: Effective<Millis>,
    /// How long an instance may take until it is ready.
    pub ready_timeout: Effective<Millis>,
    /// The words of its command; empty: those of the image.
    pub command: Effective<Vec<String>>,
    /// Configuration, by variable.
    pub env: BTreeMap<String, Effective<String>>,
    /// Its secrets and those of the environment, by name.
    pub secrets: BTreeMap<String, Effective<SecretPlace>>,
    /// How many instances.
    pub replicas: Effective<u32>,
    /// Processor time in thousandths of a core.
    pub cpu_millis: Effective<Option<u32>>,
    /// Memory.
    pub memory: Effective<Option<Bytes>>,
    /// Processes and threads.
    pub processes: Effective<Option<u32>>,
    /// Build arguments; no environment has a part in them.
    pub build_args: BTreeMap<String, Effective<String>>,
    /// The stage of the Dockerfile; nothing: the last one.
    pub build_target: Effective<Option<String>>,
    /// The form of the tag.
    pub tag: Effective<TagForm>,
    /// What ends before the signal.
    pub stop_before: Effective<Option<StopBefore>>,
    /// The signal.
    pub stop_signal: Effective<Signal>,
    /// How long it may take to end after the signal.
    pub stop_grace: Effective<Millis>,
    /// How long open requests may take.
    pub drain_timeout: Effective<Millis>,
    /// Files elsewhere that count for it.
    pub inputs: Effective<Vec<String>>,
    /// Services that it uses.
    pub needs: Effective<Vec<String>>,
}

/// One job as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPolicy {
    /// Its id: `test`, or `api/test`.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// Names of jobs that must have passed.
    pub needs: Effective<Vec<String>>,
    /// What starts it.
    pub on: Effective<Vec<Trigger>>,
    /// Where its tools come from.
    pub image: Effective<JobImage>,
    /// Configuration, by variable.
    pub env: BTreeMap<String, Effective<String>>,
    /// Its secrets, by name.
    pub secrets: BTreeMap<String, Effective<SecretPlace>>,
    /// Files that count; nothing: the service's folder and all it depends on.
    pub inputs: Effective<Option<Vec<String>>>,
    /// Files that must exist afterwards.
    pub produces: Effective<Vec<String>>,
    /// What it hands over: the files of each artifact, as patterns from the root.
    pub artifacts: BTreeMap<String, Effective<Vec<String>>>,
    /// How often it is tried again at most.
    pub retry_max: Effective<u32>,
    /// After what.
    pub retry_on: Effective<Vec<RetryOn>>,
    /// How long it may take.
    pub timeout: Effective<Millis>,
    /// Whether it may reach the network.
    pub network: Effective<bool>,
}

/// The services: those of the file, or the recognised ones when it has none.
pub fn service_names(config: &Config, facts: &Facts) -> Vec<String> {
    if config.services.is_empty() {
        return facts.services.keys().cloned().collect();
    }
    config.services.keys().cloned().collect()
}

/// One service as it holds in this environment; nothing when there is no
/// service of this name.
pub fn service_policy(config: &Config, facts: &Facts, name: &str, environment: &str) -> Option<ServicePolicy> {
    let detected = facts.services.get(name);
    let nothing = Service::default();
    let service = match config.services.get(name) {
        Some(service) => service,
        None if config.services.is_empty() && detected.is_some() => &nothing,
        None => return None,
    };
    let path = path(service, detected, name);
    let mut inputs = given(&service.inputs, Vec::new());
    move_all(elsewhere(config, facts, name).as_ref(), &mut inputs.value);
    let health = service.health.as_ref().map(|health| &health.value);
    let timeout = health.and_then(|health| health.timeout.clone());
    let interval = health.and_then(|health| health.interval.clone());
    Some(ServicePolicy {
        name: name.to_owned(),
        dockerfile: dockerfile(service, detected, &path.value),
        path,
        port: port(service, detected),
        health: given_or_none(&health.and_then(|health| health.check.clone())),
        health_timeout: given(&timeout, Millis(2 * SECOND)),
        health_interval: given(&interval, Millis(100)),
        ready_timeout: Effective::built_in(Millis(MINUTE)),
        command: given(&service.command, Vec::new()),
        env: env(config, service, environment),
        secrets: secrets(config, service, environment),
        replicas: replicas(config, service, environment),
        cpu_millis: given_or_none(&service.resources.cpu_millis),
        memory: given_or_none(&service.resources.memory),
        processes: given_or_none(&service.resources.processes),
        build_args: plain(&service.build.args),
        build_target: given_or_none(&service.build.target),
        tag: given(&service.build.tag, TagForm::GithashBuildid),
        stop_before: given_or_none(&service.stop.before),
        stop_signal: given(&service.stop.signal, Signal::Term),
        stop_grace: given(&service.stop.grace, Millis(10 * SECOND)),
        drain_timeout: given(&service.drain_timeout, Millis(30 * SECOND)),
        inputs,
        needs: names(service.needs.as_ref()),
    })
}

/// One job of the file as it holds, by its id; nothing when the file has none.
pub fn job_policy(config: &Config, facts: &Facts, id: &str) -> Option<JobPolicy> {
    let job = config.job(id)?;
    let mut policy = JobPolicy {
        id: id.to_owned(),
        work: job.work.clone(),
        needs: names(job.needs.as_ref()),
        on: given(&job.on, vec![Trigger::Push]),
        image: given(&job.image, JobImage::Auto),
        env: plain(&job.env),
        secrets: places(&job.secrets),
        inputs: given_or_none(&job.inputs),
        produces: given(&job.produces, Vec::new()),
        artifacts: artifacts(job),
        retry_max: given(&job.retry.max, 0),
        retry_on: given(&job.retry.on, vec![RetryOn::Infrastructure, RetryOn::Network, RetryOn::Memory]),
        timeout: given(&job.timeout, Millis(10 * MINUTE)),
        network: given(&job.network, true),
    };
    let elsewhere = id.split_once('/').and_then(|(service, _)| elsewhere(config, facts, service));
    let artifacts = policy.artifacts.values_mut().map(|paths| &mut paths.value);
    for patterns in artifacts.chain(&mut policy.inputs.value).chain([&mut policy.produces.value]) {
        move_all(elsewhere.as_ref(), patterns);
    }
    Some(policy)
}

/// Patterns of a service without a `path:` were read below a folder of its name: where it was found elsewhere, what they
/// begin with, and what they should.
fn elsewhere(config: &Config, facts: &Facts, service: &str) -> Option<(String, String)> {
    let found = facts.services.get(service).filter(|found| found.path != service)?;
    let given = config.services.get(service).is_some_and(|entry| entry.path.is_some());
    let folder = if found.path == "." { String::new() } else { format!("{}/", found.path) };
    (!given).then(|| (format!("{service}/"), folder))
}

fn move_all(elsewhere: Option<&(String, String)>, patterns: &mut [String]) {
    let Some((from, to)) = elsewhere else { return };
    for pattern in patterns {
        if let Some(rest) = pattern.strip_prefix(from) {
            *pattern = format!("{to}{rest}");
        }
    }
}

fn path(service: &Service, detected: Option<&DetectedService>, name: &str) -> Effective<String> {
    match detected {
        Some(found) if service.path.is_none() => Effective::detected(found.path.clone(), &found.evidence),
        Some(_) | None => given(&service.path, name.to_owned()),
    }
}

fn dockerfile(service: &Service, detected: Option<&DetectedService>, folder: &str) -> Effective<String> {
    let found = detected.and_then(|found| {
        let dockerfile = found.dockerfile.as_ref()?;
        Some(Effective::detected(dockerfile.clone(), &found.evidence))
    });
    match found {
        Some(found) if service.dockerfile.is_none() => found,
        Some(_) | None => {
            let default = match folder {
                "." => "Dockerfile".to_owned(),
                folder => format!("{folder}/Dockerfile"),
            };
            given(&service.dockerfile, default)
        }
    }
}

fn port(service: &Service, detected: Option<&DetectedService>) -> Effective<u16> {
    let found = detected.and_then(|found| {
        let port = found.port?;
        Some(Effective::detected(port, &found.evidence))
    });
    match found {
        Some(found) if service.port.is_none() => found,
        Some(_) | None => given(&service.port, 8080),
    }
}

/// The most particular wins: service in this environment, environment,
/// service.
fn env(config: &Config, service: &Service, environment: &str) -> BTreeMap<String, Effective<String>> {
    let mut values = BTreeMap::new();
    for (name, layers) in &service.env {
        if let Some(value) = &layers.default {
            values.insert(name.clone(), held(value));
        }
    }
    if let Some(environment) = config.environment(environment) {
        values.extend(plain(&environment.env));
    }
    for (name, layers) in &service.env {
        if let Some(value) = layers.overrides.get(environment) {
            values.insert(name.clone(), held(value));
        }
    }
    values
}

fn secrets(config: &Config, service: &Service, environment: &str) -> BTreeMap<String, Effective<SecretPlace>> {
    let mut all = match config.environment(environment) {
        Some(environment) => places(&environment.secrets),
        None => BTreeMap::new(),
    };
    all.extend(places(&service.secrets));
    all
}

fn replicas(config: &Config, service: &Service, environment: &str) -> Effective<u32> {
    let own = service.replicas.overrides.get(environment);
    let shared = config.environment(environment).and_then(|environment| environment.replicas.as_ref());
    match own.or(shared).or(service.replicas.default.as_ref()) {
        Some(value) => held(value),
        None => Effective::built_in(1),
    }
}

fn artifacts(job: &Job) -> BTreeMap<String, Effective<Vec<String>>> {
    job.artifacts.iter().map(|(name, artifact)| (name.clone(), given(&artifact.paths, Vec::new()))).collect()
}

fn names(needs: Option<&Spanned<Vec<Spanned<String>>>>) -> Effective<Vec<String>> {
    match needs {
        Some(needs) => {
            Effective { value: needs.value.iter().map(|one| one.value.clone()).collect(), origin: Origin::at(needs.at) }
        }
        None => Effective::built_in(Vec::new()),
    }
}

fn held<T: Clone>(value: &Spanned<T>) -> Effective<T> {
    Effective { value: value.value.clone(), origin: Origin::at(value.at) }
}

fn plain(values: &BTreeMap<String, Spanned<String>>) -> BTreeMap<String, Effective<String>> {
    let values = values.iter();
    values.map(|(name, value)| (name.clone(), held(value))).collect()
}

fn places(secrets: &[Spanned<SecretUse>]) -> BTreeMap<String, Effective<SecretPlace>> {
    let secrets = secrets.iter();
    secrets
        .map(|secret| {
            let place = Effective { value: secret.value.place, origin: Origin::at(secret.at) };
            (secret.value.name.clone(), place)
        })
        .collect()
}
