//! Names and ids as types: parsed at the edge, trusted inside.
//!
//! In: texts from people and machines. Out: newtypes that prove their form.

use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct IdError {
    /// The text as it was given.
    pub text: String,
    /// What it should have been, with its article.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses the text; the error says which rule it breaks.
            ///
            /// # Errors
            /// When the text does not have the form of this id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(IdError { text, what: $what, rule: $rule })
                }
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

// 40 bytes each leave room for `SERVICE-ENVIRONMENT-PROJECT` with six digits
// where they still exceed the 63 bytes of a DNS label.
fn is_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    (1..=40).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_hex(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_token(text: &str) -> bool {
    (1..=160).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':'))
}

id_type!(/// A project; also the name of its repository.
    ProjectName, "a project name", "1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit", is_name);
id_type!(/// A service of a project.
    ServiceName, "a service name", "1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit", is_name);
id_type!(/// An environment of a project.
    EnvironmentName, "an environment name", "1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit", is_name);
id_type!(/// A full commit id of Git (SHA-1 or SHA-256).
    CommitId, "a commit id", "40 or 64 hexadecimal digits", |t| is_hex(t, 40..=40) || is_hex(t, 64..=64));
id_type!(/// The id of a change: 16 hex digits derived from project, event, ref, old and new commit.
    ChangeId, "a change id", "16 hexadecimal digits", |t| is_hex(t, 16..=16));
id_type!(/// The id of a release: the first 8 (or more, on collision) hex digits of its bundle's SHA-256.
    ReleaseId, "a release id", "8 to 64 hexadecimal digits", |t| is_hex(t, 8..=64));
id_type!(/// One rollout of one service in one environment.
    RolloutId, "a rollout id", "letters, digits and - _ . / :", is_token);
id_type!(/// One running copy of a service.
    InstanceId, "an instance id", "letters, digits and - _ . / :", is_token);
id_type!(/// One execution of one job.
    RunId, "a run id", "letters, digits and - _ . / :", is_token);
id_type!(/// Content by its SHA-256: `sha256:` and 64 hex digits.
    Digest, "a digest", "`sha256:` and 64 hexadecimal digits",
    |t| t.strip_prefix("sha256:").is_some_and(|h| is_hex(h, 64..=64)));
id_type!(/// A key that stands for all that determines a result: 64 hex digits.
    ContentKey, "a content key", "64 hexadecimal digits", |t| is_hex(t, 64..=64));

impl CommitId {
    /// The first seven digits, as people write it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl ChangeId {
    /// The id of the change that this event makes; the same delivery gives the same id.
    #[must_use]
    pub fn derive(project: &ProjectName, event: &str, reference: &str, old: &str, new: &str) -> ChangeId {
        let digest = hex_of(&[project.as_str(), event, reference, old, new]);
        ChangeId(digest.chars().take(16).collect())
    }
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.get(7..).unwrap_or_default()
    }
}

impl ContentKey {
    /// A key over labelled parts; labels and lengths are hashed too, so that parts cannot run into each other.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> ContentKey {
        // A key over ten thousand files has as many small parts: they go to the hash in larger pieces.
        const PIECE: usize = 8 * 1024;
        let (mut hash, mut piece) = (Sha256::new(), Vec::with_capacity(2 * PIECE));
        for (label, value) in parts {
            for text in [label, value] {
                piece.extend_from_slice(&(text.len() as u64).to_le_bytes());
                piece.extend_from_slice(text.as_bytes());
            }
            if piece.len() >= PIECE {
                hash.update(&piece);
                piece.clear();
            }
        }
        hash.update(&piece);
        ContentKey(hex(&hash.finalize()))
    }
}

impl ReleaseId {
    /// The id for a bundle with this digest, `digits` long (8, more on collision).
    #[must_use]
    pub fn of(bundle: &Digest, digits: usize) -> ReleaseId {
        ReleaseId(bundle.hex().chars().take(digits.clamp(8, 64)).collect())
    }
}

fn hex_of(parts: &[&str]) -> String {
    ContentKey::of(parts.iter().map(|part| ("", *part))).0
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(u32::from(digit), 16)));
        text
    })
}

/// A service in an environment: the place where releases follow one another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.environment, self.service)
    }
}

/// A job by its service (if it has one) and name: `api/test`, `contract`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// The service it is scoped to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    /// Its name within that scope.
    pub name: String,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One item of a plan: `job:api/test`, `image:api`, `release:api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub String);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ItemId {
    /// The item of a job.
    #[must_use]
    pub fn job(key: &JobKey) -> ItemId {
        ItemId(format!("job:{key}"))
    }
    /// The item of a service's image.
    #[must_use]
    pub fn image(service: &ServiceName) -> ItemId {
        ItemId(format!("image:{service}"))
    }
    /// The item of a service's release.
    #[must_use]
    pub fn release(service: &ServiceName) -> ItemId {
        ItemId(format!("release:{service}"))
    }
}

/// A value that must never be printed; its text form is `****`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_what_a_host_name_allows() {
        for good in ["a", "web", "web-2", "0day"] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Web", "-web", "web-", "we_b", "w.b", &"a".repeat(41)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_event_is_the_same_change() {
        let project = ProjectName::parse("shop").unwrap();
        let id = |new| ChangeId::derive(&project, "push", "refs/heads/main", "0", new);
        assert_eq!(id("1"), id("1"));
        assert_ne!(id("1"), id("2"));
    }

    #[test]
    fn parts_of_a_key_cannot_run_into_each_other() {
        assert_ne!(ContentKey::of([("a", "bc")]), ContentKey::of([("ab", "c")]));
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", Secret(b"hunter2".to_vec())), "****"); // R518
    }
}
