//! Small parts that every page uses: marks, times, commands to copy.
//!
//! In: words of the views. Out: HTML. Never: a state by colour alone; each has a sign and a word.

use maud::{Markup, html};
use slipway_model::At;

/// The kind of a state: what colour it gets and which sign stands beside its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// Somebody has to look.
    Bad,
    /// It waits for a person or a clock.
    Wait,
    /// Something happens now.
    Move,
    /// It says nothing about now.
    Soft,
}

impl Tone {
    /// The class of the stylesheet.
    pub fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Wait => "wait",
            Tone::Move => "move",
            Tone::Soft => "soft",
        }
    }

    /// The sign beside the word.
    pub fn sign(self) -> &'static str {
        match self {
            Tone::Good => "✓",
            Tone::Bad => "✕",
            Tone::Wait => "◷",
            Tone::Move => "↻",
            Tone::Soft => "–",
        }
    }
}

/// The tone of a state's word.
pub fn tone(word: &str) -> Tone {
    match word {
        "passed" | "live" | "succeeded" | "baking" | "contracting" | "built" | "ready" | "run" => Tone::Good,
        "failed" | "rolled-back" | "needs-human" | "timed-out" | "lost" | "failed-before" | "refused" | "unready"
        | "backing-off" => Tone::Bad,
        "waiting" | "open" => Tone::Wait,
        "running" | "starting" | "provisioning" | "probing" | "stepping" | "promoting" | "returning" | "capturing"
        | "restoring" => Tone::Move,
        _ => Tone::Soft,
    }
}

/// A state: sign, word and colour together.
pub fn mark(word: &str) -> Markup {
    pill(if word == "rolled-back" { "↩" } else { tone(word).sign() }, tone(word), &spoken(word))
}

/// Any words in the form of a state.
pub fn pill(sign: &str, tone: Tone, words: &str) -> Markup {
    html! { span class={ "pill " (tone.class()) } { span aria-hidden="true" { (sign) } " " (words) } }
}

/// A state's word as it is said.
pub fn spoken(word: &str) -> String {
    word.replace('-', " ")
}

/// A moment as its distance from now; the exact time is its title, and scripts keep it right.
pub fn ago(at: At, now: At) -> Markup {
    html! { time datetime=(at) title=(at) data-t { (distance(now.since_ms(at))) } " ago" }
}

/// How long something goes on already.
pub fn since(at: At, now: At) -> Markup {
    html! { time datetime=(at) title={ "since " (at) } data-t { (distance(now.since_ms(at))) } }
}

/// A distance in one unit, as it is said: `4 s`, `12 min`, `3 h`, `6 d`. Scripts say the same.
pub fn distance(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something took: `18 ms`, `0.4 s`, `12.3 s`, `7 m 52 s`, `3 h 12 m`.
pub fn took(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 if ms < 100 => format!("{ms} ms"),
        0..=59 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..=3599 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A command that does the same in a terminal; scripts add a button that copies it.
pub fn command(text: &str) -> Markup {
    html! { code class="cmd" data-copy { (text) } }
}

/// Errors of requests as people say them: `7 of 141 (5.0 %)`.
pub fn errors(errors: u64, requests: u64) -> String {
    if requests == 0 {
        return "no request yet".into();
    }
    let tenths = errors.saturating_mul(1000).div_ceil(requests);
    format!("{errors} of {requests} ({}.{} %)", tenths / 10, tenths % 10)
}

/// Microseconds as milliseconds.
pub fn milliseconds(us: u64) -> String {
    match us {
        0 => "–".into(),
        1..=9_999 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{} ms", us / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_in_a_sign_and_a_word() {
        assert_eq!(
            mark("rolled-back").into_string(),
            "<span class=\"pill bad\"><span aria-hidden=\"true\">↩</span> rolled back</span>"
        );
        // What was overtaken is neither good nor bad.
        assert_eq!(tone("superseded"), Tone::Soft);
    }

    #[test]
    fn times_are_said_in_one_unit() {
        for (ms, text) in [(400, "0 s"), (99_000, "99 s"), (100_000, "1 min"), (7_200_000, "2 h"), (600_000_000, "6 d")]
        {
            assert_eq!(distance(ms), text);
        }
        for (ms, text) in [(18, "18 ms"), (440, "0.4 s"), (472_000, "7 m 52 s"), (11_520_000, "3 h 12 m")] {
            assert_eq!(took(ms), text);
        }
    }

    #[test]
    fn errors_are_rounded_up_so_that_one_is_never_zero() {
        assert_eq!(errors(1, 100_000), "1 of 100000 (0.1 %)");
        assert_eq!(errors(0, 0), "no request yet");
    }
}
