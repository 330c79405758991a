//! Reads the log of one run, living or ended. In: its state folder, a position. Out: lines, and the position behind them.
//! Never reads more at once than asked for; invalid UTF-8 becomes replacement characters.

use crate::error::SandboxError;
use crate::log::{LOG_FILE, Stream, segment_name};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that one call reads when the caller does not say.
pub const READ_BYTES: usize = 256 * 1024;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// Index of the step.
    pub step: usize,
    /// Where it came from.
    pub stream: Stream,
    /// What it says.
    pub text: String,
}

/// Lines from a position on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogChunk {
    /// The lines; a gap is one line of [`Stream::Note`].
    pub lines: Vec<LogLine>,
    /// Where to read on.
    pub next: u64,
}

/// Every line that is on disk.
pub fn read_log(dir: &Path) -> Result<Vec<LogLine>, SandboxError> {
    let mut lines = Vec::new();
    let mut position = 0;
    loop {
        let chunk = read_log_from(dir, position, READ_BYTES)?;
        if chunk.next == position {
            return Ok(lines);
        }
        position = chunk.next;
        lines.extend(chunk.lines);
    }
}

/// Whole lines from `position` on, about `bytes_max` of them. Nothing new: the same position comes back.
pub fn read_log_from(dir: &Path, position: u64, bytes_max: usize) -> Result<LogChunk, SandboxError> {
    let read = |e| SandboxError::io(format!("read of log `{}`", dir.join(LOG_FILE).display()), e);
    // A tail file may be dropped between listing and opening; then the listing is new.
    for _ in 0..16 {
        if let Some(chunk) = try_read(dir, position, bytes_max).map_err(read)? {
            return Ok(chunk);
        }
    }
    Ok(LogChunk { lines: Vec::new(), next: position })
}

struct Part {
    file: File,
    start: u64,
    lines_before: u64,
    header: u64,
    length: u64,
}

fn try_read(dir: &Path, position: u64, bytes_max: usize) -> io::Result<Option<LogChunk>> {
    let mut chunk = LogChunk { lines: Vec::new(), next: position };
    let Some(parts) = parts(dir)? else { return Ok(None) };
    for (n, part) in parts.iter().enumerate() {
        if position >= part.start + part.length {
            continue;
        }
        let mut from = position;
        if position < part.start {
            let before =
                parts.get(n.wrapping_sub(1)).filter(|before| n > 0 && position <= before.start + before.length);
            chunk.lines.push(gap(before, part)?);
            from = part.start;
        }
        let mut bytes = vec![0; bytes_max.max(64 * 1024).min((part.start + part.length - from) as usize)];
        let got = read_at(&part.file, &mut bytes, part.header + from - part.start)?;
        let whole = bytes[..got].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        chunk.lines.extend(bytes[..whole].split_inclusive(|b| *b == b'\n').map(parse));
        chunk.next = from + whole as u64;
        break;
    }
    Ok(Some(chunk))
}

/// The line that stands for what was dropped before `part`.
fn gap(before: Option<&Part>, part: &Part) -> io::Result<LogLine> {
    let text = match before {
        Some(before) => {
            let lines = part.lines_before.saturating_sub(before.lines_before + count_lines(before)?);
            let bytes = part.start.saturating_sub(before.start + before.length);
            format!("{lines} lines ({bytes} bytes) were dropped here: the log is at its limit")
        }
        None => "lines were dropped here: the log is at its limit".to_owned(),
    };
    Ok(LogLine { at_ms: 0, step: 0, stream: Stream::Note, text })
}

fn count_lines(part: &Part) -> io::Result<u64> {
    let (mut count, mut at, mut buffer) = (0, part.header, vec![0; 64 * 1024]);
    loop {
        let got = part.file.read_at(&mut buffer, at)?;
        if got == 0 {
            return Ok(count);
        }
        count += buffer[..got].iter().filter(|b| **b == b'\n').count() as u64;
        at += got as u64;
    }
}

/// Head and tail files, oldest first; `None` when one vanished meanwhile.
fn parts(dir: &Path) -> io::Result<Option<Vec<Part>>> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix(LOG_FILE)?.strip_prefix('.')?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    let mut parts = Vec::new();
    match File::open(dir.join(LOG_FILE)) {
        Ok(file) => {
            let length = file.metadata()?.len();
            parts.push(Part { file, start: 0, lines_before: 0, header: 0, length });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(parts)),
        Err(e) => return Err(e),
    }
    for number in numbers {
        let mut file = match File::open(dir.join(segment_name(number))) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut begin = [0; 64];
        let got = file.read(&mut begin)?;
        // A header that is not there yet: the file was just made and holds nothing.
        let Some((start, lines_before, header)) = parse_header(&begin[..got]) else { continue };
        let length = file.metadata()?.len().saturating_sub(header);
        parts.push(Part { file, start, lines_before, header, length });
    }
    Ok(Some(parts))
}

