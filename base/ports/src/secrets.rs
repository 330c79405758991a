//! The secrets port: values by name, newest version.

use crate::Fut;
use slipway_model::{EnvironmentName, ProjectName, Secret};

/// Reads secrets; whoever holds this may see them.
pub trait Secrets: Send + Sync {
    /// The newest value of a secret for an environment (or, with `None`, for jobs).
    fn value(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
    ) -> Fut<'_, Result<Option<Secret>, String>>;
}
