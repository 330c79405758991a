//! Reads a RUN and a SHELL.
//!
//! In: their flags and the rest of the line, with its heredocs. Out: what runs, its network, the folders it keeps.
//! Never: a variable's value; a flag or an option that is skipped in silence.

use super::instruction::{Reader, flag_value};
use super::words::Word;
use super::{CacheMount, Command, Run, Text};
use crate::error::Problem;

impl Reader<'_> {
    pub(super) fn run(&self, flags: &[Word<'_>]) -> Result<Run, Problem> {
        let (mut network, mut caches) = (true, Vec::new());
        for flag in flags {
            if let Some(value) = flag_value(flag, "--network") {
                network = self.network(value)?;
            } else if let Some(value) = flag_value(flag, "--mount") {
                caches.push(self.mount(value)?);
            } else {
                return Err(self.unknown_flag(flag));
            }
        }
        Ok(Run { command: self.run_command()?, network, caches })
    }

    pub(super) fn shell(&self) -> Result<Vec<String>, Problem> {
        match serde_json::from_str::<Vec<String>>(self.rest.text) {
            Ok(words) if !words.is_empty() => Ok(words),
            Ok(_) | Err(_) => Err(self.bad_json()),
        }
    }

    fn network(&self, value: Word<'_>) -> Result<bool, Problem> {
        let at = self.line.at(value.offset);
        match value.text {
            "default" => Ok(true),
            "none" => Ok(false),
            "host" => Err(Problem::new(at, "`--network=host` is not yet supported")
                .hint("a command never shares the network of this machine")),
            other => Err(Problem::new(at, format!("`{other}` is no network")).hint("it is `default` or `none`")),
        }
    }

    fn mount(&self, value: Word<'_>) -> Result<CacheMount, Problem> {
        let at = self.line.at(value.offset);
        let (mut kind, mut target, mut id, mut owner, mut mode) = ("bind", None, None, (0, 0), 0o755);
        let mut unknown = None;
        for (offset, option) in options(value) {
            let at = self.line.at(offset);
            let (key, given) = option.split_once('=').unwrap_or((option, ""));
            let text = || Some(Text { raw: given.to_owned(), at: self.line.at(offset + key.len() + 1) });
            let bad = || Problem::new(at, format!("`{option}` of --mount cannot be read"));
            match key {
                "type" => kind = given,
                "target" | "dst" | "destination" if !given.is_empty() => target = text(),
                "id" if !given.is_empty() => id = text(),
                "uid" => owner.0 = given.parse().map_err(|_| bad())?,
                "gid" => owner.1 = given.parse().map_err(|_| bad())?,
                "mode" => mode = u32::from_str_radix(given, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(bad)?,
                // One build at a time has the folder, which is what `shared` allows too.
                "sharing" if matches!(given, "shared" | "locked") => {}
                // The kind may come later, and is refused as a whole.
                _ => {
                    let message = format!("`{option}` of --mount=type=cache is not yet supported");
                    unknown.get_or_insert(Problem::new(at, message));
                }
            }
        }
        if kind != "cache" {
            return Err(Problem::new(at, format!("`--mount=type={kind}` is not yet supported"))
                .hint("COPY what the command reads; of mounts there is `--mount=type=cache,target=FOLDER`"));
        }
        if let Some(problem) = unknown {
            return Err(problem);
        }
        let target = target.ok_or_else(|| {
            Problem::new(at, "this cache has no target").hint("write `--mount=type=cache,target=FOLDER`")
        })?;
        Ok(CacheMount { target, id, owner, mode })
    }

    fn run_command(&self) -> Result<Command, Problem> {
        let text = self.rest.text;
        // `[ -e /x ] || …` is for the shell; `["…` is meant as a list and is refused when it is none.
        if text.starts_with('[') && text[1..].trim_start().starts_with('"') {
            return serde_json::from_str(text).map(Command::Exec).map_err(|_| self.bad_json());
        }
        let at = self.line.at(self.rest.offset);
        let raw = match self.line.documents.as_slice() {
            [] => text.to_owned(),
            // Nothing but a heredoc: it is the script.
            [only] if only.word == text => only.body.clone(),
            documents => {
                let mut raw = format!("{text}\n");
                for document in documents {
                    raw.push_str(&format!("{}{}\n", document.body, document.terminator));
                }
                raw
            }
        };
        if raw.starts_with("#!") {
            return Err(Problem::new(at, "a heredoc with an interpreter of its own is not yet supported")
                .hint("COPY the script and run it, or give the heredoc to the interpreter: `RUN python3 <<EOF`"));
        }
        Ok(Command::Shell(Text { raw, at }))
    }
}

/// `a=b,c=d` with the place of each.
fn options(value: Word<'_>) -> impl Iterator<Item = (usize, &str)> {
    let start = value.text.as_ptr() as usize;
    value.text.split(',').map(move |option| (value.offset + (option.as_ptr() as usize - start), option))
}
