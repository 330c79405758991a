//! What the benchmarks share: the product started as a user would, a place to work on, load, rows.
//!
//! In: nothing but this machine. Out: one JSON object a row on standard output, in the shape that `cargo xtask bench`
//! reads; everything else goes to standard error. Never: a number that was not measured in this run, unless its row
//! says so.

mod disk;
mod load;
mod process;
mod project;
mod slipway;

pub use disk::Disk;
pub use load::{Answer, Bad, Connection, Load, Pace, Tally, now_ms, sorted};
pub use process::{Cpu, Memory, cpu, memory, shims, used_seconds};
pub use project::{Project, Repository, program, program_of, static_server};
pub use slipway::{Event, Slipway, binary};

use std::time::Duration;

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// What was measured.
    pub case: &'a str,
    /// What Slipway took.
    pub ours: String,
    /// The floor or peer.
    pub against: &'a str,
    /// What that took.
    pub theirs: String,
    /// What was aimed at.
    pub aim: &'a str,
    /// Whether it was reached.
    pub holds: bool,
}

impl Row<'_> {
    /// Prints it, with the machine and the file system it was measured on.
    #[allow(clippy::print_stdout)] // the rows are what a benchmark is for
    pub fn print(&self, place: &str) {
        let case = format!("{} ({}, {place}, load {})", self.case, machine(), load_average());
        println!(
            "{}",
            serde_json::json!({
                "case": case, "ours": self.ours, "against": self.against, "theirs": self.theirs,
                "aim": self.aim, "holds": self.holds,
            })
        );
    }
}

/// Says something to who waits.
#[allow(clippy::print_stderr)] // standard output belongs to the rows
pub fn note(text: &str) {
    eprintln!("  {text}");
}

/// Waits: for a moment that was set, or between two looks at what cannot wake us.
#[allow(clippy::disallowed_methods)] // a load has its pace, and a foreign program that starts says nothing
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The value in the middle; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The value below which `percent` of them are; 0 of nothing.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Milliseconds: median and range of all.
#[must_use]
pub fn spread(values: &[f64]) -> String {
    format!(
        "{:.2} ms ({:.2} to {:.2}, n = {})",
        median(values),
        percentile(values, 0),
        percentile(values, 100),
        values.len()
    )
}

/// A duration in milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} × {}", name.map_or("unknown processor", |(_, name)| name.trim()))
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
