//! The writer: one thread, group commit.
//!
//! In: work from a channel. Out: an answer for each, after it is durable. Never: answers before the commit.

use crate::Now;
use crate::schema::explain;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use slipway_model::fact::FACT_VERSION;
use slipway_model::{Fact, ProjectName};
use slipway_ports::store::Appended;
use slipway_ports::{Append, Intent, StoreError};
use std::path::Path;
use std::sync::mpsc;
use tokio::sync::{oneshot, watch};

/// Transactions that share one fsync; bounds how long the first of them waits.
const GROUP: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub enum Work {
    /// Append facts, intents and rows.
    Append(Box<Append>, Reply<Appended>),
    /// Store a cursor.
    Cursor(String, u64, Reply<()>),
    /// Count on.
    Next(ProjectName, String, Reply<u64>),
}

enum Done {
    Append(Reply<Appended>, Result<Appended, StoreError>),
    Cursor(Reply<()>, Result<(), StoreError>),
    Next(Reply<u64>, Result<u64, StoreError>),
}

impl Done {
    fn answer(self, failed: Option<&StoreError>) {
        match (self, failed) {
            (Done::Append(reply, result), None) => drop(reply.send(result)),
            (Done::Cursor(reply, result), None) => drop(reply.send(result)),
            (Done::Next(reply, result), None) => drop(reply.send(result)),
            (Done::Append(reply, _), Some(error)) => drop(reply.send(Err(error.clone()))),
            (Done::Cursor(reply, _), Some(error)) => drop(reply.send(Err(error.clone()))),
            (Done::Next(reply, _), Some(error)) => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// Works until every sender is gone.
pub fn run(
    mut connection: Connection,
    work: &mpsc::Receiver<Work>,
    newest: &watch::Sender<u64>,
    now: &Now,
    path: &Path,
) {
    while let Ok(first) = work.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = work.try_recv()
        {
            group.push(next);
        }
        let mut done = Vec::with_capacity(group.len());
        let mut last = None;
        let committed = commit(&mut connection, group, &mut done, &mut last, now, path);
        if committed.is_ok()
            && let Some(n) = last
        {
            newest.send_replace(n);
        }
        for item in done {
            item.answer(committed.as_ref().err());
        }
    }
}

fn commit(
    connection: &mut Connection,
    group: Vec<Work>,
    done: &mut Vec<Done>,
    last: &mut Option<u64>,
    now: &Now,
    path: &Path,
) -> Result<(), StoreError> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let mut transaction = match begun {
        Ok(transaction) => transaction,
        Err(error) => {
            let error = explain(&error, path);
            done.extend(group.into_iter().map(|work| fail(work, &error)));
            return Err(error);
        }
    };
    for work in group {
        done.push(perform(&mut transaction, work, last, now, path));
    }
    transaction.commit().map_err(|error| explain(&error, path))
}

fn fail(work: Work, error: &StoreError) -> Done {
    match work {
        Work::Append(_, reply) => Done::Append(reply, Err(error.clone())),
        Work::Cursor(_, _, reply) => Done::Cursor(reply, Err(error.clone())),
        Work::Next(_, _, reply) => Done::Next(reply, Err(error.clone())),
    }
}

fn perform(transaction: &mut Transaction<'_>, work: Work, last: &mut Option<u64>, now: &Now, path: &Path) -> Done {
    match work {
        Work::Append(append, reply) => {
            let result = in_savepoint(transaction, path, |connection| append_one(connection, &append, now, path));
            if let Ok(appended) = &result
                && let Some(fact) = appended.facts.last()
            {
                *last = Some(fact.n);
            }
            Done::Append(reply, result)
        }
        Work::Cursor(name, n, reply) => {
            let sql = "INSERT INTO cursors (name, n) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET n = ?2";
            let result = transaction.prepare_cached(sql).and_then(|mut s| s.execute(params![name, n]));
            Done::Cursor(reply, result.map(drop).map_err(|error| explain(&error, path)))
        }
        Work::Next(project, counter, reply) => {
            let sql = "INSERT INTO counters (project, name, n) VALUES (?1, ?2, 1)
                       ON CONFLICT (project, name) DO UPDATE SET n = n + 1 RETURNING n";
            let result = transaction
                .prepare_cached(sql)
                .and_then(|mut s| s.query_row(params![project.as_str(), counter], |row| row.get(0)));
            Done::Next(reply, result.map_err(|error| explain(&error, path)))
        }
    }
}

// A conflict of one caller must not undo the others of its group.
fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    path: &Path,
    body: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let savepoint = transaction.savepoint().map_err(|error| explain(&error, path))?;
    let result = body(&savepoint)?;
    savepoint.commit().map_err(|error| explain(&error, path))?;
    Ok(result)
}

