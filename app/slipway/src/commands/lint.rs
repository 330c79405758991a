//! `slipway lint`: all that a push would refuse or fail at and that can be known before it.
//!
//! In: the working tree. Out: errors and warnings with their places. Never: a server, a build.

use crate::cli::Global;
use crate::commands::ask::print_json;
use crate::commands::local::{Tree, draft, facts, tree};
use crate::exit::{CHANGE, Done, Exit};
use crate::term;
use slipway_builder::{Dockerfile, ImageReference};
use slipway_config::{Problem, Severity};
use slipway_model::plan::ItemSpec;
use slipway_plan::drive::FILE;
use std::collections::BTreeSet;

/// `slipway lint`.
pub fn lint(global: &Global) -> Done {
    let tree = tree(global)?;
    let source = std::fs::read_to_string(tree.root.join(FILE)).unwrap_or_default();
    let warnings = slipway_config::lint(&tree.config, &source, &facts(&tree));
    let plan = draft(&tree);
    let mut errors: Vec<Problem> = other_project(&tree, &source).into_iter().collect();
    let mut seen = BTreeSet::new();
    for item in plan.iter().flat_map(|plan| &plan.items) {
        let ItemSpec::Image(image) = &item.spec else { continue };
        if let Some(text) = tree.texts.get(&image.dockerfile).filter(|_| seen.insert(image.dockerfile.clone())) {
            errors.extend(dockerfile(&image.dockerfile, text, &tree.name));
        }
    }
    if global.json && errors.is_empty() {
        plan?;
        return print_json(&warnings);
    }
    for problem in warnings.iter().chain(&errors) {
        eprint!("{}", problem.render(term::colour()));
    }
    plan?;
    if !errors.is_empty() {
        return Err(Exit::new(CHANGE, format!("{} problem(s)", errors.len())));
    }
    // Without the file, what was recognised is what there is to judge.
    let what =
        if tree.root.join(FILE).is_file() { format!("{FILE} is good") } else { "what was recognised is good".into() };
    println!("{what}{}", if warnings.is_empty() { String::new() } else { format!(", {} warning(s)", warnings.len()) });
    Ok(())
}

fn problem(file: &str, text: &str, line: u32, column: u32, message: String, hint: Option<String>) -> Problem {
    let source_line = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
    let shown: String =
        source_line.chars().take(200).map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    Problem {
        file: file.to_owned(),
        line,
        column,
        length: 1,
        message,
        source_line: shown,
        hint,
        severity: Severity::Error,
    }
}

/// The file names another project than the remote: a push there would be refused.
fn other_project(tree: &Tree, source: &str) -> Option<Problem> {
    let (named, remote) = (tree.config.project.as_ref()?, tree.remote.as_ref()?);
    if &named.value == remote {
        return None;
    }
    let message = format!("the file names project `{}`, the remote `slipway` is `{remote}`", named.value);
    let hint = "make them equal: change `project:`, or `git remote set-url slipway`";
    Some(problem(FILE, source, named.at.line, named.at.column, message, Some(hint.into())))
}

/// What a build of this Dockerfile would refuse.
fn dockerfile(file: &str, text: &str, project: &str) -> Vec<Problem> {
    match slipway_builder::parse(text) {
        Ok(parsed) => bases(file, text, &parsed, project),
        Err(problems) => {
            let problems = problems.into_iter();
            problems.map(|found| problem(file, text, found.line, found.column, found.message, found.hint)).collect()
        }
    }
}

/// Bases that no build here can find. One that depends on an argument is known when it is built.
fn bases(file: &str, text: &str, dockerfile: &Dockerfile, project: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut stages: Vec<&str> = Vec::new();
    for stage in &dockerfile.stages {
        let base = stage.base.raw.as_str();
        let known = base == "scratch" || base.contains('$') || stages.contains(&base.to_lowercase().as_str());
        let wrong = match base.parse::<ImageReference>() {
            _ if known => None,
            Err(error) => Some((error.message, Some(error.hint))),
            Ok(image) if image.repository.split('/').next() != Some(project) => Some((
                format!("`{base}` is an image of another project"),
                Some(format!("a base is `scratch` or an image of this project: `{project}/SERVICE:TAG`")),
            )),
            Ok(_) => None,
        };
        if let Some((message, hint)) = wrong {
            problems.push(problem(file, text, stage.base.at.line, stage.base.at.column, message, hint));
        }
        stages.extend(stage.name.as_deref());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let found = dockerfile("api/Dockerfile", text, "shop");
        found.iter().map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message)).collect()
    }

    #[test]
    fn what_a_build_would_refuse_is_said_before_the_push() {
        assert!(said("FROM scratch AS base\nFROM base\nCOPY a /a\n").is_empty());
        assert!(said("ARG BASE\nFROM $BASE\n").is_empty(), "known when it is built");
        assert!(said("FROM shop/api:1f3c9ab-1\n").is_empty());
        assert_eq!(said("FROM scratch\nADD a /\n"), ["2:1: ADD is not yet supported"]);
        assert_eq!(said("FROM debian:12\n"), ["1:6: `debian:12` is not an image of this installation's registry"]);
        assert_eq!(said("FROM other/api:1f3c9ab-1\n"), ["1:6: `other/api:1f3c9ab-1` is an image of another project"]);
    }
}
