//! The instructions that change only how the image runs.
//!
//! In: ENV, LABEL, USER, EXPOSE, STOPSIGNAL, ENTRYPOINT, CMD, SHELL, ARG, one at a time, and the variables so far.
//! Out: the image's configuration and the variables after it. Never: a layer.

use std::collections::BTreeMap;

use crate::error::Problem;
use crate::expand;
use crate::oci::{ImageConfig, Nothing};
use crate::parse::{Argument, Command, Instruction, Text};

/// Configuration and variables of a stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunConfig {
    pub(crate) image: ImageConfig,
    /// The ARGs of this stage so far; they are not part of the image.
    pub(crate) arguments: BTreeMap<String, String>,
    /// The shell forms that are still in force.
    pub(crate) shell_entrypoint: Option<Text>,
    pub(crate) shell_cmd: Option<Text>,
    /// What SHELL says; empty is `/bin/sh -c`.
    pub(crate) shell: Vec<String>,
}

/// What ARGs may take their values from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// By the request.
    pub(crate) arguments: BTreeMap<String, String>,
    /// By the ARGs before the first FROM.
    pub(crate) global: BTreeMap<String, String>,
    /// TARGETARCH and the like.
    pub(crate) predefined: BTreeMap<String, String>,
}

impl RunConfig {
    /// Replaces the variables of a text; ENV wins over ARG.
    pub(crate) fn expand(&self, text: &Text, escape: char) -> Result<String, Problem> {
        let lookup = |name: &str| {
            let of_env = self.image.env.iter().rev().find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then(|| value.to_owned())
            });
            of_env.or_else(|| self.arguments.get(name).cloned())
        };
        expand_with(text, escape, &lookup)
    }

    /// Applies an instruction that makes no layer; COPY, RUN and WORKDIR are the builder's.
    pub(crate) fn apply(&mut self, instruction: &Instruction, given: &Given, escape: char) -> Result<(), Problem> {
        match instruction {
            Instruction::Arg(arguments) => self.declare(arguments, given, escape)?,
            Instruction::Env(pairs) => {
                for (name, value) in self.expand_pairs(pairs, escape)? {
                    set_env(&mut self.image.env, &name, &value);
                }
            }
            Instruction::Label(pairs) => {
                let pairs = self.expand_pairs(pairs, escape)?;
                self.image.labels.extend(pairs);
            }
            Instruction::User(text) => {
                let user = self.expand(text, escape)?;
                if user.is_empty() {
                    return Err(Problem::new(text.at, "USER is empty once its variables are replaced"));
                }
                self.image.user = user;
            }
            Instruction::StopSignal(text) => self.image.stop_signal = read_signal(text, self.expand(text, escape)?)?,
            Instruction::Expose(texts) => {
                for text in texts {
                    for word in self.expand(text, escape)?.split_whitespace() {
                        let ports = read_ports(text, word)?;
                        self.image.exposed_ports.extend(ports.into_iter().map(|port| (port, Nothing {})));
                    }
                }
            }
            Instruction::Entrypoint(command) => {
                (self.image.entrypoint, self.shell_entrypoint) = self.arguments_of(command);
                // Arguments for another program would make no sense (Dockerfile reference, "CMD").
                self.image.cmd.clear();
                self.shell_cmd = None;
            }
            Instruction::Cmd(command) => (self.image.cmd, self.shell_cmd) = self.arguments_of(command),
            Instruction::Shell(words) => self.shell.clone_from(words),
            Instruction::Copy(_) | Instruction::Workdir(_) | Instruction::Run(_) => {}
        }
        Ok(())
    }

    fn declare(&mut self, arguments: &[Argument], given: &Given, escape: char) -> Result<(), Problem> {
        for argument in arguments {
            let name = &argument.name;
            let of_default = match &argument.default {
                Some(default) => Some(self.expand(default, escape)?),
                None => given.global.get(name).cloned(),
            };
            let value = given.arguments.get(name).cloned().or(of_default);
            if let Some(value) = value.or_else(|| given.predefined.get(name).cloned()) {
                self.arguments.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// What a command is started with; the text, if a shell reads it.
    pub(crate) fn arguments_of(&self, command: &Command) -> (Vec<String>, Option<Text>) {
        match command {
            Command::Exec(words) => (words.clone(), None),
            Command::Shell(text) => {
                let mut words = match self.shell.as_slice() {
                    [] => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
                    shell => shell.to_vec(),
                };
                words.push(text.raw.clone());
                (words, Some(text.clone()))
            }
        }
    }

    /// The variables that a command sees; ENV wins over ARG.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.arguments.clone();
        let pairs = self.image.env.iter().filter_map(|pair| pair.split_once('='));
        all.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        all
    }

    /// All values of one instruction see the variables from before it.
    fn expand_pairs(&self, pairs: &[(Text, Text)], escape: char) -> Result<Vec<(String, String)>, Problem> {
        let expand = |(name, value): &(Text, Text)| Ok((self.expand(name, escape)?, self.expand(value, escape)?));
        pairs.iter().map(expand).collect()
    }
}

pub(crate) fn expand_with(
    text: &Text,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    expand::word(&text.raw, escape, lookup).map_err(|message| Problem::new(text.at, message))
}

/// A later value takes the place of an earlier one.
fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let place = env.iter_mut().find(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name));
    match place {
        Some(place) => *place = pair,
        None => env.push(pair),
    }
}

fn read_signal(text: &Text, signal: String) -> Result<String, Problem> {
    let is_number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let is_name = signal.strip_prefix("SIG").unwrap_or(&signal);
    let is_name = is_name.starts_with(|first: char| first.is_ascii_uppercase())
        && is_name.chars().all(|next| next.is_ascii_uppercase() || next.is_ascii_digit() || "+-".contains(next));
    match is_number || is_name {
        true => Ok(signal),
        false => Err(Problem::new(text.at, format!("`{signal}` is not a signal")).hint("write for example SIGTERM")),
    }
}

/// `8080`, `53/udp`, `7000-7010/tcp`.
fn read_ports(text: &Text, word: &str) -> Result<Vec<String>, Problem> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0 && !digits.starts_with('+'));
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high && matches!(protocol.as_str(), "tcp" | "udp" | "sctp") => {
            Ok((low..=high).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => {
            Err(Problem::new(text.at, format!("`{word}` is not a port")).hint("write `8080`, `53/udp` or `7000-7010`"))
        }
    }
}
