//! What can go wrong, in one type.
//!
//! In: what failed, on which thing, why. Out: texts in lower case without a full stop.
//! Never: a secret, or the cause pasted into the text.

use std::io;
use std::path::PathBuf;

use crate::names::Oid;

/// One meaning that an ambiguous revision could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How a person would name it without doubt: a full ref name or a full commit id.
    pub name: String,
    /// The commit that it stands for.
    pub commit: Oid,
}

/// An operation on git that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A project cannot have this name.
    #[error("`{name}` cannot be the name of a project: {reason}")]
    ProjectName {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// There is no repository of this project.
    #[error("there is no project `{0}`")]
    NoSuchProject(String),
    /// The repository exists already.
    #[error("project `{0}` exists already")]
    ProjectExists(String),
    /// A text that is not 40 lower-case hexadecimal digits.
    #[error("`{0}` is not an object id of 40 hexadecimal digits")]
    ObjectId(String),
    /// A name that git does not accept for a ref.
    #[error("`{0}` is not a name of a ref")]
    RefName(String),
    /// A path that cannot name something inside a commit.
    #[error("`{path}` is not a path inside a repository: {reason}")]
    Path {
        /// The path, escaped.
        path: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// No commit, branch or tag is called so.
    #[error("`{project}` has no commit, branch or tag `{revision}`")]
    UnknownRevision {
        /// The project asked.
        project: String,
        /// The revision as given.
        revision: String,
    },
    /// Several commits could be meant.
    #[error("`{revision}` is ambiguous in `{project}`: it could be {}", list(.candidates))]
    AmbiguousRevision {
        /// The project asked.
        project: String,
        /// The revision as given.
        revision: String,
        /// What it could mean, at most twenty.
        candidates: Vec<Candidate>,
    },
    /// The ref is not where the caller believed it to be.
    #[error("`{name}` is at {} and not at {}", or_nothing(.found), or_nothing(.expected))]
    RefMoved {
        /// The ref.
        name: String,
        /// Where the caller believed it to be; nothing when it should not exist.
        expected: Option<Oid>,
        /// Where it is.
        found: Option<Oid>,
    },
    /// Something is larger than its limit.
    #[error("{what} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// Git did not answer in time.
    #[error("`git {command}` on `{subject}` did not end within {limit_seconds} s")]
    TooSlow {
        /// The git command.
        command: &'static str,
        /// The repository's folder name.
        subject: String,
        /// The limit.
        limit_seconds: u64,
    },
    /// Git refused or failed.
    #[error("`git {command}` on `{subject}` failed ({status}): {said}")]
    Failed {
        /// The git command.
        command: &'static str,
        /// The repository's folder name.
        subject: String,
        /// How it ended.
        status: String,
        /// What it wrote to its error output, shortened.
        said: String,
    },
    /// Git answered in a form that this package does not know.
    #[error("`git {command}` on `{subject}` answered something unexpected: {detail}")]
    Unexpected {
        /// The git command.
        command: &'static str,
        /// The repository's folder name.
        subject: String,
        /// What was unexpected.
        detail: String,
    },
    /// The repository has no such object.
    #[error("`{subject}` has no object {id}")]
    Missing {
        /// The repository's folder name.
        subject: String,
        /// The object.
        id: Oid,
    },
    /// An object is not what it should be, or cannot be read.
    #[error("object {id} of `{subject}` cannot be read: {detail}")]
    Object {
        /// The repository's folder name.
        subject: String,
        /// The object.
        id: Oid,
        /// What is wrong with it.
        detail: String,
    },
    /// Folders lie in folders, more than anybody would make by hand.
    #[error("folders of `{subject}` lie more than {limit} deep")]
    TooDeep {
        /// The repository's folder name.
        subject: String,
        /// The limit.
        limit: usize,
    },
    /// More folders than any repository has.
    #[error("`{subject}` has more than {limit} folders at this commit")]
    TooManyFolders {
        /// The repository's folder name.
        subject: String,
        /// The limit.
        limit: u32,
    },
    /// A checkout is larger than what is free.
    #[error("a checkout of {commit} takes {needs_bytes} bytes, and the disk has {free_bytes}")]
    NoRoom {
        /// The commit.
        commit: Oid,
        /// What it takes.
        needs_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The refs cannot be read.
    #[error("the refs of `{subject}` cannot be read: {detail}")]
    Refs {
        /// The repository's folder name.
        subject: String,
        /// What is wrong with them.
        detail: String,
    },
    /// The git program could not be started.
    #[error("`{program}` cannot be started")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The git program is too old.
    #[error("git {found} is too old: 2.38 or newer is needed")]
    TooOld {
        /// The version found.
        found: String,
    },
    /// A file or folder of ours could not be used.
    #[error("cannot {act} `{}`", .path.display())]
    File {
        /// What was tried: `create`, `read`, ...
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// All kept checkouts of the project are in use.
    #[error("all {trees} kept checkouts of `{project}` are in use by other commits since {waited_seconds} s")]
    TreesInUse {
        /// The project.
        project: String,
        /// How many there are.
        trees: u32,
        /// How long the caller waited.
        waited_seconds: u64,
    },
    /// A checkout was asked for that is not one of ours.
    #[error("`{}` is not a kept checkout", .0.display())]
    NotATree(PathBuf),
    /// A checkout did not become what the commit says.
    #[error("the checkout of {commit} in `{}` has {found} entries instead of {wanted}", .path.display())]
    TreeNotExact {
        /// Where.
        path: PathBuf,
        /// The commit wanted.
        commit: Oid,
        /// Entries that the index lists.
        wanted: u64,
        /// Entries found on disk.
        found: u64,
    },
}

impl GitError {
    /// Whether what was pushed is at fault: asking again gives the same.
    #[must_use]
    pub fn is_of_content(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::TooDeep { .. }
                | Self::TooManyFolders { .. }
                | Self::Object { .. }
                | Self::Path { .. }
        )
    }

    /// Makes the closure that turns an I/O error into one that names act and path.
    pub(crate) fn file(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> GitError {
        let path = path.into();
        move |source| GitError::File { act, path, source }
    }
}

fn list(candidates: &[Candidate]) -> String {
    let names: Vec<String> = candidates.iter().map(|one| format!("`{}`", one.name)).collect();
    names.join(", ")
}

fn or_nothing(id: &Option<Oid>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| id.to_string())
}
