//! The sandbox's first process (pid 1 inside). In: the spec by fork, orders from the shim. Out: events.
//! Sets the sandbox up as the shim's user, gives every right up, then only starts and reaps. It never writes log or record,
//! and it dies with the shim, taking everything inside with it.

mod child;
mod confine;
mod devices;
pub(crate) mod root;
mod user;

use crate::error::{Doing, Failure};
use crate::record::Reaping;
use crate::spec::Spec;
use crate::standing::Standing;
use crate::sys;
use crate::wire::{self, Event, Order, Who};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, OwnedFd};

/// What the first process is given.
pub struct Inputs {
    /// The spec.
    pub spec: Spec,
    /// Socket to the shim.
    pub shim: OwnedFd,
    /// Write ends of the log.
    pub stdout: OwnedFd,
    /// See `stdout`.
    pub stderr: OwnedFd,
    /// Who the shim is.
    pub standing: Standing,
    /// What root inside is to the shim, and how many ids there are.
    pub ids: (u32, u32),
}

/// Runs until the shim ends it. Returns only by failing.
pub fn run(inputs: Inputs) -> ! {
    let shim = match inputs.shim.try_clone() {
        Ok(shim) => shim,
        Err(_) => sys::exit_now(70),
    };
    let (init, notes) = match set_up(inputs) {
        Ok(done) => done,
        Err(failure) => {
            let _ = wire::send(shim.as_fd(), &Event::Failed(failure), None);
            sys::exit_now(70);
        }
    };
    let _ = wire::send(shim.as_fd(), &Event::Ready(notes), None);
    drop(shim);
    serve(init)
}

struct Init {
    steps: Vec<crate::spec::Step>,
    shim: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    children_ended: OwnedFd,
    user: user::User,
    running: Vec<(libc::pid_t, Who)>,
    orphans: Reaping,
}

fn set_up(inputs: Inputs) -> Result<(Init, Vec<String>), Failure> {
    // Where the machine itself runs out of memory, work that can be repeated goes first, services next, Slipway last. A
    // kernel that does not take it chooses by size.
    let worth = if inputs.spec.kind == crate::spec::Kind::Job { "500" } else { "100" };
    let _ = std::fs::write("/proc/self/oom_score_adj", worth);
    let children_ended = sys::signal_fd(&[libc::SIGCHLD]).doing("signal descriptor")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    sys::set_hostname(&inputs.spec.hostname).doing("setting of the host name")?;
    let ids = match expect_order(&inputs.shim)? {
        (Order::Ids, Some(fd)) => fd,
        _ => return Err(Failure::new("user namespace", "the shim did not hand it over")),
    };
    // Opened here: the shim's descriptor leads into the host's mount namespace, where nothing may be mounted.
    let dir = crate::mounts::open_folder(&inputs.spec.dir).doing("open of the state folder")?;
    let standing = &inputs.standing;
    let mapped = standing.is_root().then_some(ids.as_fd());
    let plan = root::Plan { spec: &inputs.spec, owner: inputs.ids.0, standing, ids: mapped, dir: dir.as_fd() };
    let built = root::build(&plan)?;
    enter_root(&built.root)?;
    for end in [&inputs.stdout, &inputs.stderr] {
        own_pipe(end, inputs.ids.0, &built.user)?;
    }
    let limit_processes = match expect_order(&inputs.shim)? {
        (Order::Go { limit_processes }, _) => limit_processes,
        _ => return Err(Failure::new("start", "the shim sent something else")),
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    confine::confine(&inputs.spec, ids.as_fd(), limit_processes, standing.drops_groups())?;
    let Spec { steps, .. } = inputs.spec;
    let mut init = Init {
        steps,
        shim: inputs.shim,
        stdout: inputs.stdout,
        stderr: inputs.stderr,
        children_ended,
        user: built.user,
        running: Vec::new(),
        orphans: Reaping::default(),
    };
    init.start_step(0);
    Ok((init, built.notes))
}

fn expect_order(shim: &OwnedFd) -> Result<(Order, Option<OwnedFd>), Failure> {
    match wire::receive::<Order>(shim.as_fd(), true) {
        Ok(Some(received)) => Ok(received),
        Ok(None) => sys::exit_now(70),
        Err(e) => Err(Failure::new("order of the shim", e)),
    }
}

/// From here on nothing of the host's file tree can be named.
fn enter_root(root: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(root.as_fd()).doing("entering the root")?;
    rustix::process::pivot_root(".", ".").doing("pivot_root")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).doing("detaching of the host's root")?;
    rustix::process::chdir("/").doing("entering the root")
}

