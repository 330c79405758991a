//! Commits in memory.
//!
//! In: commits with files, parents and messages. Out: the Repository port. Never: Git.

use crate::repository::{CommitInfo, RepoError, TreeFile};
use crate::{Fut, Repository};
use slipway_model::{At, CommitId, Digest, ProjectName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files by path.
pub type Files = BTreeMap<String, String>;

#[derive(Debug, Clone)]
struct Commit {
    place: u64,
    info: CommitInfo,
    files: Files,
}

#[derive(Debug, Default)]
struct Inner {
    commits: BTreeMap<(ProjectName, CommitId), Commit>,
    refs: BTreeMap<(ProjectName, String), CommitId>,
}

/// Commits in memory.
#[derive(Debug, Default)]
pub struct FakeRepository {
    inner: Mutex<Inner>,
}

impl FakeRepository {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a commit; its id follows from its content.
    pub fn commit_files(
        &self,
        project: &ProjectName,
        parents: &[CommitId],
        author: &str,
        message: &str,
        files: Files,
    ) -> CommitId {
        let mut inner = self.lock();
        let place = inner.commits.len() as u64 + 1;
        let text = format!("{project} {parents:?} {author} {message} {files:?} {place}");
        let hex: String = Digest::of(text.as_bytes()).hex().chars().take(40).collect();
        let id = CommitId::parse(&hex).unwrap_or_else(|_| unreachable!("40 hex digits of a digest"));
        let info = CommitInfo {
            id: id.clone(),
            parents: parents.to_vec(),
            author: author.to_owned(),
            at: At(place),
            subject: message.lines().next().unwrap_or_default().to_owned(),
            message: message.to_owned(),
        };
        inner.commits.insert((project.clone(), id.clone()), Commit { place, info, files });
        id
    }

    /// Moves a ref.
    pub fn set_ref(&self, project: &ProjectName, name: &str, commit: &CommitId) {
        self.lock().refs.insert((project.clone(), name.to_owned()), commit.clone());
    }

    /// All refs of a project.
    #[must_use]
    pub fn refs(&self, project: &ProjectName) -> Vec<(String, CommitId)> {
        let inner = self.lock();
        let mine = inner.refs.iter().filter(|((of, _), _)| of == project);
        mine.map(|((_, name), commit)| (name.clone(), commit.clone())).collect()
    }

    /// The files of a commit.
    #[must_use]
    pub fn files_of(&self, project: &ProjectName, id: &CommitId) -> Files {
        let inner = self.lock();
        inner.commits.get(&(project.clone(), id.clone())).map(|commit| commit.files.clone()).unwrap_or_default()
    }

    /// The parents of a commit.
    #[must_use]
    pub fn parents(&self, project: &ProjectName, id: &CommitId) -> Vec<CommitId> {
        let inner = self.lock();
        inner.find(project, id).map(|commit| commit.info.parents.clone()).unwrap_or_default()
    }

    /// Whether `ancestor` is reachable from `commit`, or is it.
    #[must_use]
    pub fn is_ancestor(&self, project: &ProjectName, ancestor: &CommitId, commit: &CommitId) -> bool {
        self.lock().reachable(project, commit).contains(ancestor)
    }
}

impl Inner {
    fn reachable(&self, project: &ProjectName, from: &CommitId) -> BTreeSet<CommitId> {
        let mut found = BTreeSet::new();
        let mut open = vec![from.clone()];
        while let Some(next) = open.pop() {
            if let Some(commit) = self.commits.get(&(project.clone(), next.clone()))
                && found.insert(next)
            {
                open.extend(commit.info.parents.iter().cloned());
            }
        }
        found
    }

    fn find(&self, project: &ProjectName, id: &CommitId) -> Result<&Commit, RepoError> {
        let unknown = || RepoError::new(format!("commit `{id}` is not in `{project}`"));
        self.commits.get(&(project.clone(), id.clone())).ok_or_else(unknown)
    }

    fn between(&self, project: &ProjectName, from: Option<&CommitId>, to: &CommitId) -> Vec<CommitInfo> {
        let known = from.map(|from| self.reachable(project, from)).unwrap_or_default();
        let mut fresh: Vec<&Commit> = self
            .reachable(project, to)
            .iter()
            .filter(|id| !known.contains(*id))
            .filter_map(|id| self.commits.get(&(project.clone(), id.clone())))
            .collect();
        fresh.sort_by_key(|commit| std::cmp::Reverse(commit.place));
        fresh.into_iter().map(|commit| commit.info.clone()).collect()
    }

    fn resolve(&self, project: &ProjectName, name: &str) -> Option<CommitId> {
        let of_ref = |name: &str| self.refs.get(&(project.clone(), name.to_owned())).cloned();
        let short = || {
            let is_hex = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mut mine = self.commits.keys().filter(|(of, id)| of == project && id.as_str().starts_with(name));
            if is_hex { mine.next().map(|(_, id)| id.clone()) } else { None }
        };
        of_ref(name).or_else(|| of_ref(&format!("refs/heads/{name}"))).or_else(short)
    }
}

fn now<T: Send + 'static>(value: T) -> Fut<'static, T> {
    Box::pin(std::future::ready(value))
}

impl Repository for FakeRepository {
    fn commit(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<CommitInfo, RepoError>> {
        now(self.lock().find(project, id).map(|commit| commit.info.clone()))
    }

    fn files(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<Vec<TreeFile>, RepoError>> {
        let tree = |files: &Files| {
            let file = |(path, text): (&String, &String)| TreeFile {
                path: path.clone(),
                mode: 0o100_644,
                id: Digest::of(text.as_bytes()).hex().chars().take(40).collect(),
            };
            files.iter().map(file).collect()
        };
        now(self.lock().find(project, id).map(|commit| tree(&commit.files)))
    }

    fn read(&self, project: &ProjectName, id: &CommitId, path: &str) -> Fut<'_, Result<Option<Vec<u8>>, RepoError>> {
        now(self.lock().find(project, id).map(|commit| commit.files.get(path).map(|text| text.as_bytes().to_vec())))
    }

    fn changed(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
    ) -> Fut<'_, Result<Vec<String>, RepoError>> {
        let inner = self.lock();
        let nothing = Files::new();
        let before = from.and_then(|from| inner.find(project, from).ok()).map_or(&nothing, |commit| &commit.files);
        now(inner.find(project, to).map(|commit| {
            let paths: BTreeSet<&String> = before.keys().chain(commit.files.keys()).collect();
            paths.into_iter().filter(|path| before.get(*path) != commit.files.get(*path)).cloned().collect()
        }))
    }

    fn contains(
        &self,
        project: &ProjectName,
        commit: &CommitId,
        ancestor: &CommitId,
    ) -> Fut<'_, Result<bool, RepoError>> {
        now(Ok(self.is_ancestor(project, ancestor, commit)))
    }

    fn between(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: usize,
    ) -> Fut<'_, Result<Vec<CommitInfo>, RepoError>> {
        let mut commits = self.lock().between(project, from, to);
        commits.truncate(limit);
        now(Ok(commits))
    }

    fn resolve(&self, project: &ProjectName, name: &str) -> Fut<'_, Result<Option<CommitId>, RepoError>> {
        now(Ok(self.lock().resolve(project, name)))
    }
}
