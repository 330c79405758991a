//! Git hosting as the repository port.

use crate::exit::chain;
use slipway_git::{Git, GitError, ObjectView, Oid};
use slipway_model::{At, CommitId, ProjectName};
use slipway_ports::repository::FILE_BYTES_MAX;
use slipway_ports::{CommitInfo, Fut, RepoError, Repository, TreeFile};

/// Git repositories of this machine.
pub struct GitRepository(pub Git);

fn said(error: &GitError) -> RepoError {
    RepoError { what: chain(error), of_content: error.is_of_content() }
}

fn oid(id: &CommitId) -> Result<Oid, RepoError> {
    Oid::parse(id.as_str()).map_err(|error| said(&error))
}

fn commit_id(oid: Oid) -> Result<CommitId, RepoError> {
    CommitId::parse(&oid.to_string()).map_err(|error| RepoError::new(error.to_string()))
}

fn info(commit: &slipway_git::CommitInfo) -> Result<CommitInfo, RepoError> {
    Ok(CommitInfo {
        id: commit_id(commit.id)?,
        parents: commit.parents.iter().map(|parent| commit_id(*parent)).collect::<Result<_, _>>()?,
        author: commit.author_name.clone(),
        at: At(u64::try_from(commit.at_ms).unwrap_or(0)),
        subject: commit.subject.clone(),
        message: commit.message.clone(),
    })
}

impl GitRepository {
    fn view(&self, project: &ProjectName) -> Result<ObjectView, RepoError> {
        let name = slipway_git::ProjectName::parse(project.as_str()).map_err(|error| said(&error))?;
        self.0.view(&name).map_err(|error| said(&error))
    }
}

impl Repository for GitRepository {
    fn commit(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<CommitInfo, RepoError>> {
        let (view, oid) = (self.view(project), oid(id));
        Box::pin(async move { info(&view?.commit(oid?).await.map_err(|error| said(&error))?) })
    }

    fn files(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<Vec<TreeFile>, RepoError>> {
        let (view, oid) = (self.view(project), oid(id));
        Box::pin(async move {
            let entries = view?.tree(oid?).await.map_err(|error| said(&error))?;
            let file = |entry: &slipway_git::TreeEntry| TreeFile {
                path: entry.path.to_string(),
                mode: entry.mode,
                id: entry.id.to_string(),
            };
            Ok(entries.iter().map(file).collect())
        })
    }

    fn read(&self, project: &ProjectName, id: &CommitId, path: &str) -> Fut<'_, Result<Option<Vec<u8>>, RepoError>> {
        let (view, oid, path) = (self.view(project), oid(id), path.to_owned());
        Box::pin(async move {
            view?.read(oid?, &path, FILE_BYTES_MAX).await.map_err(|error| match error {
                GitError::TooLarge { .. } => RepoError::too_large(&path),
                other => said(&other),
            })
        })
    }

    fn changed(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
    ) -> Fut<'_, Result<Vec<String>, RepoError>> {
        let (view, from, to) = (self.view(project), from.map(oid).transpose(), oid(to));
        Box::pin(async move {
            let paths = view?.changed(from?, to?).await.map_err(|error| said(&error))?;
            Ok(paths.iter().map(ToString::to_string).collect())
        })
    }

    fn contains(
        &self,
        project: &ProjectName,
        commit: &CommitId,
        ancestor: &CommitId,
    ) -> Fut<'_, Result<bool, RepoError>> {
        let (view, older, newer) = (self.view(project), oid(ancestor), oid(commit));
        Box::pin(async move { view?.is_ancestor(older?, newer?).await.map_err(|error| said(&error)) })
    }

    fn between(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: usize,
    ) -> Fut<'_, Result<Vec<CommitInfo>, RepoError>> {
        let (view, from, to) = (self.view(project), from.map(oid).transpose(), oid(to));
        Box::pin(async move {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let commits = view?.commits(from?, to?, limit).await.map_err(|error| said(&error))?;
            commits.iter().map(info).collect()
        })
    }

    fn resolve(&self, project: &ProjectName, name: &str) -> Fut<'_, Result<Option<CommitId>, RepoError>> {
        let (view, name) = (self.view(project), name.to_owned());
        Box::pin(async move {
            match view?.resolve(&name).await {
                Ok(oid) => commit_id(oid).map(Some),
                Err(_) => Ok(None),
            }
        })
    }
}
