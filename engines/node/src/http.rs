//! A small HTTP client for probes and smoke requests.
//!
//! In: a connected socket, method, path. Out: status and the beginning of the body, within a limit. Never follows a
//! redirect, never keeps a connection.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes of a body that are kept; the rest is not read.
const BODY_BYTES_MAX: usize = 512;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request. The error says why no answer came.
pub(crate) async fn request(stream: TcpStream, method: &str, path: &str, limit: Duration) -> Result<Answer, String> {
    let exchange = exchange(stream, method, path);
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("did not answer within {}", slipway_model::time::words(millis(limit)))),
    }
}

async fn exchange(stream: TcpStream, method: &str, path: &str) -> Result<Answer, String> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::USER_AGENT, "slipway-node")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("is no request: {e}"))?;
    let broke = |e: hyper::Error| format!("broke the connection: {e}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut begin = Vec::new();
        while begin.len() < BODY_BYTES_MAX {
            match body.frame().await {
                Some(Ok(frame)) => begin.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..])),
                // The status is what was asked for; a body that breaks off is shown as far as it came.
                Some(Err(_)) | None => break,
            }
        }
        begin.truncate(BODY_BYTES_MAX);
        Ok(Answer { status, body: String::from_utf8_lossy(&begin).into_owned() })
    };
    tokio::pin!(asking);
    tokio::pin!(connection);
    let mut running = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut asking => return answer,
            _ = &mut connection, if running => running = false,
        }
    }
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
