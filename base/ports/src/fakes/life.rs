//! The life of a process in a fake world.
//!
//! In: ports of the world. Out: the same ports as one process has them. Never: an answer to the dead.

use crate::fleet::Smoked;
use crate::images::{BuildError, BuildRequest, Built};
use crate::repository::{CommitInfo, RepoError, TreeFile};
use crate::runner::RunRequest;
use crate::store::Appended;
use crate::{
    Append, Clock, Fleet, FleetError, Fut, Images, Intent, Repository, Runner, RunnerError, Secrets, Store, StoreError,
    Traffic,
};
use slipway_model::instance::{LaneSeen, LaneWish};
use slipway_model::job::JobOutcome;
use slipway_model::policy::Smoke;
use slipway_model::traffic::LaneTraffic;
use slipway_model::{
    At, ChangeId, CommitId, Digest, EnvironmentName, Fact, Lane, ProjectName, ReleaseId, RunId, Secret,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a process still lives.
#[derive(Debug, Clone, Default)]
pub struct Life {
    over: Arc<AtomicBool>,
}

impl Life {
    /// Ends it, as SIGKILL does: nothing of it goes on from here.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn hold<T>(self, call: impl Future<Output = T> + Send) -> T {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
        let answer = call.await;
        if self.is_over() {
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// A port of the world as one process has it.
#[derive(Debug)]
pub struct Mortal<T> {
    life: Life,
    port: Arc<T>,
}

impl<T> Mortal<T> {
    /// The port for a process with this life.
    #[must_use]
    pub fn new(life: &Life, port: &Arc<T>) -> Arc<Mortal<T>> {
        Arc::new(Mortal { life: life.clone(), port: port.clone() })
    }

    fn hold<'a, R: Send + 'a>(&self, call: impl Future<Output = R> + Send + 'a) -> Fut<'a, R> {
        Box::pin(self.life.clone().hold(call))
    }
}

impl<T: Clock> Clock for Mortal<T> {
    fn now(&self) -> At {
        self.port.now()
    }
    fn sleep(&self, ms: u64) -> Fut<'static, ()> {
        self.hold(self.port.sleep(ms))
    }
    fn monotonic_ms(&self) -> u64 {
        self.port.monotonic_ms()
    }
}

impl<T: Store> Store for Mortal<T> {
    fn append(&self, append: Append) -> Fut<'_, Result<Appended, StoreError>> {
        // The port is asked when the call is polled: the dead append nothing.
        self.hold(async move { self.port.append(append).await })
    }
    fn load(&self, project: &ProjectName, stream: &str, after: u64) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        self.hold(self.port.load(project, stream, after))
    }
    fn since(&self, n: u64, limit: usize) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        self.hold(self.port.since(n, limit))
    }
    fn of_change(&self, project: &ProjectName, change: &ChangeId) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        self.hold(self.port.of_change(project, change))
    }
    fn open_intents(&self) -> Fut<'_, Result<Vec<Intent>, StoreError>> {
        self.hold(self.port.open_intents())
    }
    fn row(
        &self,
        project: &ProjectName,
        index: &'static str,
        key: &str,
    ) -> Fut<'_, Result<Option<serde_json::Value>, StoreError>> {
        self.hold(self.port.row(project, index, key))
    }
    fn rows(
        &self,
        project: &ProjectName,
        index: &'static str,
        prefix: &str,
    ) -> Fut<'_, Result<Vec<(String, serde_json::Value)>, StoreError>> {
        self.hold(self.port.rows(project, index, prefix))
    }
    fn cursor(&self, name: &str) -> Fut<'_, Result<u64, StoreError>> {
        self.hold(self.port.cursor(name))
    }
    fn set_cursor(&self, name: &str, n: u64) -> Fut<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        self.hold(async move { self.port.set_cursor(&name, n).await })
    }
    fn next(&self, project: &ProjectName, counter: &str) -> Fut<'_, Result<u64, StoreError>> {
        let (project, counter) = (project.clone(), counter.to_owned());
        self.hold(async move { self.port.next(&project, &counter).await })
    }
    fn newest(&self) -> tokio::sync::watch::Receiver<u64> {
        self.port.newest()
    }
}

