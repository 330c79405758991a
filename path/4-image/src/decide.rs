//! Pure decisions about images: their tags.

use slipway_model::plan::TagStrategy;
use slipway_model::{CommitId, ProjectName, ServiceName};

/// The reference an image gets: unique per build number, so that no two builds share a tag (R125, R126).
#[must_use]
pub fn reference(
    project: &ProjectName,
    service: &ServiceName,
    strategy: TagStrategy,
    commit: &CommitId,
    build: u64,
) -> String {
    let tag = match strategy {
        TagStrategy::GithashBuildid => format!("{}-{build}", commit.short()),
        TagStrategy::Githash => commit.short().to_owned(),
        TagStrategy::Buildid => build.to_string(),
    };
    format!("{project}/{service}:{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_has_its_tag() {
        let (project, service) = (ProjectName::parse("shop").unwrap(), ServiceName::parse("api").unwrap());
        let commit = CommitId::parse(&"1f3c9ab0".repeat(5)).unwrap();
        for (strategy, tag) in [
            (TagStrategy::GithashBuildid, "shop/api:1f3c9ab-482"), // R126
            (TagStrategy::Githash, "shop/api:1f3c9ab"),
            (TagStrategy::Buildid, "shop/api:482"),
        ] {
            assert_eq!(reference(&project, &service, strategy, &commit, 482), tag);
        }
    }
}
