//! What the file says of one job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Given, Millis, Position, SecretUse, Spanned};

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Where its name stands.
    pub at: Position,
    /// What it does.
    pub work: Work,
    /// Ids of jobs that must have passed: `test`, or `api/test`. A bare name
    /// is first one of the same service, then one of the project.
    pub needs: Given<Vec<Spanned<String>>>,
    /// What starts it.
    pub on: Given<Vec<Trigger>>,
    /// Where its tools come from.
    pub image: Given<JobImage>,
    /// Configuration, by variable.
    pub env: BTreeMap<String, Spanned<String>>,
    /// The secrets that it gets.
    pub secrets: Vec<Spanned<SecretUse>>,
    /// Files that count, as patterns from the root.
    pub inputs: Given<Vec<String>>,
    /// Files that must exist afterwards, as patterns from the root.
    pub produces: Given<Vec<String>>,
    /// What it hands over, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// When it is tried again.
    pub retry: Retry,
    /// How long it may take.
    pub timeout: Given<Millis>,
    /// Whether it may reach the network.
    pub network: Given<bool>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// What is recognised for a job of this name; the file only tunes it.
    #[default]
    Recognised,
    /// Nothing: switched off.
    Off,
    /// These steps, one after the other; `run:` is one without a name.
    Steps(Vec<Step>),
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What people see.
    pub name: Given<String>,
    /// The shell text.
    pub run: Spanned<String>,
    /// How long it may take.
    pub timeout: Given<Millis>,
    /// Configuration beyond that of the job.
    pub env: BTreeMap<String, Spanned<String>>,
}

/// What starts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A push to a branch that is built.
    Push,
}

impl Trigger {
    /// The word of the file.
    pub fn word(self) -> &'static str {
        match self {
            Trigger::Push => "push",
        }
    }
}

/// Where the tools of a job come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobImage {
    /// The host's tool if it satisfies what the project pins, else an image.
    Auto,
    /// The tools of the machine, read-only.
    Host,
    /// An image with a tag or digest, never `latest`.
    Reference(String),
}

/// Files that a job hands over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// Where its name stands.
    pub at: Position,
    /// The files, as patterns from the root.
    pub paths: Given<Vec<String>>,
}

/// When a job is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// How often at most.
    pub max: Given<u32>,
    /// After what.
    pub on: Given<Vec<RetryOn>>,
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// The worker or sandbox failed, not the job.
    Infrastructure,
    /// A name was not found or a connection broke.
    Network,
    /// It ran out of memory.
    Memory,
    /// It ended with this code.
    Exit(u8),
}

impl RetryOn {
    /// The words of the file.
    pub fn words(self) -> String {
        match self {
            RetryOn::Infrastructure => "infrastructure".to_owned(),
            RetryOn::Network => "network".to_owned(),
            RetryOn::Memory => "memory".to_owned(),
            RetryOn::Exit(code) => format!("exit {code}"),
        }
    }
}
