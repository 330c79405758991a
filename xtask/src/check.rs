//! Everything that must hold before a merge, cheapest first, to the first failure.
//!
//! In: flags. Out: a line per step with its time; for the failure what it said and what to run. Never: goes on after a
//! failure, hides what the tests print.

use crate::packages::{self, Package, cargo};
use crate::problem::Problem;
use crate::tree::Tree;
use crate::{Outcome, e2e, layers, links, requirements, tidy, tools};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What `check` was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    fix: bool,
    quick: bool,
}

impl Options {
    /// Reads the flags; none if one is unknown.
    pub fn parse(flags: &[&str]) -> Option<Options> {
        let mut options = Options::default();
        for flag in flags {
            match *flag {
                "--fix" => options.fix = true,
                "--quick" => options.quick = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Why a step failed, and the command that shows or mends it.
struct Failure {
    said: String,
    hint: String,
}

type Step<'a> = (&'a str, Box<dyn Fn() -> Result<Option<Failure>> + 'a>);

/// Runs all steps.
pub fn run(options: Options) -> Result<Outcome> {
    let began = Instant::now();
    if options.fix {
        fix()?;
    }
    let tree = Tree::load()?;
    let packages = packages::load(&tree.root)?;
    for (name, step) in steps(&tree, &packages, options) {
        print!("{name:<13} ");
        std::io::stdout().flush()?;
        let start = Instant::now();
        let failure = step()?;
        let seconds = start.elapsed().as_secs_f64();
        let Some(Failure { said, hint }) = failure else {
            println!("ok {seconds:>6.1} s");
            continue;
        };
        println!("FAILED {seconds:.1} s");
        println!("\n{}\n\nerror: `{name}` does not hold\nhint: {hint}", said.trim_end());
        return Ok(Outcome::Broken);
    }
    let left_out = if options.quick { ", end-to-end tests left out" } else { "" };
    println!("everything holds, {:.0} s{left_out}", began.elapsed().as_secs_f64());
    Ok(Outcome::Holds)
}

fn steps<'a>(tree: &'a Tree, packages: &'a [Package], options: Options) -> Vec<Step<'a>> {
    let own = |name: &'static str, found: fn(&Tree, &[Package]) -> Result<Vec<Problem>>| -> Step<'a> {
        (name, Box::new(move || Ok(failure(&found(tree, packages)?, format!("all of them: cargo xtask {name}")))))
    };
    let asked = |name: &'static str, words: &'static str, hint: &'static str| -> Step<'a> {
        (name, Box::new(move || quiet(tree, words, hint)))
    };
    let mut steps: Vec<Step<'a>> = vec![
        asked("format", "fmt --all --check -- --color never", "cargo fmt --all, or cargo xtask check --fix"),
        own("layers", |tree, packages| layers::check(packages, tree)),
        own("tidy", |tree, packages| Ok(tidy::check(tree, packages))),
        own("docs", |tree, _| Ok([links::check(tree), requirements::check(tree)].concat())),
    ];
    if !options.quick {
        let hint = "install them, or leave the end-to-end tests out: cargo xtask check --quick";
        steps.push(("tools", Box::new(move || Ok(failure(&tools::provide()?, hint.to_owned())))));
    }
    steps.extend([
        asked(
            "clippy",
            "clippy --quiet --workspace --all-targets -- -D warnings",
            "cargo clippy --workspace --all-targets -- -D warnings",
        ),
        asked(
            "rustdoc",
            "doc --quiet --workspace --no-deps",
            "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps",
        ),
        ("tests", Box::new(move || tests(tree, packages, options))),
    ]);
    if !options.quick {
        for account in e2e::Account::ALL {
            steps.push((account.word(), Box::new(move || as_user(account))));
        }
    }
    steps
}

fn failure(problems: &[Problem], hint: String) -> Option<Failure> {
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
    (!problems.is_empty()).then_some(Failure { said, hint })
}

/// Runs cargo without a word unless it fails.
fn quiet(tree: &Tree, words: &str, hint: &str) -> Result<Option<Failure>> {
    let mut command = cargo(&tree.root);
    command.args(words.split(' ')).env("RUSTDOCFLAGS", "-D warnings").stdin(Stdio::null());
    let answer = command.output().with_context(|| format!("`cargo {words}` cannot be started"))?;
    let said = [answer.stdout, answer.stderr].concat();
    let failed = !answer.status.success();
    Ok(failed.then(|| Failure { said: String::from_utf8_lossy(&said).into_owned(), hint: hint.to_owned() }))
}

fn fix() -> Result<()> {
    let root = crate::tree::root()?;
    for words in ["clippy --quiet --workspace --all-targets --fix --allow-dirty --allow-staged", "fmt --all"] {
        // What cannot be mended by itself is reported by the steps that follow.
        cargo(&root).args(words.split(' ')).status().with_context(|| format!("`cargo {words}` cannot be started"))?;
    }
    Ok(())
}

/// Runs the tests before the reader's eyes, and counts.
fn tests(tree: &Tree, packages: &[Package], options: Options) -> Result<Option<Failure>> {
    let mut command = cargo(&tree.root);
    command.args(["test", "--workspace", "--no-fail-fast"]).stdin(Stdio::null()).stdout(Stdio::piped());
    for package in packages.iter().filter(|package| options.quick && package.folder == "checks/e2e") {
        command.args(["--exclude", &package.name]);
    }
    println!();
    if !tools::is_root()? {
        println!("note: some tests mount or make accounts, which only root may; those fail for an ordinary user");
    }
    let (success, seen) = watch(command)?;
    print!("{:<13} {} ", "tests", seen.summary());
    let first = seen.failed.first().cloned().unwrap_or_default();
    Ok((!success).then(|| match seen.failed.len() {
        0 => Failure {
            said: "the tests could not be built or did not end".into(),
            hint: "cargo test --workspace".into(),
        },
        _ => Failure {
            said: seen.failed.iter().map(|name| format!("failed: {name}")).collect::<Vec<_>>().join("\n"),
            hint: format!("the first alone: cargo test --workspace -- --exact '{first}'"),
        },
    }))
}

/// Runs the usual part of the end-to-end tests as an ordinary user, before the reader's eyes.
fn as_user(account: e2e::Account) -> Result<Option<Failure>> {
    if !tools::is_root()? {
        print!("left out: only root can make the account; ");
        return Ok(None);
    }
    println!();
    let hint = format!("cargo xtask e2e --as {}", account.word());
    let failure = Failure { said: format!("as {} the tests above do not hold", account.word()), hint };
    Ok(match e2e::run(account, &[])? {
        Outcome::Holds => None,
        Outcome::Broken | Outcome::Surroundings => Some(failure),
    })
}

fn watch(mut command: Command) -> Result<(bool, Seen)> {
    let mut child = command.spawn().context("`cargo test` cannot be started")?;
    let output = child.stdout.take().context("`cargo test` has no output")?;
    let mut seen = Seen::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        seen.line(&line);
    }
    Ok((child.wait()?.success(), seen))
}

/// What the test runner said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    passed: usize,
    ignored: usize,
    failed: Vec<String>,
}

impl Seen {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                let part = counts.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
                part.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or(0)
            };
            self.passed += count(" passed");
            self.ignored += count(" ignored");
        }
    }

    fn summary(&self) -> String {
        format!("{} passed, {} failed, {} ignored", self.passed, self.failed.len(), self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_runner_is_counted() {
        let mut seen = Seen::default();
        let said = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed; 0 \
                    ignored; 0 measured; 0 filtered out; finished in 0.00s\ntest result: ok. 12 passed; 0 failed; 3 \
                    ignored; 0 measured";
        said.lines().for_each(|line| seen.line(line));
        assert_eq!(seen, Seen { passed: 13, ignored: 3, failed: vec!["a::c".to_owned()] });
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert_eq!(Options::parse(&["--fix", "--quick"]), Some(Options { fix: true, quick: true }));
        assert_eq!(Options::parse(&["--slow"]), None);
    }
}
