//! What keeps the tree easy to enter: short files and functions, headers, no leftovers, a map that is complete.
//!
//! In: all files, the packages. Out: every place that breaks a rule, with the rule. Never: a matter of taste; rustfmt
//! and clippy have those.

use crate::architecture;
use crate::packages::Package;
use crate::problem::Problem;
use crate::rust::{self, Kind, Token};
use crate::tree::{File, Tree};

/// What somebody reads in one sitting (docs of this limit: CONTRIBUTING.md).
const FILE_LINES_MAX: usize = 600;

/// Two screens.
const FUNCTION_LINES_MAX: usize = 70;

/// Words that mark what is not finished; in two pieces, so that this file does not contain them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Macros that stand for code that is not there.
const UNFINISHED_MACROS: [&str; 2] = [concat!("to", "do"), concat!("unimple", "mented")];

/// Folders of machines that somebody wrote this on; a reader has none of them.
const FOREIGN_FOLDERS: [&str; 2] = [concat!("/", "work/"), concat!("/", "farm/")];

/// Words of how it was written, which say nothing about what it does.
const FOREIGN_WORDS: [&str; 1] = [concat!("sub", "agent")];

/// The comment that allows a test to sleep: what it waits for, and why nothing can wake it.
const WAITS: &str = "// waits:";

/// `license = "Apache-2.0 OR MIT"` needs both texts.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// All that is untidy.
pub fn check(tree: &Tree, packages: &[Package]) -> Vec<Problem> {
    let mut found = Vec::new();
    for file in &tree.files {
        found.extend(foreign(file));
        if file.path.ends_with(".rs") {
            found.extend(source(file));
        }
    }
    let missing = LICENCES.iter().filter(|name| tree.text(name).is_none());
    found.extend(missing.map(|name| Problem::new(*name, "the licence is missing", "put its text back")));
    found.extend(map(tree, packages));
    found
}

/// Whether all of a file is there for tests.
pub fn is_test(path: &str) -> bool {
    path.starts_with("checks/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn source(file: &File) -> Vec<Problem> {
    let tokens = rust::tokens(&file.text);
    let code = rust::code(&tokens);
    let mut found = Vec::new();
    found.extend(too_long(file));
    found.extend(long_functions(file, &code));
    found.extend(headless(file));
    found.extend(unfinished(file, &tokens, &code));
    found.extend(ignored(file, &code));
    found.extend(sleeping(file, &tokens, &code));
    found
}

fn at(file: &File, line: usize) -> String {
    format!("{}:{line}", file.path)
}

fn too_long(file: &File) -> Option<Problem> {
    let lines = file.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        let what = format!("{lines} lines; {FILE_LINES_MAX} is the limit");
        Problem::new(&file.path, what, "move what has a name of its own into a file of its own")
    })
}

fn long_functions<'a>(file: &'a File, code: &[Token<'a>]) -> impl Iterator<Item = Problem> {
    rust::functions(code).into_iter().filter_map(|function| {
        let lines = function.lines.end() - function.lines.start() + 1;
        (lines > FUNCTION_LINES_MAX).then(|| {
            let what = format!("`{}` has {lines} lines; {FUNCTION_LINES_MAX} is the limit", function.name);
            Problem::new(at(file, *function.lines.start()), what, "give its parts names")
        })
    })
}

fn headless(file: &File) -> Option<Problem> {
    let ours = file.path.contains("/src/") && !is_test(&file.path);
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    (ours && !first.starts_with("//!")).then(|| {
        Problem::new(at(file, 1), "no header", "begin with `//!`: what comes in, what goes out, what it never does")
    })
}

