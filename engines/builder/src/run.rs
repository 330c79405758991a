//! What a RUN needs of who runs it.
//!
//! In: a command of a Dockerfile and the folders of the layers below it. Out: what it wrote, as the upper folder of an
//! overlay; or why it failed. Never: a sandbox; that is behind [`RunsSteps`].

use std::any::Any;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::unpack::KeptLayers;

/// One command, ready to run.
#[derive(Debug)]
pub struct RunStep<'a> {
    /// The command as it is written.
    pub name: &'a str,
    /// The folders of the layers that are its root, the lowest first. They are only read.
    pub layers: &'a [PathBuf],
    /// The program and its arguments.
    pub arguments: &'a [String],
    /// All its variables.
    pub environment: &'a [(String, String)],
    /// Where it works.
    pub folder: &'a str,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: &'a str,
    /// Whether it may use the network.
    pub network: bool,
    /// Folders that are kept between builds.
    pub caches: &'a [Cache],
    /// A folder for temporary files, gone after the build.
    pub scratch: &'a Path,
    /// Set when the build is to end soon.
    pub stop: &'a AtomicBool,
}

/// A folder that is kept between builds of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// What it is called within the project.
    pub id: String,
    /// Where it is found inside, absolute.
    pub target: String,
    /// Who owns it when it is made, as user and group inside.
    pub owner: (u32, u32),
    /// Its mode when it is made.
    pub mode: u32,
}

/// What a command that succeeded left.
pub struct Ran {
    /// The upper folder of the overlay that was its root: all that it wrote, and marks for what it removed.
    pub upper: PathBuf,
    /// Whose files these are.
    pub owners: Owners,
    /// Keeps the folder while it lives.
    pub guard: Box<dyn Any + Send>,
}

/// Which ids of this machine stand behind those inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The user that is user 0 inside.
    pub first_user: u32,
    /// The group that is group 0 inside.
    pub first_group: u32,
    /// How many there are of each.
    pub count: u32,
}

impl Owners {
    /// User and group inside.
    pub(crate) fn inside(self, user: u32, group: u32) -> Option<(u32, u32)> {
        let inside = |outside: u32, first: u32| outside.checked_sub(first).filter(|inside| *inside < self.count);
        inside(user, self.first_user).zip(inside(group, self.first_group))
    }
}

/// Why a command has no result.
#[derive(Debug)]
pub enum RunFailure {
    /// It failed, by its own doing.
    Failed {
        /// `exited with 2`, `passed its time limit of 1 h` …
        why: String,
        /// The last lines that it wrote, fit for a terminal.
        output: Vec<String>,
    },
    /// It could not be run, through no fault of its own.
    Machine(Box<dyn Error + Send + Sync>),
    /// The build was stopped.
    Stopped,
}

/// Runs commands, each in a sandbox of its own.
pub trait RunsSteps: Send + Sync {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails, cannot be run, or is stopped.
    fn run(&self, step: &RunStep<'_>) -> Result<Ran, RunFailure>;
}

/// What a build needs for its RUNs.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// Who runs them.
    pub runner: &'a dyn RunsSteps,
    /// Where their layers are unpacked.
    pub layers: &'a KeptLayers,
    /// Whose commands these are: results are remembered for the same one only.
    pub project: &'a str,
}
