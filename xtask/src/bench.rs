//! Benchmarks: every program of the package in `bench/`, one after the other, and the table of what they measured.
//!
//! In: programs that print one JSON object a line: `case`, `ours`, `against` (the floor or peer of the same run),
//! `theirs`, `aim` as texts and `holds` as a truth. Out: the table, and the same in `bench/RESULTS.md`, where a section
//! is replaced by a newer run of it. Never: a number that the program did not measure in this run.

use crate::packages::{self, Package, cargo};
use crate::{Outcome, tree};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const FOLDER: &str = "bench";
const RESULTS: &str = "bench/RESULTS.md";
const INTRODUCTION: &str = "# What was measured\n\nWritten by `cargo xtask bench`; each number against its floor or peer in \
                            the same run on the same machine.\n";
const COLUMNS: [&str; 5] = ["case", "ours", "against", "theirs", "aim"];

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    cells: [String; COLUMNS.len()],
    holds: bool,
}

/// Runs one benchmark, or all.
pub fn run(name: Option<&str>) -> Result<Outcome> {
    let root = tree::root()?;
    let packages = packages::load(&root)?;
    let Some(package) = packages.iter().find(|package| package.folder == FOLDER) else {
        println!(
            "error: there are no benchmarks\nhint: a package `slipway-bench` in `{FOLDER}/` has one program for each"
        );
        return Ok(Outcome::Surroundings);
    };
    let chosen: Vec<&String> = package.programs.iter().filter(|program| name.is_none_or(|n| n == *program)).collect();
    if chosen.is_empty() {
        println!("error: there is no such benchmark\nhint: {}", package.programs.join(", "));
        return Ok(Outcome::Surroundings);
    }
    let mut all_hold = true;
    for program in chosen {
        all_hold &= measure(&root, package, program)?;
    }
    println!("written to {RESULTS}");
    Ok(if all_hold { Outcome::Holds } else { Outcome::Broken })
}

/// Runs a program, shows and keeps its table; whether all of it holds.
fn measure(root: &Path, package: &Package, program: &str) -> Result<bool> {
    println!("{program} …");
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--release", "--package", &package.name, "--bin", program]);
    let answer = command.stderr(Stdio::inherit()).output().context("`cargo run` cannot be started")?;
    if !answer.status.success() {
        println!("error: `{program}` failed ({})\nhint: its reason stands above", answer.status);
        return Ok(false);
    }
    let said = String::from_utf8(answer.stdout).with_context(|| format!("`{program}` did not print text"))?;
    let rows = rows(&said).with_context(|| format!("`{program}` did not print what a benchmark prints"))?;
    print!("{}", terminal(&rows));
    let file = root.join(RESULTS);
    let before = fs::read_to_string(&file).unwrap_or_default();
    let section = format!("{}\n{}", machine(root), markdown(&rows));
    fs::write(&file, replaced(&before, program, &section)).with_context(|| format!("cannot write `{RESULTS}`"))?;
    Ok(rows.iter().all(|row| row.holds))
}

fn rows(said: &str) -> Result<Vec<Row>> {
    let row = |line: &str| {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let text = |key: &str| value[key].as_str().map(str::to_owned).with_context(|| format!("no `{key}` in {line}"));
        let holds = value["holds"].as_bool().with_context(|| format!("no `holds` in {line}"))?;
        let [case, ours, against, theirs, aim] = COLUMNS.map(text);
        anyhow::Ok(Row { cells: [case?, ours?, against?, theirs?, aim?], holds })
    };
    let rows: Vec<Row> = said.lines().filter(|line| !line.trim().is_empty()).map(row).collect::<Result<_>>()?;
    anyhow::ensure!(!rows.is_empty(), "it printed no row");
    Ok(rows)
}

fn terminal(rows: &[Row]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.chain([COLUMNS[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    let line = |cells: [&str; COLUMNS.len()], last: &str| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}  {last}\n", padded.collect::<Vec<_>>().join("  "))
    };
    let body = rows.iter().map(|row| line(row.cells.each_ref().map(String::as_str), verdict(row)));
    line(COLUMNS, "") + &body.collect::<String>()
}

fn markdown(rows: &[Row]) -> String {
    let head = format!("| {} | |\n|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len() + 1));
    let body = rows.iter().map(|row| format!("| {} | {} |\n", row.cells.join(" | "), verdict(row)));
    head + &body.collect::<String>()
}

fn verdict(row: &Row) -> &'static str {
    if row.holds { "holds" } else { "MISSED" }
}

/// The results with the section of one program replaced or added.
fn replaced(before: &str, program: &str, section: &str) -> String {
    let title = format!("## {program}\n");
    let mut sections = split_sections(before);
    sections.retain(|part| !part.starts_with(&title));
    let new = format!("{title}\n{section}");
    sections.push(&new);
    sections.sort_unstable();
    format!("{INTRODUCTION}\n{}", sections.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("\n\n")) + "\n"
}

/// The parts that begin with `## `.
fn split_sections(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// What the numbers were measured on.
fn machine(root: &Path) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let answer = Command::new(program).args(arguments).current_dir(root).output().ok()?;
        let text = String::from_utf8(answer.stdout).ok()?;
        answer.status.success().then(|| text.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = said("uname", &["-srm"]).unwrap_or_else(|| "unknown system".into());
    let commit = said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(|| "unknown".into());
    let day = said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(|| "unknown day".into());
    format!("Commit {commit}, {day}, {cores} cores, {kernel}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "{\"case\":\"push to first step\",\"ours\":\"81 ms\",\"against\":\"git push + bwrap\",\"theirs\":\"70 \
                        ms\",\"aim\":\"≤ 1.5x\",\"holds\":true}\n";

    #[test]
    fn a_benchmark_prints_rows_and_nothing_else() {
        assert_eq!(rows(SAID).unwrap()[0].cells[1], "81 ms");
        assert!(rows("done\n").is_err());
        assert!(rows("").is_err());
        assert!(rows("{\"case\":\"a\"}\n").is_err());
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "  case                ours   against           theirs  aim     \n  push to first step  81 ms  git push + \
                        bwrap  70 ms   ≤ 1.5x  holds\n";
        assert_eq!(terminal(&rows(SAID).unwrap()), expected);
    }

    #[test]
    fn a_new_run_replaces_its_own_section_only() {
        let first = replaced("", "push", "one\n");
        let both = replaced(&first, "idle", "two\n");
        let again = replaced(&both, "push", "three\n");
        assert_eq!(again, format!("{INTRODUCTION}\n## idle\n\ntwo\n\n## push\n\nthree\n"));
    }
}
