//! Who may do what.
//!
//! In: a request's head, a repository, pull or push. Out: leave, or a [`Challenge`].
//! Never: tokens or passwords; what they mean is the server's business.

use http::request::Parts;

use crate::Repository;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read.
    Pull,
    /// Write.
    Push,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// We do not know who it is: 401, and clients come again with a token.
    Unauthenticated,
    /// We know who it is: 403.
    Forbidden,
}

/// Decides who may do what. It is asked on the request's own thread, so it answers from memory.
pub trait Authorize: Send + Sync {
    /// `repository` is `None` for what concerns the registry as a whole.
    fn allow(&self, parts: &Parts, repository: Option<&Repository>, action: Action) -> Result<(), Challenge>;
}

impl<F> Authorize for F
where
    F: Fn(&Parts, Option<&Repository>, Action) -> Result<(), Challenge> + Send + Sync,
{
    fn allow(&self, parts: &Parts, repository: Option<&Repository>, action: Action) -> Result<(), Challenge> {
        self(parts, repository, action)
    }
}
