//! The life of one run, as the shim sees it. In: events of the sandbox's first process, output, time, wishes of callers. Out: log lines,
//! orders, step records and in the end the exit record. One step runs at a time; the first that fails is the last.

use super::state::{STATE_FILE, ShimState};
use super::{KILL_LIMIT, listen_in};
use crate::cgroup::Group;
use crate::error::Failure;
use crate::log::{LogWriter, Stream};
use crate::record::{Ended, ExitRecord, RECORD_VERSION, Reaping, Reserved, Status, StepRecord, Usage, now_ms};
use crate::spec::{Kind, Spec};
use crate::stack::WayOut;
use crate::standing::Standing;
use crate::wire::{self, Order, Who};
use crate::{settle, sys};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Output taken from one pipe before others get their turn.
const TURN_BYTES: usize = 256 * 1024;
/// A record that the disk refuses is tried again this often, a second apart.
const RECORD_TRIES: u32 = 600;

/// Ends of the sandbox that the shim holds.
pub struct Pipes {
    /// Socket to the first process.
    pub init: OwnedFd,
    /// Its pid.
    pub init_pid: libc::pid_t,
    /// Standard output.
    pub out: OwnedFd,
    /// Standard error.
    pub err: OwnedFd,
}

/// Why a step is being stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    TimedOut,
    Asked,
}

struct Stopping {
    why: Why,
    kill_at: Instant,
}

struct Current {
    index: usize,
    started_ms: u64,
    until: Option<Instant>,
    cpu_us_before: u64,
    kills_before: u64,
}

/// Where a run may write: its state folder, and a job's writable binds. What an instance is shown is not the run's alone.
fn written(spec: &Spec) -> Vec<PathBuf> {
    let binds = spec.binds.iter().filter(|bind| spec.kind == Kind::Job && !bind.read_only);
    std::iter::once(spec.dir.clone()).chain(binds.map(|bind| bind.source.clone())).collect()
}

/// One run.
pub struct Run {
    id: String,
    kind: Kind,
    dir: Rc<OwnedFd>,
    /// Outside id of root inside.
    pub owner: u32,
    steps: Vec<(String, Option<u64>)>,
    grace: Duration,
    pipes: Pipes,
    /// Host pid of the sandbox's first process.
    pub init_pid: libc::pid_t,
    /// Its cgroups.
    pub group: Group,
    /// Its way out, where that is a program.
    pub way_out: Option<WayOut>,
    /// Folders in which ids of an ordinary user's namespace wrote.
    settled: Vec<PathBuf>,
    /// Its log.
    pub log: LogWriter,
    /// Where callers connect.
    pub listener: Option<OwnedFd>,
    started_ms: u64,
    current: Option<Current>,
    stopping: Option<Stopping>,
    killed: bool,
    records: Vec<StepRecord>,
    over: bool,
    reserved: RefCell<Option<Reserved>>,
}

impl Run {
    /// A run whose sandbox is being set up.
    pub fn new(spec: &Spec, standing: &Standing, dir: Rc<OwnedFd>, pipes: Pipes, log: LogWriter) -> Self {
        for pipe in [&pipes.out, &pipes.err] {
            // Failing here would only make a read wait that poll has announced.
            let _ = rustix::io::ioctl_fionbio(pipe, true);
        }
        Self {
            id: spec.id.clone(),
            kind: spec.kind,
            dir,
            owner: standing.range(spec).0,
            steps: spec.steps.iter().map(|step| (step.name.clone(), step.timeout_ms)).collect(),
            grace: Duration::from_millis(spec.kill_grace_ms),
            init_pid: pipes.init_pid,
            pipes,
            group: Group::default(),
            way_out: None,
            settled: if standing.is_root() { Vec::new() } else { written(spec) },
            log,
            listener: None,
            started_ms: now_ms(),
            current: None,
            stopping: None,
            killed: false,
            records: Vec::new(),
            over: false,
            reserved: RefCell::new(None),
        }
    }

