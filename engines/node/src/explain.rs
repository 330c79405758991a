//! Why an instance is not ready, in words, from what was seen.
//!
//! In: looks, listening ports, exit records, last lines. Out: one sentence that ends in what to do. Pure.

use crate::probe::Look;
use slipway_model::At;
use slipway_model::instance::{Exit, InstanceSpec};
use slipway_sandbox::{Ended, ExitRecord};
use std::net::SocketAddr;

/// Ports that are named.
const PORTS_NAMED: usize = 5;

/// Why a living process is not ready.
pub(crate) fn not_ready(spec: &InstanceSpec, look: &Look, listening: &[SocketAddr], last_line: &str) -> String {
    let port = spec.port;
    let said = said(last_line);
    let path = spec.health.path.as_deref().unwrap_or("/");
    match look {
        Look::Good => String::new(),
        Look::NothingListens => {
            let mut others: Vec<u16> = listening.iter().map(SocketAddr::port).filter(|other| *other != port).collect();
            others.sort_unstable();
            others.dedup();
            others.truncate(PORTS_NAMED);
            let words: Vec<String> = others.iter().map(ToString::to_string).collect();
            match others.first() {
                Some(first) => format!(
                    "nothing listens on PORT {port}; the process listens on {}{said}; fix: port: {first} in slipway.yaml",
                    words.join(", ")
                ),
                None => format!(
                    "nothing listens on PORT {port}; the process listens nowhere{said}; fix: listen on the port that PORT says"
                ),
            }
        }
        Look::BadStatus(status) => format!(
            "GET {path} answered {status}{said}; fix: let {path} answer below 400 when it is ready, or set health: in slipway.yaml"
        ),
        Look::NoAnswer(why) if spec.health.path.is_some() => {
            format!("GET {path} {why}{said}; fix: let {path} answer, or set health: in slipway.yaml")
        }
        Look::NoAnswer(why) => format!("PORT {port} {why}{said}; fix: let it accept connections"),
    }
}

/// How a process ended that nobody had told to.
pub(crate) fn ended(record: &ExitRecord, spec: &InstanceSpec) -> (Exit, String) {
    let Some(step) = record.last_step() else {
        return (exit(0, false, record.ended_ms, ""), "it ended before it began".into());
    };
    let after = slipway_model::time::words(step.ended_ms.saturating_sub(step.started_ms));
    let said = said(&step.last_line);
    let (code, out_of_memory, what) = match &step.ended {
        Ended::Exited { code } => (*code, false, format!("exited with code {code} after {after}")),
        Ended::Signalled { signal } => (128 + signal, false, format!("was ended by signal {signal} after {after}")),
        Ended::OutOfMemory => (137, true, format!("{} after {after}", memory(spec))),
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
        Ended::OutOfMemory => "; fix: more resources: memory: in slipway.yaml",
        Ended::NotStarted(_) => "; fix: command: in slipway.yaml, or ENTRYPOINT of the Dockerfile",
        Ended::Exited { .. } | Ended::Signalled { .. } | Ended::TimedOut | Ended::Stopped { .. } => "",
    };
    (exit(code, out_of_memory, step.ended_ms, &step.last_line), format!("{what}{said}{fix}"))
}

/// A process whose shim was killed: no exit status exists.
pub(crate) fn lost(now: At, last_line: &str) -> (Exit, String) {
    let said = said(last_line);
    (exit(137, false, now.0, last_line), format!("was killed from outside together with its shim{said}"))
}

fn exit(code: i32, out_of_memory: bool, ended_ms: u64, last_line: &str) -> Exit {
    Exit { code, out_of_memory, at: At(ended_ms), last_line: last_line.to_owned() }
}

fn memory(spec: &InstanceSpec) -> String {
    match spec.resources.memory_bytes {
        Some(bytes) if bytes >= 1 << 20 => format!("reached its memory limit of {} MiB", bytes >> 20),
        Some(bytes) => format!("reached its memory limit of {bytes} bytes"),
        None => "was killed for want of memory on this machine".into(),
    }
}

fn said(last_line: &str) -> String {
    if last_line.is_empty() { "; it said nothing".into() } else { format!("; last line: \"{last_line}\"") }
}
