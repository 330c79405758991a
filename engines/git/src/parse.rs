//! The texts that git's plumbing answers, read into values.
//!
//! In: bytes in the formats asked for here. Out: values, or `None` when the bytes have another
//! form. Never: starts a process, panics on strange bytes.

use crate::names::Oid;
use crate::path::RepoPath;

/// What `git log` is asked for: one commit is these fields, NUL after each.
pub(crate) const COMMIT_FORMAT: &str = concat!(
    "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%ct%x00%s%x00",
    "%(trailers:only=true,unfold=true,separator=%x1e,key_value_separator=%x1f)%x00%B"
);

const COMMIT_FIELDS: usize = 9;

/// What `git for-each-ref` is asked for. A name has no NUL and no newline.
pub(crate) const REF_FORMAT: &str = "--format=%(objectname) %(*objectname) %(refname)";

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
    /// The trailers at its end (`Slipway-Fixes: 1f3c9ab`), in order.
    pub trailers: Vec<(String, String)>,
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

/// Reads what [`COMMIT_FORMAT`] with `-z` printed, for any number of commits.
pub(crate) fn commits(answer: &[u8]) -> Option<Vec<CommitInfo>> {
    if answer.is_empty() {
        return Some(Vec::new());
    }
    let answer = answer.strip_suffix(b"\0").unwrap_or(answer);
    let fields: Vec<&[u8]> = answer.split(|byte| *byte == 0).collect();
    if !fields.len().is_multiple_of(COMMIT_FIELDS) {
        return None;
    }
    fields.chunks_exact(COMMIT_FIELDS).map(commit).collect()
}

fn commit(fields: &[&[u8]]) -> Option<CommitInfo> {
    let [id, tree, parents, name, email, at, subject, trailers, message] = fields else {
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let parents =
        parents.split(|byte| *byte == b' ').filter(|one| !one.is_empty()).map(Oid::from_hex).collect::<Option<_>>()?;
    let trailers = text(trailers)
        .split('\u{1e}')
        .filter_map(|one| one.split_once('\u{1f}'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    // Git accepts dates beyond what fits; they are no reason to refuse a commit.
    let seconds: i64 = text(at).parse().unwrap_or(0);
    Some(CommitInfo {
        id: Oid::from_hex(id)?,
        tree: Oid::from_hex(tree)?,
        parents,
        author_name: text(name),
        author_email: text(email),
        at_ms: seconds.saturating_mul(1000),
        subject: text(subject),
        message: text(message),
        trailers,
    })
}

/// Reads `git ls-tree -r -z`.
pub(crate) fn tree(answer: &[u8]) -> Option<Vec<TreeEntry>> {
    nul_separated(answer).map(tree_entry).collect()
}

fn tree_entry(line: &[u8]) -> Option<TreeEntry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (head, path) = (std::str::from_utf8(&line[..tab]).ok()?, &line[tab + 1..]);
    let mut words = head.split(' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let _type = words.next()?;
    Some(TreeEntry {
        mode,
        kind: kind(mode)?,
        id: Oid::from_hex(words.next()?.as_bytes())?,
        path: RepoPath::from_git(path),
    })
}

fn kind(mode: u32) -> Option<EntryKind> {
    match mode & 0o170_000 {
        0o100_000 if mode & 0o111 != 0 => Some(EntryKind::Executable),
        0o100_000 => Some(EntryKind::File),
        0o120_000 => Some(EntryKind::Symlink),
        0o160_000 => Some(EntryKind::Submodule),
        _ => None,
    }
}

/// Reads `git diff-tree -z --name-only` or `git ls-tree -z --name-only`.
pub(crate) fn paths(answer: &[u8]) -> Vec<RepoPath> {
    nul_separated(answer).map(RepoPath::from_git).collect()
}

/// Reads what [`REF_FORMAT`] printed.
pub(crate) fn refs(answer: &[u8]) -> Option<Vec<RefEntry>> {
    String::from_utf8_lossy(answer).lines().map(ref_entry).collect()
}

fn ref_entry(line: &str) -> Option<RefEntry> {
    let mut words = line.splitn(3, ' ');
    let id = Oid::parse(words.next()?).ok()?;
    let peeled = words.next()?;
    let target = if peeled.is_empty() { id } else { Oid::parse(peeled).ok()? };
    let name = words.next()?.to_owned();
    Some(RefEntry { name, id, target })
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

fn nul_separated(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.split(|byte| *byte == 0).filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{EntryKind, commits, object_head, refs, tree};

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_commit_keeps_its_message_parents_and_trailers() {
        let at = 17;
        let one = format!(
            "{A}\0{B}\0{A} {B}\0Kim\0k@x\0{at}\0Fix it\0Slipway-Fixes\u{1f}1f3c9ab\u{1e}See\u{1f}#1\0Fix it\n\nMore\n\0"
        );
        let read = commits(one.as_bytes()).expect("the format");
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].parents.len(), 2);
        assert_eq!(read[0].at_ms, 17_000);
        assert_eq!(read[0].message, "Fix it\n\nMore\n");
        assert_eq!(
            read[0].trailers,
            [("Slipway-Fixes".to_owned(), "1f3c9ab".to_owned()), ("See".to_owned(), "#1".to_owned())]
        );
        assert_eq!(commits(b"").expect("none"), []);
        assert!(commits(b"abc\0def\0").is_none());
    }

    #[test]
    fn a_tree_tells_files_links_and_submodules_apart() {
        let text = format!("100644 blob {A}\ta\n b\0100755 blob {A}\tx\0120000 blob {B}\tl\0160000 commit {B}\tsub\0");
        let kinds: Vec<_> = tree(text.as_bytes())
            .expect("the format")
            .into_iter()
            .map(|entry| (entry.path.to_string(), entry.kind))
            .collect();
        let wanted = [
            ("a\\x0a b", EntryKind::File),
            ("x", EntryKind::Executable),
            ("l", EntryKind::Symlink),
            ("sub", EntryKind::Submodule),
        ];
        assert_eq!(kinds, wanted.map(|(path, kind)| (path.to_owned(), kind)));
    }

    #[test]
    fn an_annotated_tag_shows_what_it_points_at() {
        let text = format!("{A}  refs/heads/main\n{A} {B} refs/tags/v1\n");
        let read = refs(text.as_bytes()).expect("the format");
        assert_eq!(read[0].target, read[0].id);
        assert_eq!(read[1].target.to_string(), B);
    }

    #[test]
    fn a_missing_object_is_no_head() {
        assert!(object_head(format!("{A} blob 12\n").as_bytes()).is_some());
        assert!(object_head(format!("{A}:some path 1 missing\n").as_bytes()).is_none());
        assert!(object_head(b"main^{commit} ambiguous\n").is_none());
    }
}
