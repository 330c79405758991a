//! What the end of a sandbox means for the job.
//!
//! In: the exit record, why it was ended, the job. Out: result, reason and the deciding step. Pure.

use crate::folder::Ending;
use slipway_model::job::{JobDef, JobResult, StepDef, Usage};
use slipway_model::time::words;
use slipway_sandbox::{Ended, ExitRecord, StepRecord};

/// The exit code that means: neither good nor bad.
pub(crate) const NEUTRAL: i32 = 78;

/// How a job ended, before anything of what it promised is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub result: JobResult,
    pub reason: String,
    /// Index of the step that decided.
    pub step: Option<usize>,
    pub exit_code: Option<i32>,
}

impl Judged {
    pub fn lost(reason: impl Into<String>) -> Judged {
        Judged { result: JobResult::Lost, reason: reason.into(), step: None, exit_code: None }
    }

    /// A run that was ended before a step of it began.
    pub fn unstarted(ending: &Ending) -> Judged {
        let (result, reason) = ended_by(ending);
        Judged { result, reason, step: None, exit_code: None }
    }
}

/// Judges a run whose sandbox has ended.
pub(crate) fn judge(record: &ExitRecord, ending: Option<&Ending>, job: &JobDef, memory_bytes: Option<u64>) -> Judged {
    let Some(last) = record.last_step() else {
        return Judged::lost("its sandbox ended before its first step began");
    };
    let index = record.steps.len() - 1;
    let step = job.steps.get(index);
    let failed = |reason: String, code: Option<i32>| Judged {
        result: JobResult::Failed,
        reason,
        step: Some(index),
        exit_code: code,
    };
    match &last.ended {
        Ended::Exited { code: 0 } if record.steps.len() < job.steps.len() => match ending {
            Some(ending) => Judged { step: Some(index), ..Judged::unstarted(ending) },
            None => Judged::lost(format!("its sandbox ended after step `{}`", last.name)),
        },
        Ended::Exited { code: 0 } => {
            Judged { result: JobResult::Passed, reason: String::new(), step: None, exit_code: Some(0) }
        }
        Ended::Exited { code: NEUTRAL } => Judged {
            result: JobResult::Neutral,
            reason: format!("step `{}` exited with 78: neither good nor bad", last.name),
            step: Some(index),
            exit_code: Some(NEUTRAL),
        },
        Ended::Exited { code } => failed(format!("step `{}` exited with {code}", last.name), Some(*code)),
        Ended::Signalled { signal } => {
            let reason = format!("step `{}` was ended by signal {signal}{}", last.name, signal_name(*signal));
            failed(reason, Some(128 + signal))
        }
        Ended::OutOfMemory => failed(out_of_memory(memory_bytes), Some(137)),
        Ended::NotStarted(failure) => failed(format!("{}: {}", failure.what, failure.cause), None),
        Ended::TimedOut => Judged {
            result: JobResult::TimedOut,
            reason: step_timed_out(step, last, job.timeout_ms),
            step: Some(index),
            exit_code: None,
        },
        Ended::Stopped { code, signal } => {
            let exit_code = code.or(signal.map(|signal| 128 + signal));
            let judged = match ending {
                Some(Ending::TimedOut) => Judged {
                    result: JobResult::TimedOut,
                    reason: job_timed_out(job.timeout_ms, &last.name),
                    step: Some(index),
                    exit_code,
                },
                Some(ending) => Judged { step: Some(index), ..Judged::unstarted(ending) },
                None => Judged::lost("its sandbox was stopped by something else on the machine"),
            };
            Judged { exit_code, ..judged }
        }
    }
}

fn ended_by(ending: &Ending) -> (JobResult, String) {
    match ending {
        Ending::Cancelled => (JobResult::Cancelled, "it was cancelled".to_owned()),
        Ending::TimedOut => (JobResult::TimedOut, "it ran longer than it may".to_owned()),
        Ending::Lost { reason } => (JobResult::Lost, reason.clone()),
    }
}

fn step_timed_out(step: Option<&StepDef>, last: &StepRecord, job_ms: u64) -> String {
    match step.and_then(|step| step.timeout_ms) {
        Some(limit) if limit < job_ms => format!("step `{}` ran longer than its {}", last.name, words(limit)),
        Some(_) | None => job_timed_out(job_ms, &last.name),
    }
}

