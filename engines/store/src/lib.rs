//! The journal over SQLite.
//!
//! In: appends, each one transaction. Out: facts in the order of their numbers, durable before they are answered.
//! Never: updates or deletes a fact; keeps logs or samples; lets two processes write.
//!
//! One thread writes. What arrives while it commits is committed together next time (group commit), so that the
//! cost of one fsync is shared. A second connection reads, so that a long read never holds a write up.

mod read;
mod schema;
mod snapshot;
mod write;

use rusqlite::Connection;
use slipway_model::{ChangeId, Fact, ProjectName};
use slipway_ports::store::Appended;
use slipway_ports::{Append, Fut, Intent, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

pub use snapshot::{check, snapshot};

/// Appends that may wait for the writer; more than this many callers block on their own reply anyway.
const QUEUE: usize = 4096;

/// What time a record gets.
pub type Now = Arc<dyn Fn() -> slipway_model::At + Send + Sync>;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// The SQLite journal. Cloning shares it.
#[derive(Clone)]
pub struct Journal {
    write: mpsc::SyncSender<write::Work>,
    read: mpsc::SyncSender<ReadJob>,
    newest: watch::Receiver<u64>,
    path: Arc<Path>,
}

impl Journal {
    /// Opens (and makes, or brings up to date) the journal at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened, is of a newer format, or another process writes to it.
    pub fn open(path: &Path, now: Now) -> Result<Journal, StoreError> {
        let writer = schema::open(path)?;
        let reader = schema::open_reader(path)?;
        let newest_now = schema::newest(&writer)?;
        let (newest_tx, newest) = watch::channel(newest_now);
        let (write, work) = mpsc::sync_channel(QUEUE);
        let (read, jobs) = mpsc::sync_channel::<ReadJob>(QUEUE);
        let file: PathBuf = path.into();
        spawn("journal-write", move || write::run(writer, &work, &newest_tx, &now, &file))?;
        spawn("journal-read", move || {
            for job in jobs {
                job(&reader);
            }
        })?;
        Ok(Journal { write, read, newest, path: path.into() })
    }

    async fn ask<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> write::Work,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.write.send(make(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let job: ReadJob = Box::new(move |connection| {
            let _ = reply.send(query(connection).map_err(|error| schema::explain(&error, &path)));
        });
        self.read.send(job).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Broken("its thread has ended".into())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
        .map_err(|error| StoreError::Broken(format!("thread `{name}`: {error}")))
}

impl Store for Journal {
    fn append(&self, append: Append) -> Fut<'_, Result<Appended, StoreError>> {
        Box::pin(self.ask(|reply| write::Work::Append(Box::new(append), reply)))
    }

    fn load(&self, project: &ProjectName, stream: &str, after: u64) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        let (project, stream) = (project.clone(), stream.to_owned());
        Box::pin(async move {
            let rows = self.query(move |connection| read::stream(connection, &project, &stream, after)).await?;
            read::facts(rows)
        })
    }

    fn since(&self, n: u64, limit: usize) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(async move { read::facts(self.query(move |connection| read::since(connection, n, limit)).await?) })
    }

    fn of_change(&self, project: &ProjectName, change: &ChangeId) -> Fut<'_, Result<Vec<Fact>, StoreError>> {
        let (project, change) = (project.clone(), change.clone());
        Box::pin(async move {
            let rows = self.query(move |connection| read::of_change(connection, &project, &change)).await?;
            read::facts(rows)
        })
    }

    fn open_intents(&self) -> Fut<'_, Result<Vec<Intent>, StoreError>> {
        Box::pin(self.query(read::open_intents))
    }

    fn row(
        &self,
        project: &ProjectName,
        index: &'static str,
        key: &str,
    ) -> Fut<'_, Result<Option<serde_json::Value>, StoreError>> {
        let (project, key) = (project.clone(), key.to_owned());
        Box::pin(self.query(move |connection| read::row(connection, &project, index, &key)))
    }

    fn rows(
        &self,
        project: &ProjectName,
        index: &'static str,
        prefix: &str,
    ) -> Fut<'_, Result<Vec<(String, serde_json::Value)>, StoreError>> {
        let (project, prefix) = (project.clone(), prefix.to_owned());
        Box::pin(self.query(move |connection| read::rows(connection, &project, index, &prefix)))
    }

    fn cursor(&self, name: &str) -> Fut<'_, Result<u64, StoreError>> {
        let name = name.to_owned();
        Box::pin(self.query(move |connection| read::cursor(connection, &name)))
    }

    fn set_cursor(&self, name: &str, n: u64) -> Fut<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        Box::pin(self.ask(move |reply| write::Work::Cursor(name, n, reply)))
    }

    fn next(&self, project: &ProjectName, counter: &str) -> Fut<'_, Result<u64, StoreError>> {
        let (project, counter) = (project.clone(), counter.to_owned());
        Box::pin(self.ask(move |reply| write::Work::Next(project, counter, reply)))
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

#[cfg(test)]
mod tests;
