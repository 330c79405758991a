//! The chunked transfer coding (RFC 9112 section 7.1), decoded without leniency.
//!
//! In: the bytes of a chunked body, as far as they have come. Out: how many of them are framing, how many are data,
//! and the trailers. Never accepts a bare line feed, a size with a sign, space or too many digits.

/// Size and extensions of one chunk.
const LINE_BYTES_MAX: usize = 512;
/// Extensions of all chunks of a body: nobody uses them, and each would cost time without carrying a byte.
const EXTENSIONS_BYTES_MAX: usize = 16 * 1024;
/// All trailers.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// 16 hexadecimal digits fill 64 bits.
const DIGITS_MAX: usize = 15;

/// The body is not what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadChunk;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of framing.
    Skip(usize),
    /// So many bytes of data, at least one.
    Data(usize),
    /// The last bytes of the body: lines of trailers, and the empty line.
    Trailers(usize),
    /// More has to be read.
    More,
    /// The body is over.
    Done,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks { state: State::Size, extensions: 0 }
    }

    /// Looks at the bytes without using them up; [`Chunks::used`] follows for all but `More` and `Done`.
    pub(crate) fn step(&self, bytes: &[u8]) -> Result<Step, BadChunk> {
        match self.state {
            State::Done => Ok(Step::Done),
            State::Data(left) if bytes.is_empty() || left == 0 => Ok(Step::More),
            State::Data(left) => {
                Ok(Step::Data(usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))))
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => Ok(Step::Skip(2)),
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(BadChunk),
            },
            State::Size => match line(bytes, LINE_BYTES_MAX)? {
                Some(line) => size(line).map(|_| Step::Skip(line.len() + 2)),
                None => Ok(Step::More),
            },
            State::Trailers => Ok(trailers(bytes)?.map_or(Step::More, Step::Trailers)),
        }
    }

    /// A step was taken; `bytes` are what it was about.
    pub(crate) fn used(&mut self, step: Step, bytes: &[u8]) -> Result<(), BadChunk> {
        self.state = match (self.state, step) {
            (State::Size, Step::Skip(_)) => {
                let line = bytes.strip_suffix(b"\r\n").ok_or(BadChunk)?;
                self.extensions += line.iter().skip_while(|byte| byte.is_ascii_hexdigit()).count();
                if self.extensions > EXTENSIONS_BYTES_MAX {
                    return Err(BadChunk);
                }
                match size(line)? {
                    0 => State::Trailers,
                    size => State::Data(size),
                }
            }
            (State::Data(left), Step::Data(count)) => match left.checked_sub(count as u64).ok_or(BadChunk)? {
                0 => State::DataEnd,
                left => State::Data(left),
            },
            (State::DataEnd, Step::Skip(_)) => State::Size,
            (State::Trailers, Step::Trailers(_)) => State::Done,
            (state, _) => state,
        };
        Ok(())
    }
}

/// The line without its end; `None` if it has not come whole.
fn line(bytes: &[u8], most: usize) -> Result<Option<&[u8]>, BadChunk> {
    let looked_at = bytes.get(..bytes.len().min(most)).unwrap_or_default();
    let Some(end) = looked_at.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() >= most { Err(BadChunk) } else { Ok(None) };
    };
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Ok(bytes.get(..end)),
        None if bytes.get(end) == Some(&b'\r') => Ok(None),
        Some(_) | None => Err(BadChunk),
    }
}

/// `1A` or `1a;name=value`.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, extension) = line.split_at(digits);
    // White space before `;` is allowed by the grammar ("bad whitespace"); nobody sends it.
    if digits == 0 || digits > DIGITS_MAX || !matches!(extension.first(), None | Some(b';')) {
        return Err(BadChunk);
    }
    if extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(BadChunk);
    }
    let number = std::str::from_utf8(number).map_err(|_| BadChunk)?;
    u64::from_str_radix(number, 16).map_err(|_| BadChunk)
}

/// How long the trailers are, with the empty line behind them; `None` if they have not come whole.
fn trailers(bytes: &[u8]) -> Result<Option<usize>, BadChunk> {
    let mut at = 0;
    while let Some(line) = line(bytes.get(at..).unwrap_or_default(), TRAILER_BYTES_MAX)? {
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        if at > TRAILER_BYTES_MAX {
            return Err(BadChunk);
        }
    }
    Ok(None)
}
