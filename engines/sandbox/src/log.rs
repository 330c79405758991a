//! Writes the log of one run. In: bytes as the steps wrote them. Out: `DIR/log` and, past half of the limit, `DIR/log.N`.
//! One line on disk is `<ms since epoch> <step> <o|e|s> <text>` (`s`: the shim's own words). Masked before the first write; never more on
//! disk than the limit; never more in memory than one cut line; a failed write is counted as dropped and stops nothing.
//!
//! Positions count every byte ever logged. The head file starts at 0. A tail file starts with `#<position> <lines>\n`, so that a reader
//! knows what was dropped before it.

use crate::mask::Masks;
use crate::record::{LAST_LINE_BYTES_MAX, LogRecord, now_ms};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// File name of the head.
pub const LOG_FILE: &str = "log";
/// A longer line is logged as several.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// The smallest limit; a lower one is raised to it.
pub const LOG_BYTES_MIN: u64 = 128 * 1024;
/// Lines are gathered up to this many bytes before they are written.
const BATCH_BYTES: usize = 32 * 1024;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The shim.
    Note,
}

impl Stream {
    /// Its letter on disk.
    pub fn letter(self) -> char {
        match self {
            Self::Out => 'o',
            Self::Err => 'e',
            Self::Note => 's',
        }
    }

    /// The stream of a letter.
    pub fn of_letter(letter: &str) -> Option<Self> {
        [Self::Out, Self::Err, Self::Note].into_iter().find(|s| letter.chars().eq([s.letter()]))
    }
}

struct Segment {
    file: File,
    /// Bytes before the first line.
    header: u64,
    /// Bytes of log lines in it.
    length: u64,
    lines: u64,
    limit: u64,
}

/// The log of one run.
pub struct LogWriter {
    dir: Rc<OwnedFd>,
    masks: Masks,
    partial: [Vec<u8>; 2],
    batch: Vec<u8>,
    batch_lines: u64,
    limit: u64,
    segment: Option<Segment>,
    /// Number of the current tail file; 0 is the head.
    number: u64,
    /// Bytes and lines of the tail file before the current one.
    previous: (u64, u64),
    total: LogRecord,
    /// Bytes that reached a file, and lines; lost ones are not in it.
    position: (u64, u64),
    lost_lines: u64,
    step: usize,
    last_line: String,
}

impl LogWriter {
    /// A log that has no file until something is logged.
    pub fn new(dir: Rc<OwnedFd>, masks: Masks, limit: u64) -> Self {
        Self {
            dir,
            masks,
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_lines: 0,
            limit: limit.max(LOG_BYTES_MIN),
            segment: None,
            number: 0,
            previous: (0, 0),
            total: LogRecord::default(),
            position: (0, 0),
            lost_lines: 0,
            step: 0,
            last_line: String::new(),
        }
    }

    /// Lines from now on belong to this step; the last line starts empty.
    pub fn begin_step(&mut self, step: usize) {
        self.step = step;
        self.last_line.clear();
    }

    /// The last line that was not empty.
    pub fn last_line(&self) -> &str {
        &self.last_line
    }

    /// Position of the log's end.
    pub fn end(&self) -> u64 {
        self.position.0
    }

    /// What was logged so far.
    pub fn total(&self) -> LogRecord {
        self.total
    }

