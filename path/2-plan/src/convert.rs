//! From the configuration's effective policies to the plan's definitions.
//!
//! In: policies with origins. Out: what stages act on. Never: a default of its own.

use slipway_config::effective::{self, Effective, JobPolicy, ServicePolicy, VerifyPolicy};
use slipway_config::model::{HealthCheck, JobImage as ConfigImage, StopBefore, TagForm, Work};
use slipway_config::{Config, Facts};
use slipway_model::job::{ArtifactDef, JobDef, JobImage, Retry, StepDef};
use slipway_model::plan::TagStrategy;
use slipway_model::policy::{self, EnvironmentPolicy, Smoke};
use slipway_model::release::{EnvironmentConfig, Health, Places, Resources, ServiceSpec, Stop};
use slipway_model::{EnvironmentName, IdError, JobKey, ServiceName};
use std::collections::BTreeMap;

/// How long a result's files are wanted at least; they stay while the result is remembered.
const KEEP_MS: u64 = 7 * 24 * 60 * 60 * 1000;

fn plain(values: &BTreeMap<String, Effective<String>>) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect()
}

/// A job's key from its id in the configuration (`test`, `api/test`).
///
/// # Errors
/// When the service's name is not one.
pub fn job_key(id: &str) -> Result<JobKey, IdError> {
    match id.split_once('/') {
        Some((service, name)) => Ok(JobKey { service: Some(ServiceName::parse(service)?), name: name.to_owned() }),
        None => Ok(JobKey { service: None, name: id.to_owned() }),
    }
}

/// The definition of a job; `None` when it is switched off or nothing is known to do.
///
/// # Errors
/// When a name in it is not one.
pub fn job(
    policy: &JobPolicy,
    folder: &str,
    inputs: Vec<String>,
    recognised: Option<&str>,
    needs: Vec<JobKey>,
) -> Result<Option<JobDef>, IdError> {
    let key = job_key(&policy.id)?;
    let steps = match &policy.work {
        Work::Off => return Ok(None),
        Work::Recognised => match recognised {
            Some(run) => vec![step(&key.name, run)],
            None => return Ok(None),
        },
        Work::Steps(steps) => steps
            .iter()
            .enumerate()
            .map(|(index, step)| StepDef {
                name: step
                    .name
                    .as_ref()
                    .map_or_else(|| default_name(&key.name, index, steps.len()), |name| name.value.clone()),
                run: step.run.value.clone(),
                env: step.env.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect(),
                timeout_ms: step.timeout.as_ref().map(|timeout| timeout.value.0),
            })
            .collect(),
    };
    Ok(Some(JobDef {
        kind: effective::job_kind(&key.name).to_owned(),
        key,
        steps,
        needs,
        image: match &policy.image.value {
            ConfigImage::Auto | ConfigImage::Host => JobImage::Host,
            ConfigImage::Reference(reference) => JobImage::Image(reference.clone()),
        },
        env: plain(&policy.env),
        secrets: policy.secrets.keys().cloned().collect(),
        inputs,
        produces: policy.produces.value.clone(),
        artifacts: artifacts(policy),
        retry: Retry { max: policy.retry_max.value, on: policy.retry_on.value.iter().map(|on| on.words()).collect() },
        timeout_ms: policy.timeout.value.0,
        network: policy.network.value,
        folder: folder.to_owned(),
    }))
}

/// What a job hands over: its named artifacts, and what it promised to produce.
fn artifacts(policy: &JobPolicy) -> BTreeMap<String, ArtifactDef> {
    let named = policy
        .artifacts
        .iter()
        .map(|(name, artifact)| (name.clone(), ArtifactDef { paths: artifact.value.clone(), keep_ms: KEEP_MS }));
    let mut all: BTreeMap<String, ArtifactDef> = named.collect();
    if !policy.produces.value.is_empty() {
        let produced = ArtifactDef { paths: policy.produces.value.clone(), keep_ms: KEEP_MS };
        all.entry("produces".to_owned()).or_insert(produced);
    }
    all
}

fn default_name(job: &str, index: usize, count: usize) -> String {
    if count == 1 { job.to_owned() } else { format!("{job} {}", index + 1) }
}

/// A job that nobody wrote: the tests of a recognised service.
#[must_use]
pub fn recognised_tests(key: JobKey, run: &str, folder: &str, inputs: Vec<String>) -> JobDef {
    JobDef {
        steps: vec![step(&key.name, run)],
        kind: "unit".into(),
        key,
        needs: Vec::new(),
        image: JobImage::Host,
        env: BTreeMap::new(),
        secrets: Vec::new(),
        inputs,
        produces: Vec::new(),
        artifacts: BTreeMap::new(),
        retry: Retry::default(),
        timeout_ms: 600_000,
        network: true,
        folder: folder.to_owned(),
    }
}

fn step(name: &str, run: &str) -> StepDef {
    StepDef { name: name.to_owned(), run: run.to_owned(), env: BTreeMap::new(), timeout_ms: None }
}

