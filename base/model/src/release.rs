//! Releases: immutable bundles, the same for every environment.
//!
//! In: image digests and configuration. Out: a bundle, its canonical bytes and its id. Never: commit, build or
//! time inside a bundle (those are records about it), nor a secret's value.

use crate::id::{ChangeId, CommitId, Digest, EnvironmentName, ProjectName, ReleaseId, ServiceName};
use crate::policy::{Rolling, Smoke, VerifyPolicy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a release is made of; equal bundles are one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of this shape.
    pub v: u16,
    /// The project.
    pub project: ProjectName,
    /// The service.
    pub service: ServiceName,
    /// The image's manifest digest.
    pub image: Digest,
    /// How it runs.
    pub spec: ServiceSpec,
    /// Set where only new instances of what an equal release describes are wanted (`slipway restart`): the number of the
    /// command that asked for them. Apart from it such releases are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u64>,
}

/// How a service runs, as one commit says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The port it listens on (`PORT`).
    pub port: u16,
    /// Command instead of the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Readiness.
    pub health: Health,
    /// How it is stopped.
    pub stop: Stop,
    /// How long requests in flight may take when it is withdrawn.
    pub drain_ms: u64,
    /// How long it may take to become ready.
    pub ready_ms: u64,
    /// Limits.
    pub resources: Resources,
    /// Its configuration in every environment.
    pub environments: BTreeMap<EnvironmentName, EnvironmentConfig>,
}

/// A service's configuration in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentConfig {
    /// Wanted instances.
    pub replicas: u32,
    /// Plain configuration.
    pub env: BTreeMap<String, String>,
    /// Names of secrets, given as files.
    pub secrets: Vec<String>,
    /// How it is replaced.
    pub strategy: Rolling,
    /// How it is judged; absent when verification is off.
    pub verify: VerifyPolicy,
}

/// How readiness is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// A path that must answer below 400; absent: the port must accept connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A command inside the instance that must exit 0; then neither path nor port is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// How long one probe may take.
    pub timeout_ms: u64,
    /// Time between probes once it is ready.
    pub interval_ms: u64,
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// A command inside the instance that ends before the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Vec<String>>,
    /// A request to the instance that is answered before the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_request: Option<Smoke>,
    /// The signal's number (15 is SIGTERM).
    pub signal: i32,
    /// Then it may take so long before SIGKILL.
    pub grace_ms: u64,
}

/// Limits of an instance or job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
}

impl Bundle {
    /// The canonical bytes: JSON with sorted maps and declared field order, no blanks.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The digest of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// The digest of what matters in one environment; equal ones run the same (R309).
    #[must_use]
    pub fn effective(&self, environment: &EnvironmentName) -> Digest {
        let mut only = Bundle { round: None, ..self.clone() };
        only.spec.environments.retain(|name, _| name == environment);
        Digest::of(&only.canonical())
    }

    /// The configuration for an environment.
    #[must_use]
    pub fn environment(&self, name: &EnvironmentName) -> Option<&EnvironmentConfig> {
        self.spec.environments.get(name)
    }
}

/// A release with its names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// First hex digits of the bundle's SHA-256.
    pub id: ReleaseId,
    /// The number per service, for people (`r41`).
    pub number: u64,
    /// What it is.
    pub bundle: Bundle,
    /// Where it came from first.
    pub origin: Origin,
    /// Where its settings stand in the file of the newest commit that made it.
    #[serde(default)]
    pub places: Places,
}

/// Where a service's settings stand in the `slipway.yaml` of one commit. A record about a release, no part of its
/// bundle: a comment further up moves every line and changes nothing that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Places {
    /// The line of the service's name; absent when the file does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<u32>,
    /// The lines of its settings, by key: `port`, `resources.memory`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, u32>,
}

impl Places {
    /// What to write, and where: `port: 8080 in slipway.yaml:4`.
    #[must_use]
    pub fn write(&self, service: &ServiceName, key: &str, value: &str) -> String {
        let setting = format!("{}: {value}", key.replace('.', ": "));
        match (self.keys.get(key), self.service) {
            (Some(line), _) => format!("{setting} in slipway.yaml:{line}"),
            (None, Some(line)) => format!("add {setting} below slipway.yaml:{line} (service `{service}`)"),
            (None, None) => format!("add {setting} to service `{service}` in slipway.yaml"),
        }
    }
}

/// Records about the making of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The commit it was first made from.
    pub commit: CommitId,
    /// The change.
    pub change: ChangeId,
    /// The image's tag.
    pub tag: String,
    /// The build's number within the project.
    pub build: u64,
}

impl Release {
    /// `api@r41`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}@r{}", self.bundle.service, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_is_said_with_its_line() {
        let api = ServiceName::parse("api").unwrap();
        let written = Places { service: Some(3), keys: [("port".to_owned(), 4)].into() };
        let named = Places { service: Some(3), ..Places::default() };
        assert_eq!(written.write(&api, "port", "8080"), "port: 8080 in slipway.yaml:4");
        assert_eq!(named.write(&api, "port", "8080"), "add port: 8080 below slipway.yaml:3 (service `api`)");
        let nothing = Places::default().write(&api, "resources.memory", "1GiB");
        assert_eq!(nothing, "add resources: memory: 1GiB to service `api` in slipway.yaml");
    }
}
