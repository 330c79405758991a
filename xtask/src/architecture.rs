//! What ARCHITECTURE.md says that is checked: the edges between engines, and the code map.
//!
//! In: its text. Out: the marked tables as data. Never: the rules themselves, those are in `layers` and `tidy`.

use crate::markdown;
use anyhow::{Context, Result};

/// The document.
pub const FILE: &str = "ARCHITECTURE.md";

/// An allowed dependency of one engine on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Folder name of the engine that uses.
    pub from: String,
    /// Folder name of the engine that is used.
    pub to: String,
    /// Where it stands.
    pub line: usize,
}

/// The table between the marks `layers`: an engine, and those it may use.
pub fn edges(text: &str) -> Result<Vec<Edge>> {
    let part = marked(text, "layers")?;
    let mut found = Vec::new();
    for (line, cells) in rows(&part) {
        let names = |column: usize| cells.get(column).map(|cell| markdown::quoted(cell)).unwrap_or_default();
        for from in names(0) {
            found.extend(names(1).into_iter().map(|to| Edge { from: from.to_owned(), to: to.to_owned(), line }));
        }
    }
    Ok(found)
}

/// The folders in the first column of the tables between the marks `code-map`, with their lines.
pub fn code_map(text: &str) -> Result<Vec<(usize, String)>> {
    let part = marked(text, "code-map")?;
    let first = |cells: &[String]| {
        let cell = cells.first().map(String::as_str).unwrap_or_default();
        markdown::quoted(cell).first().map(|folder| (*folder).to_owned())
    };
    Ok(rows(&part).filter_map(|(line, cells)| Some((line, first(&cells)?))).collect())
}

fn marked(text: &str, name: &str) -> Result<String> {
    markdown::between(text, name).with_context(|| {
        format!("{FILE} has no part between `<!-- {name}:begin -->` and `<!-- {name}:end -->`; put the marks back")
    })
}

fn rows(part: &str) -> impl Iterator<Item = (usize, Vec<String>)> {
    markdown::tables(part).into_iter().flat_map(|table| table.rows)
}
