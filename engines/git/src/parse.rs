//! What a repository holds, as values; and the text of git's plumbing that is read into one.
//!
//! In: bytes in the format asked for. Out: values, or `None` when the bytes have another form.
//! Never: starts a process, panics on strange bytes.

use crate::names::Oid;
use crate::path::RepoPath;

/// A commit as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: Oid,
    /// The id of its tree.
    pub tree: Oid,
    /// Its parents; none for a first commit.
    pub parents: Vec<Oid>,
    /// The author's name.
    pub author_name: String,
    /// The author's e-mail address.
    pub author_email: String,
    /// When it was committed, in milliseconds since 1970 (git knows seconds).
    pub at_ms: i64,
    /// The first paragraph of the message, on one line.
    pub subject: String,
    /// The whole message.
    pub message: String,
}

/// What kind of thing a path of a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its object holds the target.
    Symlink,
    /// A commit of another repository. It is not fetched; a checkout has an empty folder there.
    Submodule,
}

/// One path of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The mode as git writes it, as a number (`0o100644`).
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
    /// The object that holds its content: equal ids, equal bytes.
    pub id: Oid,
    /// Where it is.
    pub path: RepoPath,
}

/// One ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefEntry {
    /// Its full name (`refs/heads/main`).
    pub name: String,
    /// The object that it names: a commit, or an annotated tag.
    pub id: Oid,
    /// What an annotated tag points at, else the same as `id`.
    pub target: Oid,
}

/// Reads the head of one answer of `git cat-file --batch`: id, type, size.
pub(crate) fn object_head(line: &[u8]) -> Option<(Oid, String, u64)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).ok()?;
    let mut words = text.split(' ');
    let id = Oid::from_hex(words.next()?.as_bytes())?;
    let kind = words.next()?.to_owned();
    let size = words.next()?.parse().ok()?;
    words.next().is_none().then_some((id, kind, size))
}

#[cfg(test)]
mod tests {
    use super::object_head;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_missing_object_is_no_head() {
        assert!(object_head(format!("{A} blob 12\n").as_bytes()).is_some());
        assert!(object_head(format!("{A}:some path 1 missing\n").as_bytes()).is_none());
        assert!(object_head(b"main^{commit} ambiguous\n").is_none());
    }
}
