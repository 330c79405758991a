//! Which stages an image needs.
//!
//! In: the Dockerfile, build arguments, the target. Out: per stage its base, whether it is needed,
//! and whether its layers are part of the image. Never: a file access.

use crate::error::{BuildError, Position, Problem};
use crate::parse::{CopyFrom, Dockerfile, Instruction};
use crate::reference::ImageReference;

/// What a FROM names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(ImageReference),
}

impl Base {
    /// `earlier` is the stage before this one that has this name, if there is one.
    pub(crate) fn read(text: &str, at: Position, earlier: Option<usize>) -> Result<Self, Problem> {
        match earlier {
            Some(index) => Ok(Self::Stage(index)),
            None if text == "scratch" => Ok(Self::Scratch),
            None => text
                .parse()
                .map(Self::Image)
                .map_err(|error: crate::ReferenceError| Problem::new(at, error.message).hint(error.hint)),
        }
    }
}

/// What is done with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing needs it.
    Skipped,
    /// Something is copied from it.
    CopiedFrom,
    /// It is the image, or what the image is made upon.
    Published,
}

/// The index of the stage that becomes the image.
pub(crate) fn target(dockerfile: &Dockerfile, name: Option<&str>) -> Result<usize, BuildError> {
    let Some(name) = name else {
        return Ok(dockerfile.stages.len() - 1);
    };
    dockerfile.stage(name).ok_or_else(|| {
        let names: Vec<_> = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let start = Position { line: 1, column: 1 };
        Problem::new(start, format!("there is no stage `{name}`"))
            .hint(format!("the named stages are: {}", names.join(", ")))
            .into()
    })
}

/// What each stage is for; `bases` has one entry per stage.
pub(crate) fn uses(dockerfile: &Dockerfile, bases: &[Base], target: usize) -> Vec<Use> {
    let mut uses = vec![Use::Skipped; bases.len()];
    uses[target] = Use::Published;
    // A stage needs only earlier ones, so one walk backwards sees all.
    for index in (0..=target).rev() {
        let at = uses[index];
        if at == Use::Skipped {
            continue;
        }
        if let Base::Stage(base) = bases[index]
            && uses[base] != Use::Published
        {
            uses[base] = at;
        }
        for step in &dockerfile.stages[index].steps {
            if let Instruction::Copy(copy) = &step.instruction
                && let CopyFrom::Stage(from) = copy.from
                && uses[from] == Use::Skipped
            {
                uses[from] = Use::CopiedFrom;
            }
        }
    }
    uses
}
