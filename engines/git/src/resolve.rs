//! What a person calls a commit, found: a full or shortened id, a branch, a tag, `HEAD`, a full
//! ref name, each with `~2` or `^` behind it.
//!
//! In: text from a command line. Out: one commit, or what it could mean.
//! Never: git's whole revision language (`:/text`, `@{date}`, ranges), or anything as an option.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::ReadLimit;
use crate::error::{Candidate, GitError};
use crate::names::{Oid, is_ref_name};
use crate::objects::ObjectView;
use crate::parse;

const SHORTEST_ID: usize = 4;
const REVISION_BYTES_MAX: usize = 512;

/// More candidates than a person reads.
const CANDIDATES_MAX: usize = 20;

const LIMIT: ReadLimit = ReadLimit { wait: Duration::from_secs(30), bytes: 8 << 20 };

impl ObjectView {
    /// The commit that a person means.
    ///
    /// # Errors
    /// [`GitError::UnknownRevision`]; [`GitError::AmbiguousRevision`] with the candidates when a
    /// branch, a tag or ids of the same beginning name different commits; or when git fails.
    pub async fn resolve(&self, revision: &str) -> Result<Oid, GitError> {
        let unknown = || GitError::UnknownRevision {
            project: self.subject().trim_end_matches(".git").to_owned(),
            revision: revision.chars().take(200).collect(),
        };
        let (base, steps) = split(revision).ok_or_else(unknown)?;
        let mut names = named(base);
        if names.is_empty() && !is_id_start(base) {
            return Err(unknown());
        }
        let is_full_id = Oid::parse(base).is_ok();
        if is_full_id {
            names = vec![base.to_owned()];
        } else if is_id_start(base) {
            names.extend(self.ids_beginning_with(base).await?);
        }
        let found = self.commits_named(&names, steps).await?;
        let distinct: BTreeSet<Oid> = found.iter().map(|(_, id)| *id).collect();
        match distinct.len() {
            0 => Err(unknown()),
            1 => Ok(found[0].1),
            _ => Err(GitError::AmbiguousRevision {
                project: self.subject().trim_end_matches(".git").to_owned(),
                revision: revision.to_owned(),
                candidates: found
                    .into_iter()
                    .take(CANDIDATES_MAX)
                    .map(|(name, commit)| Candidate { name, commit })
                    .collect(),
            }),
        }
    }

    async fn ids_beginning_with(&self, start: &str) -> Result<Vec<String>, GitError> {
        let asked = self.ask("rev-parse").arg(format!("--disambiguate={start}"));
        let answer = self.program.read_all(asked, Vec::new(), LIMIT).await?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Those of the names that are commits (or tags of commits), with the steps taken.
    async fn commits_named(&self, names: &[String], steps: &str) -> Result<Vec<(String, Oid)>, GitError> {
        let questions: Vec<String> = names.iter().map(|name| format!("{name}{steps}^{{commit}}\0")).collect();
        let asked = self.ask("cat-file").args(["--batch-check", "-z"]);
        let input = questions.concat().into_bytes();
        let answer = self.program.read_all(asked, input, LIMIT).await?;
        // Names have no newline here, so answers and names go in step.
        let heads = answer.split(|byte| *byte == b'\n').map(parse::object_head);
        let found = names.iter().zip(heads).filter_map(|(name, head)| {
            let (id, kind, _) = head?;
            (kind == "commit").then(|| (name.clone(), id))
        });
        Ok(found.collect())
    }
}

/// Separates the name from the steps behind it; nothing when it cannot be a revision.
fn split(revision: &str) -> Option<(&str, &str)> {
    let at = revision.find(['~', '^']).unwrap_or(revision.len());
    let (base, steps) = revision.split_at(at);
    let plain = steps.chars().all(|c| matches!(c, '~' | '^' | '0'..='9'));
    let fits = !base.is_empty() && !base.starts_with('-') && revision.len() <= REVISION_BYTES_MAX;
    (plain && fits).then_some((base, steps))
}

/// The refs that could be meant.
fn named(base: &str) -> Vec<String> {
    if base == "HEAD" {
        return vec![base.to_owned()];
    }
    let full = [base.to_owned(), format!("refs/heads/{base}"), format!("refs/tags/{base}")];
    full.into_iter().filter(|name| is_ref_name(name)).collect()
}

fn is_id_start(base: &str) -> bool {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (SHORTEST_ID..=40).contains(&base.len()) && base.bytes().all(digits)
}

#[cfg(test)]
mod tests {
    use super::{named, split};

    #[test]
    fn only_plain_names_and_steps_are_revisions() {
        assert_eq!(split("main~2^"), Some(("main", "~2^")));
        assert_eq!(split("v1.0"), Some(("v1.0", "")));
        for bad in ["", "--all", "~1", "main^{/x}", "main~x"] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
        for bad in ["main@{1}", ":/text", "a..b", "a b", "a\nb", "a:b"] {
            assert!(named(bad).is_empty(), "{bad:?}");
        }
    }
}
