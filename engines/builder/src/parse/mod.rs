//! Reads a Dockerfile.
//!
//! In: its text. Out: [`Dockerfile`], with a position for everything, or all its [`Problem`]s.
//! Never: a file access, a variable's value (see `expand`), or an instruction that is ignored.
//!
//! The format is that of the Dockerfile reference of BuildKit; `lines` joins continued lines,
//! `instruction` reads one of them (`run` what is special about RUN), `check` looks at the stages as a whole.

mod check;
mod instruction;
mod lines;
mod run;
mod words;

use std::collections::BTreeSet;

use crate::error::{Position, Problem};
use crate::reference::ImageReference;

/// A file longer than this is no Dockerfile.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Nobody reads more problems than this at once.
const PROBLEMS_MAX: usize = 50;

/// A Dockerfile that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character, `\` unless the escape directive says `` ` ``.
    pub escape: char,
    /// The ARGs before the first FROM, for use in FROM.
    pub arguments: Vec<Argument>,
    /// The stages, at least one; the last one is the image.
    pub stages: Vec<Stage>,
}

/// One FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What FROM names: `scratch`, an earlier stage, or an image.
    pub base: Text,
    /// `--platform=`.
    pub platform: Option<Text>,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// Where FROM stands.
    pub at: Position,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it begins.
    pub at: Position,
    /// The instruction as written, continued lines joined.
    pub source: String,
    /// What it says.
    pub instruction: Instruction,
}

/// Text in which variables are not replaced yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As written.
    pub raw: String,
    /// Where it begins.
    pub at: Position,
}

/// `NAME[=default]` of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name.
    pub name: String,
    /// The value if none is given.
    pub default: Option<Text>,
    /// Where it begins.
    pub at: Position,
}

/// What one instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// ARG.
    Arg(Vec<Argument>),
    /// ENV, as name and value.
    Env(Vec<(Text, Text)>),
    /// LABEL, as name and value.
    Label(Vec<(Text, Text)>),
    /// COPY.
    Copy(Copy),
    /// RUN.
    Run(Run),
    /// SHELL: what the shell form is given to.
    Shell(Vec<String>),
    /// WORKDIR.
    Workdir(Text),
    /// USER.
    User(Text),
    /// EXPOSE.
    Expose(Vec<Text>),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// CMD.
    Cmd(Command),
    /// STOPSIGNAL.
    StopSignal(Text),
}

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where it copies from.
    pub from: CopyFrom,
    /// `--chown=`.
    pub chown: Option<Text>,
    /// `--chmod=`.
    pub chmod: Option<Text>,
    /// What, at least one.
    pub sources: Vec<Text>,
    /// To where in the image.
    pub destination: Text,
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: Command,
    /// Whether it may use the network (`--network=none` says no).
    pub network: bool,
    /// `--mount=type=cache`.
    pub caches: Vec<CacheMount>,
}

/// A folder that is kept between builds of a project, and is no part of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Where it is found inside.
    pub target: Text,
    /// What it is called; the target, when nothing is said.
    pub id: Option<Text>,
    /// Who owns it when it is made, as user and group.
    pub owner: (u32, u32),
    /// Its mode when it is made.
    pub mode: u32,
}

/// Where a COPY takes its files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// An earlier stage, by its index in [`Dockerfile::stages`].
    Stage(usize),
    /// What a job produced (`--from=job.NAME`).
    Job(String),
    /// An image of the own registry.
    Image(ImageReference),
}

/// ENTRYPOINT, CMD or what RUN runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The JSON form: exactly these arguments.
    Exec(Vec<String>),
    /// The shell form, given to the shell of the stage (`/bin/sh -c` unless SHELL says another).
    Shell(Text),
}

/// Reads a Dockerfile; reports all problems that it finds at once, in the order of the text.
pub fn parse(text: &str) -> Result<Dockerfile, Vec<Problem>> {
    let start = Position { line: 1, column: 1 };
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("this Dockerfile has more than {TEXT_BYTES_MAX} bytes");
        return Err(vec![Problem::new(start, message)]);
    }
    let mut problems = Vec::new();
    let lines = lines::read(text, &mut problems);
    let dockerfile = instruction::read_all(&lines, &mut problems);
    check::check(&dockerfile, &mut problems);
    if problems.is_empty() {
        return Ok(dockerfile);
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup();
    problems.truncate(PROBLEMS_MAX);
    Err(problems)
}

impl Dockerfile {
    /// The jobs whose output the whole file copies.
    pub fn jobs(&self) -> BTreeSet<&str> {
        self.copies()
            .filter_map(|copy| match &copy.from {
                CopyFrom::Job(name) => Some(name.as_str()),
                CopyFrom::Context | CopyFrom::Stage(_) | CopyFrom::Image(_) => None,
            })
            .collect()
    }

    /// What the whole file copies from the context, as written: what can change the image.
    pub fn context_sources(&self) -> BTreeSet<&str> {
        self.copies()
            .filter(|copy| copy.from == CopyFrom::Context)
            .flat_map(|copy| copy.sources.iter().map(|source| source.raw.as_str()))
            .collect()
    }

    /// The index of the stage that is called `name` or has this number.
    pub fn stage(&self, name: &str) -> Option<usize> {
        stage_index(&self.stages, name)
    }

    fn copies(&self) -> impl Iterator<Item = &Copy> {
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        steps.filter_map(|step| match &step.instruction {
            Instruction::Copy(copy) => Some(copy),
            _ => None,
        })
    }
}

/// The last one of that name, as Docker has it; names compare in lower case.
fn stage_index(stages: &[Stage], name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    stages
        .iter()
        .rposition(|stage| stage.name.as_deref() == Some(&name))
        .or_else(|| name.parse().ok().filter(|index| *index < stages.len()))
}
