//! The journal port: facts in streams, intents beside them, a few index rows.
//!
//! In: facts and intents, recorded together or not at all. Out: facts in order of their number. Never: updates a fact.

use crate::Fut;
use serde::{Deserialize, Serialize};
use slipway_model::{ChangeId, Fact, NewFact, ProjectName};

/// An effect that was decided and must be performed at least once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Its number; acknowledged by it.
    pub id: u64,
    /// The project.
    pub project: ProjectName,
    /// The stream that decided it.
    pub stream: String,
    /// Which stage performs it: `jobs`, `image`, `rollout` …
    pub stage: String,
    /// Unique within the stream, so that the same decision is not recorded twice.
    pub name: String,
    /// What exactly, in the stage's own shape.
    pub body: serde_json::Value,
}

/// An intent that is not yet recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIntent {
    /// Which stage performs it.
    pub stage: String,
    /// Unique within the stream.
    pub name: String,
    /// What exactly.
    pub body: serde_json::Value,
}

/// A row that can be found by key; a value of `None` removes it.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexRow {
    /// Which index: `reuse`, `release`, `pin` …
    pub index: &'static str,
    /// The key within project and index.
    pub key: String,
    /// The value.
    pub value: Option<serde_json::Value>,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The project.
    pub project: ProjectName,
    /// The stream.
    pub stream: String,
    /// The stream's version that the decision was made on; `None` appends to whatever is there.
    pub expected: Option<u64>,
    /// Facts, in order.
    pub facts: Vec<NewFact>,
    /// Effects to perform afterwards.
    pub intents: Vec<NewIntent>,
    /// Index rows to set.
    pub index: Vec<IndexRow>,
    /// Intents that are performed now.
    pub done: Vec<u64>,
}

impl Append {
    /// An empty transaction on a stream.
    #[must_use]
    pub fn to(project: &ProjectName, stream: impl Into<String>) -> Append {
        Append {
            project: project.clone(),
            stream: stream.into(),
            expected: None,
            facts: Vec::new(),
            intents: Vec::new(),
            index: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Refuse unless the stream is at this version.
    #[must_use]
    pub fn expecting(mut self, version: u64) -> Append {
        self.expected = Some(version);
        self
    }

    /// One fact more.
    #[must_use]
    pub fn fact(mut self, fact: NewFact) -> Append {
        self.facts.push(fact);
        self
    }

    /// One intent more.
    #[must_use]
    pub fn intent(mut self, stage: &str, name: impl Into<String>, body: serde_json::Value) -> Append {
        self.intents.push(NewIntent { stage: stage.into(), name: name.into(), body });
        self
    }

    /// One index row more.
    #[must_use]
    pub fn row(mut self, index: &'static str, key: impl Into<String>, value: Option<serde_json::Value>) -> Append {
        self.index.push(IndexRow { index, key: key.into(), value });
        self
    }

    /// Acknowledge an intent.
    #[must_use]
    pub fn ack(mut self, intent: u64) -> Append {
        self.done.push(intent);
        self
    }
}

/// What the journal answers to one append.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Appended {
    /// The facts with their numbers.
    pub facts: Vec<Fact>,
    /// The intents with their numbers.
    pub intents: Vec<Intent>,
}

/// Why the journal did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Somebody else decided on the same stream; load again and decide again.
    #[error("stream `{stream}` is at version {found}, not {expected}")]
    Conflict {
        /// The stream.
        stream: String,
        /// What the caller knew.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The disk is full; nothing was recorded.
    #[error("no room to record in `{path}`")]
    Full {
        /// The database file.
        path: String,
    },
    /// A record cannot be read or written in its shape.
    #[error("record {n} of the journal does not have the shape of version {v}: {cause}")]
    Shape {
        /// The fact's number.
        n: u64,
        /// Its version.
        v: u16,
        /// What is wrong.
        cause: String,
    },
    /// Anything else that the database says.
    #[error("journal: {0}")]
    Broken(String),
}

/// The journal. Every method is one transaction.
pub trait Store: Send + Sync {
    /// Records all of it or nothing; returns after it is durable.
    fn append(&self, append: Append) -> Fut<'_, Result<Appended, StoreError>>;
    /// A stream's facts after `version`, in order.
    fn load(&self, project: &ProjectName, stream: &str, after: u64) -> Fut<'_, Result<Vec<Fact>, StoreError>>;
    /// Facts of all projects with a number above `n`, at most `limit`.
    fn since(&self, n: u64, limit: usize) -> Fut<'_, Result<Vec<Fact>, StoreError>>;
    /// All facts of one change, whatever their stream, in order.
    fn of_change(&self, project: &ProjectName, change: &ChangeId) -> Fut<'_, Result<Vec<Fact>, StoreError>>;
    /// Intents that were not acknowledged, in order.
    fn open_intents(&self) -> Fut<'_, Result<Vec<Intent>, StoreError>>;
    /// One index row.
    fn row(
        &self,
        project: &ProjectName,
        index: &'static str,
        key: &str,
    ) -> Fut<'_, Result<Option<serde_json::Value>, StoreError>>;
    /// Index rows whose key begins so, in order of their keys.
    fn rows(
        &self,
        project: &ProjectName,
        index: &'static str,
        prefix: &str,
    ) -> Fut<'_, Result<Vec<(String, serde_json::Value)>, StoreError>>;
    /// A stored cursor; 0 when never set.
    fn cursor(&self, name: &str) -> Fut<'_, Result<u64, StoreError>>;
    /// Stores a cursor.
    fn set_cursor(&self, name: &str, n: u64) -> Fut<'_, Result<(), StoreError>>;
    /// The next number of a counter of a project, from 1; never given twice.
    fn next(&self, project: &ProjectName, counter: &str) -> Fut<'_, Result<u64, StoreError>>;
    /// Wakes when facts were recorded; holds the newest number.
    fn newest(&self) -> tokio::sync::watch::Receiver<u64>;
}
