//! The reader: facts, intents, rows.
//!
//! In: a connection and a question. Out: records; a record of an unknown shape is an error that names it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use slipway_model::{Actor, At, ChangeId, Fact, ProjectName};
use slipway_ports::{Intent, StoreError};

/// A fact as stored, before its body is read.
pub struct Stored {
    n: u64,
    v: u16,
    at: u64,
    project: String,
    stream: String,
    version: u64,
    change: Option<String>,
    actor: String,
    body: String,
}

const COLUMNS: &str = "n, v, at, project, stream, version, change, actor, body";

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        n: row.get(0)?,
        v: row.get(1)?,
        at: row.get(2)?,
        project: row.get(3)?,
        stream: row.get(4)?,
        version: row.get(5)?,
        change: row.get(6)?,
        actor: row.get(7)?,
        body: row.get(8)?,
    })
}

/// A stream's facts after a version.
pub fn stream(
    connection: &Connection,
    project: &ProjectName,
    stream: &str,
    after: u64,
) -> rusqlite::Result<Vec<Stored>> {
    let sql =
        format!("SELECT {COLUMNS} FROM facts WHERE project = ?1 AND stream = ?2 AND version > ?3 ORDER BY version");
    connection.prepare_cached(&sql)?.query_map(params![project.as_str(), stream, after], stored)?.collect()
}

/// All facts of one change.
pub fn of_change(connection: &Connection, project: &ProjectName, change: &ChangeId) -> rusqlite::Result<Vec<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM facts WHERE project = ?1 AND change = ?2 ORDER BY n");
    connection.prepare_cached(&sql)?.query_map(params![project.as_str(), change.as_str()], stored)?.collect()
}

/// Facts of all projects above a number.
pub fn since(connection: &Connection, n: u64, limit: usize) -> rusqlite::Result<Vec<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM facts WHERE n > ?1 ORDER BY n LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map(params![n, limit], stored)?.collect()
}

/// Reads the bodies. Shapes of older versions would be upcast here; there is one version so far.
pub fn facts(rows: Vec<Stored>) -> Result<Vec<Fact>, StoreError> {
    rows.into_iter().map(|row| fact(&row)).collect()
}

fn fact(row: &Stored) -> Result<Fact, StoreError> {
    let shape = |cause: String| StoreError::Shape { n: row.n, v: row.v, cause };
    Ok(Fact {
        n: row.n,
        v: row.v,
        at: At(row.at),
        project: ProjectName::parse(&row.project).map_err(|error| shape(error.to_string()))?,
        stream: row.stream.clone(),
        version: row.version,
        change: match &row.change {
            Some(id) => Some(ChangeId::parse(id).map_err(|error| shape(error.to_string()))?),
            None => None,
        },
        actor: Actor(row.actor.clone()),
        body: serde_json::from_str(&row.body).map_err(|error| shape(error.to_string()))?,
    })
}

/// Intents that were not acknowledged.
pub fn open_intents(connection: &Connection) -> rusqlite::Result<Vec<Intent>> {
    let mut statement = connection
        .prepare_cached("SELECT id, project, stream, stage, name, body FROM intents WHERE done = 0 ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let project: String = row.get(1)?;
        let body: String = row.get(5)?;
        let id = row.get(0)?;
        let (stream, stage, name) = (row.get(2)?, row.get(3)?, row.get(4)?);
        Ok(ProjectName::parse(&project).ok().map(|project| Intent {
            id,
            project,
            stream,
            stage,
            name,
            body: serde_json::from_str(&body).unwrap_or_default(),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// One index row.
pub fn row(
    connection: &Connection,
    project: &ProjectName,
    index: &str,
    key: &str,
) -> rusqlite::Result<Option<serde_json::Value>> {
    let sql = "SELECT value FROM rows WHERE project = ?1 AND name = ?2 AND key = ?3";
    let text: Option<String> = connection
        .prepare_cached(sql)?
        .query_row(params![project.as_str(), index, key], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Index rows whose key begins with `prefix`.
pub fn rows(
    connection: &Connection,
    project: &ProjectName,
    index: &str,
    prefix: &str,
) -> rusqlite::Result<Vec<(String, serde_json::Value)>> {
    let sql =
        "SELECT key, value FROM rows WHERE project = ?1 AND name = ?2 AND substr(key, 1, length(?3)) = ?3 ORDER BY key";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![project.as_str(), index, prefix], |row| {
        let value: String = row.get(1)?;
        Ok((row.get(0)?, serde_json::from_str(&value).unwrap_or_default()))
    })?;
    rows.collect()
}

/// A stored cursor.
pub fn cursor(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT n FROM cursors WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
}
