//! `cargo xtask`: what must hold before a merge, and what is measured or released by one command.
//!
//! In: a command line, the tree that this checkout is. Out: one line per step, the first failure with what to do, an
//! exit code (0 holds, 1 does not, 2 wrong command line, 3 the surroundings). Never: changes a file, except for
//! `check --fix` and the results that `bench` writes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people run in a terminal")]

mod architecture;
mod bench;
mod check;
mod conformance;
mod e2e;
mod layers;
mod links;
mod markdown;
mod packages;
mod pages;
mod problem;
mod release;
mod requirements;
mod rust;
mod tidy;
mod tools;
mod tree;

use problem::Problem;
use std::process::ExitCode;
use tree::Tree;

const USAGE: &str = "\
cargo xtask check [--fix] [--quick]   everything that must hold before a merge; --fix formats and applies lints first,
                                      --quick leaves the end-to-end tests out
cargo xtask layers                    who may use whom
cargo xtask tidy                      length of files and functions, headers, leftovers
cargo xtask docs                      links between documents, and docs/requirements.md against the tests
cargo xtask e2e --as LEVEL [TEST…]    the end-to-end tests as an ordinary user made for it; LEVEL: subordinate, single
cargo xtask pages                     the pages in Chromium: looks, live, keyboard, accessibility; pictures in target/pages
cargo xtask bench [NAME]              runs benchmarks and writes bench/RESULTS.md
cargo xtask conformance               tests against the corpora that SLIPWAY_CORPORA names
cargo xtask release                   builds the release binary, prints its size and SHA-256
";

/// How a command ended, when it could be carried out at all.
pub enum Outcome {
    /// All that was asked for holds.
    Holds,
    /// Something does not, and it was said.
    Broken,
    /// The surroundings do not allow to find out, and it was said.
    Surroundings,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(run) = command(&words) else {
        eprint!("error: `cargo xtask {}` is not understood\n\n{USAGE}", words.join(" "));
        return ExitCode::from(2);
    };
    match run {
        Ok(Outcome::Holds) => ExitCode::SUCCESS,
        Ok(Outcome::Broken) => ExitCode::FAILURE,
        Ok(Outcome::Surroundings) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn command(words: &[&str]) -> Option<anyhow::Result<Outcome>> {
    Some(match words {
        ["check", flags @ ..] => check::run(check::Options::parse(flags)?),
        ["layers"] => examine("layers", |tree| layers::check(&packages::load(&tree.root)?, tree)),
        ["tidy"] => examine("tidy", |tree| Ok(tidy::check(tree, &packages::load(&tree.root)?))),
        ["docs"] => examine("docs", |tree| Ok([links::check(tree), requirements::check(tree)].concat())),
        ["e2e", "--as", level, tests @ ..] => e2e::run(e2e::Account::parse(level)?, tests),
        ["pages"] => pages::run(),
        ["bench"] => bench::run(None),
        ["bench", name] => bench::run(Some(name)),
        ["conformance"] => conformance::run(),
        ["release"] => release::run(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(Outcome::Holds)
        }
        _ => return None,
    })
}

/// One check alone: all problems that it finds.
fn examine(name: &str, check: impl FnOnce(&Tree) -> anyhow::Result<Vec<Problem>>) -> anyhow::Result<Outcome> {
    let problems = check(&Tree::load()?)?;
    for problem in &problems {
        println!("{problem}\n");
    }
    match problems.len() {
        0 => println!("{name}: holds"),
        count => println!("{name}: {count} to mend"),
    }
    Ok(if problems.is_empty() { Outcome::Holds } else { Outcome::Broken })
}
