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
        refused("FROM scratch\n  ADD a /\nHEALTHCHECK NONE\n"),
        "2:3: ADD is not yet supported | use COPY for files; fetch and unpack archives in a job\n\
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
        "2:6: heredocs of COPY are not yet supported | write the text into a file of the repository and COPY it"
    );
}

fn first_run(text: &str) -> crate::Run {
    let dockerfile = parse(&format!("FROM scratch\n{text}")).unwrap();
    let Instruction::Run(run) = dockerfile.stages[0].steps[0].instruction.clone() else { panic!() };
    run
}

fn script(text: &str) -> String {
    match first_run(text).command {
        Command::Shell(text) => text.raw,
        Command::Exec(words) => panic!("{words:?}"),
    }
}

#[test]
fn what_runs_is_a_list_a_line_for_the_shell_or_a_heredoc() {
    assert_eq!(first_run("RUN [\"/x\", \"a b\"]\n").command, Command::Exec(vec!["/x".into(), "a b".into()]));
    assert_eq!(script("RUN make \\\n  # why\n  all && \\\n  true\n"), "make   all &&   true");
    assert_eq!(script("RUN [ -e /x ] || exit 1\n"), "[ -e /x ] || exit 1");
    assert_eq!(script("RUN <<EOF\necho a\n  FROM b\nEOF\nUSER 1\n"), "echo a\n  FROM b\n");
    assert_eq!(script("RUN <<-'END'\n\techo $a\n\tEND\n"), "echo $a\n");
    assert_eq!(script("RUN cat <<A >/x && cat <<B\n1\nA\n2\nB\n"), "cat <<A >/x && cat <<B\n1\nA\n2\nB\n");
    assert_eq!(script("RUN echo \"a <<b\" $((1 << 2))\n"), "echo \"a <<b\" $((1 << 2))");
}

#[test]
fn a_run_that_cannot_be_read_is_refused_where_it_stands() {
    let check = |run: &str, expected: &str| assert_eq!(refused(&format!("FROM scratch\n{run}\n")), expected, "{run}");
    check(
        "RUN <<EOF\necho",
        "2:5: no line with `EOF` alone ends this heredoc | write it below the last line of the text",
    );
    check(
        "RUN <<EOF\n#!/usr/bin/perl\nEOF",
        "2:5: a heredoc with an interpreter of its own is not yet supported | COPY the script and run it, or give the \
         heredoc to the interpreter: `RUN python3 <<EOF`",
    );
    check(
        "RUN [\"a\", b]",
        "2:5: this is not a JSON list of texts | write `[\"program\", \"argument\"]`, with double quotes",
    );
    check(
        "SHELL /bin/bash",
        "2:7: this is not a JSON list of texts | write `[\"program\", \"argument\"]`, with double quotes",
    );
    check(
        "RUN --network=host make",
        "2:15: `--network=host` is not yet supported | a command never shares the network of this machine",
    );
    check("RUN --network=some make", "2:15: `some` is no network | it is `default` or `none`");
    check("RUN --security=insecure make", "2:5: `--security` of RUN is not yet supported");
    for kind in ["secret", "ssh", "tmpfs", "bind"] {
        check(
            &format!("RUN --mount=type={kind},target=/x make"),
            &format!(
                "2:13: `--mount=type={kind}` is not yet supported | COPY what the command reads; of mounts there is \
                 `--mount=type=cache,target=FOLDER`"
            ),
        );
    }
    check("RUN --mount=type=cache make", "2:13: this cache has no target | write `--mount=type=cache,target=FOLDER`");
    check(
        "RUN --mount=type=cache,target=/c,sharing=private make",
        "2:34: `sharing=private` of --mount=type=cache is not yet supported",
    );
    check("RUN --network=none", "2:1: RUN says nothing");
}

#[test]
fn network_and_caches_of_a_run_are_read() {
    let run = first_run("RUN --network=none --mount=type=cache,id=pip,target=/root/.cache,uid=7,mode=700 pip x\n");
    assert!(!run.network);
    let [cache] = run.caches.as_slice() else { panic!() };
    assert_eq!((cache.target.raw.as_str(), cache.id.as_ref().unwrap().raw.as_str()), ("/root/.cache", "pip"));
    assert_eq!((cache.owner, cache.mode), ((7, 0), 0o700));
    assert!(first_run("RUN --network=default make\n").network);
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
