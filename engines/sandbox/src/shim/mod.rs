//! The shim: one process per run, on the host, that owns log, exit record and socket. In: a spec on stdin. Out: one report on stdout,
//! then only through the socket and the files of the state folder. It outlives who started it; nothing inside outlives it.
//! Single-threaded, no runtime, never reads an environment variable.

mod control;
mod run;
mod serve;
mod state;

pub use state::ShimState;

use crate::cgroup::Group;
use crate::error::{Doing, Failure};
use crate::init;
use crate::mask::Masks;
use crate::netns::Apart;
use crate::probe::Level;
use crate::spec::{Kind, Network, Spec};
use crate::stack::{Guard, WayOut};
use crate::standing::{self, Side, Standing};
use crate::wire::{self, Event, Order, Who};
use crate::{ids, log::LogWriter, mounts, outbound, settle, sys};
use run::Run;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Name of the shim's socket in the state folder.
pub const SOCKET_FILE: &str = "sock";
/// A spec with its secrets is far smaller.
const SPEC_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// From fork to the first step's exec.
const SETUP_LIMIT: Duration = Duration::from_secs(30);
/// How long the kernel may take to end a killed sandbox.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// What a shim reports to who started it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The first step was exec'ed.
    Ready(Setup),
    /// Nothing runs.
    Failed(Failure),
}

/// How a sandbox was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The shim's pid.
    pub shim_pid: u32,
    /// What the machine allowed.
    pub level: Level,
    /// `v1`, `v2` or `none`.
    pub cgroup: String,
    /// What had to be done in a weaker way than asked.
    pub notes: Vec<String>,
}

/// Entry of a process that is a shim. `args` are those behind the word that chose it. Returns the exit code.
///
/// Must be called first in `main`, before any thread exists.
pub fn shim_main(mut args: impl Iterator<Item = OsString>) -> i32 {
    match args.next().as_deref().and_then(|a| a.to_str()) {
        Some("run") => detach(Way::Own),
        Some("run-guarded") => detach(Way::Guarded),
        Some("run-shared") => detach(Way::Shared),
        Some("remove") => settle::remove_main(),
        _ => 2,
    }
}

/// What network an ordinary user's shim is begun for; it cannot go back to the host's later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its own.
    Own,
    /// Its own, with a process left in the host's.
    Guarded,
    /// The host's.
    Shared,
}

impl Way {
    /// The way for a network, at the rights of this process.
    pub(crate) fn for_network(network: Network) -> Self {
        match network {
            _ if rustix::process::geteuid().is_root() => Way::Own,
            Network::None | Network::Outbound => Way::Own,
            Network::UserMode(_) => Way::Guarded,
            Network::Host => Way::Shared,
        }
    }

    /// The word that chooses it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Way::Own => "run",
            Way::Guarded => "run-guarded",
            Way::Shared => "run-shared",
        }
    }
}

/// Forks once, so that the shim is nobody's child and leaves nobody a zombie.
fn detach(way: Way) -> i32 {
    let guard = match way {
        Way::Guarded => match Guard::fork(|| drop(take_standard())) {
            Ok(guard) => Some(guard),
            Err(_) => return 3,
        },
        Way::Own | Way::Shared => None,
    };
    let standing = match standing::fork() {
        Ok(Side::Shim(standing)) => standing,
        Ok(Side::Parent(_)) => return 0,
        Err(_) => return 3,
    };
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    sys::ignore_signal(libc::SIGHUP);
    sys::ignore_signal(libc::SIGPIPE);
    let Ok((input, report)) = take_standard() else { return 3 };
    let ground = standing.and_then(|standing| {
        let apart = if way == Way::Shared { Apart::sharing() } else { Apart::new(&standing) }?;
        Ok(Ground { standing, apart, guard })
    });
    // The spec is taken even where nothing can come of it: who writes it shall get the report, not a broken pipe.
    let spec = read_spec(input);
    let (ground, spec) = match ground.and_then(|ground| Ok((ground, spec?))) {
        Ok(both) => both,
        Err(failure) => {
            answer(Some(report), &Report::Failed(failure));
            return 3;
        }
    };
    let mut report = Some(report);
    match start(spec, ground, &mut report) {
        Ok(Started::Running(run, setup)) => {
            answer(report, &Report::Ready(setup));
            run.prepare_record();
            sys::trim_memory();
            serve::serve(*run)
        }
        Ok(Started::Never(run, failure)) => {
            run.finish();
            answer(report, &Report::Failed(failure));
            1
        }
        Err(failure) => {
            answer(report, &Report::Failed(failure));
            1
        }
    }
}

fn answer(report: Option<File>, message: &Report) {
    // Who started us may be gone already; the run does not depend on it.
    let _ = report.map(|mut report| serde_json::to_vec(message).map(|bytes| report.write_all(&bytes)));
}

