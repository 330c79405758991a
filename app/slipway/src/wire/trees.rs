//! Kept checkouts of Git hosting, as folders for the worker.

use crate::exit::chain;
use slipway_git::{Git, Oid};
use slipway_model::{CommitId, ProjectName};
use slipway_ports::Fut;
use slipway_worker::{TreeLease, Trees};
use std::path::Path;

/// Checkouts of this machine's repositories.
pub struct GitTrees(pub Git);

impl Trees for GitTrees {
    fn lease(&self, project: &ProjectName, commit: &CommitId) -> Fut<'_, Result<TreeLease, String>> {
        let (project, commit) = (project.clone(), commit.clone());
        Box::pin(async move {
            let name = slipway_git::ProjectName::parse(project.as_str()).map_err(|error| chain(&error))?;
            let oid = Oid::parse(commit.as_str()).map_err(|error| chain(&error))?;
            let lease = self.0.lease(&name, oid).await.map_err(|error| chain(&error))?;
            Ok(TreeLease { path: lease.path().to_owned(), guard: Box::new(lease) })
        })
    }

    fn adopt(&self, path: &Path) -> Result<TreeLease, String> {
        let lease = self.0.adopt_tree(path).map_err(|error| chain(&error))?;
        Ok(TreeLease { path: lease.path().to_owned(), guard: Box::new(lease) })
    }
}
