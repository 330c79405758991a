//! The shim's loop. In: readiness of its few descriptors. Out: exit code of the shim. Sleeps whenever nothing happens; wakes for nothing else.

use super::control::Control;
use super::run::Run;
use crate::log::Stream;
use crate::sys;
use crate::wire::{self, Event, Who};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Whose descriptor is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Init,
    Output(Stream),
    Listener,
    Signals,
    Client(u64),
    Exec(u64),
    Connect(u64),
}

/// Serves until the run is over.
pub fn serve(mut run: Run) -> i32 {
    let mut control = Control::default();
    // Without it a polite SIGTERM to the shim would end the run without a record.
    let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT]).ok();
    let mut open = [true, true];
    while !run.is_over() {
        let now = Instant::now();
        run.on_time(now);
        control.on_time(&run, now);
        let ready = wait(&run, &control, signals.as_ref(), open);
        for token in ready {
            match token {
                Token::Init => hear(&mut run, &mut control),
                Token::Output(stream) => {
                    let before = run.log.total().bytes;
                    let more = run.pump(stream);
                    run.log.flush();
                    // Readable without bytes: every writer is gone.
                    if !more && run.log.total().bytes == before && is_closed(run.pipe(stream)) {
                        open[usize::from(stream == Stream::Err)] = false;
                    }
                }
                Token::Listener => control.accept(&run),
                Token::Signals => {
                    let _ = signals.as_ref().map(|fd| rustix::io::read(fd, &mut [0_u8; 128][..]));
                    run.stop_with_own_grace();
                }
                Token::Client(id) => control.hear(id, &mut run),
                Token::Exec(id) => control.read_output(id),
                Token::Connect(id) => control.connected(id),
            }
        }
        control.tell_log(run.log.end());
    }
    let (listener, end) = run.finish();
    control.tell_log(end);
    control.tell_ended();
    drop(listener);
    0
}

fn is_closed(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&zero)).is_ok()
        && fds[0].revents().contains(PollFlags::HUP)
        && !fds[0].revents().contains(PollFlags::IN)
}

fn wait(run: &Run, control: &Control, signals: Option<&OwnedFd>, open: [bool; 2]) -> Vec<Token> {
    let mut watched: Vec<(Token, BorrowedFd<'_>, PollFlags)> = vec![(Token::Init, run.init(), PollFlags::IN)];
    for (stream, is_open) in [(Stream::Out, open[0]), (Stream::Err, open[1])] {
        if is_open {
            watched.push((Token::Output(stream), run.pipe(stream), PollFlags::IN));
        }
    }
    watched.extend(run.listener.as_ref().map(|fd| (Token::Listener, fd.as_fd(), PollFlags::IN)));
    watched.extend(signals.map(|fd| (Token::Signals, fd.as_fd(), PollFlags::IN)));
    control.watch(&mut watched);
    let mut fds: Vec<PollFd<'_>> = watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let limit = [run.wake_at(), control.wake_at()].into_iter().flatten().min().map(|at| {
        let left = at.saturating_duration_since(Instant::now());
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
    });
    if poll(&mut fds, limit.as_ref()).is_err() {
        return Vec::new();
    }
    watched.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|((token, ..), _)| *token).collect()
}

/// Takes the events of the sandbox's first process.
fn hear(run: &mut Run, control: &mut Control) {
    match wire::receive::<Event>(run.init(), false) {
        Ok(Some((event, _))) => match event {
            Event::Started(who) => run.begun(who),
            Event::NotStarted(Who::Step(index), failure) => run.not_started(index, failure),
            Event::NotStarted(Who::Exec(id), failure) => control.not_started(id, failure),
            Event::Ended(Who::Exec(id), reaping) => control.ended(id, reaping, run),
            Event::Ended(who @ Who::Step(_), reaping) => run.ended(who, reaping),
            Event::Ready(_) | Event::Failed(_) => {}
        },
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
        Ok(None) | Err(_) => run.lost_sandbox(),
    }
}