/// Takes stdin for the spec and stdout for the report, and leaves /dev/null on all three.
fn take_standard() -> Result<(File, File), Failure> {
    let report = File::from(sys::duplicate_standard(1).doing("taking stdout")?);
    let input = File::from(sys::duplicate_standard(0).doing("taking stdin")?);
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing("open of /dev/null")?;
    for number in 0..3 {
        sys::dup_onto(null.as_raw_fd(), number, false).doing("taking a standard descriptor")?;
    }
    Ok((input, report))
}

/// Waits for the spec.
fn read_spec(input: File) -> Result<Spec, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(SPEC_BYTES_MAX).read_to_end(&mut bytes);
    let spec = read.doing("read of the spec").and_then(|_| {
        // serde's text may quote a value; what it says is not repeated.
        serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new("spec", format!("it is malformed at byte {}", e.column())))
    });
    bytes.fill(0);
    spec
}

enum Started {
    Running(Box<Run>, Setup),
    /// The sandbox stood, but its first program could not be started.
    Never(Box<Run>, Failure),
}

/// What a shim has before it knows its run.
struct Ground {
    standing: Standing,
    apart: Apart,
    guard: Option<Guard>,
}

impl Ground {
    fn group(&self, spec: &Spec) -> Result<Group, Failure> {
        let name = group_name(spec);
        if self.standing.is_root() { Group::create(&name) } else { Ok(Group::create_delegated(&name)) }
    }
}

fn start(spec: Spec, mut ground: Ground, report: &mut Option<File>) -> Result<Started, Failure> {
    let dir = claim_folder(&spec.dir)?;
    note_panics(&spec.dir);
    if ground.standing.is_root() {
        hide();
    }
    let ids = ground.standing.range(&spec);
    let (out, out_inside) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
    let (err, err_inside) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
    let (mine, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing("socketpair")?;
    if spec.network == Network::Host {
        ground.apart.enter_host()?;
    }
    let group = ground.group(&spec)?;
    let born_inside = group.join();
    let cloned = sys::clone(sys::NEW_SANDBOX).doing("namespaces");
    if matches!(cloned, Ok(0)) {
        // The report's end is that of its last holder: this process, which lives as long as the run, must not be one.
        drop((mine, out, err, dir, ground.apart, ground.guard, report.take()));
        let standing = ground.standing;
        init::run(init::Inputs { spec, standing, shim: theirs, stdout: out_inside, stderr: err_inside, ids });
    }
    let limited = group.leave().map(|()| born_inside);
    let pid = cloned.inspect_err(|_| group.remove())?;
    drop((theirs, out_inside, err_inside));
    let masks = Masks::new(spec.secrets.iter().map(|s| &s.bytes.0[..]).chain(spec.masks.iter().map(|m| &m.0[..])));
    let log = LogWriter::new(Rc::clone(&dir), masks, spec.limits.log_bytes);
    let pipes = run::Pipes { init: mine, init_pid: pid, out, err };
    let mut run = Box::new(Run::new(&spec, &ground.standing, dir, pipes, log));
    run.group = group;
    let furnished = furnish(&spec, &mut run, &mut ground, limited);
    hide();
    match furnished {
        Ok((Who::Step(_), setup)) => Ok(Started::Running(run, setup)),
        Ok((Who::Exec(_), _)) => Err(Failure::new("start", "the sandbox reported another process")),
        Err(Refused::Sandbox(failure)) => {
            // What the first process says is the cause; what failed here because it ended is not.
            let said = match wire::receive::<Event>(run.init(), false) {
                Ok(Some((Event::Failed(said), _))) => Some(said),
                _ => None,
            };
            run.abandon();
            Err(said.unwrap_or(failure))
        }
        Err(Refused::Program(failure)) => {
            run.never_started(failure.clone());
            Ok(Started::Never(run, failure))
        }
    }
}

/// Nobody else of this user may look into this process, which was given secrets. An ordinary user's may not do what it has
/// to do with its own children's files in `/proc` after that.
fn hide() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// The state folder, made if missing, and ours alone.
fn claim_folder(path: &Path) -> Result<Rc<OwnedFd>, Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing_on("making of state folder", path.display())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, path, flags, Mode::empty()).doing_on("open of state folder", path.display())?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Failure::new(format!("state folder `{}`", path.display()), "another shim uses it"))?;
    if path.join(crate::record::RECORD_FILE).exists() {
        return Err(Failure::new(format!("state folder `{}`", path.display()), "it holds an ended run"));
    }
    Ok(Rc::new(dir))
}

/// A shim has no terminal: what a bug says goes to a file beside the log.
fn note_panics(dir: &Path) {
    let file = dir.join("panic");
    std::panic::set_hook(Box::new(move |info| {
        let _ = std::fs::write(&file, info.to_string());
    }));
}

enum Refused {
    Sandbox(Failure),
    Program(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Sandbox(failure)
    }
}

