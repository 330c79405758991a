//! The form of the file: YAML, positions, limits, messages.

use super::{check, good, hint, problems, says};
use crate::{Config, PROBLEMS_MAX, Problem};

#[test]
fn a_file_without_content_is_all_defaults() {
    for text in ["", "\n\n", "# nothing yet\n", "---\n", "{}\n", "services:\n"] {
        let config = good(text);
        assert_eq!(config.file, "slipway.yaml");
        let expected = Config { file: "slipway.yaml".to_owned(), ..Config::default() };
        assert_eq!(config, expected, "in {text:?}");
    }
}

#[test]
fn every_error_is_said_at_once_with_its_place() {
    let text = "\
project: shop
servces: {}
services:
  api:
    dockerfle: Dockerfile
    port: 70000
    domain: shop.example
jobs:
  contract:
    run: ./contract.sh
    timeout: 10
    needs: [build]
";
    check(
        text,
        &[
            "2:1 unknown key `servces` in the file",
            "5:5 unknown key `dockerfle` in a service",
            "6:11 `port` must be a whole number from 1 to 65535",
            "7:5 `domain` is not yet supported",
            "11:14 `timeout` needs a unit",
            "12:13 unknown job `build`",
        ],
    );
}

#[test]
fn a_problem_is_shown_with_its_line_a_caret_and_a_hint() {
    let text = "services:\n  api: { dockerfle: x }\n";
    let expected = "\
error: unknown key `dockerfle` in a service
  --> slipway.yaml:2:10
2 |   api: { dockerfle: x }
  |          ^^^^^^^^^
hint: did you mean `dockerfile`?
";
    assert_eq!(problems(text).render(false), expected);
    let painted = problems(text).render(true);
    assert!(painted.starts_with("\u{1b}[1;31merror\u{1b}[0m: "), "{painted}");
}

#[test]
fn carets_stand_below_wide_characters() {
    let problem = problems("project: 상점\n");
    let shown = problem.render(false);
    assert!(shown.contains("1 | project: 상점\n  |          ^^^^\n"), "{shown}");
}

#[test]
fn a_problem_survives_json() {
    let list = problems("bogus: 1\n").list;
    let text = serde_json::to_string(&list).expect("problems are plain data");
    let back: Vec<Problem> = serde_json::from_str(&text).expect("and come back");
    assert_eq!(back, list);
}

#[test]
fn a_configuration_survives_json() {
    let config = good("services: { api: . }\nenvironments: { production: { retain: 3 } }\n");
    let text = serde_json::to_string(&config).expect("a configuration is plain data");
    let back: Config = serde_json::from_str(&text).expect("and comes back");
    assert_eq!(back, config);
}

#[test]
fn the_same_key_twice_is_an_error_at_both_places() {
    let text = "project: a\nbranches: {}\nproject: b\n";
    check(text, &["3:1 duplicate key `project`"]);
    assert_eq!(hint(text), "it stands already in 1:1");
}

#[test]
fn a_tab_in_the_indentation_is_an_error() {
    check("services:\n\tapi: .\n", &["2:1 a tab in the indentation"]);
    let flow = "services: {\n\tapi: .,\n\tweb: .\n}\n";
    check(flow, &["2:1 a tab in the indentation", "3:1 a tab in the indentation"]);
}

#[test]
fn tabs_inside_a_text_are_text() {
    let config = good("jobs:\n  a:\n    run: |\n      if true\n      \techo\n");
    assert!(config.jobs.contains_key("a"));
}

#[test]
fn a_second_document_is_an_error() {
    let text = "project: a\n---\nproject: b\n";
    check(text, &["2:1 a second document begins here"]);
}

#[test]
fn line_ends_of_windows_count_as_one() {
    check("project: a\r\nbogus: 1\r\n", &["2:1 unknown key `bogus` in the file"]);
}

#[test]
fn a_byte_order_mark_takes_no_column() {
    check("\u{feff}bogus: 1\n", &["1:1 unknown key `bogus` in the file"]);
}

#[test]
fn columns_count_characters() {
    let text = "branches: { production: 'é', bogus: 1 }\n";
    check(text, &["1:30 unknown key `bogus` in `branches`"]);
}