    /// Socket to the first process.
    pub fn init(&self) -> BorrowedFd<'_> {
        self.pipes.init.as_fd()
    }

    /// The output pipe of a stream.
    pub fn pipe(&self, stream: Stream) -> BorrowedFd<'_> {
        if stream == Stream::Err { self.pipes.err.as_fd() } else { self.pipes.out.as_fd() }
    }

    /// Whether nothing more will run.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Opens the control socket.
    pub fn listen(&mut self) -> Result<(), Failure> {
        self.listener = Some(listen_in(&self.dir)?);
        Ok(())
    }

    /// Things that need not delay the first step: room for the record, traces for who must clean up.
    pub fn prepare_record(&self) {
        *self.reserved.borrow_mut() = Reserved::take(self.dir.as_fd()).ok();
        let state = ShimState {
            v: 1,
            id: self.id.clone(),
            shim_pid: std::process::id(),
            started_ms: self.started_ms,
            cgroups: self.group.folders(),
        };
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir.as_fd(), STATE_FILE, flags, rustix::fs::Mode::from_raw_mode(0o600));
        // Without it only the cgroups of a killed shim stay behind.
        let _ = file.map(|fd| serde_json::to_vec(&state).map(|bytes| File::from(fd).write_all(&bytes)));
    }

    /// A program was exec'ed.
    pub fn begun(&mut self, who: Who) {
        let Who::Step(index) = who else { return };
        let limit = self.steps.get(index).and_then(|(_, limit)| *limit);
        if index == 0 {
            self.started_ms = now_ms();
        }
        self.group.take_memory_peak();
        self.current = Some(Current {
            index,
            started_ms: now_ms(),
            until: limit.map(|ms| Instant::now() + Duration::from_millis(ms)),
            cpu_us_before: self.group.cpu_us().unwrap_or(0),
            kills_before: self.group.out_of_memory_kills(),
        });
    }

    /// A step's program could not be exec'ed.
    pub fn not_started(&mut self, index: usize, failure: Failure) {
        let name = self.steps.get(index).map(|(name, _)| name.clone()).unwrap_or_default();
        self.log.begin_step(index);
        self.log.note(&format!("{}: {}", failure.what, failure.cause));
        let now = now_ms();
        self.records.push(StepRecord {
            name,
            ended: Ended::NotStarted(failure),
            started_ms: now,
            ended_ms: now,
            usage: Usage::default(),
            last_line: String::new(),
        });
        self.over = true;
    }

    /// As [`Run::not_started`], for the first step: ends the sandbox too.
    pub fn never_started(&mut self, failure: Failure) {
        self.not_started(0, failure);
    }

    /// A process ended that the first process had started.
    pub fn ended(&mut self, who: Who, reaping: Reaping) {
        if matches!((&self.current, who), (Some(current), Who::Step(index)) if current.index == index) {
            self.end_step(reaping);
        }
    }

    /// The first process is gone: killed by us, or by the kernel.
    pub fn lost_sandbox(&mut self) {
        if self.current.is_some() {
            self.end_step(Reaping { signal: Some(libc::SIGKILL), ..Reaping::default() });
        }
        self.over = true;
    }

    fn end_step(&mut self, reaping: Reaping) {
        // Everything that the step wrote is in the pipes by now and belongs to it.
        while self.pump(Stream::Out) || self.pump(Stream::Err) {}
        self.log.finish_lines();
        let Some(current) = self.current.take() else { return };
        let ended = self.judge(&current, reaping);
        let cpu_us = self.group.cpu_us().map_or(reaping.cpu_us, |us| us.saturating_sub(current.cpu_us_before));
        let failed = ended != (Ended::Exited { code: 0 });
        self.records.push(StepRecord {
            name: self.steps.get(current.index).map(|(name, _)| name.clone()).unwrap_or_default(),
            ended,
            started_ms: current.started_ms,
            ended_ms: now_ms(),
            usage: Usage {
                cpu_ms: cpu_us / 1000,
                memory_peak_bytes: self.group.take_memory_peak(),
                read_bytes: reaping.read_bytes,
                written_bytes: reaping.written_bytes,
            },
            last_line: self.log.last_line().to_owned(),
        });
        let next = current.index + 1;
        if failed || self.stopping.is_some() || next >= self.steps.len() {
            self.over = true;
            return;
        }
        // Before it starts: its first output may come before the news of its start.
        self.log.begin_step(next);
        if wire::send(self.init(), &Order::Start { step: next }, None).is_err() {
            self.not_started(next, Failure::new("start of the step", "the sandbox is gone"));
        }
    }

    fn judge(&self, current: &Current, reaping: Reaping) -> Ended {
        let Reaping { code, signal, .. } = reaping;
        match (&self.stopping, code, signal) {
            (Some(Stopping { why: Why::TimedOut, .. }), ..) => Ended::TimedOut,
            (Some(Stopping { why: Why::Asked, .. }), ..) => Ended::Stopped { code, signal },
            (None, Some(0), _) => Ended::Exited { code: 0 },
            _ if self.group.out_of_memory_kills() > current.kills_before => Ended::OutOfMemory,
            (None, Some(code), _) => Ended::Exited { code },
            (None, None, signal) => Ended::Signalled { signal: signal.unwrap_or(0) },
        }
    }

    /// Logs what a stream has; says whether there may be more.
    pub fn pump(&mut self, stream: Stream) -> bool {
        let mut buffer = [0_u8; 32 * 1024];
        let mut taken = 0;
        while taken < TURN_BYTES {
            match rustix::io::read(self.pipe(stream), &mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.log.take(stream, &buffer[..n]);
                    taken += n;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// When [`Run::on_time`] is to be called next.
    pub fn wake_at(&self) -> Option<Instant> {
        match (&self.stopping, &self.current) {
            (Some(_), _) if self.killed => None,
            (Some(stopping), _) => Some(stopping.kill_at),
            (None, Some(current)) => current.until,
            (None, None) => None,
        }
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant) {
        if self.wake_at().is_none_or(|at| at > now) {
            return;
        }
        match &self.stopping {
            Some(_) => self.kill_now(),
            None => {
                self.log.note("the step passed its time limit and is stopped");
                self.begin_stop(Why::TimedOut, self.grace);
            }
        }
    }

    /// SIGTERM now, SIGKILL after the grace. Asked again, only an earlier kill counts.
    pub fn stop(&mut self, grace: Duration) {
        if let Some(stopping) = &mut self.stopping {
            stopping.kill_at = stopping.kill_at.min(Instant::now() + grace);
        } else {
            self.begin_stop(Why::Asked, grace);
        }
    }

    /// As [`Run::stop`], with the spec's grace.
    pub fn stop_with_own_grace(&mut self) {
        self.stop(self.grace);
    }

    /// SIGKILL to everything.
    pub fn kill(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(Stopping { why: Why::Asked, kill_at: Instant::now() });
        }
        self.kill_now();
    }

    fn begin_stop(&mut self, why: Why, grace: Duration) {
        self.stopping = Some(Stopping { why, kill_at: Instant::now() + grace });
        self.signal(libc::SIGTERM);
    }

    fn kill_now(&mut self) {
        self.killed = true;
        let _ = sys::kill(self.init_pid, libc::SIGKILL);
    }

    /// A signal for the running step.
    pub fn signal(&self, signal: i32) {
        let Some(current) = &self.current else { return };
        let order = Order::Signal { to: Who::Step(current.index), group: self.kind == Kind::Job, signal };
        let _ = wire::send(self.init(), &order, None);
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        Status {
            id: self.id.clone(),
            kind: self.kind,
            shim_pid: std::process::id(),
            init_pid: self.init_pid as u32,
            started_ms: self.started_ms,
            step: self.current.as_ref().map(|current| current.index),
            ended: self.records.clone(),
            log: self.log.total(),
            last_line: self.log.last_line().to_owned(),
            memory_bytes: self.group.memory_bytes(),
            cpu_ms: self.group.cpu_us().unwrap_or(0) / 1000,
        }
    }

    /// Ends what is left inside and cleans up, without a record: the sandbox never stood.
    pub fn abandon(&mut self) {
        self.end_sandbox();
        let _ = rustix::fs::unlinkat(self.dir.as_fd(), super::SOCKET_FILE, rustix::fs::AtFlags::empty());
    }

    fn end_sandbox(&mut self) {
        let _ = sys::kill(self.init_pid, libc::SIGKILL);
        let ended = rustix::process::Pid::from_raw(self.init_pid)
            .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok())
            .is_none_or(|pid| wire::readable_within(pid, KILL_LIMIT).unwrap_or(false));
        if ended {
            let _ = sys::reap(Some(self.init_pid), true);
        }
        while self.pump(Stream::Out) || self.pump(Stream::Err) {}
        self.group.remove();
        self.way_out = None;
        for folder in self.settled.drain(..) {
            settle::settle(&folder);
        }
    }

    /// Ends what is left inside, puts the log on disk, writes the record. Afterwards nothing of the run is left but files.
    pub fn finish(mut self) -> (Option<OwnedFd>, u64) {
        self.end_sandbox();
        self.log.sync();
        let record = ExitRecord {
            v: RECORD_VERSION,
            id: self.id.clone(),
            kind: self.kind,
            started_ms: self.started_ms,
            ended_ms: now_ms(),
            steps: std::mem::take(&mut self.records),
            log: self.log.total(),
        };
        for _ in 0..RECORD_TRIES {
            let reserved = self.reserved.take().or_else(|| Reserved::take(self.dir.as_fd()).ok());
            if reserved.is_some_and(|reserved| reserved.write(self.dir.as_fd(), &record).is_ok()) {
                break;
            }
            // Nobody can ever read a record in a folder that was removed.
            if rustix::fs::fstat(&*self.dir).is_ok_and(|folder| folder.st_nlink == 0) {
                break;
            }
            #[expect(clippy::disallowed_methods, reason = "nothing announces that a full disk has room again")]
            std::thread::sleep(Duration::from_secs(1));
        }
        let _ = rustix::fs::unlinkat(self.dir.as_fd(), super::SOCKET_FILE, rustix::fs::AtFlags::empty());
        (self.listener.take(), self.log.end())
    }
}
