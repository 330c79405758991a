//! The one binary. Before anything else it finds out what it is: a shim, a Git hook, or the command line.
//!
//! In: arguments, environment, standard input. Out: data on standard output, everything else on standard error, exit
//! codes as `exit.rs` says. Never: a decision; commands are thin.

#![allow(clippy::print_stdout, clippy::print_stderr)] // this package alone speaks to the terminal

/// Like the standard one, but a reader that has seen enough (`slipway logs api | head`) ends the program quietly.
macro_rules! println {
    () => { $crate::term::print_line(format_args!("")) };
    ($($text:tt)*) => { $crate::term::print_line(format_args!($($text)*)) };
}

/// Like the standard one, but a terminal that is gone is no reason to panic: `up` still has to stop what it started.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::term::say_line(format_args!($($text)*)) };
}

mod cli;
mod client;
mod commands;
mod exit;
mod paths;
mod term;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // A shim stays for as long as its instance: it must not carry the command line or a runtime with it.
    let mut rest = arguments.peekable();
    if rest.peek().is_some_and(|first| first == "shim") {
        return code(slipway_sandbox::shim_main(rest.skip(1)));
    }
    if let Some(hook) = slipway_git::is_hook(&name) {
        return code(slipway_git::hook_main(hook));
    }
    cli::run()
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(70))
}