/// What only the shim can give, while the first process mounts; then the first step's start is awaited. `limited` says
/// whether that process was born in its groups.
fn furnish(
    spec: &Spec,
    run: &mut Run,
    ground: &mut Ground,
    limited: Result<bool, Failure>,
) -> Result<(Who, Setup), Refused> {
    let (first_id, id_count) = ground.standing.range(spec);
    let (namespace, _maker) = ids::user_namespace(first_id, id_count)?;
    wire::send(run.init(), &Order::Ids, Some(namespace.as_fd())).doing("handing over of the user namespace")?;
    drop(namespace);
    let mut setup = limit(spec, run, ground, limited?)?;
    run.way_out = connect(spec, run, ground)?;
    run.listen()?;
    let limit_processes = !run.group.counts_processes();
    wire::send(run.init(), &Order::Go { limit_processes }, None).doing("start of the sandbox")?;
    let who = await_start(run, &mut setup)?;
    if spec.kind == Kind::Instance {
        // A job's are told by its worker; an instance has its log only.
        setup.notes.iter().for_each(|note| run.log.note(note));
    }
    Ok((who, setup))
}

/// Puts the first process into its groups and sets their limits; what is told of them.
fn limit(spec: &Spec, run: &mut Run, ground: &mut Ground, is_inside: bool) -> Result<Setup, Failure> {
    let mut notes = std::mem::take(&mut ground.standing.notes);
    if !is_inside && let Err(failure) = run.group.enter(run.init_pid) {
        if ground.standing.is_root() {
            return Err(failure);
        }
        // Groups that nobody is in limit nothing.
        run.group.remove();
        run.group = Group::none();
        notes.push(format!("the delegated control group is not used: {}: {}", failure.what, failure.cause));
    }
    notes.extend(run.group.limit(&spec.limits)?);
    if !run.group.counts_processes() && ground.standing.is_root() {
        notes.push("processes are limited per user, for want of a pids controller".to_owned());
    }
    let cgroup = run.group.version().to_owned();
    Ok(Setup { shim_pid: std::process::id(), level: ground.standing.level, cgroup, notes })
}

/// The way out, where one is wanted. What an ordinary user's network needs lives as long as what is returned.
fn connect(spec: &Spec, run: &Run, ground: &mut Ground) -> Result<Option<WayOut>, Failure> {
    match (spec.network, ground.guard.take()) {
        (Network::Outbound, _) if !ground.standing.is_root() => {
            Err(Failure::new("outbound network", "only root can make links with address translation"))
        }
        (Network::Outbound, _) => {
            ground.apart.in_host(|| outbound::connect(run.init_pid, &spec.id))?.furnish_inside()?;
            Ok(None)
        }
        (Network::UserMode(stack), Some(guard)) => guard.connect(stack).map(Some),
        (Network::UserMode(_), None) => {
            Err(Failure::new("outbound network", "root's sandboxes have address translation instead"))
        }
        (Network::None | Network::Host, _) => Ok(None),
    }
}

fn await_start(run: &mut Run, setup: &mut Setup) -> Result<Who, Refused> {
    let until = Instant::now() + SETUP_LIMIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !wire::readable_within(run.init(), left).doing("wait for the sandbox")? {
            return Err(Failure::new("setup of the sandbox", "it took longer than 30 s").into());
        }
        match wire::receive::<Event>(run.init(), false).doing("report of the sandbox")? {
            // Ready comes second: the first step is started on the way.
            Some((Event::Started(who), _)) => run.begun(who),
            Some((Event::Ready(notes), _)) => {
                setup.notes.extend(notes);
                return Ok(Who::Step(0));
            }
            Some((Event::Failed(failure), _)) => return Err(Refused::Sandbox(failure)),
            Some((Event::NotStarted(_, failure), _)) => return Err(Refused::Program(failure)),
            Some((Event::Ended(who, reaping), _)) => run.ended(who, reaping),
            None => return Err(Failure::new("setup of the sandbox", "its first process ended").into()),
        }
    }
}

/// Readable, and apart for two data folders on one machine.
fn group_name(spec: &Spec) -> String {
    use std::os::unix::ffi::OsStrExt;
    let bytes = spec.dir.as_os_str().as_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    format!("slipway-{}-{:08x}", spec.id, hash as u32)
}

/// Binds the socket whatever the length of the folder's path: sun_path holds 107 bytes only.
fn listen_in(dir: &OwnedFd) -> Result<OwnedFd, Failure> {
    use rustix::net::{SocketAddrUnix, bind, listen, socket_with};
    let _ = rustix::fs::unlinkat(dir, SOCKET_FILE, rustix::fs::AtFlags::empty());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).doing("socket")?;
    let path = format!("{}/{SOCKET_FILE}", mounts::descriptor_path(dir.as_fd()));
    let address = SocketAddrUnix::new(path).doing("address of the control socket")?;
    bind(&socket, &address).doing("binding of the control socket")?;
    listen(&socket, 64).doing("listening on the control socket")?;
    Ok(socket)
}
