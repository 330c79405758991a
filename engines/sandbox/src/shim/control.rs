//! Callers of a shim. In: their requests. Out: answers, connected sockets, notices. A caller that does not read its answers, or
//! sends what cannot be read, is dropped; the run goes on.

use super::run::Run;
use super::serve::Token;
use crate::error::{Failure, errno_text};
use crate::netns::{self, Attempt};
use crate::record::{Executed, Reaping};
use crate::wire::{self, Answer, Ask, Command, Order, Reply, Request, WIRE_VERSION, Who};
use rustix::event::PollFlags;
use rustix::net::{SocketFlags, accept_with};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const CLIENTS_MAX: usize = 128;
const EXECS_MAX: usize = 16;
const CONNECTS_MAX: usize = 256;
/// Output of a command that is kept: its end.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

struct Client {
    id: u64,
    socket: OwnedFd,
    waits: Vec<u64>,
    log: Option<(u64, u64)>,
}

struct Exec {
    id: u64,
    client: u64,
    n: u64,
    output: OwnedFd,
    kept: Vec<u8>,
    closed: bool,
    cut: bool,
    until: Instant,
    timed_out: bool,
}

struct Connect {
    id: u64,
    client: u64,
    n: u64,
    socket: OwnedFd,
    until: Instant,
}

/// Everybody who is connected, and what they wait for.
#[derive(Default)]
pub struct Control {
    clients: Vec<Client>,
    execs: Vec<Exec>,
    connects: Vec<Connect>,
    last_id: u64,
}

impl Control {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds what the loop is to watch.
    pub fn watch<'a>(&'a self, watched: &mut Vec<(Token, BorrowedFd<'a>, PollFlags)>) {
        watched.extend(self.clients.iter().map(|c| (Token::Client(c.id), c.socket.as_fd(), PollFlags::IN)));
        let open = self.execs.iter().filter(|e| !e.closed);
        watched.extend(open.map(|e| (Token::Exec(e.id), e.output.as_fd(), PollFlags::IN)));
        watched.extend(self.connects.iter().map(|c| (Token::Connect(c.id), c.socket.as_fd(), PollFlags::OUT)));
    }

    /// When [`Control::on_time`] is to be called next.
    pub fn wake_at(&self) -> Option<Instant> {
        let execs = self.execs.iter().filter(|e| !e.timed_out).map(|e| e.until);
        execs.chain(self.connects.iter().map(|c| c.until)).min()
    }

    /// Time has passed.
    pub fn on_time(&mut self, run: &Run, now: Instant) {
        for exec in self.execs.iter_mut().filter(|e| !e.timed_out && e.until <= now) {
            exec.timed_out = true;
            let order = Order::Signal { to: Who::Exec(exec.id), group: true, signal: libc::SIGKILL };
            let _ = wire::send(run.init(), &order, None);
        }
        let late: Vec<u64> = self.connects.iter().filter(|c| c.until <= now).map(|c| c.id).collect();
        for id in late {
            let Some(at) = self.connects.iter().position(|c| c.id == id) else { continue };
            let connect = self.connects.swap_remove(at);
            let failure = Failure::new("connection into the sandbox", "it was not accepted in time");
            self.reply(connect.client, connect.n, Answer::Failed(failure), None);
        }
    }

    /// A caller connects.
    pub fn accept(&mut self, run: &Run) {
        let Some(listener) = &run.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = accept_with(listener, flags)
            && self.clients.len() < CLIENTS_MAX
        {
            let id = self.next_id();
            self.clients.push(Client { id, socket, waits: Vec::new(), log: None });
        }
    }

    /// A caller says something, or is gone.
    pub fn hear(&mut self, id: u64, run: &mut Run) {
        let Some(client) = self.clients.iter().find(|c| c.id == id) else { return };
        match wire::receive::<Request>(client.socket.as_fd(), false) {
            Ok(Some((request, _))) => self.obey(id, request, run),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.clients.retain(|c| c.id != id),
        }
    }

    fn obey(&mut self, client: u64, request: Request, run: &mut Run) {
        let n = request.n;
        let answer = match request.ask {
            Ask::Status => Answer::Status(run.status()),
            Ask::Listening => Answer::Listening(netns::listening()),
            Ask::Signal { signal } => {
                run.signal(signal);
                Answer::Done
            }
            Ask::Stop { grace_ms } => {
                run.stop(Duration::from_millis(grace_ms));
                Answer::Done
            }
            Ask::Kill => {
                run.kill();
                Answer::Done
            }
            Ask::Connect { port, limit_ms } => return self.connect(client, n, port, limit_ms),
            Ask::Exec(command) => return self.exec(client, n, command, run),
            Ask::Wait => return self.with(client, |c| c.waits.push(n)),
            Ask::Logged { beyond } => return self.with(client, |c| c.log = Some((n, beyond))),
        };
        self.reply(client, n, answer, None);
    }

    fn with(&mut self, id: u64, change: impl FnOnce(&mut Client)) {
        if let Some(client) = self.clients.iter_mut().find(|c| c.id == id) {
            change(client);
        }
    }

    fn reply(&mut self, id: u64, n: u64, answer: Answer, fd: Option<BorrowedFd<'_>>) {
        let Some(client) = self.clients.iter().find(|c| c.id == id) else { return };
        let reply = Reply { v: WIRE_VERSION, n, answer };
        if wire::send(client.socket.as_fd(), &reply, fd).is_err() {
            self.clients.retain(|c| c.id != id);
        }
    }

