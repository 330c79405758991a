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
use crate::spec::{Network, Spec};
use crate::wire::{self, Event, Order, Who};
use crate::{ids, log::LogWriter, mounts, outbound, sys};
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The shim's pid.
    pub shim_pid: u32,
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
        Some("run") => detach(),
        Some("probe-user-namespace") => match sys::unshare(sys::NEW_USER) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        _ => 2,
    }
}

/// Forks once, so that the shim is nobody's child and leaves nobody a zombie.
fn detach() -> i32 {
    match sys::clone(0) {
        Ok(0) => {}
        Ok(_) => return 0,
        Err(_) => return 3,
    }
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    sys::ignore_signal(libc::SIGHUP);
    sys::ignore_signal(libc::SIGPIPE);
    let Ok((input, report)) = take_standard() else { return 3 };
    let (apart, spec) = match Apart::new().and_then(|apart| Ok((apart, read_spec(input)?))) {
        Ok(both) => both,
        Err(failure) => {
            answer(Some(report), &Report::Failed(failure));
            return 3;
        }
    };
    let mut report = Some(report);
    match start(spec, apart, &mut report) {
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

fn start(spec: Spec, apart: Apart, report: &mut Option<File>) -> Result<Started, Failure> {
    let dir = claim_folder(&spec.dir)?;
    note_panics(&spec.dir);
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let (first_id, id_count) = spec.ids.range(&spec.id);
    let (out, out_inside) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
    let (err, err_inside) = pipe_with(PipeFlags::CLOEXEC).doing("pipe")?;
    let (mine, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing("socketpair")?;
    if spec.network == Network::Host {
        apart.enter_host()?;
    }
    let group = Group::create(&group_name(&spec))?;
    let born_inside = group.join();
    let cloned = sys::clone(sys::NEW_SANDBOX).doing("namespaces");
    if matches!(cloned, Ok(0)) {
        // The report's end is that of its last holder: this process, which lives as long as the run, must not be one.
        drop((mine, out, err, dir, apart, report.take()));
        init::run(init::Inputs {
            spec,
            shim: theirs,
            stdout: out_inside,
            stderr: err_inside,
            ids: (first_id, id_count),
        });
    }
    let limited = group.leave().map(|()| born_inside);
    let pid = cloned.inspect_err(|_| group.remove())?;
    drop((theirs, out_inside, err_inside));
    let masks = Masks::new(spec.secrets.iter().map(|s| &s.bytes.0[..]).chain(spec.masks.iter().map(|m| &m.0[..])));
    let log = LogWriter::new(Rc::clone(&dir), masks, spec.limits.log_bytes);
    let mut run = Box::new(Run::new(&spec, dir, run::Pipes { init: mine, init_pid: pid, out, err }, log));
    run.group = group;
    match furnish(&spec, &mut run, &apart, limited) {
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

/// What only the host's root can give, while the first process mounts; then the first step's start is awaited. `limited`
/// says whether that process was born in its groups.
fn furnish(spec: &Spec, run: &mut Run, apart: &Apart, limited: Result<bool, Failure>) -> Result<(Who, Setup), Refused> {
    let (first_id, id_count) = spec.ids.range(&spec.id);
    let (namespace, _maker) = ids::user_namespace(first_id, id_count)?;
    wire::send(run.init(), &Order::Ids, Some(namespace.as_fd())).doing("handing over of the user namespace")?;
    drop(namespace);
    if !limited? {
        run.group.enter(run.init_pid)?;
    }
    run.group.limit(&spec.limits)?;
    if spec.network == Network::Outbound {
        apart.in_host(|| outbound::connect(run.init_pid, &spec.id))?.furnish_inside()?;
    }
    run.listen()?;
    let limit_processes = !run.group.counts_processes();
    wire::send(run.init(), &Order::Go { limit_processes }, None).doing("start of the sandbox")?;
    let mut setup = Setup { shim_pid: std::process::id(), cgroup: run.group.version().to_owned(), notes: Vec::new() };
    if limit_processes {
        setup.notes.push("processes are limited per user, for want of a pids controller".to_owned());
    }
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
                return Ok((Who::Step(0), setup));
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
