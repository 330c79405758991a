//! What a hook and the server say to each other: lines of JSON over a Unix socket.
//!
//! The hook sends one [`Call`] and then only listens; the server answers any number of
//! [`Frame`]s. Whoever is done closes. Version 1 is understood by every later server.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of the protocol that is spoken here.
pub(crate) const VERSION: u32 = 1;

/// Longest call: a push of 100,000 refs fits.
pub(crate) const CALL_BYTES_MAX: usize = 32 << 20;

/// How often the server says that it is alive.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(20);

/// How long a hook believes in a server that says nothing.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(90);

/// The environment variable with the id of the push; its receive-pack and hooks have it.
pub(crate) const PUSH_VARIABLE: &str = "SLIPWAY_PUSH";

/// The environment variable with the name of who pushes.
pub(crate) const PUSHER_VARIABLE: &str = "SLIPWAY_PUSHER";

/// Name of the link beside the hooks that leads to the server's socket.
pub(crate) const SOCKET_LINK: &str = "socket";

/// Which hook calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Before any ref moves: the answer decides whether the push is stored.
    PreReceive,
    /// After the refs moved: the answer changes nothing, the lines are progress.
    PostReceive,
}

impl HookKind {
    /// The name of the hook as git knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreReceive => "pre-receive",
            Self::PostReceive => "post-receive",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "pre-receive" => Some(Self::PreReceive),
            "post-receive" => Some(Self::PostReceive),
            _ => None,
        }
    }
}

/// What a hook says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) v: u32,
    pub(crate) kind: HookKind,
    pub(crate) push: Option<String>,
    pub(crate) project: String,
    pub(crate) pusher: Option<String>,
    pub(crate) refs: Vec<Moved>,
    pub(crate) options: Vec<String>,
    pub(crate) quarantine: BTreeMap<String, String>,
}

/// One ref that is to move, ids as git writes them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) old: String,
    pub(crate) new: String,
    pub(crate) name: String,
}

/// What the server answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Frame {
    /// Print this behind `slipway `.
    Line(String),
    /// End with this status.
    Exit(u8),
    /// Nothing to say yet.
    Alive(bool),
}

impl Frame {
    pub(crate) fn to_line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Calls `act` with a short name for a socket: the system allows 107 bytes only.
pub(crate) fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= 100 {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    act(&short.join(name))
}

#[cfg(test)]
mod tests {
    use super::Frame;

    #[test]
    fn frames_are_one_line_of_json_each() {
        let pairs = [
            (Frame::Line("a\nb".to_owned()), "{\"line\":\"a\\nb\"}\n"),
            (Frame::Exit(1), "{\"exit\":1}\n"),
            (Frame::Alive(true), "{\"alive\":true}\n"),
        ];
        for (frame, text) in pairs {
            let line = frame.to_line().expect("plain text");
            assert_eq!(String::from_utf8_lossy(&line), text);
            let back: Frame = serde_json::from_str(text).expect("a frame");
            assert_eq!(back, frame);
        }
    }
}
