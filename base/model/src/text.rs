//! Texts of outsiders made fit for a terminal: commit subjects, file names, log lines.
//!
//! In: any text. Out: the same without what a terminal would obey. Never: changes what a person reads.

/// Without control characters (tab stays), and without marks that turn the direction of writing around
/// (Unicode Bidirectional Algorithm, UAX #9: embeddings, overrides, isolates).
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// A line of an outsider that is kept and shown again and again: printable, and not longer than `most` characters.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let mut kept: String = printable(&text.chars().take(most).collect::<String>());
    if text.chars().nth(most).is_some() {
        kept.push('…');
    }
    kept
}

/// The same for a log line: colours (SGR, ECMA-48 §8.3.117) stay, they are what a job meant to show.
#[must_use]
pub fn printable_log(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(at);
        out.push_str(&printable(before));
        let length = sgr(from).unwrap_or(0);
        if length == 0 {
            out.push('\u{fffd}');
        }
        out.push_str(from.get(..length).unwrap_or_default());
        rest = from.get(length.max(1)..).unwrap_or_default();
    }
    out.push_str(&printable(rest));
    out
}

/// The length of a colour sequence at the beginning of the text.
fn sgr(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\u{1b}[")?;
    let end = inner.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    inner.get(end..)?.starts_with('m').then_some(2 + end + 1)
}

fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c == '\t' || !(c.is_control() || turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_a_mark() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\td\u{202e}e"), "a\u{fffd}[2Jb\u{fffd}c\td\u{fffd}e");
    }

    #[test]
    fn a_long_line_is_cut_where_it_can_be_seen() {
        assert_eq!(shortened("äöü\u{1b}x", 3), "äöü…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }

    #[test]
    fn a_log_keeps_its_colours_and_nothing_else() {
        assert_eq!(printable_log("\u{1b}[31mred\u{1b}[0m"), "\u{1b}[31mred\u{1b}[0m");
        assert_eq!(printable_log("\u{1b}[2J\u{1b}]0;x\u{7}"), "\u{fffd}[2J\u{fffd}]0;x\u{fffd}");
    }
}
