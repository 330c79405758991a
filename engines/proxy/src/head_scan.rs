//! Finds requests that give their length twice, which hyper resolves silently.
//!
//! In: the bytes of one client connection, as they are read. Out: the number of the first request
//! with both `Content-Length` and `Transfer-Encoding`. It follows the framing only as far as it must
//! to know where heads are, and stops for good at what it does not understand: the decision about
//! framing is hyper's, which ignores the length then and closes the connection.

/// Names and sizes are looked at up to so many bytes of a line.
const LINE_BYTES_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct HeadScan {
    state: State,
    /// How many heads have begun.
    heads: u64,
    line: [u8; LINE_BYTES_MAX],
    line_length: usize,
    content_length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the request line, or the empty lines that may precede it.
    Start,
    /// In the fields.
    Fields,
    /// So many bytes of a body are left.
    Body(u64),
    /// Before the size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk and its line end are left.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers,
    /// Not followed any further.
    Lost,
}

impl HeadScan {
    pub(crate) fn new() -> Self {
        HeadScan {
            state: State::Start,
            heads: 0,
            line: [0; LINE_BYTES_MAX],
            line_length: 0,
            content_length: None,
            chunked: false,
        }
    }

    /// Looks at the next bytes. Says which request, counted from 1, has both lengths.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) -> Option<u64> {
        while !bytes.is_empty() {
            match self.state {
                State::Lost => return None,
                State::Body(left) | State::Chunk(left) => bytes = self.skip(bytes, left),
                State::Start | State::Fields | State::ChunkSize | State::Trailers => {
                    let end = bytes.iter().position(|b| *b == b'\n');
                    let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    self.keep(line);
                    bytes = rest;
                    if end.is_some() && self.end_of_line() {
                        self.state = State::Lost;
                        return Some(self.heads);
                    }
                }
            }
        }
        None
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let skipped = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - skipped as u64;
        self.state = match self.state {
            State::Body(_) if left == 0 => State::Start,
            State::Body(_) => State::Body(left),
            _ if left == 0 => State::ChunkSize,
            _ => State::Chunk(left),
        };
        bytes.get(skipped..).unwrap_or_default()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.line_length);
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        let end = self.line_length + kept.len();
        if let Some(place) = self.line.get_mut(self.line_length..end) {
            place.copy_from_slice(kept);
            self.line_length = end;
        }
    }

    /// Whether this line was the end of a head with both lengths.
    fn end_of_line(&mut self) -> bool {
        let buffer = self.line;
        let line = buffer.get(..self.line_length).unwrap_or_default();
        self.line_length = 0;
        let line = line.trim_ascii_end();
        match self.state {
            State::Start if line.is_empty() => {}
            State::Start => {
                self.heads += 1;
                self.content_length = None;
                self.chunked = false;
                self.state = State::Fields;
            }
            State::Fields if line.is_empty() => {
                if self.chunked && self.content_length.is_some() {
                    return true;
                }
                self.state = match (self.chunked, self.content_length) {
                    (true, _) => State::ChunkSize,
                    (false, Some(length)) if length > 0 => State::Body(length),
                    (false, _) => State::Start,
                };
            }
            State::Fields => self.field(line),
            State::ChunkSize => {
                self.state = match chunk_size(line) {
                    Some(0) => State::Trailers,
                    // Behind a chunk comes a line end of two bytes.
                    Some(size) => State::Chunk(size.saturating_add(2)),
                    None => State::Lost,
                };
            }
            State::Trailers if line.is_empty() => self.state = State::Start,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Lost => {}
        }
        false
    }

    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.get(1..).unwrap_or_default().trim_ascii();
            let length = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
            self.content_length = Some(length.unwrap_or(0));
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|b| *b == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &str) -> Option<u64> {
        let whole = HeadScan::new().scan(bytes.as_bytes());
        let mut scan = HeadScan::new();
        let mut in_pieces = bytes.as_bytes().iter().map(|b| scan.scan(&[*b]));
        assert_eq!(in_pieces.find_map(|seen| seen), whole, "cut anywhere");
        whole
    }

    #[test]
    fn a_request_with_both_lengths_is_found_wherever_it_stands() {
        let both = "POST / HTTP/1.1\r\nContent-Length: 3\r\ntransfer-ENCODING: chunked\r\n\r\n";
        let plain = "GET /a HTTP/1.1\r\nHost: content-length\r\n\r\n";
        let length = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na: b\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            a;x=y\r\n0123\r\n\r\n78\r\n0\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(found(both), Some(1));
        assert_eq!(found(&[plain, length, chunked].concat()), None);
        assert_eq!(found(&[plain, length, chunked, "\r\n", both].concat()), Some(4));
    }

    #[test]
    fn a_body_that_looks_like_a_head_is_not_one() {
        let inner = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let outer = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        assert_eq!(found(&outer), None);
    }
}
