//! Bodies of requests and responses, as streams.
//!
//! In: a request's body and the writer it goes to; a file and the part of it that was asked for.
//! Out: the writer with what came; a body. Never: a wait without end, or more than a few pieces in memory.

use std::fs::File;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use slipway_blobs::{BlobError, Writer};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Limits;
use crate::reply::Refusal;

/// Pieces on their way from the network to the disk.
const PIECES_MAX: usize = 16;
/// What is read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// Writes a body to the end of `writer`, and gives the writer back with everything that came, also
/// when the body broke off: the upload can go on from there. `None`: the disk failed.
pub(crate) async fn receive(body: Body, writer: Writer, limits: &Limits) -> (Option<Writer>, Result<(), Box<Refusal>>) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let limit_bytes = limits.blob_bytes_max;
    let writing = tokio::task::spawn_blocking(move || write(writer, pieces, limit_bytes));
    let read = forward(body, sender, limits.body_idle).await;
    match writing.await {
        Ok((writer, Ok(()))) => (Some(writer), read),
        // What is in the file may end anywhere now.
        Ok((_, Err(error))) => (None, Err(error)),
        Err(error) => (None, Err(Refusal::failed(error))),
    }
}

fn write(
    mut writer: Writer,
    mut pieces: mpsc::Receiver<Bytes>,
    limit_bytes: u64,
) -> (Writer, Result<(), Box<Refusal>>) {
    while let Some(piece) = pieces.blocking_recv() {
        let written = match writer.size_bytes() + piece.len() as u64 > limit_bytes {
            true => Err(too_large(limit_bytes)),
            false => writer.append(&piece).map_err(|error: BlobError| error.into()),
        };
        if let Err(error) = written {
            return (writer, Err(error));
        }
    }
    (writer, Ok(()))
}

async fn forward(mut body: Body, sender: mpsc::Sender<Bytes>, idle: Duration) -> Result<(), Box<Refusal>> {
    while let Some(frame) = next_frame(&mut body, idle).await? {
        if sender.send(frame).await.is_err() {
            break; // the writer gave up, and says why
        }
    }
    Ok(())
}

async fn next_frame(body: &mut Body, idle: Duration) -> Result<Option<Bytes>, Box<Refusal>> {
    loop {
        match timeout(idle, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
            Ok(Some(Err(_))) => {
                return Err(Refusal::bad("BLOB_UPLOAD_INVALID", "the request ended before its body did"));
            }
            Err(_) => {
                let message = format!("nothing came for {} seconds", idle.as_secs());
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message));
            }
        }
    }
}

/// A small body as a whole.
pub(crate) async fn collect(mut body: Body, limit_bytes: usize, idle: Duration) -> Result<Bytes, Box<Refusal>> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = next_frame(&mut body, idle).await? {
        if bytes.len() + piece.len() > limit_bytes {
            return Err(too_large(limit_bytes as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn too_large(limit_bytes: u64) -> Box<Refusal> {
    let message = format!("the body is larger than the {limit_bytes} bytes that are allowed");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
}

/// `length` bytes of a file from `start` on.
pub(crate) async fn of_file(file: File, start: u64, length: u64) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(READ_BYTES);
    if start > 0 {
        file.seek(std::io::SeekFrom::Start(start)).await?;
    }
    let pieces = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut piece = BytesMut::with_capacity(wanted);
        let read = (&mut file).take(wanted as u64).read_buf(&mut piece).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        Ok(Some((piece.freeze(), (file, left - read as u64))))
    });
    Ok(Body::from_stream(pieces))
}
