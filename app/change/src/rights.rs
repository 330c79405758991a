//! The one table of rights: which verb needs which right. What is not in it is denied.
//!
//! In: verbs and the rights of a token. Out: yes or no with the missing right. Never: an exception elsewhere.

use serde::{Deserialize, Serialize};

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// See everything but secrets.
    Read,
    /// Push commits and images.
    Push,
    /// Retry and cancel jobs.
    Run,
    /// Deploy, roll back, abort, hold.
    Deploy,
    /// Approve and reject.
    Approve,
    /// Set secrets.
    Secrets,
    /// Make projects and tokens.
    Admin,
}

/// All rights, for the first token.
pub const ALL: [Right; 7] =
    [Right::Read, Right::Push, Right::Run, Right::Deploy, Right::Approve, Right::Secrets, Right::Admin];

/// The table.
const TABLE: [(&str, Right); 26] = [
    ("status", Right::Read),
    ("watch", Right::Read),
    ("events", Right::Read),
    ("logs", Right::Read),
    ("history", Right::Read),
    ("why", Right::Read),
    ("plan", Right::Read),
    ("pull", Right::Read),
    ("metrics", Right::Read),
    ("page", Right::Read),
    ("push", Right::Push),
    ("retry", Right::Run),
    ("cancel", Right::Run),
    ("deploy", Right::Deploy),
    ("promote", Right::Deploy),
    ("rollback", Right::Deploy),
    ("restart", Right::Deploy),
    ("abort", Right::Deploy),
    ("freeze", Right::Deploy),
    ("unfreeze", Right::Deploy),
    ("hold", Right::Deploy),
    ("unhold", Right::Deploy),
    ("approve", Right::Approve),
    ("reject", Right::Approve),
    ("secret", Right::Secrets),
    ("admin", Right::Admin),
];

/// The right that a verb needs; `None` is denied to everybody.
#[must_use]
pub fn needed(verb: &str) -> Option<Right> {
    TABLE.iter().find(|(known, _)| *known == verb).map(|(_, right)| *right)
}

/// Whether somebody with these rights may do it.
#[must_use]
pub fn may(rights: &[Right], verb: &str) -> bool {
    needed(verb).is_some_and(|right| rights.contains(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_denied_even_with_all_rights() {
        assert!(may(&ALL, "rollback"));
        assert!(!may(&ALL, "launch"));
        assert!(!may(&[Right::Read], "rollback"));
    }
}