/// How a service runs everywhere.
///
/// # Errors
/// When an environment's name is not one.
pub fn spec(
    config: &Config,
    facts: &Facts,
    service: &str,
    exposed: Option<u16>,
) -> Result<Option<ServiceSpec>, IdError> {
    let mut environments = BTreeMap::new();
    let mut last = None;
    for policy in effective::environment_policies(config, facts) {
        let name = EnvironmentName::parse(&policy.name.value)?;
        let Some(of) = effective::service_policy(config, facts, service, name.as_str()) else { return Ok(None) };
        let config = EnvironmentConfig {
            replicas: of.replicas.value,
            env: plain(&of.env),
            secrets: of.secrets.keys().cloned().collect(),
            strategy: policy.rolling.rolling(),
            verify: verify(&policy.verify, &of),
        };
        environments.insert(name, config);
        last = Some(of);
    }
    Ok(last.map(|of| service_spec(&of, environments, exposed)))
}

/// Where the settings of a service stand that people are told to change.
#[must_use]
pub fn places(config: &Config, service: &str) -> Places {
    let Some(entry) = config.services.get(service) else { return Places::default() };
    let lines = [
        ("port", entry.port.as_ref().map(|port| port.at)),
        ("health", entry.health.as_ref().map(|health| health.at)),
        ("command", entry.command.as_ref().map(|command| command.at)),
        ("resources.memory", entry.resources.memory.as_ref().map(|memory| memory.at)),
    ];
    Places {
        service: Some(entry.at.line),
        keys: lines.into_iter().filter_map(|(key, at)| Some((key.to_owned(), at?.line))).collect(),
    }
}

fn service_spec(
    of: &ServicePolicy,
    environments: BTreeMap<EnvironmentName, EnvironmentConfig>,
    exposed: Option<u16>,
) -> ServiceSpec {
    let built_in = of.port.origin == effective::Origin::BuiltIn;
    ServiceSpec {
        port: exposed.filter(|_| built_in).unwrap_or(of.port.value),
        command: (!of.command.value.is_empty()).then(|| of.command.value.clone()),
        health: Health {
            path: match &of.health.value {
                Some(HealthCheck::Http(path)) => Some(path.clone()),
                Some(HealthCheck::Command(_)) | None => None,
            },
            command: match &of.health.value {
                Some(HealthCheck::Command(words)) => Some(words.clone()),
                Some(HealthCheck::Http(_)) | None => None,
            },
            timeout_ms: of.health_timeout.value.0,
            interval_ms: of.health_interval.value.0,
        },
        stop: Stop {
            before: match &of.stop_before.value {
                Some(StopBefore::Command(words)) => Some(words.clone()),
                Some(StopBefore::Request { .. }) | None => None,
            },
            before_request: match &of.stop_before.value {
                Some(StopBefore::Request { method, path }) => {
                    Some(Smoke { method: method.clone(), path: path.clone() })
                }
                Some(StopBefore::Command(_)) | None => None,
            },
            signal: of.stop_signal.value.number(),
            grace_ms: of.stop_grace.value.0,
        },
        drain_ms: of.drain_timeout.value.0,
        ready_ms: of.ready_timeout.value.0,
        resources: Resources {
            cpu_millis: of.cpu_millis.value.map(u64::from),
            memory_bytes: of.memory.value.map(|memory| memory.0),
            processes: of.processes.value.map(u64::from),
        },
        environments,
    }
}

// Without smoke requests of its own a service is asked for its health path, when it has one.
fn verify(verify: &VerifyPolicy, of: &ServicePolicy) -> policy::VerifyPolicy {
    let mut smoke: Vec<Smoke> = verify
        .smoke
        .value
        .iter()
        .map(|smoke| Smoke { method: smoke.method.clone(), path: smoke.path.clone() })
        .collect();
    if verify.smoke.origin == effective::Origin::BuiltIn
        && let Some(HealthCheck::Http(path)) = &of.health.value
    {
        smoke.push(Smoke { method: "GET".into(), path: path.clone() });
    }
    policy::VerifyPolicy {
        hold_ms: verify.hold.value.0,
        requests: u64::from(verify.requests.value),
        wait_ms: verify.wait.value.0,
        errors_basis_points: verify.errors.value.0,
        p95_percent: verify.p95.value.0 / 100,
        smoke,
        bake_ms: verify.bake.value.0,
    }
}

/// What lets a release into each environment.
///
/// # Errors
/// When a name in it is not one.
pub fn environments(config: &Config, facts: &Facts) -> Result<Vec<EnvironmentPolicy>, IdError> {
    effective::environment_policies(config, facts)
        .into_iter()
        .map(|of| {
            Ok(EnvironmentPolicy {
                name: EnvironmentName::parse(&of.name.value)?,
                from: of.from.value.clone(),
                auto: of.deploy.value == slipway_config::model::Deploy::Auto,
                after: of.after.value.iter().map(|name| EnvironmentName::parse(name)).collect::<Result<_, _>>()?,
                approve: of.approve.map(|approve| policy::Approval {
                    by: approve.by.value,
                    count: approve.count.value,
                    author: approve.author.value,
                    expires_ms: approve.expires.value.0,
                }),
                retain: of.retain.value,
            })
        })
        .collect()
}

/// How an image's tags are made.
#[must_use]
pub fn tag(form: TagForm) -> TagStrategy {
    match form {
        TagForm::GithashBuildid => TagStrategy::GithashBuildid,
        TagForm::Githash => TagStrategy::Githash,
        TagForm::Buildid => TagStrategy::Buildid,
    }
}
