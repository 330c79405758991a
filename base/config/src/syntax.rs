//! In: what the YAML parser stumbled over. Out: the same in words that say
//! what to do. Never hides a fault that it has no better words for.

use crate::problem::{Position, Sink};

/// How many lines with tabs are reported after the first one.
const TABS_MAX: usize = 20;

/// Words of the parser, ours, and what to do. The first that is contained wins.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "mapping values are not allowed",
        "a `:` is not expected here",
        "put a value that contains `: ` into quotes, or check the indentation of this line",
    ),
    ("illegal placement of ':'", "a `:` is not expected here", "put a value that contains `: ` into quotes"),
    (
        "simple key expect",
        "this line is neither `key: value` nor part of the line above",
        "add a `:` after the key, or check the indentation",
    ),
    ("expected ',' or '}'", "a `,` or `}` is missing before this", "close the `{` that is open here"),
    ("expected ',' or ']'", "a `,` or `]` is missing before this", "close the `[` that is open here"),
    ("misplaced bracket", "this bracket closes nothing", "remove it, or open it before"),
    ("unexpected end of stream", "the text in quotes does not end", "close the quotes"),
    ("unknown anchor", "this alias has no anchor before it", "write `&name` before the value that it shall repeat"),
    ("unexpected character", "a value cannot begin with this character", "put the value into quotes"),
    (
        "unknown escape character",
        "this escape is unknown in double quotes",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    (
        "did not find expected key",
        "a `key: value` of the table is expected here",
        "check the indentation of this line against the line above",
    ),
    (
        "expected '-' indicator",
        "an item `- …` of the list is expected here",
        "check the indentation of this line against the line above",
    ),
    ("indentation", "the indentation of this line fits nothing above it", "indent it like the line that it belongs to"),
    ("recursion limit exceeded", "brackets are nested too deep", "write it with fewer levels"),
];

/// Reports a fault of the parser, as a tab when there is one in front.
pub(crate) fn report(sink: &mut Sink<'_>, at: &Position, info: &str) {
    // The parser notices some tabs only where the next line begins.
    let above = at.line.saturating_sub(1).max(1);
    if report_tabs_from(sink, at.line) || report_tabs_from(sink, above) {
        return;
    }
    for (theirs, ours, hint) in KNOWN {
        if info.contains(theirs) {
            sink.error(*at, ours, Some((*hint).to_owned()));
            return;
        }
    }
    let message = format!("this is not valid YAML: {info}");
    sink.error(*at, &message, None);
}

/// Reports a tab in the indentation of this line; says whether there is one.
pub(crate) fn report_tab(sink: &mut Sink<'_>, line: u32) -> bool {
    let Some(column) = tab_column(sink.source().line(line)) else {
        return false;
    };
    let at = Position { line, column, length: 1 };
    sink.error(at, "a tab in the indentation", Some("indent with spaces".to_owned()));
    true
}

/// A file that is indented with tabs has them in many lines: all at once.
fn report_tabs_from(sink: &mut Sink<'_>, line: u32) -> bool {
    if !report_tab(sink, line) {
        return false;
    }
    let mut reported = 0;
    for number in line + 1..=sink.source().line_count() {
        if reported == TABS_MAX {
            break;
        }
        if sink.source().line(number).starts_with('\t') && report_tab(sink, number) {
            reported += 1;
        }
    }
    true
}

/// The column of the first tab before the text of a line that has text.
fn tab_column(line: &str) -> Option<u32> {
    let text = line.trim_start_matches([' ', '\t']);
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let indentation = &line[..line.len() - text.len()];
    indentation.find('\t').map(|index| crate::problem::as_u32(index + 1))
}
