//! Dockerfiles and what is said of them.

use super::told;
use crate::{Command, CopyFrom, Instruction, parse};

fn refused(text: &str) -> String {
    told(&parse(text).unwrap_err()).join("\n")
}

#[test]
fn a_plain_dockerfile_is_read_with_positions() {
    let text = "# a comment\nFROM scratch AS Base\n\nCOPY --from=job.package --chown=1:2 \\\n  # between\n  a b \\\n  /to/\nENTRYPOINT [\"/to/a\", \"x\"]\nCMD run it\n";
    let dockerfile = parse(text).unwrap();
    let stage = &dockerfile.stages[0];
    assert_eq!(stage.name.as_deref(), Some("base"));
    let [copy, entrypoint, cmd] = stage.steps.as_slice() else { panic!() };
    assert_eq!((copy.at.line, copy.at.column), (4, 1));
    assert_eq!(copy.source, "COPY --from=job.package --chown=1:2 a b /to/");
    let Instruction::Copy(copy) = &copy.instruction else { panic!() };
    assert_eq!(copy.from, CopyFrom::Job("package".to_owned()));
    assert_eq!((copy.sources[1].at.line, copy.sources[1].at.column), (6, 5));
    assert_eq!((copy.destination.at.line, copy.destination.at.column), (7, 3));
    assert_eq!(entrypoint.instruction, Instruction::Entrypoint(Command::Exec(vec!["/to/a".into(), "x".into()])));
    assert!(matches!(&cmd.instruction, Instruction::Cmd(Command::Shell(text)) if text.raw == "run it"));
    assert_eq!(dockerfile.jobs().into_iter().collect::<Vec<_>>(), ["package"]);
}

#[test]
fn the_escape_directive_byte_order_marks_and_windows_line_ends_are_understood() {
    let dockerfile = parse("\u{feff}# escape=`\r\nFROM scratch\r\nENV a=c:\\ `\r\n b=2\r\n").unwrap();
    assert_eq!(dockerfile.escape, '`');
    let Instruction::Env(pairs) = &dockerfile.stages[0].steps[0].instruction else { panic!() };
    assert_eq!(pairs[0].1.raw, "c:\\");
    assert_eq!((pairs[1].0.raw.as_str(), pairs[1].0.at.line, pairs[1].0.at.column), ("b", 4, 2));
}

#[test]
fn what_is_not_supported_is_refused_where_it_stands() {
    assert_eq!(
        refused("FROM scratch\n  RUN make\nHEALTHCHECK NONE\n"),
        "2:3: RUN is not yet supported | do it in a job and bring its result in with `COPY --from=job.NAME`\n\
         3:1: HEALTHCHECK is not yet supported | say `health:` of the service in slipway.yaml"
    );
    assert_eq!(refused("FROM scratch\nCOPY --link a /\n"), "2:6: `--link` of COPY is not yet supported");
    assert_eq!(refused("FROM scratch\nCOYP a /\n"), "2:1: `COYP` is not an instruction | did you mean COPY?");
    assert_eq!(
        refused("FROM scratch\nCOPY a\n"),
        "2:6: COPY needs a source and a destination | write `COPY SOURCE DESTINATION`"
    );
    assert_eq!(
        refused("FROM scratch\nCMD ['a']\n"),
        "2:5: this is not a JSON list of texts | write `[\"program\", \"argument\"]`, with double quotes"
    );
    assert_eq!(refused("FROM scratch\nENV\n"), "2:1: ENV says nothing");
    assert_eq!(refused("FROM scratch\nENV a\n"), "2:5: ENV needs a name and a value | write `ENV NAME=value`");
    assert_eq!(
        refused("# syntax=example/other:1\nFROM scratch\n"),
        "1:10: syntax `example/other:1` is not yet supported | remove the line, or name `docker/dockerfile:1`"
    );
}

#[test]
fn a_heredoc_is_one_problem_and_not_one_per_line_of_it() {
    assert_eq!(
        refused("FROM scratch\nCOPY <<EOF /etc/motd\nRUN this is text\nEOF\nUSER 1\n"),
        "2:6: heredocs are not yet supported | write the text into a file of the repository and COPY it"
    );
}

#[test]
fn a_file_without_from_is_refused() {
    for text in ["", "# nothing\n", "\n\n"] {
        assert_eq!(
            refused(text),
            "1:1: this Dockerfile has no FROM | begin with `FROM scratch` or `FROM PROJECT/SERVICE:TAG`"
        );
    }
    assert_eq!(
        refused("ENV a=1\nFROM scratch\n"),
        "1:1: ENV stands before the first FROM | begin with `FROM scratch` or `FROM PROJECT/SERVICE:TAG`"
    );
}

// R123
#[test]
fn a_base_that_may_be_another_one_tomorrow_is_refused() {
    for base in ["shop/base", "shop/base:latest"] {
        let found = refused(&format!("FROM {base}\n"));
        assert!(found.starts_with("1:6: `shop/base"), "{found}");
        assert!(found.contains("latest"), "{found}");
    }
    assert!(refused("FROM debian:12\nCOPY a /\n").starts_with("1:6: `debian:12` is not an image of this"));
    assert!(
        refused("FROM scratch\nCOPY --from=shop/base:latest a /\n").starts_with("2:13: `shop/base:latest` is refused")
    );
    assert!(parse("FROM shop/base:1.2\n").is_ok());
}

#[test]
fn stages_are_named_once_and_used_after_they_were_begun() {
    assert_eq!(refused("FROM scratch AS a\nFROM scratch AS A\n"), "2:1: stage `a` was begun in line 1 already");
    assert!(
        refused("FROM scratch AS a\nCOPY --from=a x /\n").starts_with("2:13: there is no stage `a` before this one")
    );
    assert!(refused("FROM scratch AS a\nCOPY --from=1 x /\nFROM scratch\n").starts_with("2:13: there is no stage `1`"));
    assert!(refused("FROM scratch\nCOPY --from=$x a /\n").starts_with("2:13: variables are not allowed"));
    let dockerfile = parse("FROM scratch AS a\nFROM A\nCOPY --from=0 x /\n").unwrap();
    let Instruction::Copy(copy) = &dockerfile.stages[1].steps[0].instruction else { panic!() };
    assert_eq!(copy.from, CopyFrom::Stage(0));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let found = refused("FROM a b c d\nUSER a b\nEXPOSE\nARG =1\n");
    let lines: Vec<_> = found.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["1:8:", "2:8:", "3:1:", "4:5:"]);
}
