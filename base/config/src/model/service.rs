//! What the file says of one service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bytes, Given, Job, Millis, PerEnvironment, Position, Spanned};

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Where its name stands.
    pub at: Position,
    /// Its folder from the root, `.` for the root.
    pub path: Given<String>,
    /// Its Dockerfile from the root.
    pub dockerfile: Given<String>,
    /// The port that it listens on.
    pub port: Given<u16>,
    /// How to see that it is ready.
    pub health: Given<Health>,
    /// The words of the command that starts it.
    pub command: Given<Vec<String>>,
    /// Configuration, by variable.
    pub env: BTreeMap<String, PerEnvironment<String>>,
    /// The secrets that it gets.
    pub secrets: Vec<Spanned<SecretUse>>,
    /// How many instances.
    pub replicas: PerEnvironment<u32>,
    /// Limits of one instance.
    pub resources: Resources,
    /// How its image is built.
    pub build: Build,
    /// How an instance is stopped.
    pub stop: Stop,
    /// `drain.timeout`: how long open requests may take.
    pub drain_timeout: Given<Millis>,
    /// Files elsewhere that count for it, as patterns from the root.
    pub inputs: Given<Vec<String>>,
    /// Services that it uses.
    pub needs: Given<Vec<Spanned<String>>>,
    /// Its own jobs, by name.
    pub jobs: BTreeMap<String, Job>,
}

/// How to see that an instance is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked; `None`: whether the port accepts a connection.
    pub check: Given<HealthCheck>,
    /// How long one answer may take.
    pub timeout: Given<Millis>,
    /// How long to wait between two checks.
    pub interval: Given<Millis>,
}

/// What shows that an instance is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// A GET of this path answers with 2xx or 3xx.
    Http(String),
    /// This command inside the instance exits 0.
    Command(Vec<String>),
}

/// A secret that is handed over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name, never its value.
    pub name: String,
    /// How it is handed over.
    pub place: SecretPlace,
}

/// How a secret is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// As a file of its name.
    File,
}

/// Limits of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processor time in thousandths of a core.
    pub cpu_millis: Given<u32>,
    /// Memory.
    pub memory: Given<Bytes>,
    /// Processes and threads.
    pub processes: Given<u32>,
}

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Build arguments, by name.
    pub args: BTreeMap<String, Spanned<String>>,
    /// The stage of the Dockerfile that is the image.
    pub target: Given<String>,
    /// The form of its tag.
    pub tag: Given<TagForm>,
}

/// The form of an image's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagForm {
    /// `githash-buildid`.
    #[serde(rename = "githash-buildid")]
    GithashBuildid,
    /// `githash`.
    Githash,
    /// `buildid`.
    Buildid,
}

impl TagForm {
    /// The word of the file.
    pub fn word(self) -> &'static str {
        match self {
            TagForm::GithashBuildid => "githash-buildid",
            TagForm::Githash => "githash",
            TagForm::Buildid => "buildid",
        }
    }
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// What ends before the signal is sent.
    pub before: Given<StopBefore>,
    /// The signal.
    pub signal: Given<Signal>,
    /// How long it may take to end after the signal.
    pub grace: Given<Millis>,
}

/// What ends before an instance gets its signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopBefore {
    /// A command inside the instance.
    Command(Vec<String>),
    /// A request to the instance.
    Request {
        /// `GET` or `POST`.
        method: String,
        /// The path, with a leading `/`.
        path: String,
    },
}

/// A signal that asks a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// 15.
    Term,
    /// 2.
    Int,
    /// 3.
    Quit,
    /// 1.
    Hup,
    /// 10.
    Usr1,
    /// 12.
    Usr2,
}

impl Signal {
    /// The name as the file has it.
    pub fn word(self) -> &'static str {
        match self {
            Signal::Term => "SIGTERM",
            Signal::Int => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::Hup => "SIGHUP",
            Signal::Usr1 => "SIGUSR1",
            Signal::Usr2 => "SIGUSR2",
        }
    }

    /// The number on Linux.
    pub fn number(self) -> i32 {
        match self {
            Signal::Hup => 1,
            Signal::Int => 2,
            Signal::Quit => 3,
            Signal::Usr1 => 10,
            Signal::Usr2 => 12,
            Signal::Term => 15,
        }
    }
}
