//! `cargo run -p slipway-sim -- --seeds N --from S`: histories by hand.
//!
//! In: how many and from which seed. Out: the failing histories; exit 1 when there is one.

use slipway_sim::run::real;
use slipway_sim::{Outcome, run, run_many};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    let known = words.iter().all(|word| matches!(word.as_str(), "--seeds" | "--from") || word.parse::<u64>().is_ok());
    if !known {
        say("error: usage: slipway-sim [--seeds N] [--from S]");
        return ExitCode::from(2);
    }
    let (seeds, from) = (number("--seeds").unwrap_or(1_000), number("--from").unwrap_or(0));
    if seeds == 1 {
        let outcome = run(from, &real());
        say(&outcome.report());
        return ExitCode::from(u8::from(!outcome.violations.is_empty()));
    }
    let failed: Mutex<Vec<Outcome>> = Mutex::default();
    run_many(from, seeds, &real(), |outcome| {
        for violation in &outcome.violations {
            say(&format!("seed {}: {:?}: {}", outcome.seed, violation.invariant, violation.what));
        }
        if !outcome.violations.is_empty()
            && let Ok(mut failed) = failed.lock()
        {
            failed.push(outcome);
        }
        true
    });
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort_by_key(|outcome| outcome.seed);
    if let Some(first) = failed.first() {
        say(&first.report());
    }
    say(&format!("{seeds} seeds from {from}: {} failed", failed.len()));
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn say(text: &str) {
    // Whoever closed the output does not want to know.
    let _ = writeln!(std::io::stdout(), "{text}");
}
