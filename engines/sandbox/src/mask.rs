//! Hides secret values in log text. In: values, text. Out: the same text with `****` for every value and its Base64 forms.
//! Never hides values under [`MASK_BYTES_MIN`] bytes: they would garble every line and protect nothing.

/// Shorter values, and shorter lines of a value with several lines, are not masked.
pub const MASK_BYTES_MIN: usize = 4;
/// A longer value is masked piece by piece, so that the log's line buffer stays small.
const PIECE_BYTES_MAX: usize = 2048;
/// Base64 text that is the same whatever comes before and after must have this length to count.
const BASE64_BYTES_MIN: usize = 5;
const STARS: &[u8] = b"****";

/// Values to hide.
pub struct Masks {
    /// Sorted by their first two bytes, longest first.
    patterns: Vec<Vec<u8>>,
    /// One bit per first two bytes that a pattern has.
    starts: Vec<u64>,
    longest: usize,
}

impl Masks {
    /// Takes the values: whole, line by line, and as Base64 (both alphabets, at each of the three alignments).
    pub fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut patterns = Vec::new();
        for value in values {
            let trimmed = trim_newlines(value);
            add_pieces(&mut patterns, trimmed);
            for line in trimmed.split(|b| *b == b'\n') {
                add_pieces(&mut patterns, line.strip_suffix(b"\r").unwrap_or(line));
            }
            if trimmed.len() >= MASK_BYTES_MIN {
                for alignment in 0..3 {
                    add_base64(&mut patterns, trimmed, alignment);
                }
            }
        }
        patterns.sort_by(|a, b| a[..2].cmp(&b[..2]).then(b.len().cmp(&a.len())).then(a.cmp(b)));
        patterns.dedup();
        let mut starts = if patterns.is_empty() { Vec::new() } else { vec![0_u64; 1024] };
        for pattern in &patterns {
            let start = start_of(pattern);
            starts[start / 64] |= 1 << (start % 64);
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        Self { patterns, starts, longest }
    }

    /// Length of the longest thing that is looked for.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Where values lie in the text: merged, ascending.
    pub fn find(&self, text: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut found: Vec<std::ops::Range<usize>> = Vec::new();
        if self.patterns.is_empty() {
            return found;
        }
        for at in 0..text.len().saturating_sub(1) {
            let start = start_of(&text[at..]);
            if self.starts[start / 64] & (1 << (start % 64)) == 0 {
                continue;
            }
            let Some(length) = self.longest_at(&text[at..], start) else { continue };
            match found.last_mut() {
                Some(last) if last.end >= at => last.end = last.end.max(at + length),
                _ => found.push(at..at + length),
            }
        }
        found
    }

    fn longest_at(&self, text: &[u8], start: usize) -> Option<usize> {
        let from = self.patterns.partition_point(|p| start_of(p) < start);
        self.patterns[from..].iter().take_while(|p| start_of(p) == start).find(|p| text.starts_with(p)).map(Vec::len)
    }

    /// Writes `text` with every value replaced.
    pub fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        for range in self.find(text) {
            out.extend_from_slice(&text[from..range.start]);
            out.extend_from_slice(STARS);
            from = range.end;
        }
        out.extend_from_slice(&text[from..]);
    }
}

fn start_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn trim_newlines(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |at| at + 1);
    &value[..end]
}

/// The value, or pieces of a long one. A line is logged apart from the next, so a piece holds no line break.
fn add_pieces(patterns: &mut Vec<Vec<u8>>, value: &[u8]) {
    if value.len() < MASK_BYTES_MIN || value.contains(&b'\n') {
        return;
    }
    for piece in value.chunks(PIECE_BYTES_MAX) {
        if piece.len() >= MASK_BYTES_MIN {
            patterns.push(piece.to_vec());
        }
    }
}

/// The part of the Base64 text that depends on the value only, when `alignment` bytes come before it.
fn add_base64(patterns: &mut Vec<Vec<u8>>, value: &[u8], alignment: usize) {
    let mut padded = vec![0; alignment];
    padded.extend_from_slice(value);
    let first = (alignment * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    if last < first + BASE64_BYTES_MIN {
        return;
    }
    for alphabet in [b"+/", b"-_"] {
        let text = base64(&padded, alphabet);
        add_pieces(patterns, &text[first..last]);
    }
}

/// Base64 (RFC 4648 section 4 and 5) without padding.
fn base64(bytes: &[u8], last_two: &[u8; 2]) -> Vec<u8> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |value: u32| match value & 63 {
        62 => last_two[0],
        63 => last_two[1],
        small => LETTERS[small as usize],
    };
    let mut out = Vec::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (n, b)| word | u32::from(*b) << (16 - 8 * n));
        for n in 0..=chunk.len() as u32 {
            out.push(letter(word >> (18 - 6 * n)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], text: &str) -> String {
        let masks = Masks::new(values.iter().map(|v| v.as_bytes()));
        let mut out = Vec::new();
        masks.write(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("the tests' texts are UTF-8")
    }

    // R518
    #[test]
    fn values_and_their_base64_forms_are_hidden() {
        for (values, text, want) in [
            (&["hunter22"][..], "pw=hunter22!", "pw=****!"),
            (&["abc"], "abc", "abc"),
            (&["hunter22", "ter22xyz"], "hunter22xyz.", "****."),
            (&["abcd", "abcdefgh"], "abcdefgh abcd", "**** ****"),
            (&["line one\nline two\n"], "a line two", "a ****"),
            (&["hunter22"], "aHVudGVyMjI=", "****I="),
            (&["hunter22"], "aHVudGVyMjIK", "****IK"),
            (&[], "free", "free"),
            (&[""], "free", "free"),
        ] {
            assert_eq!(masked(values, text), want, "{text}");
        }
    }

    #[test]
    fn base64_is_found_behind_any_prefix() {
        for prefix in ["", "u", "us", "user:", "user:a"] {
            let whole = format!("{prefix}correct horse battery");
            let text = String::from_utf8(base64(whole.as_bytes(), b"+/")).expect("Base64 is ASCII");
            assert!(masked(&["correct horse battery"], &text).contains("****"), "{prefix:?}");
        }
    }

    #[test]
    fn base64_agrees_with_the_rfc() {
        for (plain, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes(), b"+/"), text.as_bytes());
        }
    }
}