/// `/dev/stdout` can be opened only by who owns the pipe.
fn own_pipe(end: &OwnedFd, owner: u32, user: &user::User) -> Result<(), Failure> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner + user.uid), rustix::fs::Gid::from_raw(owner + user.gid));
    rustix::fs::fchown(end.as_fd(), Some(uid), Some(gid)).doing("chown of the output's pipe")
}

fn serve(mut init: Init) -> ! {
    sys::trim_memory();
    loop {
        let mut fds = [PollFd::new(&init.shim, PollFlags::IN), PollFd::new(&init.children_ended, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let (order, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if ended {
            init.reap_all();
        }
        if order {
            match wire::receive::<Order>(init.shim.as_fd(), false) {
                Ok(Some((order, fd))) => init.obey(order, fd),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                // The shim is gone: pid 1 ends, and the kernel ends everything inside.
                Ok(None) | Err(_) => sys::exit_now(0),
            }
        }
    }
}

impl Init {
    fn tell(&self, event: &Event) {
        // A full buffer means that the shim has stopped reading, which it does only when it ends.
        let _ = wire::send(self.shim.as_fd(), event, None);
    }

    fn obey(&mut self, order: Order, fd: Option<OwnedFd>) {
        match order {
            Order::Start { step } => self.start_step(step),
            Order::Exec { id, command } => self.start_command(id, &command, fd),
            Order::Signal { to, group, signal } => {
                if let Some((pid, _)) = self.running.iter().find(|(_, who)| *who == to) {
                    let _ = sys::kill(if group { -pid } else { *pid }, signal);
                }
            }
            Order::Ids | Order::Go { .. } => {}
        }
    }

    fn start_step(&mut self, step: usize) {
        let who = Who::Step(step);
        let started = match self.steps.get(step) {
            Some(spec) => {
                let program = child::Program { argv: &spec.argv, env: &spec.env, cwd: &spec.cwd };
                child::start(&program, self.stdout.as_fd(), self.stderr.as_fd(), &self.user)
            }
            None => Err(Failure::new(format!("step {step}"), "there is no such step")),
        };
        self.note_start(who, started);
        if let Some(spec) = self.steps.get_mut(step) {
            // It runs once: its environment need not stay in memory.
            (spec.argv, spec.env) = (Vec::new(), Vec::new());
        }
    }

    fn start_command(&mut self, id: u64, command: &wire::Command, output: Option<OwnedFd>) {
        let program = child::Program { argv: &command.argv, env: &command.env, cwd: &command.cwd };
        let started = match &output {
            Some(output) => child::start(&program, output.as_fd(), output.as_fd(), &self.user),
            None => Err(Failure::new("command", "its output's pipe is missing")),
        };
        self.note_start(Who::Exec(id), started);
    }

    fn note_start(&mut self, who: Who, started: Result<libc::pid_t, Failure>) {
        match started {
            Ok(pid) => {
                self.running.push((pid, who));
                self.tell(&Event::Started(who));
            }
            Err(failure) => self.tell(&Event::NotStarted(who, failure)),
        }
    }

    fn reap_all(&mut self) {
        // One read takes the pending signal; it may stand for many children.
        let mut information = [0_u8; 128];
        let _ = rustix::io::read(&self.children_ended, &mut information);
        while let Ok(Some(child)) = sys::reap(None, false) {
            self.orphans.cpu_us += child.cpu_us;
            self.orphans.read_bytes += child.read_bytes;
            self.orphans.written_bytes += child.written_bytes;
            let Some(at) = self.running.iter().position(|(pid, _)| *pid == child.pid) else { continue };
            let (_, who) = self.running.swap_remove(at);
            let sums = std::mem::take(&mut self.orphans);
            self.tell(&Event::Ended(who, Reaping { code: child.code, signal: child.signal, ..sums }));
        }
    }
}
