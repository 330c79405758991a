//! The name of an image of the own registry.
//!
//! In: `PROJECT/SERVICE:TAG` or `PROJECT/SERVICE@sha256:…`. Out: [`ImageReference`], with a tag or a digest.
//! Never: `latest`, no tag at all, or another registry: a build has to give the same image tomorrow.

use std::fmt;
use std::str::FromStr;

use slipway_blobs::Digest;

/// An image of the own registry, by tag, digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// `PROJECT/SERVICE`.
    pub repository: String,
    /// The tag, never `latest`.
    pub tag: Option<String>,
    /// The digest of the manifest; it wins over the tag.
    pub digest: Option<Digest>,
}

/// A text that names no usable image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReferenceError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(parse_digest(text, digest)?)),
            None => (text, None),
        };
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        check_repository(text, repository)?;
        check_tag(repository, tag, digest.is_some())?;
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

fn parse_digest(text: &str, digest: &str) -> Result<Digest, ReferenceError> {
    digest.parse().map_err(|_| ReferenceError {
        message: format!("`{text}` has no valid digest"),
        hint: "write `PROJECT/SERVICE@sha256:` and 64 hex digits".to_owned(),
    })
}

fn check_repository(text: &str, repository: &str) -> Result<(), ReferenceError> {
    let parts: Vec<&str> = repository.split('/').collect();
    let is_own = match parts.as_slice() {
        [project, service] => {
            let is_host = project.contains(['.', ':']) || *project == "localhost";
            !is_host && is_component(project) && is_component(service)
        }
        _ => false,
    };
    if is_own && repository.len() <= 255 {
        return Ok(());
    }
    Err(ReferenceError {
        message: format!("`{text}` is not an image of this installation's registry"),
        hint: "a base is `scratch` or `PROJECT/SERVICE:TAG`; bring a foreign image in once with \
               `docker save IMAGE -o FILE` and `slipway image import FILE --name SERVICE:TAG`, or with \
               `skopeo copy docker://IMAGE docker://THIS-REGISTRY/PROJECT/SERVICE:TAG`"
            .to_owned(),
    })
}

fn check_tag(repository: &str, tag: Option<&str>, has_digest: bool) -> Result<(), ReferenceError> {
    match tag {
        Some("latest") => Err(ReferenceError {
            message: format!("`{repository}:latest` is refused: `latest` means another image tomorrow"),
            hint: format!("name a version, `{repository}:TAG`, or a digest, `{repository}@sha256:…`"),
        }),
        Some(tag) if !is_tag(tag) => Err(ReferenceError {
            message: format!("`{tag}` is not a tag"),
            hint: "a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two"
                .to_owned(),
        }),
        None if !has_digest => Err(ReferenceError {
            message: format!("`{repository}` has no tag, which would mean `latest`"),
            hint: format!("name a version, `{repository}:TAG`, or a digest, `{repository}@sha256:…`"),
        }),
        Some(_) | None => Ok(()),
    }
}

/// One part of a repository's name (OCI distribution specification, "Pulling manifests").
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = bytes.first().is_some_and(|byte| is_word(*byte)) && bytes.last().is_some_and(|byte| is_word(*byte));
    let separators_are_known = text
        .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'));
    ends_well && separators_are_known
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match text.parse::<ImageReference>() {
            Ok(reference) => format!("{:?} {:?}", reference.tag, reference.digest.is_some()),
            Err(error) => error.message,
        };
        assert_eq!(found, expected, "{text}");
    }

    // R123
    #[test]
    fn only_pinned_images_of_the_own_registry_are_references() {
        let digest = Digest::of(b"");
        check("shop/api:1f3c9ab-482", "Some(\"1f3c9ab-482\") false");
        check(&format!("shop/api@{digest}"), "None true");
        check(&format!("shop/api:v1@{digest}"), "Some(\"v1\") true");
        check("shop/api", "`shop/api` has no tag, which would mean `latest`");
        check("shop/api:latest", "`shop/api:latest` is refused: `latest` means another image tomorrow");
        check("shop/api@sha256:12", "`shop/api@sha256:12` has no valid digest");
        check("shop/api:-x", "`-x` is not a tag");
        for foreign in ["debian:12", "ghcr.io/api:1", "localhost/api:1", "a/b/c:1", "Shop/api:1", "s--/a:1"] {
            check(foreign, &format!("`{foreign}` is not an image of this installation's registry"));
        }
    }
}
