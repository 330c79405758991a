//! Physical lines become logical ones.
//!
//! In: the text. Out: one [`Line`] per instruction, with the place of each of its characters.
//! Never: a heredoc's body taken for instructions; heredocs are reported and skipped.

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
        let line = join(&physical, &mut next, escape);
        skip_heredocs(&line, &physical, &mut next, problems);
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
    let mut line = Line { text: String::new(), marks: Vec::new() };
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

fn skip_heredocs(line: &Line, physical: &[&str], next: &mut usize, problems: &mut Vec<Problem>) {
    let name = line.text.split_whitespace().next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return;
    }
    for word in line.text.split_whitespace() {
        let Some((terminator, strips_tabs)) = heredoc(word) else {
            continue;
        };
        let offset = word.as_ptr() as usize - line.text.as_ptr() as usize;
        problems.push(
            Problem::new(line.at(offset), "heredocs are not yet supported")
                .hint("write the text into a file of the repository and COPY it"),
        );
        let body = &physical[*next..];
        let length = body.iter().position(|line| {
            let line = if strips_tabs { line.trim_start_matches('\t') } else { line };
            line == terminator
        });
        *next += length.map_or(body.len(), |length| length + 1);
    }
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
