//! Hides secret values in log text. In: values, text. Out: the same text with `****` for every value, also where it is in Base64,
//! in hexadecimal or escaped. Never hides values under [`MASK_BYTES_MIN`] bytes: they would garble every line and protect nothing.

use crate::escaped::{ESCAPED_BYTES_MIN, Escaped};

/// Shorter values, and shorter lines of a value with several lines, are not masked.
pub const MASK_BYTES_MIN: usize = 4;
/// A longer value is masked piece by piece, so that the log's line buffer stays small.
const PIECE_BYTES_MAX: usize = 2048;
/// Base64 text that is the same whatever comes before and after must have this length to count.
const BASE64_BYTES_MIN: usize = 5;
const STARS: &[u8] = b"****";

/// Values to hide.
pub struct Masks {
    sought: Vec<Sought>,
    /// The first two bytes of what is sought, with which of it begins so; sorted.
    begins: Vec<(u16, u32)>,
    /// One bit per first two bytes in `begins`.
    starts: Vec<u64>,
    longest: usize,
}

/// One thing to look for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sought {
    /// These bytes.
    Plain(Vec<u8>),
    /// This value, in each way in which it may be escaped.
    Escaped(Escaped),
}

impl Sought {
    fn starts(&self) -> Vec<[u8; 2]> {
        match self {
            Self::Plain(bytes) => vec![[bytes[0], bytes[1]]],
            Self::Escaped(value) => value.starts(),
        }
    }

    fn longest(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Escaped(value) => value.longest(),
        }
    }

    fn at(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Plain(bytes) => text.starts_with(bytes).then_some(bytes.len()),
            Self::Escaped(value) => value.at(text),
        }
    }
}

