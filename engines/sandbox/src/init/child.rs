//! Starts one program inside. In: what to run, where its output goes, who it is. Out: its pid once it was exec'ed, or why not.
//! A program starts with exactly descriptors 0, 1, 2, no blocked signal and no right but those of its user.

use crate::error::{Doing, Failure, errno_text};
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What to run.
pub struct Program<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// The whole environment.
    pub env: &'a [(String, String)],
    /// Working folder.
    pub cwd: &'a Path,
}

/// Starts it and waits until it was exec'ed.
pub fn start(
    program: &Program<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
    user: &super::user::User,
) -> Result<libc::pid_t, Failure> {
    let prepared = Prepared::from(program)?;
    let (report_in, report_out) = pipe().doing("pipe")?;
    let pid = sys::clone(0).doing("fork")?;
    if pid == 0 {
        let Err(failure) = become_program(&prepared, program.cwd, stdout, stderr, user);
        let _ = serde_json::to_vec(&failure).map(|bytes| rustix::io::write(&report_out, &bytes));
        sys::exit_now(127);
    }
    drop(report_out);
    let mut report = Vec::new();
    File::from(report_in).read_to_end(&mut report).doing("read of the exec report")?;
    if report.is_empty() {
        return Ok(pid);
    }
    let _ = sys::reap(Some(pid), true);
    let unreadable = || Failure::new("start of the program", "its failure could not be read");
    Err(serde_json::from_slice(&report).unwrap_or_else(|_| unreadable()))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

struct Prepared {
    name: String,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Prepared {
    fn from(program: &Program<'_>) -> Result<Self, Failure> {
        let name = program.argv.first().cloned().unwrap_or_default();
        let text = |s: String| {
            CString::new(s).map_err(|_| Failure::new(format!("exec of `{name}`"), "an argument holds a zero byte"))
        };
        let argv = program.argv.iter().map(|a| text(a.clone())).collect::<Result<_, _>>()?;
        let env = program.env.iter().map(|(k, v)| text(format!("{k}={v}"))).collect::<Result<_, _>>()?;
        let candidates = if name.contains('/') {
            vec![text(name.clone())?]
        } else {
            let path =
                program.env.iter().find(|(key, _)| key == "PATH").map_or(crate::PATH_DEFAULT, |(_, v)| v.as_str());
            path.split(':').filter(|f| !f.is_empty()).map(|f| text(format!("{f}/{name}"))).collect::<Result<_, _>>()?
        };
        Ok(Self { name, candidates, argv, env })
    }
}

/// In the child. Returns only on failure.
fn become_program(
    prepared: &Prepared,
    cwd: &Path,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
    user: &super::user::User,
) -> Result<Infallible, Failure> {
    let null = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing("open of /dev/null")?;
    // The pipes have numbers above 2: this process was born with 0, 1 and 2 in use.
    for (fd, number) in [(null.as_fd(), 0), (stdout, 1), (stderr, 2)] {
        sys::dup_onto(fd.as_raw_fd(), number, false).doing("duplicating a descriptor")?;
    }
    sys::close_on_exec_from(3).doing("closing of descriptors")?;
    rustix::process::setsid().doing("setsid")?;
    sys::reset_signals();
    if user.uid != 0 || user.gid != 0 {
        sys::become_user(user.uid, user.gid, Some(&[])).doing("becoming the user")?;
    }
    rustix::process::chdir(cwd).doing_on("working folder", cwd.display())?;
    let mut denied = None;
    for candidate in &prepared.candidates {
        let error = sys::exec(candidate, &prepared.argv, &prepared.env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if has_file(candidate) => {
                return Err(Failure::new(
                    format!("exec of `{}`", prepared.name),
                    "its interpreter or loader is missing inside",
                ));
            }
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            _ => denied = Some(error),
        }
    }
    let cause = match denied {
        Some(error) => errno_text(&error),
        None if prepared.name.contains('/') => "no such file or directory".to_owned(),
        None => "not found in PATH".to_owned(),
    };
    Err(Failure::new(format!("exec of `{}`", prepared.name), cause))
}

fn has_file(path: &CString) -> bool {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).is_file()
}
