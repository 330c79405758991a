//! The hook process: what git starts before and after it stores a push.
//!
//! In: refs on standard input, the surroundings that receive-pack gives. Out: lines on standard
//! output, each flushed at once, and the exit status that the server says.
//! Never: starts a runtime or a thread, decides anything, stays when the server is gone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::frames::{
    CALL_BYTES_MAX, Call, Frame, HookKind, Moved, PUSH_VARIABLE, PUSHER_VARIABLE, SILENCE_MAX, SOCKET_LINK, VERSION,
    with_short_path,
};

/// Longest line that the server may send.
const FRAME_BYTES_MAX: u64 = 1 << 20;

/// How many push options are handed on.
const OPTIONS_MAX: usize = 64;

/// What git tells a hook about objects that are not accepted yet.
const QUARANTINE_VARIABLES: [&str; 3] =
    ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"];

/// The name of the hook when the program was started as one, by the last part of its name.
pub fn is_hook(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?.to_str()?;
    HookKind::parse(name).map(HookKind::name)
}

/// Runs a hook to its end and gives the exit status; `name` is what [`is_hook`] found.
pub fn hook_main(name: &str) -> i32 {
    let Some(kind) = HookKind::parse(name) else {
        return 2;
    };
    match run(kind) {
        Ok(status) => i32::from(status),
        Err(trouble) => settle(kind, &trouble),
    }
}

/// Why a hook ended without a word from the server.
enum Trouble {
    /// Standard input or the surroundings are not those of a hook.
    Start,
    /// A ref name that is not UTF-8.
    RefName,
    /// Nobody listens.
    Unreachable,
    /// The server went away, or let go of this hook.
    Lost,
}

fn run(kind: HookKind) -> Result<u8, Trouble> {
    let call = call(kind)?;
    let stream = with_short_path(&socket(), |path| UnixStream::connect(path));
    let mut stream = stream.map_err(|_| Trouble::Unreachable)?;
    // Every wait has a deadline: the server says at least "alive" more often than this.
    let limited = stream.set_read_timeout(Some(SILENCE_MAX)).and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX)));
    limited.map_err(|_| Trouble::Start)?;
    let mut line = serde_json::to_vec(&call).map_err(|_| Trouble::Start)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|_| Trouble::Lost)?;
    follow(BufReader::new(stream))
}

/// Prints what the server sends until it says how to end.
fn follow(mut from: BufReader<UnixStream>) -> Result<u8, Trouble> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut from).take(FRAME_BYTES_MAX).read_until(b'\n', &mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return Err(Trouble::Lost);
        }
        match serde_json::from_slice(&line) {
            Ok(Frame::Line(text)) => say(&text).map_err(|_| Trouble::Lost)?,
            Ok(Frame::Exit(status)) => return Ok(status),
            Ok(Frame::Alive(_)) => {}
            // A newer server may know more kinds of frames.
            Err(_) if line.ends_with(b"\n") => {}
            Err(_) => return Err(Trouble::Lost),
        }
    }
}

fn call(kind: HookKind) -> Result<Call, Trouble> {
    let here = std::env::current_dir().map_err(|_| Trouble::Start)?;
    let folder = here.file_name().unwrap_or_default().to_string_lossy();
    let project = folder.strip_suffix(".git").unwrap_or(&folder).to_owned();
    let variable = |name: &str| {
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    };
    let quarantine: BTreeMap<String, String> =
        QUARANTINE_VARIABLES.into_iter().filter_map(|name| Some((name.to_owned(), variable(name)?))).collect();
    let count = variable("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse().ok());
    let options = (0..count.unwrap_or(0_usize).min(OPTIONS_MAX))
        .filter_map(|n| variable(&format!("GIT_PUSH_OPTION_{n}")))
        .collect();
    Ok(Call {
        v: VERSION,
        kind,
        push: variable(PUSH_VARIABLE),
        project,
        pusher: variable(PUSHER_VARIABLE),
        refs: moved()?,
        options,
        quarantine,
    })
}

/// Reads `OLD NEW NAME` lines.
fn moved() -> Result<Vec<Moved>, Trouble> {
    let mut input = Vec::new();
    io::stdin().take(CALL_BYTES_MAX as u64).read_to_end(&mut input).map_err(|_| Trouble::Start)?;
    let text = String::from_utf8(input).map_err(|_| Trouble::RefName)?;
    let refs = text.lines().filter_map(|line| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some(Moved { old: words.next()?, new: words.next()?, name: words.next()? })
    });
    Ok(refs.collect())
}

/// The link to the server's socket lies beside the hook.
fn socket() -> PathBuf {
    let hook = std::env::args_os().next().unwrap_or_default();
    let folder = Path::new(&hook).parent().unwrap_or(Path::new("."));
    let link = folder.join(SOCKET_LINK);
    std::fs::read_link(&link).unwrap_or(link)
}

fn say(text: &str) -> io::Result<()> {
    let line = format!("slipway {text}");
    let mut out = io::stdout().lock();
    out.write_all(format!("{}\n", line.trim_end()).as_bytes())?;
    out.flush()
}

/// Ends without a verdict: nothing is stored unjudged, and nothing stored is lost.
fn settle(kind: HookKind, trouble: &Trouble) -> i32 {
    let (lines, status): (&[&str], i32) = match (kind, trouble) {
        (HookKind::PreReceive, Trouble::Unreachable) => (
            &[
                " refused: Slipway does not run on this server, so nobody can judge the push",
                " next: start it with `slipway up`, then push again",
            ],
            1,
        ),
        (HookKind::PreReceive, Trouble::Lost) => (
            &[
                " refused: the connection to Slipway was lost before it had judged the push",
                " next: push again; nothing was stored",
            ],
            1,
        ),
        (HookKind::PreReceive, Trouble::RefName) => {
            (&[" refused: the name of a branch or tag is not UTF-8", " next: rename it, then push again"], 1)
        }
        (HookKind::PreReceive, Trouble::Start) => (
            &[" refused: the receive hook could not read what git gave it", " next: `slipway doctor` on the server"],
            1,
        ),
        (HookKind::PostReceive, Trouble::Unreachable) => {
            (&[" stored; Slipway does not run and will pick this change up when it starts", " next: `slipway up`"], 0)
        }
        (HookKind::PostReceive, Trouble::Lost | Trouble::RefName | Trouble::Start) => {
            (&[" stored; the connection to Slipway was lost, the work goes on", " next: `slipway watch`"], 0)
        }
    };
    for line in lines {
        // Nobody may be reading any more.
        let _ = say(line);
    }
    status
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::is_hook;

    #[test]
    fn the_program_is_a_hook_by_its_name_alone() {
        assert_eq!(is_hook(OsStr::new("/data/git/hooks/pre-receive")), Some("pre-receive"));
        assert_eq!(is_hook(OsStr::new("post-receive")), Some("post-receive"));
        for other in ["slipway", "/usr/bin/slipway", "", "pre-receive/slipway", "update"] {
            assert_eq!(is_hook(OsStr::new(other)), None, "{other}");
        }
    }
}
