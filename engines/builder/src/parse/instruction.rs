//! Reads one instruction after the other.
//!
//! In: logical lines. Out: the [`Dockerfile`] as far as it can be read.
//! Never: an instruction or flag that is skipped in silence.

use super::lines::{Line, Lines};
use super::words::{Word, split, split_quoted};
use super::{Argument, Command, Copy, CopyFrom, Dockerfile, Instruction, Stage, Step, Text, stage_index};
use crate::error::{Position, Problem};

/// Instructions that Docker knows and this builder does not run yet, with a way around.
const NOT_YET: &[(&str, &str)] = &[
    ("ADD", "use COPY for files; fetch and unpack archives in a job"),
    ("HEALTHCHECK", "say `health:` of the service in slipway.yaml"),
    ("VOLUME", "say `storage:` of the environment in slipway.yaml"),
    ("ONBUILD", "write the instruction into the Dockerfile that needs it"),
    ("MAINTAINER", "use `LABEL org.opencontainers.image.authors=…`"),
];

const KNOWN: &[&str] = &[
    "FROM",
    "ARG",
    "ENV",
    "LABEL",
    "COPY",
    "RUN",
    "WORKDIR",
    "USER",
    "EXPOSE",
    "ENTRYPOINT",
    "CMD",
    "SHELL",
    "STOPSIGNAL",
];

pub(super) fn read_all(lines: &Lines, problems: &mut Vec<Problem>) -> Dockerfile {
    let mut dockerfile = Dockerfile { escape: lines.escape, arguments: Vec::new(), stages: Vec::new() };
    for line in &lines.lines {
        if let Err(problem) = read_line(line, &mut dockerfile) {
            problems.push(problem);
        }
    }
    dockerfile
}

fn read_line(line: &Line, dockerfile: &mut Dockerfile) -> Result<(), Problem> {
    let name_length = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let name = line.text[..name_length].to_ascii_uppercase();
    let (flags, rest) = read_flags(line, name_length);
    let instruction = Reader { line, name: &name, rest, escape: dockerfile.escape };
    if let Some(problem) = instruction.is_refused() {
        return Err(problem);
    }
    if rest.text.is_empty() {
        return Err(Problem::new(line.at(0), format!("{name} says nothing")));
    }
    if name == "FROM" {
        let (stage, read) = match instruction.stage(&flags) {
            Ok(stage) => (stage, Ok(())),
            // What follows is still read, so that all problems are told at once.
            Err(problem) => (Stage::unreadable(line.at(0)), Err(problem)),
        };
        dockerfile.stages.push(stage);
        return read;
    }
    let read = instruction.read(&flags, &dockerfile.stages)?;
    let step =
        Step { at: line.at(0), source: line.text.split_whitespace().collect::<Vec<_>>().join(" "), instruction: read };
    match (dockerfile.stages.last_mut(), step.instruction) {
        (Some(stage), instruction) => stage.steps.push(Step { instruction, ..step }),
        (None, Instruction::Arg(arguments)) => dockerfile.arguments.extend(arguments),
        (None, _) => {
            return Err(Problem::new(step.at, format!("{name} stands before the first FROM"))
                .hint("begin with `FROM scratch` or `FROM PROJECT/SERVICE:TAG`"));
        }
    }
    Ok(())
}

impl Stage {
    fn unreadable(at: Position) -> Self {
        let raw = "scratch".to_owned();
        Self { base: Text { raw, at }, platform: None, name: None, steps: Vec::new(), at }
    }
}

/// `--name=value` words before anything else, and what follows them.
fn read_flags(line: &Line, name_length: usize) -> (Vec<Word<'_>>, Word<'_>) {
    let mut flags = Vec::new();
    let mut begin = name_length;
    loop {
        let text = line.text[begin..].trim_start();
        let offset = line.text.len() - text.len();
        let length = text.find(char::is_whitespace).unwrap_or(text.len());
        if !text.starts_with("--") {
            return (flags, Word { text, offset });
        }
        flags.push(Word { text: &text[..length], offset });
        begin = offset + length;
    }
}