impl<T: Fleet> Fleet for Mortal<T> {
    fn wish(&self, wish: LaneWish) -> Fut<'_, Result<(), FleetError>> {
        self.hold(async move { self.port.wish(wish).await })
    }
    fn observe(&self, lane: &Lane) -> Fut<'_, Result<Option<LaneSeen>, FleetError>> {
        self.hold(self.port.observe(lane))
    }
    fn smoke(
        &self,
        lane: &Lane,
        release: &ReleaseId,
        requests: Vec<Smoke>,
    ) -> Fut<'_, Result<Vec<Smoked>, FleetError>> {
        self.hold(self.port.smoke(lane, release, requests))
    }
    fn log_tail(&self, lane: &Lane, release: &ReleaseId, lines: usize) -> Fut<'_, Vec<String>> {
        self.hold(self.port.log_tail(lane, release, lines))
    }
}

impl<T: Traffic> Traffic for Mortal<T> {
    fn counts(&self, lane: &Lane) -> Fut<'_, Option<LaneTraffic>> {
        self.hold(self.port.counts(lane))
    }
}

impl<T: Images> Images for Mortal<T> {
    fn build(&self, request: BuildRequest) -> Fut<'_, Result<Built, BuildError>> {
        self.hold(async move { self.port.build(request).await })
    }
    fn exists(&self, digest: &Digest) -> Fut<'_, bool> {
        self.hold(self.port.exists(digest))
    }
    fn resolve(&self, reference: &str) -> Fut<'_, Option<Digest>> {
        self.hold(self.port.resolve(reference))
    }
    fn has_blob(&self, digest: &Digest) -> Fut<'_, bool> {
        self.hold(self.port.has_blob(digest))
    }
}

impl<T: Runner> Runner for Mortal<T> {
    fn run(&self, request: RunRequest) -> Fut<'_, Result<JobOutcome, RunnerError>> {
        self.hold(async move { self.port.run(request).await })
    }
    fn cancel(&self, run: &RunId) -> Fut<'_, ()> {
        let run = run.clone();
        self.hold(async move { self.port.cancel(&run).await })
    }
}

impl<T: Secrets> Secrets for Mortal<T> {
    fn value(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
    ) -> Fut<'_, Result<Option<Secret>, String>> {
        self.hold(self.port.value(project, environment, name))
    }
}

impl<T: Repository> Repository for Mortal<T> {
    fn commit(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<CommitInfo, RepoError>> {
        self.hold(self.port.commit(project, id))
    }
    fn files(&self, project: &ProjectName, id: &CommitId) -> Fut<'_, Result<Vec<TreeFile>, RepoError>> {
        self.hold(self.port.files(project, id))
    }
    fn read(&self, project: &ProjectName, id: &CommitId, path: &str) -> Fut<'_, Result<Option<Vec<u8>>, RepoError>> {
        self.hold(self.port.read(project, id, path))
    }
    fn changed(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
    ) -> Fut<'_, Result<Vec<String>, RepoError>> {
        self.hold(self.port.changed(project, from, to))
    }
    fn contains(
        &self,
        project: &ProjectName,
        commit: &CommitId,
        ancestor: &CommitId,
    ) -> Fut<'_, Result<bool, RepoError>> {
        self.hold(self.port.contains(project, commit, ancestor))
    }
    fn between(
        &self,
        project: &ProjectName,
        from: Option<&CommitId>,
        to: &CommitId,
        limit: usize,
    ) -> Fut<'_, Result<Vec<CommitInfo>, RepoError>> {
        self.hold(self.port.between(project, from, to, limit))
    }
    fn resolve(&self, project: &ProjectName, name: &str) -> Fut<'_, Result<Option<CommitId>, RepoError>> {
        self.hold(self.port.resolve(project, name))
    }
}
