//! `.dockerignore`: what a build context leaves out.
//!
//! In: the text of the file. Out: whether a path of the context is left out.
//! Never: a file access while matching.
//!
//! The format is that of the Docker documentation, ".dockerignore file": later lines win, `!` takes
//! back in, a folder that is left out takes what is in it along.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{BuildError, Position, Problem};
use crate::glob::{Dialect, Pattern};

/// A longer file is a mistake.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// What is left out of a build context. The default leaves nothing out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    takes_back: bool,
    line: u32,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let written = line.trim();
            if line.starts_with('#') || written.is_empty() {
                continue;
            }
            let (takes_back, written) = match written.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, written),
            };
            let cleaned = clean(written);
            match Pattern::parse(&cleaned, Dialect::Path) {
                // `/` and `.` name the context itself, which is never left out.
                Some(_) if cleaned.is_empty() && !written.is_empty() => {}
                Some(pattern) if !written.is_empty() => rules.push(Rule { pattern, takes_back, line: number }),
                Some(_) | None => {
                    let at = Position { line: number, column: 1 };
                    problems.push(Problem::new(at, format!("`{}` is not a pattern", line.trim())));
                }
            }
        }
        if problems.is_empty() {
            return Ok(Self { rules });
        }
        Err(problems)
    }

    /// Reads `DOCKERFILE.dockerignore` beside the Dockerfile, or else `.dockerignore` of the context.
    /// Problems are those of that file. Without a file nothing is left out.
    pub fn of_context(context: &Path, dockerfile: &Path) -> Result<Self, BuildError> {
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(".dockerignore");
        for path in [PathBuf::from(beside), context.join(".dockerignore")] {
            let failed = |source| BuildError::Io { action: "read", path: path.clone(), source };
            match fs::metadata(&path) {
                Ok(metadata) if metadata.len() > TEXT_BYTES_MAX => {
                    return Err(BuildError::Limit {
                        what: format!("the size of `{}`", path.display()),
                        limit: format!("{TEXT_BYTES_MAX} bytes"),
                    });
                }
                Ok(_) => {
                    let text = fs::read_to_string(&path).map_err(failed)?;
                    return Self::parse(&text).map_err(BuildError::Refused);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Self::default())
    }

    /// Whether `path`, relative to the context, with `/`, is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        self.deciding_line(path).is_some()
    }

    /// The line of the file that leaves `path` out.
    pub(crate) fn deciding_line(&self, path: &str) -> Option<u32> {
        let mut decided = None;
        for rule in &self.rules {
            // A rule can change only what the rules before it said.
            if rule.takes_back == decided.is_some() && rule.covers(path) {
                decided = (!rule.takes_back).then_some(rule.line);
            }
        }
        decided
    }

    /// Whether something in a folder that is left out may be taken back in.
    pub(crate) fn takes_anything_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }
}

impl Rule {
    /// The path itself, or a folder that it is in.
    fn covers(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        self.pattern.matches(path) || folders.into_iter().any(|folder| self.pattern.matches(folder))
    }
}

/// Without `.`, empty parts and `x/..`; a leading slash means nothing.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, out: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(rules).unwrap();
        for path in out {
            assert!(ignore.leaves_out(path), "`{path}` by {rules:?}");
        }
        for path in kept {
            assert!(!ignore.leaves_out(path), "`{path}` by {rules:?}");
        }
    }

    #[test]
    fn patterns_match_paths_and_what_is_in_matched_folders() {
        check("target", &["target", "target/a/b"], &["a/target", "targets"]);
        check("/target/\n", &["target/a"], &["a/target"]);
        check("**/target", &["target", "a/b/target/c"], &["a/mytarget"]);
        check("*.log", &["a.log", ".log"], &["a/b.log"]);
        check("**/*.log", &["a.log", "a/b/c.log"], &["a.logs"]);
        check("*/temp?", &["a/temp1", "a/temp1/x"], &["temp1", "a/b/temp1", "a/temp"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "b"]);
        check("[a-c]x", &["ax", "cx/y"], &["dx"]);
        check("[^a-c]x", &["dx"], &["ax"]);
        check("a\\*", &["a*"], &["ab"]);
    }

    #[test]
    fn later_lines_win_and_comments_count_only_at_the_start() {
        check("*\n!src\n", &["a", "b/c"], &["src", "src/main.rs"]);
        check("!a\na\n", &["a"], &[]);
        check("docs\n!docs/keep.md\n", &["docs/a.md"], &["docs/keep.md"]);
        check("# a\n #b\n", &["#b"], &["a", "# a"]);
        check("/\n.\n", &[], &["a"]);
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_line() {
        let problems = Ignore::parse("ok\n[a\n!\n[z-a]\n").unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["2:1: `[a` is not a pattern", "3:1: `!` is not a pattern", "4:1: `[z-a]` is not a pattern"]);
    }
}
