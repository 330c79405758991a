//! The body of a request, piece by piece into git's standard input.
//!
//! In: a body, plain or gzip. Out: its plain bytes in pieces, within a limit that counts after
//! inflating. Never: holds more than one piece, however well it was compressed.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use flate2::write::GzDecoder;
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use crate::http_serve::Refusal;

/// So little is inflated at once that even a thousandfold expansion stays at 2 MiB.
const GZIP_PIECE_BYTES: usize = 2 << 10;

/// How much of a request is read and thrown away after git stopped reading, so that the client
/// reads git's answer instead of a broken connection.
const DISCARD_BYTES_MAX: u64 = 32 << 20;

/// A request body on its way.
pub(crate) struct RequestBody {
    stream: BodyDataStream,
    inflate: Option<GzDecoder<Vec<u8>>>,
    bytes_left: u64,
    bytes_max: u64,
    idle: Duration,
}

impl RequestBody {
    pub(crate) fn new(headers: &HeaderMap, body: Body, bytes_max: u64, idle: Duration) -> Result<Self, Refusal> {
        let coding = headers.get(header::CONTENT_ENCODING);
        let inflate = match coding.map(|value| value.as_bytes()) {
            None | Some(b"identity") => None,
            Some(b"gzip" | b"x-gzip") => Some(GzDecoder::new(Vec::new())),
            Some(_) => {
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be plain or gzip"));
            }
        };
        Ok(Self { stream: body.into_data_stream(), inflate, bytes_left: bytes_max, bytes_max, idle })
    }

    /// Writes the whole body into git and closes its input.
    pub(crate) async fn pour(mut self, mut into: ChildStdin) -> Result<(), Refusal> {
        while let Some(piece) = self.next().await? {
            if self.put(&piece, &mut into).await?.is_break() {
                drop(into);
                return self.discard().await;
            }
        }
        if let Some(mut inflate) = self.inflate.take() {
            inflate.try_finish().map_err(|_| broken_gzip())?;
            self.count(inflate.get_ref().len())?;
            // What git makes of its end is in its answer.
            let _ = write(self.idle, inflate.get_ref(), &mut into).await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Refusal> {
        match tokio::time::timeout(self.idle, self.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(_))) => Err(Refusal::new(StatusCode::BAD_REQUEST, "the request ended early")),
            Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "nothing was sent for too long")),
        }
    }

    async fn put(&mut self, piece: &[u8], into: &mut ChildStdin) -> Result<ControlFlow<()>, Refusal> {
        let Some(mut inflate) = self.inflate.take() else {
            self.count(piece.len())?;
            return write(self.idle, piece, into).await;
        };
        for small in piece.chunks(GZIP_PIECE_BYTES) {
            inflate.write_all(small).map_err(|_| broken_gzip())?;
            let plain = std::mem::take(inflate.get_mut());
            self.count(plain.len())?;
            let went = write(self.idle, &plain, into).await?;
            if went.is_break() {
                return Ok(went);
            }
        }
        self.inflate = Some(inflate);
        Ok(ControlFlow::Continue(()))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.bytes_left.checked_sub(bytes as u64);
        self.bytes_left = left.ok_or_else(|| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {} bytes", self.bytes_max))
        })?;
        Ok(())
    }

    async fn discard(mut self) -> Result<(), Refusal> {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(piece) = self.next().await? {
            let Some(rest) = left.checked_sub(piece.len() as u64) else {
                break;
            };
            left = rest;
        }
        Ok(())
    }
}

/// Breaks when git reads no more.
async fn write(idle: Duration, plain: &[u8], into: &mut ChildStdin) -> Result<ControlFlow<()>, Refusal> {
    match tokio::time::timeout(idle, into.write_all(plain)).await {
        Ok(Ok(())) => Ok(ControlFlow::Continue(())),
        Ok(Err(_)) => Ok(ControlFlow::Break(())),
        Err(_) => Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "git read nothing for too long")),
    }
}

fn broken_gzip() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "the body is not valid gzip")
}
