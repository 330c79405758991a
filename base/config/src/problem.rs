//! In: where something in the file is wrong, and why. Out: `Problem`s in the
//! message form of the product. Never prints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most problems that one reading reports; the rest are counted.
pub const PROBLEMS_MAX: usize = 100;

/// The longest source line that is shown, in characters.
const SHOWN_LINE_MAX: usize = 200;

/// A place in the file. Lines and columns count from 1, columns and the
/// length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters of the line belong to it.
    pub length: u32,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; a person should look at this.
    Warning,
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters are marked.
    pub length: u32,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The line itself, cut at 200 characters, control characters replaced.
    pub source_line: String,
    /// What the reader can do.
    pub hint: Option<String>,
    /// Whether the file can be used nevertheless.
    pub severity: Severity,
}

impl Problem {
    /// The problem as a person reads it in a terminal; ends with a line break.
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &str, text: &str| {
            if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let (word, tone) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let number = self.line.to_string();
        let gap = " ".repeat(number.len());
        let bar = paint("34", "|");
        let mut text = format!("{}: {}\n", paint(tone, word), self.message);
        // What is said of a repository that has no file has no place.
        if !self.file.is_empty() {
            text.push_str(&format!("{gap} {} {}:{}:{}\n", paint("34", "-->"), self.file, self.line, self.column));
            text.push_str(&format!("{} {bar} {}\n", paint("34", &number), self.source_line));
            if let Some(marks) = self.marks() {
                text.push_str(&format!("{gap} {bar} {}\n", paint(tone, &marks)));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{}: {hint}\n", paint("1;36", "hint")));
        }
        text
    }

    /// The carets below the line, or nothing when the place was cut off.
    fn marks(&self) -> Option<String> {
        let before = (self.column as usize).saturating_sub(1);
        let shown = self.source_line.chars().count();
        if before > shown {
            return None;
        }
        let mut marks = String::new();
        for c in self.source_line.chars().take(before) {
            match c {
                '\t' => marks.push('\t'),
                c if is_wide(c) => marks.push_str("  "),
                _ => marks.push(' '),
            }
        }
        let rest = self.source_line.chars().skip(before);
        let wanted = (self.length as usize).max(1);
        let mut width: usize = rest.take(wanted).map(|c| if is_wide(c) { 2 } else { 1 }).sum();
        width = width.max(1);
        marks.push_str(&"^".repeat(width));
        Some(marks)
    }
}

/// All problems of one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Problems {
    /// The problems, by line and column.
    pub list: Vec<Problem>,
    /// How many more there were beyond the limit of 100.
    pub left_out: usize,
}

impl Problems {
    /// All problems as a person reads them, with an empty line between two.
    pub fn render(&self, color: bool) -> String {
        let mut parts: Vec<String> = self.list.iter().map(|p| p.render(color)).collect();
        if self.left_out > 0 {
            parts.push(format!("and {} more\n", self.left_out));
        }
        parts.join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The text of a file, by lines.
pub(crate) struct Source<'t> {
    file: &'t str,
    lines: Vec<&'t str>,
}

impl<'t> Source<'t> {
    /// Splits as YAML does: at `\n`, `\r\n` and a lone `\r`.
    pub(crate) fn new(file: &'t str, text: &'t str) -> Source<'t> {
        let mut lines = Vec::new();
        let mut rest = text;
        while let Some(end) = rest.find(['\n', '\r']) {
            lines.push(&rest[..end]);
            let after = &rest[end..];
            rest = after.strip_prefix("\r\n").unwrap_or(&after[1..]);
        }
        lines.push(rest);
        Source { file, lines }
    }

    /// The line with this number (from 1), empty beyond the end.
    pub(crate) fn line(&self, number: u32) -> &'t str {
        let index = (number as usize).saturating_sub(1);
        self.lines.get(index).copied().unwrap_or("")
    }

    /// How many lines there are.
    pub(crate) fn line_count(&self) -> u32 {
        as_u32(self.lines.len())
    }

    /// A problem at this place.
    pub(crate) fn problem(&self, at: Position, severity: Severity, message: &str, hint: Option<String>) -> Problem {
        let line = self.line(at.line);
        let mut shown: String = line.chars().take(SHOWN_LINE_MAX).map(printable).collect();
        if line.chars().nth(SHOWN_LINE_MAX).is_some() {
            shown.push('…');
        }
        Problem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            length: at.length,
            message: message.chars().map(printable).collect(),
            source_line: shown,
            hint: hint.map(|hint| hint.chars().map(printable).collect()),
            severity,
        }
    }
}

/// Collects problems up to the limit.
pub(crate) struct Sink<'s> {
    source: &'s Source<'s>,
    list: Vec<Problem>,
    left_out: usize,
}

impl<'s> Sink<'s> {
    pub(crate) fn new(source: &'s Source<'s>) -> Sink<'s> {
        Sink { source, list: Vec::new(), left_out: 0 }
    }

    pub(crate) fn source(&self) -> &'s Source<'s> {
        self.source
    }

    /// Whether further problems would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= PROBLEMS_MAX
    }

    pub(crate) fn error(&mut self, at: Position, message: &str, hint: Option<String>) {
        self.push(at, Severity::Error, message, hint);
    }

    pub(crate) fn warning(&mut self, at: Position, message: &str, hint: Option<String>) {
        self.push(at, Severity::Warning, message, hint);
    }

    fn push(&mut self, at: Position, severity: Severity, message: &str, hint: Option<String>) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        let problem = self.source.problem(at, severity, message, hint);
        self.list.push(problem);
    }

    /// Everything collected, by position. What an alias repeats stands once.
    pub(crate) fn finish(self) -> Problems {
        let mut list = self.list;
        list.sort_by_key(|problem| (problem.line, problem.column));
        list.dedup_by(|a, b| a.line == b.line && a.column == b.column && a.message == b.message);
        Problems { list, left_out: self.left_out }
    }
}

/// A name inside a message: in backticks, cut at 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Names inside a message, each in backticks.
pub(crate) fn quoted_list(names: &[&str]) -> String {
    let all: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    all.join(", ")
}

/// A count as the type positions use; files are limited far below its end.
pub(crate) fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Keeps a file from steering the terminal that shows its errors.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// Whether terminals draw this character two columns wide (the large blocks of
/// East Asian Wide in Unicode's UAX #11, and emoji).
fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD)
}