    /// The masked form of other text of the run. If its beginning was cut off, what may be the rest of a value goes too.
    pub fn masked(&self, text: &[u8], was_cut: bool) -> String {
        let mut from = if was_cut { self.masks.longest().min(text.len()) } else { 0 };
        if let Some(range) = self.masks.find(text).into_iter().find(|r| r.start < from && from < r.end) {
            from = range.end;
        }
        let mut out = Vec::with_capacity(text.len());
        self.masks.write(&text[from..], &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Takes bytes of a stream; whole lines are logged.
    pub fn take(&mut self, stream: Stream, mut bytes: &[u8]) {
        let at = usize::from(stream == Stream::Err);
        let mut partial = std::mem::take(&mut self.partial[at]);
        while !bytes.is_empty() {
            let room = self.line_room().saturating_sub(partial.len()).max(1);
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|b| *b == b'\n') {
                Some(end) if partial.is_empty() => {
                    self.line(stream, &window[..end]);
                    bytes = &bytes[end + 1..];
                }
                Some(end) => {
                    partial.extend_from_slice(&window[..end]);
                    self.line(stream, &partial);
                    partial.clear();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    partial.extend_from_slice(window);
                    bytes = &bytes[window.len()..];
                    if partial.len() >= self.line_room() {
                        let cut = self.safe_cut(&partial);
                        self.line(stream, &partial[..cut]);
                        partial.drain(..cut);
                    }
                }
            }
        }
        if partial.is_empty() {
            partial = Vec::new();
        }
        self.partial[at] = partial;
    }

    /// A line of the shim's own.
    pub fn note(&mut self, text: &str) {
        self.append(Stream::Note, text.as_bytes());
        self.flush();
    }

    /// Logs lines that have no end yet, and writes everything gathered.
    pub fn finish_lines(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == Stream::Err)]);
            if !partial.is_empty() {
                self.line(stream, &partial);
            }
        }
        self.flush();
    }

    /// Puts everything on disk.
    pub fn sync(&mut self) {
        self.finish_lines();
        if let Some(segment) = &self.segment {
            let _ = segment.file.sync_data();
        }
    }

    /// Room for a line: what is kept back at a cut must fit too.
    fn line_room(&self) -> usize {
        LINE_BYTES_MAX + self.masks.longest()
    }

    /// Where a line that is too long may be cut: not within a value, not within one that may just have begun, not within a character.
    fn safe_cut(&self, text: &[u8]) -> usize {
        let mut cut = (text.len() + 1).saturating_sub(self.masks.longest().max(1)).max(1);
        for range in self.masks.find(text) {
            if range.start < cut && cut < range.end {
                return range.end;
            }
        }
        for back in 1..cut.min(4) {
            let length = match text[cut - back] {
                0x80..=0xbf => continue,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xff => 4,
                0..=0x7f => 1,
            };
            if length > back {
                cut -= back;
            }
            break;
        }
        cut
    }

    fn line(&mut self, stream: Stream, text: &[u8]) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut masked = Vec::new();
        let text = if self.masks.longest() == 0 {
            text
        } else {
            self.masks.write(text, &mut masked);
            &masked
        };
        if !text.trim_ascii().is_empty() {
            let shown = &text[..text.len().min(LAST_LINE_BYTES_MAX)];
            self.last_line = String::from_utf8_lossy(shown).into_owned();
        }
        self.append(stream, text);
    }

    fn append(&mut self, stream: Stream, text: &[u8]) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.batch, "{} {} {} ", now_ms(), self.step, stream.letter());
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        self.batch_lines += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let (mut rest, mut lines) = (&batch[..], std::mem::take(&mut self.batch_lines));
        while !rest.is_empty() {
            let room = self.room();
            // Whole lines only; an empty segment takes at least one.
            let fits = rest.len() as u64 <= room;
            let end = if fits {
                rest.len()
            } else {
                rest[..room as usize].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
            };
            if end == 0 {
                self.next_segment();
                continue;
            }
            let count = if fits { lines } else { rest[..end].iter().filter(|b| **b == b'\n').count() as u64 };
            self.write(&rest[..end], count);
            lines -= count;
            rest = &rest[end..];
        }
        if self.batch.is_empty() && batch.capacity() <= 4096 {
            self.batch = batch;
            self.batch.clear();
        }
    }

    /// Room in the current file, which is opened if it is not.
    fn room(&mut self) -> u64 {
        if self.segment.is_none() {
            self.segment = self.open_segment();
        }
        // Without a file (a full disk) everything is taken, and counts as lost.
        self.segment.as_ref().map_or(u64::MAX, |segment| segment.limit - segment.length)
    }

    fn write(&mut self, bytes: &[u8], lines: u64) {
        self.total.lines += lines;
        self.total.bytes += bytes.len() as u64;
        let written = self.segment.as_mut().is_some_and(|segment| segment.file.write_all(bytes).is_ok());
        match &mut self.segment {
            Some(segment) if written => {
                segment.length += bytes.len() as u64;
                segment.lines += lines;
                self.position.0 += bytes.len() as u64;
                self.position.1 += lines;
                if self.lost_lines > 0 {
                    let text = format!("{} lines were lost here: the disk did not take them", self.lost_lines);
                    self.lost_lines = 0;
                    self.append(Stream::Note, text.as_bytes());
                }
            }
            segment => {
                // Half a line must not stay.
                if let Some(segment) = segment {
                    let _ = segment.file.set_len(segment.header + segment.length);
                    let _ = segment.file.seek(SeekFrom::End(0));
                }
                self.lost_lines += lines;
                self.total.dropped_lines += lines;
                self.total.dropped_bytes += bytes.len() as u64;
            }
        }
    }

    /// Goes on in a new tail file; the one before the previous is dropped.
    fn next_segment(&mut self) {
        let ended = self.segment.take().map_or((0, 0), |s| (s.length, s.lines));
        if self.number > 1 {
            let _ = unlinkat(self.dir.as_fd(), segment_name(self.number - 1), AtFlags::empty());
            self.total.dropped_bytes += self.previous.0;
            self.total.dropped_lines += self.previous.1;
        }
        self.previous = if self.number > 0 { ended } else { (0, 0) };
        self.number += 1;
    }

    fn open_segment(&self) -> Option<Segment> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let tail = self.number > 0;
        let name = if tail { segment_name(self.number) } else { LOG_FILE.to_owned() };
        let mut file = File::from(openat(self.dir.as_fd(), name, flags, Mode::from_raw_mode(0o600)).ok()?);
        let header = if tail { format!("#{} {}\n", self.position.0, self.position.1) } else { String::new() };
        file.write_all(header.as_bytes()).ok()?;
        // A quarter: previous and current tail file together are at most half.
        let limit = if tail { self.limit / 4 } else { self.limit / 2 };
        Some(Segment { file, header: header.len() as u64, length: 0, lines: 0, limit })
    }
}

/// File name of a tail file.
pub fn segment_name(number: u64) -> String {
    format!("{LOG_FILE}.{number}")
}
