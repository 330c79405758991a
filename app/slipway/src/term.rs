//! Colour in the terminal: only where there is one, and never against `NO_COLOR`.

use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};

/// Says a line on standard error, if anybody is there.
pub fn say_line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a line on standard output, if anybody is there: for what goes on without a reader.
pub fn offer_line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line on standard output. Whoever closes the pipe has seen enough; another error is not silent.
pub fn print_line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("{} standard output: {error}", bad("error:"));
        std::process::exit(i32::from(crate::exit::SURROUNDINGS));
    }
}

/// Whether messages are coloured: not when either output is a file or a pipe, since one text may go to both.
pub fn colour() -> bool {
    coloured(std::env::var_os("NO_COLOR"), std::io::stdout().is_terminal(), std::io::stderr().is_terminal())
}

fn coloured(no_color: Option<OsString>, out: bool, err: bool) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && out && err
}

fn paint(code: &str, text: &str) -> String {
    if colour() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Something is wrong.
pub fn bad(text: &str) -> String {
    paint("31;1", text)
}

/// All is well.
pub fn good(text: &str) -> String {
    paint("32;1", text)
}

/// Less important.
pub fn soft(text: &str) -> String {
    paint("2", text)
}

/// A heading.
pub fn strong(text: &str) -> String {
    paint("1", text)
}

/// A line of a push or watch, with its capitals coloured.
pub fn line(text: &str) -> String {
    for word in ["ROLLED BACK", "FAILED", "REFUSED", "NOT STARTED"] {
        if text.contains(word) {
            return text.replacen(word, &bad(word), 1);
        }
    }
    for word in ["LIVE", "PASSED"] {
        if text.contains(word) {
            return text.replacen(word, &good(word), 1);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_pipes_get_no_colour_and_no_color_is_heeded() {
        assert!(coloured(None, true, true));
        assert!(coloured(Some("".into()), true, true), "an empty value asks for nothing");
        assert!(!coloured(Some("1".into()), true, true));
        assert!(!coloured(None, false, true), "`slipway status > file`");
        assert!(!coloured(None, true, false));
    }
}