    fn connect(&mut self, client: u64, n: u64, port: u16, limit_ms: u64) {
        let attempt = netns::begin_connect(port);
        if let Ok(Attempt::Pending(socket)) = attempt {
            if self.connects.len() >= CONNECTS_MAX {
                let failure = Failure::new("connection into the sandbox", "too many wait already");
                return self.reply(client, n, Answer::Failed(failure), None);
            }
            let (id, until) = (self.next_id(), Instant::now() + Duration::from_millis(limit_ms));
            self.connects.push(Connect { id, client, n, socket, until });
            return;
        }
        self.answer_attempt(client, n, attempt);
    }

    /// A pending connection was decided.
    pub fn connected(&mut self, id: u64) {
        let Some(at) = self.connects.iter().position(|c| c.id == id) else { return };
        let connect = self.connects.swap_remove(at);
        self.answer_attempt(connect.client, connect.n, netns::finish_connect(connect.socket));
    }

    fn answer_attempt(&mut self, client: u64, n: u64, attempt: Result<Attempt, rustix::io::Errno>) {
        match attempt {
            Ok(Attempt::Connected(socket)) => self.reply(client, n, Answer::Connected, Some(socket.as_fd())),
            Ok(Attempt::Refused | Attempt::Pending(_)) => self.reply(client, n, Answer::NothingListens, None),
            Err(e) => {
                let failure = Failure::new("connection into the sandbox", errno_text(&e.into()));
                self.reply(client, n, Answer::Failed(failure), None);
            }
        }
    }

    fn exec(&mut self, client: u64, n: u64, command: Command, run: &Run) {
        let id = self.next_id();
        let until = Instant::now() + Duration::from_millis(command.timeout_ms);
        let pipe = pipe_with(PipeFlags::CLOEXEC).ok().filter(|_| self.execs.len() < EXECS_MAX);
        let Some((output, inside)) = pipe else {
            let failure = Failure::new("command beside the steps", "too many run already");
            return self.reply(client, n, Answer::Failed(failure), None);
        };
        let _ = rustix::io::ioctl_fionbio(&output, true);
        // `/dev/stdout` can be opened only by who owns the pipe.
        let owner = rustix::fs::Uid::from_raw(run.owner);
        let _ = rustix::fs::fchown(&inside, Some(owner), None);
        match wire::send(run.init(), &Order::Exec { id, command }, Some(inside.as_fd())) {
            Ok(()) => self.execs.push(Exec {
                id,
                client,
                n,
                output,
                kept: Vec::new(),
                closed: false,
                cut: false,
                until,
                timed_out: false,
            }),
            Err(e) => {
                let failure = Failure::new("command beside the steps", errno_text(&e));
                self.reply(client, n, Answer::Failed(failure), None);
            }
        }
    }

    /// Output of a command.
    pub fn read_output(&mut self, id: u64) {
        let Some(exec) = self.execs.iter_mut().find(|e| e.id == id) else { return };
        let mut buffer = [0_u8; 16 * 1024];
        match rustix::io::read(&exec.output, &mut buffer) {
            Ok(0) => exec.closed = true,
            Ok(n) => {
                exec.kept.extend_from_slice(&buffer[..n]);
                let surplus = exec.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
                exec.cut |= surplus > 0;
                exec.kept.drain(..surplus);
            }
            Err(_) => {}
        }
    }

    /// A command could not be started.
    pub fn not_started(&mut self, id: u64, failure: Failure) {
        if let Some(at) = self.execs.iter().position(|e| e.id == id) {
            let exec = self.execs.swap_remove(at);
            self.reply(exec.client, exec.n, Answer::Failed(failure), None);
        }
    }

    /// A command ended.
    pub fn ended(&mut self, id: u64, reaping: Reaping, run: &Run) {
        // What it wrote is in the pipe, which holds 64 KiB: four reads take it.
        for _ in 0..5 {
            self.read_output(id);
        }
        let Some(at) = self.execs.iter().position(|e| e.id == id) else { return };
        let exec = self.execs.swap_remove(at);
        let executed = Executed {
            code: reaping.code,
            signal: reaping.signal,
            timed_out: exec.timed_out,
            output: run.log.masked(&exec.kept, exec.cut),
        };
        self.reply(exec.client, exec.n, Answer::Executed(executed), None);
    }

    /// Tells those who wait for more log.
    pub fn tell_log(&mut self, end: u64) {
        let due: Vec<(u64, u64)> = self
            .clients
            .iter()
            .filter_map(|c| c.log.filter(|(_, beyond)| end > *beyond).map(|(n, _)| (c.id, n)))
            .collect();
        for (id, n) in due {
            self.with(id, |c| c.log = None);
            self.reply(id, n, Answer::Logged { end }, None);
        }
    }

    /// Tells those who wait for the end; the record is on disk.
    pub fn tell_ended(&mut self) {
        let waiting: Vec<(u64, u64)> = self.clients.iter().flat_map(|c| c.waits.iter().map(|n| (c.id, *n))).collect();
        for (id, n) in waiting {
            self.reply(id, n, Answer::Ended, None);
        }
    }
}
