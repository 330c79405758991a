//! A small HTTP/1.1 client: one connection, kept alive.
//!
//! In: an address, requests. Out: status and body, or why none came. Never: a second try.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes longer.
const ANSWER: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// A connection.
pub struct Http {
    stream: BufReader<TcpStream>,
    host: String,
    /// The server said that it closes.
    pub over: bool,
}

impl Http {
    pub fn connect(address: &str) -> Result<Http, String> {
        let host = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let socket: SocketAddr = host.parse().map_err(|error| format!("{host}: {error}"))?;
        let stream = TcpStream::connect_timeout(&socket, ANSWER).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Http { stream: BufReader::new(stream), host, over: false })
    }

    /// Another name in the Host header.
    pub fn called(mut self, host: &str) -> Http {
        self.host = host.to_owned();
        self
    }

    pub fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.send("GET", path, "", b"")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer, String> {
        self.send("POST", path, "", body)
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer, String> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes).map_err(|error| format!("{method} {path}: write: {error}"))?;
        self.answer().map_err(|error| format!("{method} {path}: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("closed without an answer".into()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(format!("read: {error}")),
        }
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(format!("answer `{first}`"))?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
            self.over |= line.starts_with("connection:") && line.contains("close");
        }
        let mut body = Vec::new();
        if chunked {
            self.chunks(&mut body)?;
        } else if let Some(length) = length {
            self.exactly(length, &mut body)?;
        } else {
            self.stream.read_to_end(&mut body).map_err(|error| format!("body: {error}"))?;
            self.over = true;
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Result<(), String> {
        let got =
            self.stream.by_ref().take(length as u64).read_to_end(body).map_err(|error| format!("body: {error}"))?;
        if got == length { Ok(()) } else { Err(format!("body: {got} of {length} bytes")) }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|error| format!("chunk: {error}"))?;
            self.exactly(size, body)?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// One request on a connection of its own.
pub fn get(address: &str, path: &str) -> Result<Answer, String> {
    Http::connect(address)?.send("GET", path, "connection: close\r\n", b"")
}

/// One POST on a connection of its own.
pub fn post(address: &str, path: &str) -> Result<Answer, String> {
    Http::connect(address)?.send("POST", path, "connection: close\r\n", b"")
}