#[test]
fn a_control_character_is_refused_before_the_parser_ends_at_it() {
    check("project: a\u{0}b\n", &["1:11 a control character in the file"]);
    let shown = problems("project: \u{1b}[31m\n").render(false);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn an_escape_in_a_name_does_not_reach_the_terminal() {
    let shown = problems("\"\\e[31m\": 1\n").render(false);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn anchors_and_merge_keys_put_tables_together() {
    let text = "\
services:
  a: &base { path: ./a, port: 80 }
  b: { <<: *base, path: ./b }
  c: { <<: [{ port: 81 }, *base] }
";
    let config = good(text);
    let port = |name: &str| config.services[name].port.as_ref().map(|port| port.value);
    let path = |name: &str| config.services[name].path.as_ref().map(|path| path.value.clone());
    assert_eq!((port("b"), path("b")), (Some(80), Some("b".to_owned())));
    assert_eq!((port("c"), path("c")), (Some(81), Some("a".to_owned())));
}

#[test]
fn a_merge_key_takes_tables_only() {
    says("services: { <<: 5 }\n", &["`<<` takes a table or a list of tables"]);
}

#[test]
fn an_alias_cannot_repeat_what_it_stands_in() {
    let message = "1:8 this alias stands inside of what it repeats";
    check("a: &x [*x]\n", &[message]);
}

#[test]
fn an_unknown_alias_is_named() {
    check("project: *nope\n", &["1:10 this alias has no anchor before it"]);
}

#[test]
fn an_alias_bomb_costs_nothing_and_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let inner = format!("*a{}", level - 1);
        let items = vec![inner; 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let message = "the file has more than 100000 values, counting what aliases repeat";
    says(&text, &[message]);
}

#[test]
fn nesting_has_a_limit() {
    let text = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    says(&text, &["nested deeper than 64 levels"]);
    let mut blocks = String::new();
    for level in 0..1_000 {
        blocks.push_str(&" ".repeat(level));
        blocks.push_str("a:\n");
    }
    says(&blocks, &["nested deeper than 64 levels"]);
    assert!(!problems(&"[".repeat(100_000)).list.is_empty());
    assert!(!problems(&"- ".repeat(10_000)).list.is_empty());
}

#[test]
fn a_file_has_a_largest_size() {
    let text = " ".repeat(crate::FILE_BYTES_MAX + 1);
    says(&text, &["the file is larger than 1024 KiB"]);
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let text: String = (0..150).map(|n| format!("unknown{n}: 1\n")).collect();
    let found = problems(&text);
    assert_eq!((found.list.len(), found.left_out), (PROBLEMS_MAX, 50));
    assert!(found.render(false).ends_with("and 50 more\n"));
}

#[test]
fn broken_yaml_says_what_to_do() {
    says("project: a: b\n", &["a `:` is not expected here"]);
    for text in ["services: { a: .\n", "project: 'a\n", "a: ]\n", "? [\n", "%\n", "@\n", "&\n"] {
        assert_eq!(problems(text).list.len(), 1, "in {text:?}");
    }
}

#[test]
fn expressions_are_refused_where_they_stand() {
    let message = "expressions `${{ … }}` are not yet supported";
    check("project: ${{ vars.name }}\n", &[&format!("1:10 {message}")]);
    let text = "jobs:\n  a:\n    run: |\n      echo hi\n      echo ${{ secrets.X }}\n";
    check(text, &[&format!("5:12 {message}")]);
    let text = "jobs: { a: { run: x, timeout: '${{ vars.t }}' } }\n";
    says(text, &[message]);
}

#[test]
fn tags_have_no_meaning() {
    says("project: !thing a\n", &["tags such as `!name` have no meaning here"]);
    assert!(good("project: !!str a\n").project.is_some());
}

#[test]
fn the_file_is_a_table() {
    let list = "1:1 the file must be a table of `key: value`, not a list";
    check("- a\n", &[list]);
    let text = "1:1 the file must be a table of `key: value`, not one value";
    check("hello\n", &[text]);
}

#[test]
fn keys_are_text() {
    says("services: { [a, b]: . }\n", &["a key must be text"]);
}

#[test]
fn top_level_keys() {
    says("compose: compose.yaml\n", &["`compose` is not yet supported"]);
    says("middleware: { db: postgres }\n", &["`middleware` is not yet supported"]);
    says("uses: acme/platform/service.yaml@v4\n", &["`uses` is not yet supported"]);
    says("project: My_App\n", &["`My_App` is not a name"]);
    assert!(hint("project: My_App\n").starts_with("did you mean `my-app`?"));
    assert_eq!(hint("servces: {}\n"), "did you mean `services`?");
    assert!(hint("xyzzyx: {}\n").starts_with("known here: `branches`"));
    says("branches: { production: 'release/*' }\n", &["`production` is one branch, not a pattern"]);
    says("branches: { include: 'a b' }\n", &["`a b` cannot be a branch"]);
}
