//! A copy of the journal beside its writer.
//!
//! In: the path of a journal that may be in use. Out: a journal of its own, whole, as it was at one moment. Never: a
//! write to the journal that is copied.

use crate::schema::{explain, newest, open_reader};
use rusqlite::{Connection, OpenFlags};
use slipway_ports::StoreError;
use std::path::Path;

/// Copies the journal at `path` into the new file `into`; the number of the newest fact in the copy.
///
/// # Errors
/// When the journal cannot be read, or the copy cannot be written; what was begun of it stays then.
pub fn snapshot(path: &Path, into: &Path) -> Result<u64, StoreError> {
    let text = into.to_str().ok_or_else(|| StoreError::Broken(format!("`{}` is no UTF-8", into.display())))?;
    let journal = open_reader(path)?;
    journal.execute("VACUUM INTO ?1", [text]).map_err(|error| explain(&error, into))?;
    newest(&open_reader(into)?)
}

/// Whether a journal that nobody uses is whole; the number of its newest fact.
///
/// # Errors
/// What is damaged.
pub fn check(path: &Path) -> Result<u64, StoreError> {
    // As a writer: a journal that was written by VACUUM is not in write-ahead mode, and needs no files beside it.
    let journal =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| explain(&e, path))?;
    let said: String =
        journal.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| explain(&error, path))?;
    if said != "ok" {
        return Err(StoreError::Broken(format!("`{}` is damaged: {said}", path.display())));
    }
    newest(&journal)
}
