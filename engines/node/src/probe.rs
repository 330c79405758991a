//! Readiness: when to look, and what a look finds.
//!
//! In: a process and its door, the health rule, what earlier looks found. Out: one [`Look`] at a time, when it is due. Never more
//! than one look at once, and few when nothing changes: a ready instance is looked at every 5 s.

use crate::http;
use crate::inside::Door;
use crate::meta::Meta;
use crate::stop::Process;
use slipway_model::release::Health;
use slipway_sandbox::{Command, Executed, SandboxError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause while it starts; doubled up to the next.
const START_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause of the first seconds.
const START_PAUSE_MAX: Duration = Duration::from_millis(100);
/// A program that needs longer than this is looked at once a second.
const QUICK_START: Duration = Duration::from_secs(15);
const SLOW_PAUSE: Duration = Duration::from_secs(1);
/// A ready instance is looked at no more often than this, whatever the file says: idle must cost nothing.
const READY_PAUSE_MIN: Duration = Duration::from_secs(5);
/// After a bad look at a ready instance, and after its requests failed.
const DOUBT_PAUSE: Duration = Duration::from_millis(200);
/// So many bad looks in a row make a ready instance unready: one may be anybody's.
const BAD_LOOKS: u32 = 3;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// It may get traffic.
    Good,
    /// Nothing listens on the port.
    NothingListens,
    /// It answered with a bad status.
    BadStatus(u16),
    /// It listens but gives no answer: why.
    NoAnswer(String),
    /// The command that tells did not end well: how it ended.
    BadCommand(String),
}

/// Characters of a command's last line that are shown.
const SAID_CHARS_MAX: usize = 200;

/// A command that runs inside an instance, beside its process and as the same user.
pub(crate) fn beside(meta: &Meta, argv: Vec<String>, timeout_ms: u64) -> Command {
    Command { argv, env: meta.env.clone(), cwd: PathBuf::from(&meta.workdir), timeout_ms: timeout_ms.max(1) }
}

/// Looks once: by the command if there is one, else by the path, else by the port.
pub(crate) async fn look(door: &Door, process: &Process, health: &Health, command: Option<&Command>) -> Look {
    match command {
        Some(command) => {
            let asked = command.clone();
            judge_command(command, process.ask(move |shim| shim.exec(asked)).await)
        }
        None => look_from_outside(door, health).await,
    }
}

fn judge_command(command: &Command, ended: Result<Executed, SandboxError>) -> Look {
    let ended = match ended {
        Ok(ended) if ended.succeeded() => return Look::Good,
        Ok(ended) => ended,
        Err(error) => return Look::BadCommand(crate::start::whole(&error)),
    };
    let how = match (ended.timed_out, ended.code, ended.signal) {
        (true, ..) => format!("did not end within {}", slipway_model::time::words(command.timeout_ms)),
        (false, Some(code), _) => format!("exited with code {code}"),
        (false, None, Some(signal)) => format!("was ended by signal {signal}"),
        (false, None, None) => "could not be started".to_owned(),
    };
    let last = ended.output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let shown: String = last.trim().chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    Look::BadCommand(if shown.is_empty() { how } else { format!("{how}: \"{shown}\"") })
}

async fn look_from_outside(door: &Door, health: &Health) -> Look {
    let limit = Duration::from_millis(health.timeout_ms.max(1));
    let stream = match tokio::time::timeout(limit, door.connect()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Look::NothingListens,
        Ok(Err(error)) => return Look::NoAnswer(error.to_string()),
        Err(_) => {
            let words = slipway_model::time::words(health.timeout_ms);
            return Look::NoAnswer(format!("did not accept a connection within {words}"));
        }
    };
    let Some(path) = &health.path else { return Look::Good };
    match http::request(stream, "GET", path, limit).await {
        Ok(answer) if answer.status < 400 => Look::Good,
        Ok(answer) => Look::BadStatus(answer.status),
        Err(why) => Look::NoAnswer(why),
    }
}

/// What the newest look changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Same,
    /// It is ready now.
    Ready,
    /// It is not any more.
    Unready,
}

