//! Names of projects, objects and refs.
//!
//! In: text from outside. Out: types whose value is proof of the rule.
//! Never: lets a name escape its folder or look like an option.

use std::fmt;
use std::str::FromStr;

use crate::error::GitError;

/// Longest name of a project; with `.git` it stays far below the limit of a file name.
const PROJECT_NAME_BYTES_MAX: usize = 63;

/// Longest name of a ref that we accept.
const REF_NAME_BYTES_MAX: usize = 1024;

/// The name of a project: `[a-z0-9][a-z0-9._-]{0,62}`, no `..`, not ending in `.` or `.git`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectName(String);

impl ProjectName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`GitError::ProjectName`] with the rule that it breaks.
    pub fn parse(name: &str) -> Result<Self, GitError> {
        match broken_rule(name) {
            None => Ok(Self(name.to_owned())),
            Some(reason) => Err(GitError::ProjectName { name: name.chars().take(80).collect(), reason }),
        }
    }

    /// Reads the part of a URL that names the project: `shop.git` and `shop` are the same.
    ///
    /// # Errors
    /// [`GitError::ProjectName`] with the rule that it breaks.
    pub fn from_url_segment(segment: &str) -> Result<Self, GitError> {
        Self::parse(segment.strip_suffix(".git").unwrap_or(segment))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let Some(first) = name.bytes().next() else {
        return Some("it is empty");
    };
    if name.len() > PROJECT_NAME_BYTES_MAX {
        return Some("it is longer than 63 characters");
    }
    if !allowed(first) {
        return Some("it does not begin with a lower-case letter or a digit");
    }
    if !name.bytes().all(|byte| allowed(byte) || b"._-".contains(&byte)) {
        return Some("it has other characters than lower-case letters, digits, `.`, `_` and `-`");
    }
    if name.contains("..") {
        return Some("it contains `..`");
    }
    if name.ends_with('.') || name.ends_with(".git") {
        return Some("it ends in `.` or `.git`");
    }
    None
}

impl fmt::Display for ProjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for ProjectName {
    type Err = GitError;

    fn from_str(name: &str) -> Result<Self, GitError> {
        Self::parse(name)
    }
}

/// The id of a git object (SHA-1). Repositories of this package always use SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; 20]);

impl Oid {
    /// Reads 40 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`GitError::ObjectId`] for everything else.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        Self::from_hex(text.as_bytes()).ok_or_else(|| GitError::ObjectId(text.chars().take(80).collect()))
    }

    /// Reads an id that may be all zeros, which is how git writes "nothing".
    ///
    /// # Errors
    /// [`GitError::ObjectId`] when it is no id at all.
    pub fn parse_or_nothing(text: &str) -> Result<Option<Self>, GitError> {
        let id = Self::parse(text)?;
        Ok((id.0 != [0; 20]).then_some(id))
    }

    /// The first hexadecimal digits, as people write a commit.
    pub fn short(&self) -> String {
        self.to_string().chars().take(7).collect()
    }

    pub(crate) fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 40 {
            return None;
        }
        let mut id = [0; 20];
        for (place, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
            *place = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Some(Self(id))
    }

    /// The twenty bytes.
    pub(crate) fn bytes(self) -> [u8; 20] {
        self.0
    }

    /// An id from its twenty bytes.
    pub(crate) fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The text for git where nothing is written as zeros.
    pub(crate) fn or_zeros(id: Option<Self>) -> String {
        id.unwrap_or(Self([0; 20])).to_string()
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Listings of many thousand files are written by this.
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let digits =
            self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
        let text: String = digits.collect();
        out.write_str(&text)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Oid({self})")
    }
}

impl FromStr for Oid {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        Self::parse(text)
    }
}

/// Whether git accepts this full ref name (git-check-ref-format), below `refs/`.
pub(crate) fn is_ref_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.starts_with("refs/")
        && name.len() <= REF_NAME_BYTES_MAX
        && !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::{Oid, ProjectName, is_ref_name};

    #[test]
    fn a_project_name_is_one_folder_name_and_nothing_else() {
        for good in ["a", "shop", "my-shop_2.x", "0", &"a".repeat(63)] {
            assert!(ProjectName::parse(good).is_ok(), "{good}");
        }
        let bad =
            ["", ".", "..", "-x", ".x", "Shop", "a/b", "a..b", "x.git", "x.", "a b", "ä", "a\nb", &"a".repeat(64)];
        for bad in bad {
            assert!(ProjectName::parse(bad).is_err(), "{bad:?}");
        }
        let plain = ProjectName::from_url_segment("shop.git").expect("a name");
        assert_eq!(plain.as_str(), "shop");
        assert!(ProjectName::from_url_segment("shop.git.git").is_err());
    }

    #[test]
    fn an_object_id_is_forty_lower_case_digits() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(Oid::parse(text).expect("an id").to_string(), text);
        for bad in ["", "abc", &text.to_uppercase(), "--output=x"] {
            assert!(Oid::parse(bad).is_err(), "{bad:?}");
        }
        let nothing = Oid::parse_or_nothing(&"0".repeat(40)).expect("zeros");
        assert_eq!(nothing, None);
    }

    #[test]
    fn a_ref_name_follows_the_rules_of_git() {
        for good in ["refs/heads/main", "refs/tags/v1.0", "refs/heads/a/b-ü"] {
            assert!(is_ref_name(good), "{good}");
        }
        let bad = [
            "main",
            "refs/",
            "refs/heads//x",
            "refs/heads/.x",
            "refs/heads/x.lock",
            "refs/heads/a b",
            "refs/heads/a..b",
            "refs/heads/a^",
            "refs/heads/a\n",
            "refs/heads/x.",
            "refs/heads/@{1}",
        ];
        for bad in bad {
            assert!(!is_ref_name(bad), "{bad:?}");
        }
    }
}
