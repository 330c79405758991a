//! The first lines of a log that look like the error, for people who will not scroll.
//!
//! In: the log of the step that failed, line by line. Out: at most [`LINES_MAX`] lines: whole blocks where the form is known
//! (panics, compiler errors, tracebacks, assertions), else lines with the usual words, else the end of the log. Never: more
//! memory than a few lines.

use std::borrow::Cow;
use std::collections::VecDeque;

/// Lines shown.
pub(crate) const LINES_MAX: usize = 10;
/// A longer line is cut.
const LINE_CHARS_MAX: usize = 400;
/// What is kept of one traceback: its first line and its end.
const BLOCK_LINES_MAX: usize = 9;

/// Beginnings of lines that are an error.
const STARTS: &[&str] = &[
    "error:",
    "error[",
    "Error:",
    "ERROR:",
    "fatal:",
    "E   ",
    "--- FAIL:",
    "not ok ",
    "npm ERR!",
    "npm error",
    "AssertionError",
    "Exception in thread",
    "Traceback (most recent call last)",
    "panic:",
    "FAIL: ",
    "ERROR: ",
    "Segmentation fault",
    "●",
    "✖",
    "✕",
    "TypeError",
    "ReferenceError",
    "SyntaxError",
    "ImportError",
    "ModuleNotFoundError",
];
/// Parts of lines that are an error.
const PARTS: &[&str] = &[
    "' panicked at ",
    ") panicked at ",
    ": error:",
    ": fatal error:",
    "undefined reference to",
    "command not found",
    ": not found",
    "No such file or directory",
    "Permission denied",
    "Connection refused",
    "No space left on device",
    "error TS",
    "core dumped",
    ": Assertion `",
    ": Assertion '",
];
/// Errors that only say that there was one.
const SUMMARIES: &[&str] = &[
    "error: test failed, to rerun",
    "error: could not compile",
    "error: aborting due to",
    "error: build failed",
    "error: 1 target failed",
    "error: test run failed",
    "For more information about this error",
    "make: ***",
    "make[",
    "ninja: build stopped",
];
/// Words that an error often has, and what they are part of when it is none.
const WORDS: &[&str] = &["error", "failed", "failure", "fatal", "exception", "assert", "cannot", "denied", "unable to"];
const HARMLESS: &[&str] = &["0 failed", "0 errors", "0 error", "no errors", "... ok", "failures:", "warning:"];

/// The lines of a whole log that look like the error.
#[must_use]
pub fn first_error(log: &str) -> Vec<String> {
    let mut reader = ErrorReader::default();
    log.lines().for_each(|line| reader.line(line));
    reader.finish()
}

/// Reads a log line by line.
#[derive(Debug, Default)]
pub(crate) struct ErrorReader {
    strong: Vec<String>,
    block: Option<Block>,
    weak: Vec<String>,
    tail: VecDeque<String>,
}

#[derive(Debug)]
struct Block {
    lines: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Up to an empty line or a note.
    Paragraph,
    /// Up to the exception, which is the first line that is not indented.
    Traceback,
    /// This line alone.
    Line,
}