fn append_one(connection: &Connection, append: &Append, now: &Now, path: &Path) -> Result<Appended, StoreError> {
    let explained = |error: rusqlite::Error| explain(&error, path);
    let found: u64 = connection
        .prepare_cached("SELECT coalesce(max(version), 0) FROM facts WHERE project = ?1 AND stream = ?2")
        .and_then(|mut s| s.query_row(params![append.project.as_str(), append.stream], |row| row.get(0)))
        .map_err(explained)?;
    if let Some(expected) = append.expected
        && expected != found
    {
        return Err(StoreError::Conflict { stream: append.stream.clone(), expected, found });
    }
    let facts = insert_facts(connection, append, found, now).map_err(explained)?;
    let intents = insert_intents(connection, append).map_err(explained)?;
    set_rows(connection, append).map_err(explained)?;
    for id in &append.done {
        connection
            .prepare_cached("UPDATE intents SET done = 1 WHERE id = ?1")
            .and_then(|mut s| s.execute([id]))
            .map_err(explained)?;
    }
    Ok(Appended { facts, intents })
}

fn insert_facts(connection: &Connection, append: &Append, found: u64, now: &Now) -> rusqlite::Result<Vec<Fact>> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO facts (n, v, at, project, stream, version, change, actor, body)
         VALUES ((SELECT coalesce(max(n), 0) + 1 FROM facts), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING n",
    )?;
    let at = now();
    let mut facts = Vec::with_capacity(append.facts.len());
    for (index, new) in append.facts.iter().enumerate() {
        let version = found + index as u64 + 1;
        let body =
            serde_json::to_string(&new.body).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let change = new.change.as_ref().map(slipway_model::ChangeId::as_str);
        let n = statement.query_row(
            params![FACT_VERSION, at.0, append.project.as_str(), append.stream, version, change, new.actor.0, body],
            |row| row.get(0),
        )?;
        facts.push(Fact {
            n,
            v: FACT_VERSION,
            at,
            project: append.project.clone(),
            stream: append.stream.clone(),
            version,
            change: new.change.clone(),
            actor: new.actor.clone(),
            body: new.body.clone(),
        });
    }
    Ok(facts)
}

fn insert_intents(connection: &Connection, append: &Append) -> rusqlite::Result<Vec<Intent>> {
    // The same name in the same stream is the same decision: it is not recorded twice.
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO intents (project, stream, stage, name, body) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
    )?;
    let mut intents = Vec::with_capacity(append.intents.len());
    for new in &append.intents {
        let body = new.body.to_string();
        let id: Option<u64> = statement
            .query_row(params![append.project.as_str(), append.stream, new.stage, new.name, body], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            intents.push(Intent {
                id,
                project: append.project.clone(),
                stream: append.stream.clone(),
                stage: new.stage.clone(),
                name: new.name.clone(),
                body: new.body.clone(),
            });
        }
    }
    Ok(intents)
}

fn set_rows(connection: &Connection, append: &Append) -> rusqlite::Result<()> {
    for row in &append.index {
        match &row.value {
            Some(value) => connection
                .prepare_cached(
                    "INSERT INTO rows (project, name, key, value) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (project, name, key) DO UPDATE SET value = ?4",
                )?
                .execute(params![append.project.as_str(), row.index, row.key, value.to_string()])?,
            None => connection
                .prepare_cached("DELETE FROM rows WHERE project = ?1 AND name = ?2 AND key = ?3")?
                .execute(params![append.project.as_str(), row.index, row.key])?,
        };
    }
    Ok(())
}
