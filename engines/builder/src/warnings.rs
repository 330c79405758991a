//! What is not wrong, and yet worth a look.
//!
//! In: the finished file system and configuration of the image. Out: [`Warning`]s.
//! Never: a decision; whether a warning fails the build is the caller's policy.

use std::fmt;

use crate::oci::ImageConfig;
use crate::paths::{absolute, join, name, parent};
use crate::tree::{Kind, Tree};

/// Something about an image that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A compiler or build tool is in the published stage.
    BuildTool {
        /// What it is called.
        name: String,
        /// Where it is.
        path: String,
    },
    /// A build argument was given that no ARG asks for.
    UnusedArgument {
        /// Its name.
        name: String,
    },
    /// The program that the image starts is not in it, or cannot be executed.
    NoSuchProgram {
        /// What the image starts.
        program: String,
    },
    /// The image says neither ENTRYPOINT nor CMD.
    NothingToRun,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuildTool { name, path } => {
                write!(formatter, "the build tool `{name}` is in the image, at `{path}`")
            }
            Self::UnusedArgument { name } => {
                write!(formatter, "build argument `{name}` is given, but no ARG asks for it")
            }
            Self::NoSuchProgram { program } => {
                write!(formatter, "the image starts `{program}`, which is not an executable file in it")
            }
            Self::NothingToRun => formatter.write_str("the image has neither ENTRYPOINT nor CMD"),
        }
    }
}

/// Compilers, linkers, build systems and package managers that have no work in production.
const BUILD_TOOLS: &[&str] = &[
    "ant", "as", "autoconf", "automake", "bazel", "c++", "cargo", "cc", "clang", "clang++", "cmake", "composer", "g++",
    "gcc", "ghc", "go", "gradle", "javac", "ld", "make", "meson", "mvn", "ninja", "npm", "npx", "pnpm", "rustc",
    "rustup", "sbt", "tsc", "yarn",
];

/// Build tools below a folder of programs; a version after a dash does not hide them (`gcc-12`).
pub(crate) fn build_tools(tree: &Tree) -> Vec<Warning> {
    let mut found = Vec::new();
    for (path, node) in tree.nodes() {
        if !matches!(name(parent(path)), "bin" | "sbin") || node.is_folder() {
            continue;
        }
        let program = name(path);
        let without_version = match program.rsplit_once('-') {
            Some((program, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => program,
            _ => program,
        };
        if BUILD_TOOLS.contains(&without_version) {
            found.push(Warning::BuildTool { name: without_version.to_owned(), path: format!("/{path}") });
        }
    }
    found
}

/// Whether what the image starts is there.
pub(crate) fn program(tree: &Tree, config: &ImageConfig) -> Option<Warning> {
    let Some(program) = config.entrypoint.first().or(config.cmd.first()) else {
        return Some(Warning::NothingToRun);
    };
    let candidates: Vec<String> = match program.contains('/') {
        true => vec![absolute(&config.working_dir, program)],
        false => {
            let path = config.env.iter().find_map(|pair| pair.strip_prefix("PATH="));
            let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
            path.split(':').map(|folder| join(&absolute("", folder), program)).collect()
        }
    };
    let is_there = candidates.iter().any(|path| is_executable(tree, path));
    (!is_there).then(|| Warning::NoSuchProgram { program: program.clone() })
}

pub(crate) fn is_executable(tree: &Tree, path: &str) -> bool {
    let node = tree.follow(path).map(|(_, node)| node);
    node.is_some_and(|node| matches!(node.kind, Kind::File { .. }) && node.mode & 0o111 != 0)
}
