//! The greeting: who speaks, and which version both understand.
//!
//! In: the dialling side's [`Hello`]. Out: an agreed version, or a refusal with its reason.
//! Never: more than one exchange, or a longer wait than the limit.

use crate::error::LinkError;
use crate::frame::{Frame, FrameKind, read_frame};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// The oldest version of the protocol that this build speaks. Always N−1 once there are two.
pub const VERSION_MIN: u32 = 1;
/// The newest version of the protocol that this build speaks.
pub const VERSION_MAX: u32 = 1;
/// For the whole greeting: both sides are at hand and have nothing to look up.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// What the dialling side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Runs instances.
    Node,
    /// Runs jobs.
    Worker,
}

impl Kind {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Worker => "worker",
        }
    }
}

/// What the dialling side says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version it speaks.
    pub version_min: u32,
    /// The newest.
    pub version_max: u32,
    /// What it is.
    pub kind: Kind,
    /// Its name among its kind.
    pub name: String,
    /// Its process.
    pub pid: u32,
}

impl Hello {
    /// This process, with the versions of this build.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Hello {
        Hello { version_min: VERSION_MIN, version_max: VERSION_MAX, kind, name: name.into(), pid: std::process::id() }
    }

    /// How it is called in messages.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.kind.word(), self.name)
    }

    /// The newest version that it shares with a build that speaks these.
    pub(crate) fn agree(&self, min: u32, max: u32) -> Result<u32, String> {
        let version = self.version_max.min(max);
        if version >= self.version_min.max(min) {
            return Ok(version);
        }
        let older = if self.version_max < min { self.kind.word() } else { "control plane" };
        Err(format!(
            "this {} speaks versions {} to {} of the link, the control plane {min} to {max}; upgrade the {older}",
            self.kind.word(),
            self.version_min,
            self.version_max,
        ))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Welcome {
    version: u32,
}

/// The dialling side's part.
pub(crate) async fn greet(stream: &mut UnixStream, hello: &Hello) -> Result<u32, LinkError> {
    limited(async {
        send(stream, &Frame::of(FrameKind::Hello, 0, hello)?).await?;
        let frame = receive(stream).await?;
        match frame.kind {
            FrameKind::Welcome => Ok(frame.read::<Welcome>()?.version),
            FrameKind::Refuse => Err(LinkError::Refused { reason: frame.read()? }),
            _ => Err(LinkError::Refused { reason: "the other side does not greet".into() }),
        }
    })
    .await
}

/// The listening side's part.
pub(crate) async fn welcome(stream: &mut UnixStream) -> Result<(Hello, u32), LinkError> {
    limited(async {
        let frame = receive(stream).await?;
        if frame.kind != FrameKind::Hello {
            return Err(LinkError::Refused { reason: "the other side does not greet".into() });
        }
        let hello: Hello = frame.read()?;
        match hello.agree(VERSION_MIN, VERSION_MAX) {
            Ok(version) => {
                send(stream, &Frame::of(FrameKind::Welcome, 0, &Welcome { version })?).await?;
                Ok((hello, version))
            }
            Err(reason) => {
                refuse(stream, &reason).await?;
                Err(LinkError::Refused { reason })
            }
        }
    })
    .await
}

/// Says no and why.
pub(crate) async fn refuse(stream: &mut UnixStream, reason: &str) -> Result<(), LinkError> {
    send(stream, &Frame::of(FrameKind::Refuse, 0, &reason)?).await
}

async fn limited<T>(greeting: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(GREETING_LIMIT, greeting).await.unwrap_or_else(|_| {
        let limit_ms = u64::try_from(GREETING_LIMIT.as_millis()).unwrap_or(u64::MAX);
        Err(LinkError::Timeout { peer: "the other side of a new link".into(), limit_ms })
    })
}

async fn send(stream: &mut UnixStream, frame: &Frame) -> Result<(), LinkError> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    stream.write_all(&bytes).await.map_err(|e| LinkError::io("greeting on a new link", e))
}

async fn receive(stream: &mut UnixStream) -> Result<Frame, LinkError> {
    let frame = read_frame(stream).await.map_err(|e| LinkError::io("greeting on a new link", e))?;
    frame.ok_or_else(|| LinkError::Closed { peer: "the other side of a new link".into() })
}
