//! Where a head ends, and what its lines are.
//!
//! In: the bytes that have come. Out: the length of the head, or why it is none. Never copies.

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// It is not HTTP, with what is wrong.
    Malformed(&'static str),
    /// More bytes or fields than allowed.
    TooLarge,
}

/// Looks for the end of a head in what has come since it was last asked.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct HeadEnd {
    /// Looked at before.
    seen: usize,
    /// Where the line begins.
    line: usize,
}

impl HeadEnd {
    /// The length of the head with its empty line; `None` while it is not whole. `bytes` begins with the head each
    /// time.
    pub(crate) fn find(&mut self, bytes: &[u8], most: usize) -> Result<Option<usize>, BadHead> {
        while let Some(at) = bytes.get(self.seen..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let end = self.seen + at;
            self.seen = end + 1;
            // A server that takes a bare line feed for a line end sees other lines than one that does not.
            if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
                return Err(BadHead::Malformed("a line feed without a carriage return"));
            }
            if end - 1 == self.line {
                return if self.seen > most { Err(BadHead::TooLarge) } else { Ok(Some(self.seen)) };
            }
            self.line = self.seen;
        }
        self.seen = bytes.len();
        if bytes.len() > most { Err(BadHead::TooLarge) } else { Ok(None) }
    }
}

/// How much of what has come is empty lines before a request (RFC 9112 section 2.2).
pub(crate) fn leading_lines(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

pub(crate) fn bad(error: httparse::Error) -> BadHead {
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooLarge,
        httparse::Error::HeaderName => BadHead::Malformed("a field without a name"),
        httparse::Error::HeaderValue => BadHead::Malformed("a field with a forbidden byte"),
        httparse::Error::NewLine => BadHead::Malformed("a carriage return within a line"),
        httparse::Error::Token => BadHead::Malformed("not a request line"),
        httparse::Error::Version => BadHead::Malformed("not a version of HTTP that is spoken here"),
        httparse::Error::Status => BadHead::Malformed("not a status"),
    }
}

/// The one length that a message gives, from all its `Content-Length` fields; an error when it gives two, or none
/// that is a number.
pub(crate) fn content_length(before: Option<u64>, value: &[u8]) -> Result<u64, BadHead> {
    const WHY: BadHead = BadHead::Malformed("not a content-length");
    let digits = value.trim_ascii();
    // `u64::from_str` would take a sign.
    if before.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WHY);
    }
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(WHY)
}

/// The tokens of a list field, without white space.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
