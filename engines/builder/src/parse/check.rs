//! Looks at the stages as a whole.
//!
//! In: what was read. Out: problems that no single line shows. Never: a value of a variable.

use std::collections::BTreeMap;

use super::{Dockerfile, stage_index};
use crate::error::{Position, Problem};
use crate::stages::Base;

pub(super) fn check(dockerfile: &Dockerfile, problems: &mut Vec<Problem>) {
    if dockerfile.stages.is_empty() {
        // A FROM that could not be read was reported already.
        if problems.is_empty() {
            let start = Position { line: 1, column: 1 };
            problems.push(
                Problem::new(start, "this Dockerfile has no FROM")
                    .hint("begin with `FROM scratch` or `FROM PROJECT/SERVICE:TAG`"),
            );
        }
        return;
    }
    let mut names = BTreeMap::new();
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        if let Some(name) = &stage.name
            && let Some(line) = names.insert(name, stage.at.line)
        {
            problems.push(Problem::new(stage.at, format!("stage `{name}` was begun in line {line} already")));
        }
        // With a variable in it, the base is known at build time only.
        if !stage.base.raw.contains('$') {
            let earlier = stage_index(&dockerfile.stages[..index], &stage.base.raw);
            if let Err(problem) = Base::read(&stage.base.raw, stage.base.at, earlier) {
                problems.push(problem);
            }
        }
    }
}