fn unfinished<'a>(file: &'a File, tokens: &[Token<'a>], code: &[Token<'a>]) -> Vec<Problem> {
    let problem = |line, what: &str| {
        Problem::new(at(file, line), format!("`{what}` is unfinished"), "finish it, or write an issue and take it out")
    };
    let mut found = Vec::new();
    for comment in tokens.iter().filter(|token| token.kind == Kind::Comment) {
        let words: Vec<_> = comment.text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        found.extend(UNFINISHED.iter().filter(|word| words.contains(word)).map(|word| problem(comment.line, word)));
    }
    for pair in code.windows(2) {
        let name = UNFINISHED_MACROS.iter().find(|name| pair[0].kind == Kind::Word && pair[0].text == **name);
        found.extend(name.filter(|_| pair[1].text == "!").map(|name| problem(pair[0].line, &format!("{name}!"))));
    }
    found
}

fn ignored<'a>(file: &'a File, code: &[Token<'a>]) -> impl Iterator<Item = Problem> {
    code.windows(3).filter(|three| [three[0].text, three[1].text, three[2].text] == ["#", "[", "ignore"]).map(|three| {
        let hint = "mend it or take it out; what only measures belongs into `bench/`";
        Problem::new(at(file, three[0].line), "a test that is not run shows nothing", hint)
    })
}

/// A test that sleeps is slow on a fast machine and wrong on a slow one.
fn sleeping<'a>(file: &'a File, tokens: &[Token<'a>], code: &[Token<'a>]) -> Vec<Problem> {
    let parts = rust::test_lines(code);
    let in_test = |line: usize| is_test(&file.path) || parts.iter().any(|part| part.contains(&line));
    let reasons: Vec<usize> = tokens.iter().filter(|t| t.text.starts_with(WAITS)).map(|t| t.line).collect();
    let excused = |line: usize| reasons.iter().any(|reason| *reason == line || reason + 1 == line);
    let sleeps = code.windows(2).filter(|pair| {
        let word = pair[1].kind == Kind::Word && matches!(pair[1].text, "sleep" | "sleep_until");
        // `clock.sleep(…)` asks a port, which a fake answers at once.
        word && !matches!(pair[0].text, "." | "fn")
    });
    let lines = sleeps.map(|pair| pair[1].line).filter(|line| in_test(*line) && !excused(*line));
    let hint = format!("wait for what wakes you, with a deadline; else say why on the line: `{WAITS} …`");
    lines.map(|line| Problem::new(at(file, line), "a test sleeps", &hint)).collect()
}

fn foreign(file: &File) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let folders = FOREIGN_FOLDERS.iter().filter(|folder| begins_path(line, folder));
        let words = FOREIGN_WORDS.iter().filter(|word| line.to_lowercase().contains(**word));
        for what in folders.chain(words) {
            let hint = "say it so that it is true on every machine";
            found.push(Problem::new(at(file, index + 1), format!("`{what}` does not belong into the product"), hint));
        }
    }
    found
}

/// Whether an absolute path in `line` begins with `folder`: not within a longer path, as in `DATA` + `folder`.
fn begins_path(line: &str, folder: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ']' | '>');
    line.match_indices(folder).any(|(place, _)| !line[..place].ends_with(inner))
}

