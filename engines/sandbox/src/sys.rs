//! The few kernel calls that neither std nor rustix offers safely. In: owned descriptors and plain numbers. Out: results with errno.
//! Never called in a process that has more than one thread, except where a function says so.
#![allow(unsafe_code)] // raw system calls; every block says why it is sound

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Namespaces that a sandbox's first process is born into, as flags of clone(2).
pub const NEW_SANDBOX: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
/// Namespaces besides the network that a shim shares with its sandbox, as flags of unshare(2).
pub const NEW_SHARED: libc::c_int = libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
/// The network namespace, as a flag of unshare(2) and setns(2).
pub const NEW_NETWORK: libc::c_int = libc::CLONE_NEWNET;
/// The user namespace, as a flag of clone(2).
pub const NEW_USER: libc::c_int = libc::CLONE_NEWUSER;
/// The cgroup namespace, as a flag of unshare(2).
pub const NEW_CGROUP: libc::c_int = libc::CLONE_NEWCGROUP;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks into new namespaces: 0 in the child, the child's pid in the parent.
pub fn clone(flags: libc::c_int) -> io::Result<libc::pid_t> {
    // SAFETY: a fork-like clone (no shared memory, no new stack) of a single-threaded process.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) };
    check(pid).map(|pid| pid as libc::pid_t)
}

/// Ends this process at once, without destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// unshare(2) for namespaces.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed; no descriptor table is affected.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// setns(2).
pub fn setns(namespace: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and valid.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }.into()).map(drop)
}

/// Becomes uid and gid (real, effective, saved) with just these supplementary groups; `None` leaves them as they are,
/// where a user namespace of one id allows no change.
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    // SAFETY: `groups` outlives the call; single-threaded, so one thread's ids are the process's ids.
    unsafe {
        if let Some(groups) = groups {
            check(libc::setgroups(groups.len(), groups.as_ptr()).into())?;
        }
        check(libc::setresgid(gid, gid, gid).into())?;
        check(libc::setresuid(uid, uid, uid).into())?;
    }
    Ok(())
}

/// mount_setattr(2) on a mount known by descriptor.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, set: u64, ids: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(ids) = ids {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = ids.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path is a static C string, `attributes` outlives the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Installs a seccomp filter on this process and everything it will start. Needs no_new_privs.
pub fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program during the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}

/// Makes every descriptor from `first` on close at exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only a flag of descriptors changes; none is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Makes `from` the descriptor number `to`.
pub fn dup_onto(from: RawFd, to: RawFd, close_on_exec: bool) -> io::Result<()> {
    if from == to {
        // SAFETY: plain fcntl on a number that the caller owns.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, libc::c_int::from(close_on_exec)) }.into()).map(drop);
    }
    // SAFETY: as above; `to` is a number that the caller may overwrite.
    check(unsafe { libc::dup3(from, to, if close_on_exec { libc::O_CLOEXEC } else { 0 }) }.into()).map(drop)
}

/// A descriptor that becomes readable when one of `signals` is pending; the signals are blocked from now on.
pub fn signal_fd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the returned descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Unblocks every signal and gives each its default meaning, as a fresh program expects.
pub fn reset_signals() {
    // SAFETY: single-threaded child before exec; SIGKILL and SIGSTOP fail harmlessly.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// A signal's default meaning is to be ignored from now on.
pub fn ignore_signal(signal: libc::c_int) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// execve(2); returns only on failure.
pub fn exec(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in null and point into strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// A child that ended, and what it and the children it waited for used.
pub struct Reaped {
    /// Its pid, as this process sees it.
    pub pid: libc::pid_t,
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when one ended it.
    pub signal: Option<i32>,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// Bytes read from and written to block devices.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub written_bytes: u64,
}

/// Reaps one ended child (any, or `pid`), or says that none has ended.
pub fn reap(pid: Option<libc::pid_t>, block: bool) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: status and usage outlive the call; rusage is plain data for which zero is valid.
    let (got, usage) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
        (libc::wait4(pid.unwrap_or(-1), &raw mut status, flags, &raw mut usage), usage)
    };
    if got == 0 {
        return Ok(None);
    }
    let pid = check(got.into())? as libc::pid_t;
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Ok(Some(Reaped {
        pid,
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        read_bytes: usage.ru_inblock as u64 * 512,
        written_bytes: usage.ru_oublock as u64 * 512,
    }))
}

/// kill(2); a negative pid means a process group.
pub fn kill(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length belong to `name`.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Brings the loopback device of this network namespace up.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain data; name and flags are set before the kernel reads them.
    unsafe {
        let mut request = std::mem::zeroed::<libc::ifreq>();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into()).map(drop)
    }
}

/// Leaves real-time scheduling, whose tasks cannot enter a cgroup with a CPU limit (version 1).
pub fn leave_real_time(pid: libc::pid_t) {
    // SAFETY: sched_param is plain data; a failure changes nothing.
    unsafe {
        let parameter = std::mem::zeroed::<libc::sched_param>();
        libc::sched_setscheduler(pid, libc::SCHED_OTHER, &raw const parameter);
    }
}

/// Gives freed memory back to the kernel, where the C library can.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Sets a resource limit to `limit`, or to the hard limit where that is lower.
pub fn limit_resource(resource: u32, limit: u64) -> io::Result<()> {
    // SAFETY: rlimit is plain data, read and written by the kernel during the calls.
    unsafe {
        let mut now = std::mem::zeroed::<libc::rlimit>();
        check(libc::getrlimit(resource as _, &raw mut now).into())?;
        let limit = limit.min(now.rlim_max);
        let wanted = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        check(libc::setrlimit(resource as _, &raw const wanted).into()).map(drop)
    }
}

/// Takes over an inherited standard descriptor (0, 1 or 2) by duplicating it.
pub fn duplicate_standard(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the standard descriptors stay open for the life of the process; the duplicate is new and ours.
    unsafe {
        let fd = check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}
