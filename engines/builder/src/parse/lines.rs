//! Physical lines become logical ones.
//!
//! In: the text. Out: one [`Line`] per instruction, with the place of each of its characters, and the heredocs of a RUN.
//! Never: a heredoc's body taken for instructions; those of other instructions are reported and skipped.

use super::words::split_quoted;
use crate::error::{Position, Problem};

/// The lines of a Dockerfile and the escape character in force.
pub(super) struct Lines {
    pub(super) escape: char,
    pub(super) lines: Vec<Line>,
}

/// An instruction with its continued lines joined.
pub(super) struct Line {
    pub(super) text: String,
    /// For each piece of a physical line: where it begins in `text`, and in the file.
    marks: Vec<(usize, Position)>,
    /// What stands behind a RUN for its command to read.
    pub(super) documents: Vec<Document>,
}

/// A heredoc.
pub(super) struct Document {
    /// `<<EOF`, as it stands in the line.
    pub(super) word: String,
    /// The word without `<<` and quotes.
    pub(super) terminator: String,
    /// Its lines, each with its end; without leading tabs where `<<-` says so.
    pub(super) body: String,
}

impl Line {
    /// Where the byte at `offset` of the text stands in the file.
    pub(super) fn at(&self, offset: usize) -> Position {
        let after = self.marks.partition_point(|(start, _)| *start <= offset);
        let (start, position) = self.marks[after.saturating_sub(1)];
        let end = offset.min(self.text.len());
        let columns = self.text[start..end].chars().count();
        Position { line: position.line, column: position.column + columns as u32 }
    }
}

pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Lines {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let escape = read_directives(&physical, problems);
    let mut lines = Vec::new();
    let mut next = 0;
    while next < physical.len() {
        if is_blank_or_comment(physical[next]) {
            next += 1;
            continue;
        }
        let mut line = join(&physical, &mut next, escape);
        line.documents = read_heredocs(&line, &physical, &mut next, escape, problems);
        lines.push(line);
    }
    Lines { escape, lines }
}

/// `# key=value` lines, before anything else (Dockerfile reference, "Parser directives").
fn read_directives(physical: &[&str], problems: &mut Vec<Problem>) -> char {
    let mut escape = '\\';
    for (index, line) in physical.iter().enumerate() {
        let Some((key, value)) = directive(line) else {
            break;
        };
        let column = line.find(value).map_or(0, |offset| line[..offset].chars().count());
        let at = position(index, column);
        match (key.as_str(), value) {
            ("escape", "\\") => escape = '\\',
            ("escape", "`") => escape = '`',
            ("escape", other) => problems.push(
                Problem::new(at, format!("`{other}` cannot be the escape character")).hint("it is `\\` or a backtick"),
            ),
            ("syntax", frontend) if !is_known_frontend(frontend) => problems.push(
                Problem::new(at, format!("syntax `{frontend}` is not yet supported"))
                    .hint("remove the line, or name `docker/dockerfile:1`"),
            ),
            _ => {} // the syntax that we speak, and `check`, which is for BuildKit's linter
        }
    }
    escape
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let key = key.trim().to_lowercase();
    matches!(key.as_str(), "escape" | "syntax" | "check").then(|| (key, value.trim()))
}

fn is_known_frontend(name: &str) -> bool {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name == "docker/dockerfile" || name.starts_with("docker/dockerfile:")
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn join(physical: &[&str], next: &mut usize, escape: char) -> Line {
    let mut line = Line { text: String::new(), marks: Vec::new(), documents: Vec::new() };
    while let Some(whole) = physical.get(*next) {
        let is_first = line.marks.is_empty();
        let index = *next;
        *next += 1;
        if !is_first && is_blank_or_comment(whole) {
            continue;
        }
        let piece = if is_first { whole.trim_start() } else { whole };
        let column = whole.chars().count() - piece.chars().count();
        line.marks.push((line.text.len(), position(index, column)));
        match without_continuation(piece, escape) {
            Some(piece) => line.text.push_str(piece),
            None => {
                line.text.push_str(piece);
                break;
            }
        }
    }
    line.text.truncate(line.text.trim_end().len());
    line
}

/// The line without its escape character at the end, if it has one that is not escaped itself.
fn without_continuation(line: &str, escape: char) -> Option<&str> {
    let piece = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!piece.ends_with(escape)).then_some(piece)
}

fn read_heredocs(
    line: &Line,
    physical: &[&str],
    next: &mut usize,
    escape: char,
    problems: &mut Vec<Problem>,
) -> Vec<Document> {
    let mut documents = Vec::new();
    let name = line.text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !["RUN", "COPY", "ADD"].contains(&name.as_str()) {
        return documents;
    }
    // What is quoted is no heredoc: `RUN echo "<<EOF"`.
    for word in split_quoted(&line.text, 0, escape) {
        let Some((terminator, strips_tabs)) = heredoc(word.text) else {
            continue;
        };
        let at = line.at(word.offset);
        let shown = |line: &str| -> String {
            let line = if strips_tabs { line.trim_start_matches('\t') } else { line };
            line.to_owned()
        };
        let rest = &physical[*next..];
        let length = rest.iter().position(|line| shown(line) == terminator);
        *next += length.map_or(rest.len(), |length| length + 1);
        if name != "RUN" {
            problems.push(
                Problem::new(at, format!("heredocs of {name} are not yet supported"))
                    .hint("write the text into a file of the repository and COPY it"),
            );
            continue;
        }
        let Some(length) = length else {
            let message = format!("no line with `{terminator}` alone ends this heredoc");
            problems.push(Problem::new(at, message).hint("write it below the last line of the text"));
            continue;
        };
        let body = rest[..length].iter().map(|line| shown(line) + "\n").collect();
        documents.push(Document { word: word.text.to_owned(), terminator: terminator.to_owned(), body });
    }
    documents
}

/// The terminator of `<<EOF`, `3<<-'EOF'`, and whether tabs are stripped.
fn heredoc(word: &str) -> Option<(&str, bool)> {
    let rest = word.trim_start_matches(|character: char| character.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let terminator = rest.trim_matches(['"', '\'']);
    let is_name = !terminator.is_empty() && !terminator.contains('<');
    is_name.then_some((terminator, strips_tabs))
}

fn position(index: usize, column: usize) -> Position {
    Position { line: index as u32 + 1, column: column as u32 + 1 }
}
