//! Paths inside a commit, which may be any bytes but NUL.
//!
//! In: bytes from git, or text from configuration. Out: the same bytes, or text that stands for
//! exactly one path. Never: a lossy conversion.

use std::fmt;

use crate::error::GitError;

/// A path inside a repository, with `/` between its parts.
///
/// Shown ([`fmt::Display`]) as it is when it is UTF-8 without control characters; otherwise each
/// such byte becomes `\xHH` and a backslash `\\`. A backslash is always doubled, so two paths
/// never look the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Takes the bytes of a path.
    ///
    /// # Errors
    /// [`GitError::Path`] when it is empty, absolute, contains NUL, or a part is `.`, `..` or empty.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, GitError> {
        let path = Self(bytes.into());
        let reason = if path.0.is_empty() {
            Some("it is empty")
        } else if path.0.contains(&0) {
            Some("it contains a NUL byte")
        } else if path.0.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            Some("a part of it is empty, `.` or `..`")
        } else {
            None
        };
        match reason {
            None => Ok(path),
            Some(reason) => Err(GitError::Path { path: path.to_string(), reason }),
        }
    }

    /// A path that git itself listed.
    pub(crate) fn from_git(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The exact bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, when it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl AsRef<[u8]> for RepoPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'\\';
        if self.0.iter().all(is_plain) {
            return out.write_str(&String::from_utf8_lossy(&self.0));
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    out.write_str("\\\\")?;
                } else if c.is_control() {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        write!(out, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(out, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{self}`")
    }
}

impl PartialEq<str> for RepoPath {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for RepoPath {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::RepoPath;

    fn shown(bytes: &[u8]) -> String {
        RepoPath::new(bytes).expect("a path").to_string()
    }

    #[test]
    fn every_path_has_its_own_text() {
        assert_eq!(shown("src/größe.rs".as_bytes()), "src/größe.rs");
        assert_eq!(shown(b"a\nb"), "a\\x0ab");
        assert_eq!(shown(b"a\\x0ab"), "a\\\\x0ab");
        assert_eq!(shown(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn a_path_cannot_leave_the_repository() {
        for bad in ["", "/etc", "a//b", "a/../b", "./a", "a/", "a\0b"] {
            assert!(RepoPath::new(bad).is_err(), "{bad:?}");
        }
    }
}
