//! `slipway.yaml`: the language.
//!
//! In: the name and text of a file, and facts that the caller has found out
//! (branches, folders). Out: a [`Config`] in which every value knows its place,
//! or all [`Problem`]s of the file at once; [`effective`] policies with the
//! origin of each value; the lines of [`explain()`]; the warnings of [`lint()`].
//! Never reads a file, never asks a network, never prints, never skips a key
//! that it does not know.

pub mod effective;
mod explain;
mod lint;
pub mod model;
mod nearest;
pub mod pattern;
mod problem;
mod read;
mod syntax;
mod units;
mod yaml;

#[cfg(test)]
mod tests;

pub use effective::{DetectedService, Effective, Facts, Origin};
pub use explain::{ExplainLine, explain};
pub use lint::lint;
pub use model::Config;
pub use problem::{PROBLEMS_MAX, Position, Problem, Problems, Severity};
pub use read::jobs::RECOGNISED as RECOGNISED_JOBS;

use problem::{Sink, Source};
use read::Reader;

/// The largest file that is read, in bytes: a thousand services fit ten times.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads one file.
///
/// # Errors
/// All problems of the file, by position; at most [`PROBLEMS_MAX`] of them.
/// A file that is no YAML has the first fault of its syntax alone.
pub fn parse(file_name: &str, text: &str) -> Result<Config, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > FILE_BYTES_MAX {
        return Err(too_large(file_name));
    }
    let source = Source::new(file_name, text);
    let mut sink = Sink::new(&source);
    if let Some(at) = control_character(&source) {
        let hint = Some("remove it; in double quotes write it as `\\xNN`".to_owned());
        sink.error(at, "a control character in the file", hint);
        return Err(sink.finish());
    }
    let Some(root) = yaml::read(&mut sink, text) else {
        return Err(sink.finish());
    };
    let mut reader = Reader::new(sink);
    let config = read::top::read(&mut reader, &root, file_name);
    let problems = reader.into_sink().finish();
    if problems.list.is_empty() { Ok(config) } else { Err(problems) }
}

/// The id of the job that a `needs` within this scope (a service, or nothing
/// for the project) means, if the file has it: one of the same service first,
/// then one of the project. `None` for a recognised job that is not written.
pub fn job_id(config: &Config, scope: Option<&str>, name: &str) -> Option<String> {
    read::check::job_id(config, scope, name)
}

fn too_large(file_name: &str) -> Problems {
    let source = Source::new(file_name, "");
    let mut sink = Sink::new(&source);
    let message = format!("the file is larger than {} KiB", FILE_BYTES_MAX / 1024);
    let start = Position { line: 1, column: 1, length: 1 };
    sink.error(start, &message, None);
    sink.finish()
}

/// The first control character that no text file has. The parser would take
/// some of them for the end of the file.
fn control_character(source: &Source<'_>) -> Option<Position> {
    (1..=source.line_count()).find_map(|line| {
        let bad = |c: char| c.is_control() && c != '\t';
        let column = source.line(line).chars().position(bad)?;
        Some(Position { line, column: problem::as_u32(column + 1), length: 1 })
    })
}
