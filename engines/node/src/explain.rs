//! Why an instance is not ready, in words, from what was seen.
//!
//! In: looks, listening ports, exit records, last lines. Out: one sentence that ends in what to do. Pure.

use crate::meta::Meta;
use crate::probe::Look;
use slipway_model::instance::{Exit, InstanceSpec};
use slipway_model::release::Places;
use slipway_model::{At, ServiceName};
use slipway_sandbox::{Ended, ExitRecord};
use std::net::SocketAddr;

/// The exit code of a process that was ended by SIGKILL.
const KILLED: i32 = 137;
/// Ports that are named.
const PORTS_NAMED: usize = 5;

/// What is explained: an instance as it was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    service: &'a ServiceName,
    spec: &'a InstanceSpec,
    /// Where that stands in the file.
    places: &'a Places,
    /// The limit that holds, whoever set it.
    memory_bytes: Option<u64>,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(meta: &'a Meta, spec: &'a InstanceSpec) -> Asked<'a> {
        Asked { service: &meta.lane.service, spec, places: &meta.places, memory_bytes: meta.memory_bytes }
    }

    fn write(&self, key: &str, value: &str) -> String {
        self.places.write(self.service, key, value)
    }
}

/// The ports on which the process listens instead of the one it was given, in order.
pub(crate) fn elsewhere(spec: &InstanceSpec, listening: &[SocketAddr]) -> Vec<u16> {
    let mut others: Vec<u16> = listening.iter().map(SocketAddr::port).collect();
    if others.contains(&spec.port) {
        return Vec::new();
    }
    others.sort_unstable();
    others.dedup();
    others
}

/// Why a living process is not ready.
pub(crate) fn not_ready(asked: Asked<'_>, look: &Look, listening: &[SocketAddr], last_line: &str) -> String {
    let (spec, said) = (asked.spec, said(last_line));
    let port = spec.port;
    let path = spec.health.path.as_deref().unwrap_or("/");
    match look {
        Look::Good => String::new(),
        Look::NothingListens => {
            let mut others = elsewhere(spec, listening);
            others.truncate(PORTS_NAMED);
            let words: Vec<String> = others.iter().map(ToString::to_string).collect();
            match words.first() {
                Some(first) => format!(
                    "nothing listens on PORT {port}; the process listens on {}{said}; fix: {}",
                    words.join(", "),
                    asked.write("port", first)
                ),
                None => format!(
                    "nothing listens on PORT {port}; the process listens nowhere{said}; fix: listen on the port that PORT says"
                ),
            }
        }
        Look::BadStatus(status) => format!(
            "GET {path} answered {status}{said}; fix: let {path} answer below 400 when it is ready, or {}",
            asked.write("health", "another path")
        ),
        Look::NoAnswer(why) if spec.health.path.is_some() => {
            format!("GET {path} {why}{said}; fix: let {path} answer, or {}", asked.write("health", "another path"))
        }
        Look::NoAnswer(why) => format!("PORT {port} {why}{said}; fix: let it accept connections"),
        Look::BadCommand(how) => {
            let command = spec.health.command.as_deref().unwrap_or_default().join(" ");
            format!("the health command `{command}` {how}{said}; fix: let it exit with 0 when the service is ready")
        }
    }
}

/// How a process ended that nobody had told to.
pub(crate) fn ended(record: &ExitRecord, asked: Asked<'_>) -> (Exit, String) {
    let Some(step) = record.last_step() else {
        return (exit(0, false, record.ended_ms, ""), "it ended before it began".into());
    };
    let after = slipway_model::time::words(step.ended_ms.saturating_sub(step.started_ms));
    let said = said(&step.last_line);
    let (code, out_of_memory, what) = match &step.ended {
        Ended::Exited { code } => (*code, false, format!("exited with code {code} after {after}")),
        Ended::Signalled { signal } => (128 + signal, false, format!("was ended by signal {signal} after {after}")),
        Ended::OutOfMemory => (137, true, format!("{} after {after}", memory(asked))),
        Ended::TimedOut => (124, false, format!("passed its time limit after {after}")),
        Ended::Stopped { code, signal } => {
            let code = code.or(signal.map(|s| 128 + s)).unwrap_or(0);
            (code, false, format!("was stopped after {after}"))
        }
        Ended::NotStarted(failure) => {
            (127, false, format!("could not be started: {}: {}", failure.what, failure.cause))
        }
    };
    let fix = match &step.ended {
        Ended::OutOfMemory => format!("; fix: {}", asked.write("resources.memory", &more(asked))),
        Ended::NotStarted(_) => {
            format!("; fix: {}, or ENTRYPOINT of the Dockerfile", asked.write("command", "a program of the image"))
        }
        Ended::Exited { .. } | Ended::Signalled { .. } | Ended::TimedOut | Ended::Stopped { .. } => String::new(),
    };
    (exit(code, out_of_memory, step.ended_ms, &step.last_line), format!("{what}{said}{fix}"))
}

/// What is to be said of a process that was told to end and had to be killed (R273).
pub(crate) fn ignored(exit: &Exit, spec: &InstanceSpec) -> Option<String> {
    let grace = slipway_model::time::words(spec.stop.grace_ms);
    let why = format!(
        "it did not end within {grace} of its stop signal and was killed; fix: finish and end when the signal comes, or \
         give it longer with `stop: {{ grace: … }}`"
    );
    (exit.code == KILLED && !exit.out_of_memory).then_some(why)
}

/// A process whose shim was killed: no exit status exists.
pub(crate) fn lost(now: At, last_line: &str) -> (Exit, String) {
    let said = said(last_line);
    (exit(137, false, now.0, last_line), format!("was killed from outside together with its shim{said}"))
}

fn exit(code: i32, out_of_memory: bool, ended_ms: u64, last_line: &str) -> Exit {
    Exit { code, out_of_memory, at: At(ended_ms), last_line: last_line.to_owned() }
}

fn memory(asked: Asked<'_>) -> String {
    match (asked.spec.resources.memory_bytes, asked.memory_bytes) {
        (Some(bytes), _) => format!("reached its memory limit of {}", size(bytes)),
        (None, Some(bytes)) => {
            format!("reached its memory limit of {} (the default on this machine)", size(bytes))
        }
        (None, None) => "was killed for want of memory on this machine".into(),
    }
}

/// What to write where the limit was too small.
fn more(asked: Asked<'_>) -> String {
    match asked.spec.resources.memory_bytes {
        Some(bytes) => format!("more than {}", size(bytes)),
        None => "what it needs".into(),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

fn said(last_line: &str) -> String {
    if last_line.is_empty() { "; it said nothing".into() } else { format!("; last line: \"{last_line}\"") }
}
