//! Pure decisions about pushes.
//!
//! In: moved refs, the file, commit messages, push options. Out: refusals and changes. Never: I/O.

use slipway_config::{Config, Facts, Problems, effective};
use slipway_model::fact::ChangeInfo;
use slipway_model::text::{printable, shortened};
use slipway_model::{ChangeId, CommitId, ProjectName};
use slipway_ports::CommitInfo;

/// Characters kept of an author's name and of a subject; the commit has the rest.
const AUTHOR_MAX: usize = 100;
const SUBJECT_MAX: usize = 300;

/// A ref that a push moves. `None` is "did not exist" or "is deleted".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// The full name, `refs/heads/main`.
    pub name: String,
    /// Where it was.
    pub old: Option<CommitId>,
    /// Where it goes.
    pub new: Option<CommitId>,
}

/// Why a push is refused: lines for the pusher's terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);

/// The branch's short name; `None` for tags and other refs.
#[must_use]
pub fn branch_of(reference: &str) -> Option<&str> {
    reference.strip_prefix("refs/heads/")
}

/// The production branch stays: without it nothing says what may go to production.
#[must_use]
pub fn undeletable(branch: &str) -> Refusal {
    Refusal(vec![
        format!("error: {branch} is the production branch of this project and cannot be deleted"),
        "hint: push a branch whose slipway.yaml names another one under `branches.production` first".to_owned(),
    ])
}

/// Judges the name of a branch: it is shown in terminals, and typed there.
///
/// # Errors
/// When it cannot be shown as it is, or means something else already.
pub fn named(branch: &str) -> Result<(), Refusal> {
    let shown = printable(branch);
    let why = match (shown == branch, branch) {
        (true, "HEAD" | "@") => "means the commit that is checked out",
        (true, _) => return Ok(()),
        (false, _) => "has characters that no terminal shows as they are",
    };
    Err(Refusal(vec![
        format!("error: the name of branch `{shown}` {why}"),
        "hint: rename it with `git branch -m NAME`, then push again".to_owned(),
    ]))
}

/// The production branch as a file names it: its word, else `main`, else `master` where there is no `main`.
#[must_use]
pub fn production_by(config: Option<&Config>, branches: &[String]) -> String {
    let facts = Facts { branches: branches.to_vec(), ..Facts::default() };
    let default = Config::default();
    effective::production_branch(config.unwrap_or(&default), &facts).value
}

/// Whether a branch is the production branch. Which one it is says the file of the production branch known so far; the
/// file of another branch is asked only while there is none, so that no branch makes itself the production branch.
#[must_use]
pub fn is_production(known: Option<&str>, config: Option<&Config>, branches: &[String], branch: &str) -> bool {
    match known.filter(|known| branches.iter().any(|there| there == known)) {
        Some(known) => known == branch,
        None => production_by(config, branches) == branch,
    }
}

/// Judges the file of a branch that deploys, before the ref moves.
///
/// # Errors
/// With all problems of the file, or the project's name when it is another one.
pub fn admit(project: &ProjectName, config: Result<Config, Problems>) -> Result<Config, Refusal> {
    let config = config.map_err(|problems| Refusal(rendered(&problems)))?;
    match &config.project {
        Some(name) if name.value != project.as_str() => Err(Refusal(vec![
            format!("error: slipway.yaml:{} says project `{}`, this is `{project}`", name.at.line, name.value),
            format!("hint: push to /git/{}.git, or change `project:` to {project}", name.value),
        ])),
        _ => Ok(config),
    }
}

fn rendered(problems: &Problems) -> Vec<String> {
    problems.render(false).lines().map(ToOwned::to_owned).collect()
}

/// The change that a moved branch makes.
#[must_use]
pub fn change(
    project: &ProjectName,
    moved: &RefMove,
    commit: &CommitInfo,
    pusher: &str,
    options: &[String],
    production: bool,
    built: bool,
) -> ChangeInfo {
    let old = moved.old.as_ref().map_or("", CommitId::as_str);
    ChangeInfo {
        id: ChangeId::derive(project, "push", &moved.name, old, commit.id.as_str()),
        event: "push".into(),
        reference: moved.name.clone(),
        branch: branch_of(&moved.name).unwrap_or(&moved.name).to_owned(),
        production,
        old: moved.old.clone(),
        commit: commit.id.clone(),
        author: shortened(&commit.author, AUTHOR_MAX),
        subject: shortened(&commit.subject, SUBJECT_MAX),
        pusher: pusher.to_owned(),
        skip: skip(&commit.message, options)
            .or_else(|| (!built).then(|| "`branches:` leaves this branch out".to_owned())),
        fixes: fixes(&commit.message, options),
        reverts: Vec::new(),
    }
}

/// Why nothing shall run, if the message or the push says so (R011).
#[must_use]
pub fn skip(message: &str, options: &[String]) -> Option<String> {
    if options.iter().any(|option| option == "ci.skip") {
        return Some("the push says `-o ci.skip`".into());
    }
    let lower = message.to_lowercase();
    ["[ci skip]", "[skip ci]"]
        .iter()
        .find(|word| lower.contains(**word))
        .map(|word| format!("the commit's message says {word}"))
}

/// Commits that this push says it fixes.
#[must_use]
pub fn fixes(message: &str, options: &[String]) -> Vec<String> {
    let from_options = options.iter().filter_map(|option| option.strip_prefix("fixes="));
    let from_message = message.lines().filter_map(|line| line.trim().strip_prefix("Slipway-Fixes:"));
    from_options.chain(from_message).map(|id| id.trim().to_ascii_lowercase()).filter(|id| id.len() >= 7).collect()
}

/// Whether the pusher wants to see nothing more than that it arrived.
#[must_use]
pub fn is_detached(options: &[String]) -> bool {
    options.iter().any(|option| option == "ci.detach")
}

/// Whether the pusher wants only the last line.
#[must_use]
pub fn is_quiet(options: &[String]) -> bool {
    options.iter().any(|option| option == "ci.quiet")
}

/// Push options that mean nothing here.
#[must_use]
pub fn unknown_options(options: &[String]) -> Vec<&str> {
    options
        .iter()
        .map(String::as_str)
        .filter(|option| !matches!(*option, "ci.skip" | "ci.detach" | "ci.quiet") && !option.starts_with("fixes="))
        .collect()
}