impl Masks {
    /// Takes the values: whole, line by line, escaped, in hexadecimal, and as Base64 (both alphabets, at each of the three
    /// alignments).
    pub fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut sought = Vec::new();
        for value in values {
            let trimmed = trim_newlines(value);
            add_value(&mut sought, trimmed);
            for line in trimmed.split(|b| *b == b'\n') {
                add_value(&mut sought, line.strip_suffix(b"\r").unwrap_or(line));
            }
            if trimmed.len() >= ESCAPED_BYTES_MIN {
                add_hex(&mut sought, trimmed);
            }
            if trimmed.len() >= MASK_BYTES_MIN {
                for alignment in 0..3 {
                    add_base64(&mut sought, trimmed, alignment);
                }
            }
        }
        sought.sort();
        sought.dedup();
        let mut begins = Vec::new();
        for (index, one) in (0_u32..).zip(&sought) {
            begins.extend(one.starts().iter().map(|start| (start_of(start), index)));
        }
        begins.sort_unstable();
        let mut starts = if begins.is_empty() { Vec::new() } else { vec![0_u64; 1024] };
        for (start, _) in &begins {
            starts[usize::from(start / 64)] |= 1 << (start % 64);
        }
        let longest = sought.iter().map(Sought::longest).max().unwrap_or(0);
        Self { sought, begins, starts, longest }
    }

    /// Length of the longest thing that is looked for.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Where values lie in the text: merged, ascending.
    pub fn find(&self, text: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut found: Vec<std::ops::Range<usize>> = Vec::new();
        if self.begins.is_empty() {
            return found;
        }
        for at in 0..text.len().saturating_sub(1) {
            let start = start_of(&text[at..]);
            if self.starts[usize::from(start / 64)] & (1 << (start % 64)) == 0 {
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

    fn longest_at(&self, text: &[u8], start: u16) -> Option<usize> {
        let from = self.begins.partition_point(|begins| begins.0 < start);
        let begin_so = self.begins[from..].iter().take_while(|begins| begins.0 == start);
        begin_so.filter_map(|(_, index)| self.sought[*index as usize].at(text)).max()
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

fn start_of(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn trim_newlines(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |at| at + 1);
    &value[..end]
}

/// The value or a line of it, as it is and escaped.
fn add_value(sought: &mut Vec<Sought>, value: &[u8]) {
    add_pieces(sought, value);
    sought.extend(Escaped::pieces(value).into_iter().map(Sought::Escaped));
}

/// The text, or pieces of a long one. A line is logged apart from the next, so a piece holds no line break.
fn add_pieces(sought: &mut Vec<Sought>, value: &[u8]) {
    if value.len() < MASK_BYTES_MIN || value.contains(&b'\n') {
        return;
    }
    for piece in value.chunks(PIECE_BYTES_MAX) {
        if piece.len() >= MASK_BYTES_MIN {
            sought.push(Sought::Plain(piece.to_vec()));
        }
    }
}

/// Hexadecimal, in both cases.
fn add_hex(sought: &mut Vec<Sought>, value: &[u8]) {
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let digit = |value: u8| digits[usize::from(value)];
        let text: Vec<u8> = value.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        add_pieces(sought, &text);
    }
}

/// The part of the Base64 text that depends on the value only, when `alignment` bytes come before it.
fn add_base64(sought: &mut Vec<Sought>, value: &[u8], alignment: usize) {
    let mut padded = vec![0; alignment];
    padded.extend_from_slice(value);
    let first = (alignment * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    if last < first + BASE64_BYTES_MIN {
        return;
    }
    for alphabet in [b"+/", b"-_"] {
        let text = base64(&padded, alphabet);
        add_pieces(sought, &text[first..last]);
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

    // R518
    #[test]
    fn values_are_hidden_however_they_are_escaped() {
        let value = "p@ss \"w0rd\" <&> é/\\%+ü";
        for (encoder, text) in [
            ("curl, RFC 3986", "p%40ss%20%22w0rd%22%20%3C%26%3E%20%C3%A9%2F%5C%25%2B%C3%BC"),
            ("lower case", "p%40ss%20%22w0rd%22%20%3c%26%3e%20%c3%a9%2f%5c%25%2b%c3%bc"),
            ("a form", "p%40ss+%22w0rd%22+%3C%26%3E+%C3%A9%2F%5C%25%2B%C3%BC"),
            ("a URL's path", "p@ss%20%22w0rd%22%20%3C&%3E%20%C3%A9/%5C%25+%C3%BC"),
            ("JSON", r#"p@ss \"w0rd\" <&> é/\\%+ü"#),
            ("JSON of Go, PHP, Python", r#"p@ss \"w0rd\" \u003c\u0026\u003E \u00e9\/\\%+\u00FC"#),
            ("HTML", "p@ss &quot;w0rd&quot; &lt;&amp;&gt; é/\\%+ü"),
            ("HTML by numbers", "p@ss &#34;w0rd&#034; &#60;&#x26;&#x3e; &#xe9;/\\%+&#252;"),
            ("a shell", r#"p@ss\ \"w0rd\"\ \<\&\>\ é/\\%+ü"#),
            ("bytes of Python", r#"p@ss "w0rd" <&> \xc3\xa9/\\%+\xC3\xBC"#),
            ("hexadecimal", "7040737320227730726422203c263e20c3a92f5c252bc3bc"),
            ("two of them", r#"p%40ss \"w0rd\" &lt;&amp;&gt; é%2F\\%+ü"#),
        ] {
            assert_eq!(masked(&[value], &format!("a={text};")), "a=****;", "{encoder}");
        }
        let upper = "7040737320227730726422203C263E20C3A92F5C252BC3BC";
        assert_eq!(masked(&[value], upper), "****");
        assert_eq!(masked(&["first line\nand \"2\"\n"], r#"{"key": "first line\nand \"2\""}"#), r#"{"key": "****"}"#);
        assert_eq!(masked(&["😀 smiles a lot"], r#""\ud83d\uDE00 smiles a lot""#), "\"****\"");
        assert_eq!(masked(&["\u{1}binary\u{7f}it is"], r"\u0001binary\x7fit is"), "****");
    }

    #[test]
    fn what_is_no_value_stays_as_it_is() {
        for text in [
            "p%40ss%2",
            "p%40ss%2Fw0r",
            "%70%4",
            "p%4",
            "&",
            "&#",
            "&#112",
            "\\",
            "\\u",
            "\\u00",
            "%",
            "p&#64",
            "+",
            "",
        ] {
            assert_eq!(masked(&["p@ss/w0rd", "+ + + + +"], text), text);
        }
        // Shorter than eight bytes: looked for as it is only.
        assert_eq!(masked(&["a/b c&d"], "a%2Fb+c%26d a/b c&d"), "a%2Fb+c%26d ****");
        // Not UTF-8, not cut within a character, longer than a piece.
        let long = "é/".repeat(1_000);
        assert_eq!(masked(&[&long], &long.replace('/', "%2F")), "****");
        let masks = Masks::new([&b"\xff\xfe/binary"[..]].into_iter());
        assert_eq!(masks.find(b"x %FF%fe%2fbinary").first(), Some(&(2..17)));
        assert!(masks.longest() >= 15);
    }

    #[test]
    fn runs_of_what_escapes_are_found_and_end() {
        for run in ["\\", "%", "&"] {
            let value = run.repeat(300);
            for escaped in [value.clone(), value.replace('\\', "\\\\").replace('%', "%25").replace('&', "&amp;")] {
                assert!(!masked(&[&value], &format!("x{escaped}")).contains(&run.repeat(8)), "{run}");
            }
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