impl ErrorReader {
    pub fn line(&mut self, line: &str) {
        if self.strong.len() >= LINES_MAX && self.block.is_none() {
            return;
        }
        let line = plain(line);
        let line = cut(line.trim_end());
        if self.goes_on(&line) {
            return;
        }
        if line.trim().is_empty() {
            return;
        }
        if let Some(kind) = strong(&line) {
            let block = Block { lines: vec![line], kind };
            if kind == Kind::Line {
                self.close(block);
            } else {
                self.block = Some(block);
            }
            return;
        }
        if self.weak.len() < LINES_MAX && is_weak(&line) {
            self.weak.push(line.clone());
        }
        if self.tail.len() == LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The lines to show.
    pub fn finish(mut self) -> Vec<String> {
        if let Some(block) = self.block.take() {
            self.close(block);
        }
        self.strong.truncate(LINES_MAX);
        if !self.strong.is_empty() {
            return self.strong;
        }
        if !self.weak.is_empty() {
            return self.weak;
        }
        self.tail.into()
    }

    /// Whether the line belongs to the block that is open.
    fn goes_on(&mut self, line: &str) -> bool {
        let Some(mut block) = self.block.take() else { return false };
        let is_indented = line.starts_with([' ', '\t']);
        let (takes, is_over) = match block.kind {
            Kind::Line => (false, true),
            Kind::Paragraph if line.trim().is_empty() || line.starts_with("note: run with") => (false, true),
            // The next error is a block of its own.
            Kind::Paragraph if !is_indented && strong(line).is_some() => (false, true),
            Kind::Paragraph => (true, false),
            Kind::Traceback if line.is_empty() => (false, true),
            Kind::Traceback => (true, !is_indented),
        };
        if takes {
            block.lines.push(line.to_owned());
            if block.lines.len() > BLOCK_LINES_MAX && block.kind == Kind::Traceback {
                // Its end says more than its middle.
                block.lines.remove(1);
            }
        }
        if is_over || (block.kind == Kind::Paragraph && block.lines.len() >= LINES_MAX) {
            self.close(block);
        } else {
            self.block = Some(block);
        }
        takes
    }

    fn close(&mut self, block: Block) {
        self.strong.extend(block.lines);
    }
}

fn strong(line: &str) -> Option<Kind> {
    let text = line.trim_start();
    if SUMMARIES.iter().any(|summary| text.starts_with(summary)) {
        return None;
    }
    if text.starts_with("Traceback (most recent call last)") {
        return Some(Kind::Traceback);
    }
    if line.contains(" panicked at ")
        || text.starts_with("error[")
        || text.starts_with("error:")
        || text.starts_with("--- FAIL:")
    {
        return Some(Kind::Paragraph);
    }
    let is_strong = STARTS.iter().any(|start| text.starts_with(start)) || PARTS.iter().any(|part| line.contains(part));
    is_strong.then_some(Kind::Line)
}

fn is_weak(line: &str) -> bool {
    let lower = line.to_lowercase();
    let is_summary = SUMMARIES.iter().any(|summary| line.trim_start().starts_with(summary));
    !is_summary
        && !HARMLESS.iter().any(|harmless| lower.contains(harmless))
        && WORDS.iter().any(|word| lower.contains(word))
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// The text without colours and other control sequences (ECMA-48, CSI and OSC).
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('[') => drop(rest.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c))),
            Some(']') => drop(rest.by_ref().find(|c| matches!(c, '\u{7}' | '\\'))),
            Some(_) | None => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &str, expected: &[&str]) {
        assert_eq!(first_error(log), expected, "{log}");
    }

    // R066
    #[test]
    fn a_failed_rust_test_shows_its_panic() {
        let log = "running 2 tests\ntest good ... ok\ntest bad ... FAILED\n\nfailures:\n\n---- bad stdout ----\n\n\
            thread 'bad' (12) panicked at src/lib.rs:9:5:\nassertion `left == right` failed\n  left: 3\n right: 4\n\
            note: run with `RUST_BACKTRACE=1`\n\n\nfailures:\n    bad\n\ntest result: FAILED. 1 passed; 1 failed\n\n\
            error: test failed, to rerun pass `--lib`";
        let panic = [
            "thread 'bad' (12) panicked at src/lib.rs:9:5:",
            "assertion `left == right` failed",
            "  left: 3",
            " right: 4",
        ];
        check(log, &panic);
    }

    #[test]
    fn a_compiler_error_shows_its_place() {
        let log = "   Compiling api v0.1.0\nwarning: unused variable\n\n\u{1b}[1m\u{1b}[31merror[E0308]\u{1b}[0m: mismatched types\n --> src/main.rs:2:18\n  \
            |\n2 |     let x: u8 = \"\";\n\nerror: aborting due to 1 previous error\nerror: could not compile `api`";
        check(log, &["error[E0308]: mismatched types", " --> src/main.rs:2:18", "  |", "2 |     let x: u8 = \"\";"]);
        check(
            "cc main.c\nmain.c:3:5: error: expected ';'\nmake: *** [main.o] Error 1",
            &["main.c:3:5: error: expected ';'"],
        );
        check(
            "./t\nt: test.c:3: main: Assertion `two == 3' failed.\nmake: *** [Makefile:1: test] Error 134",
            &["t: test.c:3: main: Assertion `two == 3' failed."],
        );
        check("cp: target is busy\nmake: *** [all] Error 1", &["cp: target is busy", "make: *** [all] Error 1"]);
    }

    #[test]
    fn a_traceback_shows_its_beginning_and_its_end() {
        let frames: String = (1..9).map(|n| format!("  File \"a.py\", line {n}\n    f{n}()\n")).collect();
        let log = format!("start\nTraceback (most recent call last):\n{frames}ValueError: no\nafterwards");
        let shown = first_error(&log);
        assert_eq!(shown.first().unwrap(), "Traceback (most recent call last):");
        assert_eq!(shown.last().unwrap(), "ValueError: no");
        assert!(shown.len() <= LINES_MAX);
    }

    #[test]
    fn words_count_where_no_form_is_known_and_otherwise_the_end_is_shown() {
        check("one\nthe upload failed after 3 tries\n0 failed\ntwo", &["the upload failed after 3 tries"]);
        let log: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let end: Vec<String> = (11..=20).map(|n| format!("line {n}")).collect();
        assert_eq!(first_error(&log), end);
        check("", &[]);
    }

    #[test]
    fn a_flood_of_errors_and_long_lines_stays_short() {
        let log = format!("error: {}\n\n", "x".repeat(5000)).repeat(1000);
        let shown = first_error(&log);
        assert!(shown.len() == LINES_MAX && shown.iter().all(|line| line.chars().count() <= LINE_CHARS_MAX + 1));
    }
}