/// The code map has a row for every package, and every row is true.
fn map(tree: &Tree, packages: &[Package]) -> Vec<Problem> {
    let file = architecture::FILE;
    let rows = match tree.text(file).map(architecture::code_map) {
        Some(Ok(rows)) => rows,
        Some(Err(error)) => return vec![Problem::new(file, format!("{error:#}"), "see the rules above the table")],
        None => return vec![Problem::new(file, "the map is missing", "put it back")],
    };
    let absent = packages.iter().filter(|package| !rows.iter().any(|(_, folder)| *folder == package.folder));
    let absent = absent.map(|package| {
        let hint = format!("add a row `{}` to the code map: what it does, what it never does", package.folder);
        Problem::new(file, format!("the code map lacks package `{}`", package.name), hint)
    });
    let untrue = rows.iter().filter(|(_, folder)| !packages.iter().any(|package| package.folder == *folder));
    let untrue = untrue.map(|(line, folder)| {
        let what = format!("the code map names `{folder}`, which is no package");
        Problem::new(format!("{file}:{line}"), what, "correct the row, or take it out")
    });
    absent.chain(untrue).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places and what is wrong there, a line each.
    fn shown(path: &str, text: &str) -> String {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let found = [foreign(&file), source(&file)].concat();
        found.iter().map(|problem| format!("{}: {}", problem.place, problem.what)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_short_file_with_a_header_is_tidy() {
        assert_eq!(shown("a/src/lib.rs", "//! In, out, never.\n\nfn a() {\n    clock.sleep(1);\n}\n"), "");
    }

    #[test]
    fn a_file_and_a_function_have_a_limit() {
        let body = |lines: usize| format!("//! H\nfn long() {{\n{}}}\n", "    a();\n".repeat(lines));
        assert_eq!(shown("a/src/lib.rs", &body(68)), "");
        assert_eq!(shown("a/src/lib.rs", &body(69)), "a/src/lib.rs:2: `long` has 71 lines; 70 is the limit");
        let long = format!("//! H\n{}", "// why\n".repeat(600));
        assert_eq!(shown("a/src/lib.rs", &long), "a/src/lib.rs: 601 lines; 600 is the limit");
    }

    #[test]
    fn a_source_file_begins_with_its_header_and_a_test_need_not() {
        assert_eq!(shown("a/src/b.rs", "use c;\n//! late\n"), "a/src/b.rs:1: no header");
        assert_eq!(shown("a/src/tests.rs", "use c;\n"), "");
    }

    #[test]
    fn leftovers_are_found_in_comments_and_code_but_not_in_strings() {
        let (word, call) = (UNFINISHED[0], UNFINISHED_MACROS[0]);
        let text = format!("//! H\n// {word}: later\nfn a() {{\n    {call}!()\n}}\nconst B: &str = \"{word}\";\n");
        let expected = format!("a/src/b.rs:2: `{word}` is unfinished\na/src/b.rs:4: `{call}!` is unfinished");
        assert_eq!(shown("a/src/b.rs", &text), expected);
    }

    #[test]
    fn a_test_neither_sleeps_without_a_reason_nor_is_left_out() {
        let nap = concat!("thread::", "sleep(x)");
        let text = format!(
            "//! H\nfn a() {{ {nap} }}\n#[cfg(test)]\nmod tests {{\n    #[test]\n    #[{}]\n    fn t() {{\n        \
             {nap};\n        {WAITS} the kernel tells nobody\n        {nap};\n    }}\n}}\n",
            concat!("ign", "ore")
        );
        let expected = "a/src/b.rs:6: a test that is not run shows nothing\na/src/b.rs:8: a test sleeps";
        assert_eq!(shown("a/src/b.rs", &text), expected);
    }

    #[test]
    fn the_machine_of_the_writer_is_not_named() {
        let folder = FOREIGN_FOLDERS[0];
        assert_eq!(shown("b.md", &format!("DATA{folder}jobs and `DATA`{folder}\n")).lines().count(), 1);
        let expected = format!("b.sh:1: `{folder}` does not belong into the product");
        assert_eq!(shown("b.sh", &format!("cd {folder}main\n")).lines().next(), Some(expected.as_str()));
    }

    #[test]
    fn the_code_map_is_complete_and_true() {
        let text = "<!-- code-map:begin -->\n| package | does |\n|---|---|\n| `base/model` | nouns |\n| `base/gone` | was \
                    |\n<!-- code-map:end -->\n";
        let file = File { path: architecture::FILE.into(), text: text.into() };
        let tree = Tree { files: vec![file], ..Tree::default() };
        let package = |folder: &str| Package { name: folder.into(), folder: folder.into(), ..Package::default() };
        let found = map(&tree, &[package("base/model"), package("base/new")]);
        let shown: Vec<_> = found.iter().map(|problem| problem.what.as_str()).collect();
        let expected = ["the code map lacks package `base/new`", "the code map names `base/gone`, which is no package"];
        assert_eq!(shown, expected);
    }
}