pub(super) struct Reader<'a> {
    pub(super) line: &'a Line,
    pub(super) name: &'a str,
    pub(super) rest: Word<'a>,
    escape: char,
}

impl Reader<'_> {
    fn is_refused(&self) -> Option<Problem> {
        let at = self.line.at(0);
        if let Some((name, hint)) = NOT_YET.iter().find(|(name, _)| *name == self.name) {
            return Some(Problem::new(at, format!("{name} is not yet supported")).hint(*hint));
        }
        if KNOWN.contains(&self.name) {
            return None;
        }
        let problem = Problem::new(at, format!("`{}` is not an instruction", self.name));
        let all = KNOWN.iter().copied().chain(NOT_YET.iter().map(|(name, _)| *name));
        Some(match all.into_iter().find(|known| is_near(known, self.name)) {
            Some(near) => problem.hint(format!("did you mean {near}?")),
            None => problem,
        })
    }

    fn read(&self, flags: &[Word<'_>], before: &[Stage]) -> Result<Instruction, Problem> {
        if self.name == "COPY" {
            return self.copy(flags, before).map(Instruction::Copy);
        }
        if self.name == "RUN" {
            return self.run(flags).map(Instruction::Run);
        }
        if let Some(flag) = flags.first() {
            return Err(self.unknown_flag(flag));
        }
        match self.name {
            "ARG" => self.arguments().map(Instruction::Arg),
            "ENV" => self.pairs().map(Instruction::Env),
            "LABEL" => self.pairs().map(Instruction::Label),
            "WORKDIR" => Ok(Instruction::Workdir(self.text(self.rest))),
            "USER" => self.single().map(Instruction::User),
            "STOPSIGNAL" => self.single().map(Instruction::StopSignal),
            "EXPOSE" => Ok(Instruction::Expose(self.words())),
            "ENTRYPOINT" => self.command().map(Instruction::Entrypoint),
            "SHELL" => self.shell().map(Instruction::Shell),
            _ => self.command().map(Instruction::Cmd),
        }
    }

    fn stage(&self, flags: &[Word<'_>]) -> Result<Stage, Problem> {
        let mut platform = None;
        for flag in flags {
            match flag_value(flag, "--platform") {
                Some(value) => platform = Some(self.text(value)),
                None => return Err(self.unknown_flag(flag)),
            }
        }
        let words = split(self.rest.text, self.rest.offset);
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(name)),
            [_, second, ..] => {
                return Err(Problem::new(
                    self.line.at(second.offset),
                    format!("`{}` is not expected here", second.text),
                )
                .hint("write `FROM IMAGE` or `FROM IMAGE AS NAME`"));
            }
            [] => return Err(Problem::new(self.line.at(0), "FROM says nothing")),
        };
        let name = name.map(|name| self.stage_name(name)).transpose()?;
        Ok(Stage { base: self.text(*base), platform, name, steps: Vec::new(), at: self.line.at(0) })
    }

    fn stage_name(&self, word: &Word<'_>) -> Result<String, Problem> {
        let at = self.line.at(word.offset);
        let name = word.text.to_lowercase();
        let is_word = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.chars().all(is_word) {
            return Err(Problem::new(at, format!("`{}` is not a stage name", word.text))
                .hint("it begins with a letter and has letters, digits, `-`, `_` and `.`"));
        }
        if name == "scratch" || name == "context" || name.starts_with("job.") {
            return Err(Problem::new(at, format!("`{name}` has a meaning already")).hint("choose another stage name"));
        }
        Ok(name)
    }

    fn copy(&self, flags: &[Word<'_>], before: &[Stage]) -> Result<Copy, Problem> {
        let (mut from, mut chown, mut chmod) = (CopyFrom::Context, None, None);
        for flag in flags {
            if let Some(value) = flag_value(flag, "--from") {
                from = self.copy_from(value, before)?;
            } else if let Some(value) = flag_value(flag, "--chown") {
                chown = Some(self.text(value));
            } else if let Some(value) = flag_value(flag, "--chmod") {
                chmod = Some(self.text(value));
            } else {
                return Err(self.unknown_flag(flag));
            }
        }
        let mut paths = self.json_or_words()?;
        let destination = paths.pop();
        match destination {
            Some(destination) if !paths.is_empty() => Ok(Copy { from, chown, chmod, sources: paths, destination }),
            _ => Err(Problem::new(self.line.at(self.rest.offset), "COPY needs a source and a destination")
                .hint("write `COPY SOURCE DESTINATION`")),
        }
    }

    fn copy_from(&self, value: Word<'_>, before: &[Stage]) -> Result<CopyFrom, Problem> {
        let at = self.line.at(value.offset);
        if value.text.contains('$') {
            return Err(Problem::new(at, "variables are not allowed in `--from`")
                .hint("name the stage with `FROM … AS NAME`, with the variable in FROM"));
        }
        if let Some(job) = value.text.strip_prefix("job.") {
            return match job {
                "" => Err(Problem::new(at, "`--from=job.` names no job")),
                job => Ok(CopyFrom::Job(job.to_owned())),
            };
        }
        // The stage that is being read cannot be copied from itself.
        let earlier = &before[..before.len().saturating_sub(1)];
        if let Some(index) = stage_index(earlier, value.text) {
            return Ok(CopyFrom::Stage(index));
        }
        if !value.text.contains(['/', ':', '@']) {
            return Err(Problem::new(at, format!("there is no stage `{}` before this one", value.text))
                .hint("name it with `FROM … AS NAME`, or write `--from=job.NAME` for what a job produced"));
        }
        value
            .text
            .parse()
            .map(CopyFrom::Image)
            .map_err(|error: crate::ReferenceError| Problem::new(at, error.message).hint(error.hint))
    }

    fn arguments(&self) -> Result<Vec<Argument>, Problem> {
        let words = split_quoted(self.rest.text, self.rest.offset, self.escape);
        let read = |word: &Word<'_>| {
            let (name, default) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(self.value_of(word, name, value))),
                None => (word.text, None),
            };
            self.check_name(name, word.offset)?;
            Ok(Argument { name: name.to_owned(), default, at: self.line.at(word.offset) })
        };
        words.iter().map(read).collect()
    }

    /// `name=value …`, or the old form `name the whole rest`.
    fn pairs(&self) -> Result<Vec<(Text, Text)>, Problem> {
        let words = split_quoted(self.rest.text, self.rest.offset, self.escape);
        if words.first().is_some_and(|first| !first.text.contains('=')) {
            return self.old_pair(&words);
        }
        let read = |word: &Word<'_>| {
            let Some((name, value)) = word.text.split_once('=') else {
                return Err(Problem::new(self.line.at(word.offset), format!("`{}` has no `=`", word.text))
                    .hint("put a value with spaces in double quotes"));
            };
            self.check_name(name, word.offset)?;
            let name_text = Text { raw: name.to_owned(), at: self.line.at(word.offset) };
            Ok((name_text, self.value_of(word, name, value)))
        };
        words.iter().map(read).collect()
    }

    fn old_pair(&self, words: &[Word<'_>]) -> Result<Vec<(Text, Text)>, Problem> {
        let [name, value, ..] = words else {
            let message = format!("{} needs a name and a value", self.name);
            return Err(
                Problem::new(self.line.at(self.rest.offset), message).hint(format!("write `{} NAME=value`", self.name))
            );
        };
        self.check_name(name.text, name.offset)?;
        let begin = value.offset - self.rest.offset;
        let value = Word { text: &self.rest.text[begin..], offset: value.offset };
        Ok(vec![(self.text(*name), self.text(value))])
    }

    fn check_name(&self, name: &str, offset: usize) -> Result<(), Problem> {
        if !name.is_empty() && !name.contains(char::is_whitespace) {
            return Ok(());
        }
        let message = format!("{} has a value without a name", self.name);
        Err(Problem::new(self.line.at(offset), message).hint("write NAME=value, without spaces around `=`"))
    }

    fn command(&self) -> Result<Command, Problem> {
        if !self.rest.text.starts_with('[') {
            return Ok(Command::Shell(self.text(self.rest)));
        }
        match serde_json::from_str(self.rest.text) {
            Ok(words) => Ok(Command::Exec(words)),
            // Docker would run it with a shell, which nobody means.
            Err(_) => Err(self.bad_json()),
        }
    }

    fn json_or_words(&self) -> Result<Vec<Text>, Problem> {
        if !self.rest.text.starts_with('[') {
            return Ok(self.words());
        }
        match serde_json::from_str::<Vec<String>>(self.rest.text) {
            Ok(words) => {
                let at = self.line.at(self.rest.offset);
                Ok(words.into_iter().map(|raw| Text { raw, at }).collect())
            }
            // `[a-z]*.txt /to` is a pattern.
            Err(_) if !self.rest.text.contains('"') => Ok(self.words()),
            Err(_) => Err(self.bad_json()),
        }
    }

    pub(super) fn bad_json(&self) -> Problem {
        Problem::new(self.line.at(self.rest.offset), "this is not a JSON list of texts")
            .hint("write `[\"program\", \"argument\"]`, with double quotes")
    }

    fn single(&self) -> Result<Text, Problem> {
        match split(self.rest.text, self.rest.offset).as_slice() {
            [_, second, ..] => {
                let message = format!("{} takes one word", self.name);
                Err(Problem::new(self.line.at(second.offset), message))
            }
            _ => Ok(self.text(self.rest)),
        }
    }

    fn words(&self) -> Vec<Text> {
        let words = split(self.rest.text, self.rest.offset);
        words.into_iter().map(|word| self.text(word)).collect()
    }

    pub(super) fn text(&self, word: Word<'_>) -> Text {
        Text { raw: word.text.to_owned(), at: self.line.at(word.offset) }
    }

    fn value_of(&self, word: &Word<'_>, name: &str, value: &str) -> Text {
        Text { raw: value.to_owned(), at: self.line.at(word.offset + name.len() + 1) }
    }

    pub(super) fn unknown_flag(&self, flag: &Word<'_>) -> Problem {
        let name = flag.text.split('=').next().unwrap_or(flag.text);
        let message = format!("`{name}` of {} is not yet supported", self.name);
        Problem::new(self.line.at(flag.offset), message)
    }
}

pub(super) fn flag_value<'a>(flag: &Word<'a>, name: &str) -> Option<Word<'a>> {
    let value = flag.text.strip_prefix(name)?.strip_prefix('=')?;
    Some(Word { text: value, offset: flag.offset + name.len() + 1 })
}

/// Whether one letter was added, left out, changed, or swapped with its neighbour.
fn is_near(known: &str, written: &str) -> bool {
    let (known, written) = (known.as_bytes(), written.as_bytes());
    let same = known.iter().zip(written).take_while(|(a, b)| a == b).count();
    let (a, b) = (&known[same..], &written[same..]);
    let tail = |bytes: &[u8], from: usize| bytes.get(from..).map(<[u8]>::to_vec);
    let is_swapped = a.len() >= 2 && b.len() >= 2 && a[0] == b[1] && a[1] == b[0];
    tail(a, 1) == Some(b.to_vec())
        || Some(a.to_vec()) == tail(b, 1)
        || (tail(a, 1).is_some() && tail(a, 1) == tail(b, 1))
        || (is_swapped && a[2..] == b[2..])
}