fn job_timed_out(limit_ms: u64, step: &str) -> String {
    format!("it ran longer than its {}; it was in step `{step}`", words(limit_ms))
}

fn out_of_memory(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) if bytes % (1 << 30) == 0 => format!("memory limit {} GiB reached", bytes >> 30),
        Some(bytes) => format!("memory limit {} MiB reached", bytes >> 20),
        None => "memory limit of the machine reached".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// What all steps used together.
pub(crate) fn usage(record: &ExitRecord) -> Usage {
    record.steps.iter().fold(Usage::default(), |sum, step| Usage {
        cpu_ms: sum.cpu_ms + step.usage.cpu_ms,
        memory_peak_bytes: sum.memory_peak_bytes.max(step.usage.memory_peak_bytes),
        read_bytes: sum.read_bytes + step.usage.read_bytes,
        written_bytes: sum.written_bytes + step.usage.written_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ended: &str) -> ExitRecord {
        let step = format!(
            r#"{{"name":"test","ended":{ended},"started_ms":0,"ended_ms":0,"last_line":"",
            "usage":{{"cpu_ms":1,"memory_peak_bytes":2,"read_bytes":0,"written_bytes":0}}}}"#
        );
        let text = format!(
            r#"{{"v":1,"id":"r","kind":"job","started_ms":0,"ended_ms":0,"steps":[{step}],
            "log":{{"lines":0,"bytes":0,"dropped_lines":0,"dropped_bytes":0}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn job(steps: usize, step_timeout_ms: Option<u64>) -> JobDef {
        let step = serde_json::json!({"name": "test", "run": "x", "env": {}, "timeout_ms": step_timeout_ms});
        serde_json::from_value(serde_json::json!({
            "key": {"name": "test"}, "kind": "unit", "steps": vec![step; steps], "needs": [], "image": "host", "env": {},
            "secrets": [], "inputs": [], "produces": [], "artifacts": {}, "retry": {"max": 0, "on": []},
            "timeout_ms": 60_000, "network": false, "folder": "",
        }))
        .unwrap()
    }

    fn check(ended: &str, ending: Option<Ending>, expected: &str) {
        let judged = judge(&record(ended), ending.as_ref(), &job(1, Some(1000)), Some(512 << 20));
        assert_eq!(format!("{}: {}", judged.result.word(), judged.reason), expected);
    }

    #[test]
    fn every_end_has_its_result_and_reason() {
        let lost = || Some(Ending::Lost { reason: "its checkout is gone".into() });
        let stopped = r#"{"stopped":{"code":null,"signal":15}}"#;
        check(r#"{"exited":{"code":0}}"#, None, "passed: ");
        check(r#"{"exited":{"code":0}}"#, Some(Ending::Cancelled), "passed: ");
        check(r#"{"exited":{"code":101}}"#, None, "failed: step `test` exited with 101");
        check(r#"{"exited":{"code":78}}"#, None, "neutral: step `test` exited with 78: neither good nor bad");
        check(r#"{"signalled":{"signal":11}}"#, None, "failed: step `test` was ended by signal 11 (SIGSEGV)");
        check(r#""timed-out""#, None, "timed-out: step `test` ran longer than its 1.0s");
        check(r#""out-of-memory""#, None, "failed: memory limit 512 MiB reached");
        check(stopped, Some(Ending::Cancelled), "cancelled: it was cancelled");
        check(stopped, Some(Ending::TimedOut), "timed-out: it ran longer than its 1m 00s; it was in step `test`");
        check(stopped, lost(), "lost: its checkout is gone");
        check(stopped, None, "lost: its sandbox was stopped by something else on the machine");
        let failure = r#"{"not-started":{"what":"exec of `sh`","cause":"not found in PATH"}}"#;
        check(failure, None, "failed: exec of `sh`: not found in PATH");
    }

    #[test]
    fn a_job_passes_only_with_its_last_step() {
        let passed = record(r#"{"exited":{"code":0}}"#);
        assert_eq!(judge(&passed, None, &job(2, None), None).result, JobResult::Lost);
        assert_eq!(judge(&passed, Some(&Ending::Cancelled), &job(2, None), None).result, JobResult::Cancelled);
    }
}
