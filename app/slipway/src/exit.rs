//! Why a command ends and with which code.
//!
//! In: errors. Out: a message that ends in what to do, and a code. Never: a secret in a message.

use std::fmt;

/// The change or its configuration is at fault.
pub const CHANGE: u8 = 1;
/// The command line is at fault.
pub const USAGE: u8 = 2;
/// The surroundings are at fault: network, disk, a service.
pub const SURROUNDINGS: u8 = 3;
/// It still waits for a person or a clock.
pub const WAITS: u8 = 4;
/// Interrupted by Ctrl-C, as shells say it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;
/// A bug in Slipway.
pub const BUG: u8 = 70;

/// Why a command ended before its end.
#[derive(Debug)]
pub struct Exit {
    /// The exit code.
    pub code: u8,
    /// What failed, on which thing; may be empty when everything was said already.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
    /// The server's word for it, for who can do something about it; else empty.
    pub kind: String,
}

impl Exit {
    /// An end with a message.
    pub fn new(code: u8, what: impl fmt::Display) -> Exit {
        Exit { code, what: what.to_string(), hint: None, kind: String::new() }
    }

    /// Nothing more to say.
    pub fn silent(code: u8) -> Exit {
        Exit { code, what: String::new(), hint: None, kind: String::new() }
    }

    /// With what to do.
    pub fn hint(mut self, hint: impl fmt::Display) -> Exit {
        self.hint = Some(hint.to_string());
        self
    }

    /// The message for the terminal, or for a program.
    pub fn print(&self, json: bool) {
        if json && !self.what.is_empty() {
            let hint = self.hint.as_deref().unwrap_or_default();
            eprintln!(
                "{}",
                serde_json::json!({ "error": self.what, "hint": hint, "code": self.kind, "exit": self.code })
            );
            return;
        }
        if !self.what.is_empty() {
            eprintln!("{} {}", crate::term::bad("error:"), self.what);
        }
        if let Some(hint) = &self.hint {
            eprintln!("{} {hint}", crate::term::soft("hint:"));
        }
    }
}

/// An error of the surroundings, with its causes.
pub fn surroundings(error: impl std::error::Error) -> Exit {
    Exit::new(SURROUNDINGS, chain(&error))
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What a command comes to.
pub type Done = Result<(), Exit>;
