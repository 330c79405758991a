//! Counts of tests as the usual runners print them.
//!
//! In: log lines. Out: counts summed over all runs in the log, or nothing where none are printed. Never: a guess.
//! Understood: cargo test, cargo nextest, pytest, unittest, go test -v, node --test, jest, vitest, mocha, Maven Surefire.

use crate::first_error::plain;
use slipway_model::job::TestCount;

/// Reads counts line by line.
#[derive(Debug, Default)]
pub struct CountReader {
    found: bool,
    sum: TestCount,
    /// `go test` names its tests only with `-v`; without it there is nothing to count.
    go_is_verbose: bool,
    go: TestCount,
    /// `unittest` says in one line how many ran, in the next what became of them.
    ran: Option<u64>,
    /// Maven prints the sum behind the parts.
    maven_total: Option<TestCount>,
    maven_parts: TestCount,
}

/// The counts in a whole log.
#[must_use]
pub fn count_tests(log: &str) -> Option<TestCount> {
    let mut reader = CountReader::default();
    log.lines().for_each(|line| reader.line(line));
    reader.finish()
}

impl CountReader {
    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        // Most lines are none of it; this keeps long logs cheap.
        if !line.bytes().any(|b| b.is_ascii_digit()) && !line.starts_with("OK") && !line.starts_with("FAILED") {
            self.go_is_verbose |= line.starts_with("=== RUN");
            return;
        }
        let line = plain(line);
        let line = line.as_ref();
        self.go_line(line);
        self.unittest_line(line);
        self.maven_line(line);
        let count = cargo(line).or_else(|| nextest(line)).or_else(|| jest(line)).or_else(|| pytest(line));
        let count = count.or_else(|| single(line));
        if let Some(count) = count {
            self.add(count);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn finish(mut self) -> Option<TestCount> {
        if self.go_is_verbose {
            self.add(self.go);
        }
        if let Some(total) = self.maven_total {
            self.add(total);
        } else if self.maven_parts != TestCount::default() {
            self.add(self.maven_parts);
        }
        self.found.then_some(self.sum)
    }

    fn add(&mut self, count: TestCount) {
        self.found = true;
        self.sum = plus(self.sum, count);
    }

    /// `--- PASS: TestAdd (0.00s)`; subtests are indented and belong to theirs.
    fn go_line(&mut self, line: &str) {
        self.go_is_verbose |= line.starts_with("=== RUN");
        let Some(rest) = line.strip_prefix("--- ") else { return };
        match rest.split(':').next() {
            Some("PASS") => self.go.passed += 1,
            Some("FAIL") => self.go.failed += 1,
            Some("SKIP") => self.go.skipped += 1,
            Some(_) | None => {}
        }
    }

    /// `Ran 5 tests in 0.001s`, then `OK (skipped=1)` or `FAILED (failures=1, errors=1)`.
    fn unittest_line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["Ran", count, "test" | "tests", "in", _] = words[..] {
            self.ran = count.parse().ok();
            return;
        }
        let is_end = matches!(words.first(), Some(&"OK" | &"FAILED"));
        let Some(ran) = self.ran.filter(|_| is_end) else { return };
        self.ran = None;
        let part = |name: &str| -> u64 {
            let parts = line.split(['(', ',', ')']);
            parts.filter_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok()).sum()
        };
        let (failed, skipped) = (part("failures") + part("errors"), part("skipped"));
        self.add(TestCount { passed: ran.saturating_sub(failed + skipped), failed, skipped });
    }

    /// `Tests run: 5, Failures: 1, Errors: 0, Skipped: 1`, per class with its time, then once without.
    fn maven_line(&mut self, line: &str) {
        let Some(at) = line.find("Tests run: ") else { return };
        let number = |name: &str| -> Option<u64> {
            let rest = line[at..].split(name).nth(1)?;
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let (Some(run), Some(failures), Some(errors), Some(skipped)) =
            (number("Tests run:"), number("Failures:"), number("Errors:"), number("Skipped:"))
        else {
            return;
        };
        let failed = failures + errors;
        let count = TestCount { passed: run.saturating_sub(failed + skipped), failed, skipped };
        if line.contains("Time elapsed") {
            self.maven_parts = plus(self.maven_parts, count);
        } else {
            self.maven_total = Some(plus(self.maven_total.unwrap_or_default(), count));
        }
    }
}

fn plus(a: TestCount, b: TestCount) -> TestCount {
    TestCount {
        passed: a.passed.saturating_add(b.passed),
        failed: a.failed.saturating_add(b.failed),
        skipped: a.skipped.saturating_add(b.skipped),
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn cargo(line: &str) -> Option<TestCount> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    listed(counts.split(';'))
}

/// `Summary [   0.012s] 12 tests run: 11 passed, 1 failed, 2 skipped`
fn nextest(line: &str) -> Option<TestCount> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?;
    listed(counts.split(','))
}

/// `Tests:  1 failed, 2 skipped, 3 passed, 6 total`; vitest: `Tests  1 failed | 3 passed (4)`
fn jest(line: &str) -> Option<TestCount> {
    let rest = line.trim_start().strip_prefix("Tests")?;
    if let Some(counts) = rest.strip_prefix(':').filter(|counts| counts.trim_end().ends_with(" total")) {
        return listed(counts.split(','));
    }
    rest.starts_with("  ").then(|| listed(rest.split(['|', '(']))).flatten()
}

