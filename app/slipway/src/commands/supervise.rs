//! Keeps the parts running: starts them, starts them again when they end, takes over those that outlived a former `up`.
//!
//! In: commands. Out: living processes. Never: kills one that lives because its supervisor is new.

use crate::exit::{Exit, SURROUNDINGS};
use crate::paths::Data;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pauses between a part's end and its new start; back to the shortest once it lived for a while.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// A part that lived so long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(10);
/// The log of a part is begun anew above this size.
const LOG_BYTES: u64 = 16 * 1024 * 1024;

/// A part: `serve`, `node`, `worker`.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// The program.
    pub exe: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A living process, child or not.
pub struct Living {
    /// Its id.
    pub pid: u32,
    fd: Arc<OwnedFd>,
}

impl Living {
    fn open(pid: u32) -> std::io::Result<Living> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::NotFound)?;
        let fd = pidfd_open(raw, PidfdFlags::empty())?;
        Ok(Living { pid, fd: Arc::new(fd) })
    }

    /// Returns when it has ended. A thread sleeps in the kernel meanwhile: there are three parts.
    pub async fn ended(&self) {
        let fd = self.fd.clone();
        let waiting = tokio::task::spawn_blocking(move || {
            let mut fds = [PollFd::new(&*fd, PollFlags::IN)];
            while poll(&mut fds, None).is_err_and(|error| error == rustix::io::Errno::INTR) {}
            // A child leaves a corpse until somebody looks; one that is no child is looked at by its own parent.
            let _ = waitid(WaitId::PidFd(fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        });
        let _ = waiting.await;
    }

    /// Sends a signal; one that has ended needs none.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.fd, signal);
    }
}

fn pid_file(data: &Data, name: &str) -> PathBuf {
    data.run().join(format!("{name}.pid"))
}

/// When a process was started, in clock ticks since boot: tells it from a later one with the same id (proc(5)).
fn started(pid: u32) -> Option<String> {
    start_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A corpse that nobody has looked at yet is still listed, but does not live.
fn start_of(stat: &str) -> Option<String> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let is_dead = fields.next().is_some_and(|state| matches!(state, "Z" | "X" | "x"));
    fields.nth(18).filter(|_| !is_dead).map(ToOwned::to_owned)
}

/// The living process that a pid file names.
pub fn recorded(data: &Data, name: &str) -> Option<Living> {
    let text = std::fs::read_to_string(pid_file(data, name)).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    (started(pid)? == start).then(|| Living::open(pid).ok()).flatten()
}

fn log_file(data: &Data, name: &str) -> std::io::Result<std::fs::File> {
    let path: PathBuf = data.logs().join(format!("{name}.log"));
    if path.metadata().is_ok_and(|meta| meta.len() > LOG_BYTES) {
        std::fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

impl Part {
    fn start(&self, data: &Data) -> std::io::Result<Living> {
        let log = log_file(data, self.name)?;
        let mut command = Command::new(&self.exe);
        command.args(&self.arguments).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C in the terminal is for `up` alone; it decides in which order the parts end.
        command.process_group(0);
        let child = command.spawn()?;
        let living = Living::open(child.id())?;
        let start = started(child.id()).unwrap_or_default();
        std::fs::write(pid_file(data, self.name), format!("{} {start}", child.id()))?;
        Ok(living)
    }

    /// Takes over the living process of a former `up`, or starts one.
    pub fn adopt_or_start(&self, data: &Data) -> Result<(Living, bool), Exit> {
        if let Some(living) = recorded(data, self.name) {
            return Ok((living, true));
        }
        let started = self.start(data);
        started
            .map(|living| (living, false))
            .map_err(|error| Exit::new(SURROUNDINGS, format!("{} cannot be started: {error}", self.name)))
    }

    /// Keeps it running until told to stop. Reports each process id.
    pub async fn keep(
        self,
        data: Data,
        first: Living,
        pids: tokio::sync::watch::Sender<u32>,
        mut stop: tokio::sync::watch::Receiver<Option<Signal>>,
    ) {
        let mut living = first;
        let mut pause = PAUSE.0;
        loop {
            pids.send_replace(living.pid);
            let since = Instant::now();
            tokio::select! {
                () = living.ended() => {}
                signal = told(&mut stop) => {
                    if let Some(signal) = signal {
                        living.signal(signal);
                        living.ended().await;
                        let _ = std::fs::remove_file(pid_file(&data, self.name));
                    }
                    return;
                }
            }
            pause = if since.elapsed() > SETTLED { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            eprintln!(
                "{} ended ({}); starting it again",
                self.name,
                last_words(&data.logs().join(format!("{}.log", self.name)))
            );
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = told(&mut stop) => return,
                }
                match self.start(&data) {
                    Ok(again) => {
                        living = again;
                        break;
                    }
                    Err(error) => eprintln!("{} cannot be started: {error}", self.name),
                }
            }
        }
    }
}

/// `Some(signal)`: end it so. `None`: leave it alone and go.
async fn told(stop: &mut tokio::sync::watch::Receiver<Option<Signal>>) -> Option<Signal> {
    if stop.changed().await.is_err() {
        return None;
    }
    *stop.borrow()
}

/// The last line of a part's log.
pub fn last_words(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no last line").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_and_was_not_collected_does_not_count_as_living() {
        let stat = |state: &str| format!("27163 (slip) way) {state} {} 4711 0 0\n", ["1"; 18].join(" "));
        assert_eq!(start_of(&stat("S")).as_deref(), Some("4711"));
        assert_eq!(start_of(&stat("Z")), None);
        assert_eq!(started(std::process::id()), start_of(&std::fs::read_to_string("/proc/self/stat").unwrap()));
    }
}
