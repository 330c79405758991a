//! Bytes that were read and not yet used.
//!
//! In: reads. Out: a slice. Never reallocates while what is there is used up between reads, as it is with small
//! messages.

/// What a connection gets at its first read.
const FIRST_BYTES: usize = 8 * 1024;
/// Reads that fill the buffer make it larger, up to this.
const BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Initialised over its whole length; only `start..end` means anything.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// A read has filled all of it: more is coming than it is made for.
    filled: bool,
}

impl Buffer {
    pub(crate) fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Where the next read goes; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.filled && self.is_empty() {
            self.filled = false;
            let more = (self.bytes.len() * 4).min(BYTES_MAX);
            self.bytes.resize(more.max(self.bytes.len()), 0);
        }
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                let more = (self.bytes.len() * 2).clamp(FIRST_BYTES, BYTES_MAX.max(self.bytes.len() + FIRST_BYTES));
                self.bytes.resize(more, 0);
            }
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were written into [`Buffer::room`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
        self.filled |= self.end - self.start == self.bytes.len();
    }

    /// Gives back what a large message needed.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.bytes.len() > FIRST_BYTES {
            self.bytes = Vec::new();
        }
        self.filled = false;
    }
}
