//! Opening the database: format, settings, versions.
//!
//! In: a path. Out: connections. Never: opens a format newer than it knows.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use slipway_ports::StoreError;
use std::path::Path;
use std::time::Duration;

/// The format of this release. A newer database is refused; an older one is brought up to date on opening.
const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE facts (
    n INTEGER PRIMARY KEY,
    v INTEGER NOT NULL,
    at INTEGER NOT NULL,
    project TEXT NOT NULL,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    change TEXT,
    actor TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (project, stream, version)
) STRICT;
CREATE INDEX facts_of_change ON facts (project, change) WHERE change IS NOT NULL;
CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    stream TEXT NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (project, stream, name)
) STRICT;
CREATE INDEX intents_open ON intents (id) WHERE done = 0;
CREATE TABLE rows (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (project, name, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE counters (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
";

/// Opens for writing; makes the tables when the file is new.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    let explained = |error: rusqlite::Error| explain(&error, path);
    let connection = Connection::open(path).map_err(explained)?;
    // FULL: a transaction that was answered survives the loss of power.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2000;",
        )
        .map_err(explained)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(explained)?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(explained)?;
    if format > FORMAT {
        return Err(StoreError::Broken(format!(
            "`{}` has format {format}, this release knows up to {FORMAT}: use the release that wrote it or a newer one",
            path.display()
        )));
    }
    if format == 0 {
        let script = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;");
        connection.execute_batch(&script).map_err(explained)?;
    }
    Ok(connection)
}

/// Opens for reading beside the writer.
pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let explained = |error: rusqlite::Error| explain(&error, path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(explained)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(explained)?;
    connection.execute_batch("PRAGMA cache_size = -1000;").map_err(explained)?;
    Ok(connection)
}

/// The newest fact's number.
pub fn newest(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .query_row("SELECT coalesce(max(n), 0) FROM facts", [], |row| row.get(0))
        .map_err(|error| StoreError::Broken(error.to_string()))
}

/// The store's error for what SQLite says.
pub fn explain(error: &rusqlite::Error, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path: path.display().to_string() },
        _ => StoreError::Broken(format!("`{}`: {error}", path.display())),
    }
}