/// `=== 1 failed, 2 passed, 1 skipped in 0.12s ===`, with `-q` without its frame.
fn pytest(line: &str) -> Option<TestCount> {
    let (counts, time) = line.trim_matches(|c| c == '=' || c == ' ').rsplit_once(" in ")?;
    let seconds = time.split(['s', ' ']).next()?;
    seconds.parse::<f64>().ok()?;
    // A sentence with a number in it is no summary: all its parts must be `NUMBER word`.
    let parts: Vec<&str> = counts.split(", ").collect();
    let words =
        ["passed", "failed", "skipped", "error", "errors", "xfailed", "xpassed", "deselected", "warning", "warnings"];
    let is_part =
        |part: &&str| part.split_once(' ').is_some_and(|(n, word)| n.parse::<u64>().is_ok() && words.contains(&word));
    if !parts.iter().all(is_part) {
        return None;
    }
    listed(parts.into_iter())
}

/// One count in a line: node (`# pass 3`, `ℹ fail 1`), mocha (`3 passing (10ms)`).
fn single(line: &str) -> Option<TestCount> {
    let mut count = TestCount::default();
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["#" | "ℹ", "pass", number] => count.passed = number.parse().ok()?,
        ["#" | "ℹ", "fail", number] => count.failed = number.parse().ok()?,
        ["#" | "ℹ", "skipped" | "todo" | "cancelled", number] => count.skipped = number.parse().ok()?,
        [number, "passing", time] if time.starts_with('(') => count.passed = number.parse().ok()?,
        [number, "failing"] if line.starts_with(' ') => count.failed = number.parse().ok()?,
        [number, "pending"] if line.starts_with(' ') => count.skipped = number.parse().ok()?,
        _ => return None,
    }
    Some(count)
}

/// Sums `NUMBER word` parts; nothing when none of them says anything about a test.
fn listed<'a>(parts: impl Iterator<Item = &'a str>) -> Option<TestCount> {
    let mut count = TestCount::default();
    let mut found = false;
    for part in parts {
        let Some((number, word)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        let word = word.split([' ', '(']).next().unwrap_or_default();
        match word {
            "passed" | "xpassed" => count.passed += number,
            "failed" | "error" | "errors" | "timed" => count.failed += number,
            "skipped" | "ignored" | "xfailed" | "todo" | "pending" => count.skipped += number,
            _ => continue,
        }
        found = true;
    }
    found.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &str, expected: &str) {
        let counted = count_tests(log).map_or("none".to_owned(), |count| {
            format!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped)
        });
        assert_eq!(counted, expected, "{log}");
    }

    #[test]
    fn the_summaries_of_the_usual_runners_are_counted() {
        let cargo = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        check(cargo, "3 passed, 1 failed, 1 skipped");
        check(
            "     Summary [   0.012s] 12 tests run: 11 passed (1 slow), 1 failed, 2 skipped",
            "11 passed, 1 failed, 2 skipped",
        );
        check(
            "==== \u{1b}[31m1 failed\u{1b}[0m, 2 passed, 1 skipped, 3 warnings in 0.12s ====",
            "2 passed, 1 failed, 1 skipped",
        );
        check("2 passed in 61.20s (0:01:01)", "2 passed, 0 failed, 0 skipped");
        check("==== 1 error in 0.12s ====", "0 passed, 1 failed, 0 skipped");
        check("Ran 5 tests in 0.001s\n\nFAILED (failures=1, errors=1, skipped=1)", "2 passed, 2 failed, 1 skipped");
        check("Ran 3 tests in 0.001s\n\nOK", "3 passed, 0 failed, 0 skipped");
        let go = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n=== RUN   TestB/x\n--- FAIL: TestB (0.00s)\n    \
            --- FAIL: TestB/x (0.00s)\n--- SKIP: TestC (0.00s)";
        check(go, "1 passed, 1 failed, 1 skipped");
        check("# tests 4\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 0", "3 passed, 1 failed, 0 skipped");
        check("ℹ pass 2\nℹ fail 0\nℹ skipped 1", "2 passed, 0 failed, 1 skipped");
        check(
            "Test Suites: 1 failed, 1 total\nTests:       1 failed, 2 skipped, 3 passed, 6 total",
            "3 passed, 1 failed, 2 skipped",
        );
        check(" Test Files  1 failed (1)\n      Tests  1 failed | 3 passed (4)", "3 passed, 1 failed, 0 skipped");
        check("  3 passing (10ms)\n  1 pending\n  2 failing", "3 passed, 2 failed, 1 skipped");
        let maven = "[INFO] Tests run: 2, Failures: 0, Errors: 0, Skipped: 1, Time elapsed: 0.1 s - in A\n\
            [ERROR] Tests run: 3, Failures: 1, Errors: 1, Skipped: 0, Time elapsed: 0.1 s - in B\n[INFO] Results:\n\
            [ERROR] Tests run: 5, Failures: 1, Errors: 1, Skipped: 1";
        check(maven, "2 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn other_lines_with_numbers_are_not_counted() {
        for log in [
            "",
            "3 passed the exam in 2019",
            "--- FAIL: TestA (0.00s)\nFAIL\nok  \tpkg\t0.1s",
            "downloaded 12 files in 3s",
            "Tests are good: 3 passed",
            "OK 200",
            "failed 3 times",
        ] {
            check(log, "none");
        }
    }
}