fn parse_header(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix('#')?;
    let (start, lines) = text.split_once(' ')?;
    Some((start.parse().ok()?, lines.parse().ok()?, end as u64 + 1))
}

fn read_at(file: &File, buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at)? {
            0 => break,
            n => {
                got += n;
                at += n as u64;
            }
        }
    }
    Ok(got)
}

fn parse(line: &[u8]) -> LogLine {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    let mut fields = text.splitn(4, ' ');
    let at_ms = fields.next().and_then(|f| f.parse().ok());
    let step = fields.next().and_then(|f| f.parse().ok());
    let stream = fields.next().and_then(Stream::of_letter);
    match (at_ms, step, stream, fields.next()) {
        (Some(at_ms), Some(step), Some(stream), Some(text)) => LogLine { at_ms, step, stream, text: text.to_owned() },
        // Cannot be written by us; shown rather than hidden.
        _ => LogLine { at_ms: 0, step: 0, stream: Stream::Note, text: text.into_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogWriter;
    use crate::mask::Masks;
    use std::rc::Rc;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("slipway-log-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a scratch folder can be made");
            Self(path)
        }

        fn writer(&self, secrets: &[&str], limit: u64) -> LogWriter {
            let fd = Rc::new(File::open(&self.0).expect("the scratch folder is there").into());
            LogWriter::new(fd, Masks::new(secrets.iter().map(|s| s.as_bytes())), limit)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn texts(dir: &Path) -> Vec<String> {
        read_log(dir).expect("the log can be read").into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn lines_come_back_as_they_were_written() {
        let folder = Folder::new("plain");
        let mut log = folder.writer(&[], 1 << 20);
        log.take(Stream::Out, b"one\ntw");
        log.take(Stream::Err, b"bad \xff\n");
        log.take(Stream::Out, b"o\r\n\nlast");
        log.finish_lines();
        assert_eq!(texts(&folder.0), ["one", "bad \u{fffd}", "two", "", "last"]);
        assert_eq!(log.last_line(), "last");
    }

    // R320
    #[test]
    fn a_flood_keeps_head_and_tail_and_says_what_was_dropped() {
        let folder = Folder::new("flood");
        let mut log = folder.writer(&[], 256 * 1024);
        for n in 0..50_000 {
            log.take(Stream::Out, format!("line {n} {}\n", "x".repeat(40)).as_bytes());
        }
        log.finish_lines();
        let on_disk: u64 = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(on_disk <= 256 * 1024 + 128, "{on_disk}");
        let lines = texts(&folder.0);
        assert!(lines[0].starts_with("line 0 ") && lines.last().unwrap().starts_with("line 49999 "));
        let gap = lines.iter().position(|l| l.contains("dropped here")).unwrap();
        let before: u64 = lines[gap - 1].split(' ').nth(1).unwrap().parse().unwrap();
        let after: u64 = lines[gap + 1].split(' ').nth(1).unwrap().parse().unwrap();
        assert!(lines[gap].starts_with(&format!("{} lines", after - before - 1)), "{}", lines[gap]);
        assert_eq!(log.total().dropped_lines, after - before - 1);
        assert_eq!(log.total().lines, 50_000);
    }

    // R518
    #[test]
    fn a_value_is_masked_wherever_a_long_line_is_cut() {
        let secret = "s3cr3t/value&0123456789";
        let written = [secret, "s3cr3t%2Fvalue%260123456789", r"s3cr3t\/value\u00260123456789"];
        for (offset, secret_as) in (16_000..16_420).step_by(7).flat_map(|offset| written.map(|one| (offset, one))) {
            let folder = Folder::new(&format!("cut{offset}"));
            let mut log = folder.writer(&[secret], 1 << 20);
            let line = format!("{}{secret_as}{}", "a".repeat(offset), "b".repeat(20_000));
            for piece in line.as_bytes().chunks(777) {
                log.take(Stream::Out, piece);
            }
            log.finish_lines();
            let whole = texts(&folder.0).concat();
            assert!(whole == line.replace(secret_as, "****"), "{offset} {secret_as}");
        }
    }

    #[test]
    fn a_long_line_is_not_cut_within_a_character() {
        let folder = Folder::new("utf8");
        let mut log = folder.writer(&[], 1 << 20);
        let line = format!("x{}", "가".repeat(20_000));
        log.take(Stream::Out, line.as_bytes());
        log.finish_lines();
        assert!(texts(&folder.0).concat() == line);
    }

    #[test]
    fn reading_goes_on_where_it_ended() {
        let folder = Folder::new("follow");
        let mut log = folder.writer(&[], 1 << 20);
        log.take(Stream::Out, b"one\n");
        log.flush();
        let first = read_log_from(&folder.0, 0, READ_BYTES).unwrap();
        log.take(Stream::Out, b"two\n");
        log.flush();
        let second = read_log_from(&folder.0, first.next, READ_BYTES).unwrap();
        assert_eq!((first.lines.len(), second.lines[0].text.as_str()), (1, "two"));
        assert_eq!(second.next, log.end());
    }
}
