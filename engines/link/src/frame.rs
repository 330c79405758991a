//! Frames: how a message lies on the stream.
//!
//! In: kind, number, JSON. Out: `length (4 bytes, big-endian) kind (1) number (8, big-endian) JSON`, the length
//! being that of all behind it. Never a frame above the limit: its sender gets an error, its receiver ends the link.

use crate::error::LinkError;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest frame. A wish with its secrets has about 1 MiB, a page of log lines less.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Kind and number.
const HEAD_BYTES: usize = 9;
/// A body is taken in pieces of this size, so that a length alone makes nobody allocate.
const PIECE_BYTES: usize = 256 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The first frame of the dialling side.
    Hello,
    /// The answer to it: the connection stands.
    Welcome,
    /// The answer to it: it does not, and why.
    Refuse,
    /// A call; the number is its sender's.
    Call,
    /// The answer to the call with this number.
    Answer,
    /// The call with this number failed; the body is a text.
    Failed,
    /// Wants no answer.
    Event,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

const KINDS: [(FrameKind, u8); 9] = [
    (FrameKind::Hello, b'H'),
    (FrameKind::Welcome, b'W'),
    (FrameKind::Refuse, b'R'),
    (FrameKind::Call, b'C'),
    (FrameKind::Answer, b'A'),
    (FrameKind::Failed, b'F'),
    (FrameKind::Event, b'E'),
    (FrameKind::Ping, b'?'),
    (FrameKind::Pong, b'!'),
];

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn empty(kind: FrameKind) -> Frame {
        Frame { kind, number: 0, body: Vec::new() }
    }

    pub(crate) fn of<T: serde::Serialize>(kind: FrameKind, number: u64, body: &T) -> Result<Frame, LinkError> {
        let body = serde_json::to_vec(body).map_err(LinkError::Malformed)?;
        if body.len() + HEAD_BYTES > FRAME_BYTES_MAX {
            return Err(LinkError::TooLarge { bytes: body.len() });
        }
        Ok(Frame { kind, number, body })
    }

    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, LinkError> {
        serde_json::from_slice(&self.body).map_err(LinkError::Malformed)
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.body.len() + HEAD_BYTES).unwrap_or(u32::MAX);
        let letter = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or(0, |(_, letter)| *letter);
        out.extend_from_slice(&length.to_be_bytes());
        out.push(letter);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Reads one frame. `None`: the stream ended between two frames.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut length = [0_u8; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame says it has {length} bytes")));
    }
    let letter = stream.read_u8().await?;
    let number = stream.read_u64().await?;
    let mut body = Vec::new();
    let mut left = length - HEAD_BYTES;
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        let from = body.len();
        body.resize(from + piece, 0);
        stream.read_exact(&mut body[from..]).await?;
        left -= piece;
    }
    match KINDS.iter().find(|(_, known)| *known == letter) {
        Some((kind, _)) => Ok(Some(Frame { kind: *kind, number, body })),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of unknown kind {letter}"))),
    }
}
