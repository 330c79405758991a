//! `docs/requirements.md` against the tests.
//!
//! In: its tables, all tests. Out: rows that claim what nothing shows. Never: judges whether a test is a good one.

use crate::markdown::{self, Table};
use crate::problem::Problem;
use crate::tree::{File, Tree};
use crate::{rust, tidy};
use std::collections::{BTreeMap, BTreeSet};

const FILE: &str = "docs/requirements.md";

/// What may hold tests beside Rust: scripts and golden texts in these folders.
const TEST_FOLDERS: [&str; 3] = ["checks/", "bench/", "examples/"];

/// All rows that claim too much.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let Some(text) = tree.text(FILE) else {
        return vec![Problem::new(FILE, "the table of requirements is missing", "put it back")];
    };
    let named = named_by_tests(tree);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for table in markdown::tables(text) {
        let columns = [table.column("id"), table.column("state"), table.column("where it is shown")];
        let [Some(id), Some(state), Some(place)] = columns else { continue };
        for (line, row) in rows(&table, id, state, place) {
            let problem = |(what, hint)| Problem::new(format!("{FILE}:{line}"), format!("{}: {what}", row.id), hint);
            let twice = !seen.insert(row.id.to_owned());
            let twice = twice.then(|| ("stands twice".into(), "keep one row".into()));
            found.extend(row.wrong(tree, &named).into_iter().chain(twice).map(problem));
        }
    }
    if seen.is_empty() {
        let hint = "a table has the columns `id`, `what`, `state`, `where it is shown`";
        found.push(Problem::new(FILE, "no requirement was found", hint));
    }
    found
}

struct Row<'a> {
    id: &'a str,
    state: &'a str,
    place: &'a str,
}

/// What is wrong, and what to do.
type Wrong = (String, String);

fn rows(table: &Table, id: usize, state: usize, place: usize) -> impl Iterator<Item = (usize, Row<'_>)> {
    table.rows.iter().map(move |(line, cells)| {
        let cell = |column: usize| cells.get(column).map(String::as_str).unwrap_or_default();
        (*line, Row { id: cell(id), state: cell(state), place: cell(place) })
    })
}

impl Row<'_> {
    fn wrong(&self, tree: &Tree, named: &BTreeMap<String, Vec<String>>) -> Vec<Wrong> {
        let mut found = Vec::new();
        if ids(self.id).collect::<Vec<_>>() != [self.id] {
            found.push(("is not an id".into(), "R and three digits, or A and two".into()));
        }
        let claims = match self.state {
            "works" | "partly" => true,
            "open" => false,
            other => {
                found.push((format!("state `{other}` is unknown"), "say `works`, `partly` or `open`".into()));
                false
            }
        };
        if self.state == "works" && !named.contains_key(self.id) {
            let hint = format!("write `// {}` beside the test that shows it, or say `partly` or `open`", self.id);
            found.push(("is said to work, and no test names it".into(), hint));
        }
        let places = markdown::quoted(self.place);
        if claims && places.is_empty() {
            let tests = named.get(self.id).map(|files| files.join("`, `"));
            let hint = tests.map_or("name a file in backticks".into(), |files| format!("named in `{files}`"));
            found.push((format!("is `{}`, and no place shows it", self.state), hint));
        }
        let gone = places.iter().filter(|place| !tree.root.join(path(place)).exists());
        found.extend(gone.map(|place| (format!("there is no `{}`", path(place)), "name a file that exists".into())));
        found
    }
}

/// `checks/e2e/src/push.rs::name_of_a_test` is a path and the name of a test.
fn path(place: &str) -> &str {
    place.split("::").next().unwrap_or(place)
}

/// Which tests name which id.
fn named_by_tests(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // The tests of this check speak of ids without showing anything about them.
    for file in tree.files.iter().filter(|file| !file.path.starts_with("xtask/")) {
        let named: BTreeSet<&str> = test_text(file).into_iter().flat_map(ids).collect();
        for id in named {
            found.entry(id.to_owned()).or_default().push(file.path.clone());
        }
    }
    found
}

/// The lines of a file that belong to tests.
fn test_text(file: &File) -> Vec<&str> {
    let lines = file.text.lines();
    if file.path.ends_with(".rs") && !tidy::is_test(&file.path) {
        let parts = rust::test_lines(&rust::code(&rust::tokens(&file.text)));
        // An id in the line above a test is beside it.
        let belongs = |line: usize| parts.iter().any(|part| (part.start() - 1..=*part.end()).contains(&line));
        return lines.enumerate().filter(|(index, _)| belongs(index + 1)).map(|(_, line)| line).collect();
    }
    // Unit tests that stand in a file of their own.
    let own_file = file.path.ends_with("/tests.rs");
    let in_folder =
        own_file || TEST_FOLDERS.iter().any(|folder| file.path.starts_with(folder)) || file.path.contains("/tests/");
    if in_folder && !file.path.ends_with(".md") { lines.collect() } else { Vec::new() }
}

/// Ids of requirements (`R` and three digits) and scenarios (`A` and two digits) in a text.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| {
        let digits = |rest: &str, count| rest.len() == count && rest.bytes().all(|byte| byte.is_ascii_digit());
        word.strip_prefix('R').is_some_and(|rest| digits(rest, 3))
            || word.strip_prefix('A').is_some_and(|rest| digits(rest, 2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_row(row: &str, source: &str) -> String {
        let file = |path: &str, text: String| File { path: path.into(), text };
        let table = format!("| id | what | state | where it is shown |\n|---|---|---|---|\n{row}\n");
        let files = vec![file(FILE, table), file("a/src/b.rs", source.to_owned())];
        let tree = Tree { root: crate::tree::root().unwrap(), files };
        check(&tree).iter().map(|problem| problem.what.clone()).collect::<Vec<_>>().join("\n")
    }

    const TEST: &str = "// R999 is not shown here\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    // R998\n    #[test]\n    fn b() {}\n}\n";

    #[test]
    fn what_works_is_named_by_a_test() {
        assert_eq!(check_row("| R998 | x | works | `xtask/src/main.rs` |", TEST), "");
        let expected = "R999: is said to work, and no test names it";
        assert_eq!(check_row("| R999 | x | works | `xtask/src/main.rs` |", TEST), expected);
        assert_eq!(check_row("| R999 | x | open | |", TEST), "");
    }

    #[test]
    fn what_is_claimed_has_a_place_that_exists() {
        assert_eq!(check_row("| R998 | x | partly | |", TEST), "R998: is `partly`, and no place shows it");
        let expected = "R998: there is no `xtask/src/gone.rs`";
        assert_eq!(check_row("| R998 | x | works | `xtask/src/gone.rs::b` |", TEST), expected);
    }

    #[test]
    fn a_row_has_an_id_and_a_known_state_and_stands_once() {
        assert_eq!(check_row("| R99 | x | open | |", TEST), "R99: is not an id");
        assert_eq!(check_row("| R998 | x | done | |", TEST), "R998: state `done` is unknown");
        assert_eq!(check_row("| A05 | x | open | |\n| A05 | x | open | |", TEST), "A05: stands twice");
        assert_eq!(check_row("", TEST), "no requirement was found");
    }
}