/// When to look, and what the looks mean.
pub(crate) struct Watch {
    since: Instant,
    due: Instant,
    last: Instant,
    pause: Duration,
    interval: Duration,
    bad: u32,
    ready: bool,
}

impl Watch {
    /// Looks at once.
    pub(crate) fn new(health: &Health) -> Watch {
        let now = Instant::now();
        let interval = Duration::from_millis(health.interval_ms).max(READY_PAUSE_MIN);
        Watch { since: now, due: now, last: now, pause: START_PAUSE, interval, bad: 0, ready: false }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Since the process started, or since it is unready.
    pub(crate) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns when it is time to look. Cancel safe.
    pub(crate) async fn due(&self) {
        tokio::time::sleep_until(self.due).await;
    }

    /// Requests failed: look soon, though not for each of them.
    pub(crate) fn doubt(&mut self) {
        if self.ready {
            self.due = self.due.min((self.last + DOUBT_PAUSE).max(Instant::now()));
        }
    }

    /// Takes a look into account.
    pub(crate) fn take(&mut self, look: &Look) -> Turn {
        let now = Instant::now();
        self.last = now;
        let good = *look == Look::Good;
        let turn = if good {
            self.bad = 0;
            if self.ready { Turn::Same } else { Turn::Ready }
        } else {
            self.bad += 1;
            if self.ready && self.bad >= BAD_LOOKS { Turn::Unready } else { Turn::Same }
        };
        match turn {
            Turn::Ready => self.ready = true,
            Turn::Unready => {
                (self.ready, self.since, self.pause) = (false, now, START_PAUSE_MAX);
            }
            Turn::Same => {}
        }
        let pause = match (self.ready, good) {
            (true, true) => self.interval,
            (true, false) => DOUBT_PAUSE,
            (false, _) => self.next_start_pause(),
        };
        self.due = now + pause;
        turn
    }

    fn next_start_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(START_PAUSE_MAX);
        if self.waited() > QUICK_START { SLOW_PAUSE } else { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(&Health { path: None, command: None, timeout_ms: 1_000, interval_ms: 1_000 })
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_quickly_while_it_starts_and_seldom_once_it_is_ready() {
        let mut watch = watch();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            watch.due().await;
            watch.take(&Look::NothingListens);
            pauses.push((watch.due - Instant::now()).as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(watch.take(&Look::Good), Turn::Ready);
        assert_eq!(watch.due - Instant::now(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_look_is_not_the_end_but_three_are() {
        let mut watch = watch();
        watch.take(&Look::Good);
        assert_eq!(watch.take(&Look::BadStatus(503)), Turn::Same);
        assert_eq!(watch.take(&Look::Good), Turn::Same);
        let turns: Vec<Turn> = (0..3).map(|_| watch.take(&Look::BadStatus(503))).collect();
        assert_eq!(turns, [Turn::Same, Turn::Same, Turn::Unready]);
        assert_eq!(watch.take(&Look::Good), Turn::Ready);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_requests_bring_the_next_look_forward() {
        let mut watch = watch();
        watch.take(&Look::Good);
        watch.doubt();
        assert_eq!(watch.due - Instant::now(), DOUBT_PAUSE);
    }

    // R448
    #[test]
    fn a_command_that_does_not_end_well_is_told_with_its_last_line() {
        let command =
            Command { argv: vec!["/ready".into()], env: Vec::new(), cwd: PathBuf::from("/"), timeout_ms: 2_000 };
        let ended = |code, signal, timed_out, output: &str| {
            judge_command(&command, Ok(Executed { code, signal, timed_out, output: output.to_owned() }))
        };
        let bad = |text: &str| Look::BadCommand(text.to_owned());
        assert_eq!(ended(Some(0), None, false, "fine"), Look::Good);
        assert_eq!(ended(Some(2), None, false, "one\nno database\n\n"), bad("exited with code 2: \"no database\""));
        assert_eq!(ended(None, Some(9), true, ""), bad("did not end within 2.0s"));
        assert_eq!(ended(None, Some(11), false, ""), bad("was ended by signal 11"));
    }
}
