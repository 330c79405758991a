//! Names of repositories and tags.
//!
//! In: text of addresses and commands. Out: [`Repository`] and [`Tag`], which are proof of their form.
//! Never: the tag `latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NameError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// `PROJECT/SERVICE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    text: String,
    slash: usize,
}

/// A tag; never `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Repository {
    /// The part before the slash.
    pub fn project(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The part after the slash.
    pub fn service(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// `PROJECT/SERVICE`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text
            .split_once('/')
            .filter(|(project, service)| text.len() <= 255 && is_component(project) && is_component(service));
        match named {
            Some((project, _)) => Ok(Self { slash: project.len(), text: text.to_owned() }),
            None => Err(NameError {
                message: format!("`{}` is not the name of a repository", cut(text)),
                hint: "it is PROJECT/SERVICE, in lower-case letters, digits, `.`, `_` and `-`",
            }),
        }
    }
}

/// One part of a name (OCI distribution specification, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well = text.as_bytes().first().is_some_and(is_word) && text.as_bytes().last().is_some_and(is_word);
    let mut between = text.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit());
    ends_well && between.all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|byte| byte == b'-'))
}

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = text.len() <= 128
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if !is_tag {
            return Err(NameError {
                message: format!("`{}` is not a tag", cut(text)),
                hint: "it has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            });
        }
        // R123
        if text == "latest" {
            return Err(NameError {
                message: "the tag `latest` is refused: it would mean another image tomorrow".to_owned(),
                hint: "name a version, such as the commit: PROJECT/SERVICE:1f3c9ab-482",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

macro_rules! text_conversions {
    ($name:ident, $text:ident => $as_str:expr) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from($text: $name) -> Self {
                $as_str.to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

text_conversions!(Repository, name => name.as_str());
text_conversions!(Tag, tag => tag.as_str());
