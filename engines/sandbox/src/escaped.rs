//! Finds a value also where text carries it escaped: percent-encoded, as JSON, HTML or a shell's word, as a mixture of them. In: values, text.
//! Out: whether one begins here, and how long it is. Never: a value under [`ESCAPED_BYTES_MIN`] bytes; memory beyond the value itself.
//!
//! Which characters an encoder escapes differs from one to the next, so no list of forms would be whole: each character
//! may be written in each of its ways, whatever the others do.

/// Shorter values are not looked for in escaped text: too much looks like them.
pub const ESCAPED_BYTES_MIN: usize = 8;
/// No way to write a character takes more bytes for each of its own.
const GROWTH_MAX: usize = 6;
/// A longer value is looked for piece by piece, so that the log's line buffer stays small.
const PIECE_BYTES_MAX: usize = 341;
/// What a character begins with where it does not stand for itself.
const BEGINS_ESCAPE: &[u8] = b"%\\&+";
/// Characters that HTML names (HTML, section 13.5), as encoders use them.
const NAMED: [(u8, &[u8]); 5] = [(b'&', b"amp;"), (b'<', b"lt;"), (b'>', b"gt;"), (b'"', b"quot;"), (b'\'', b"apos;")];
/// Characters that a backslash and a letter stand for (RFC 8259, section 7).
const LETTERED: [(u8, u8); 5] = [(b'\n', b'n'), (b'\r', b'r'), (b'\t', b't'), (8, b'b'), (12, b'f')];

/// A value, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Escaped {
    value: Vec<u8>,
}

impl Escaped {
    /// The value in pieces of about one length; none for a short one.
    pub fn pieces(value: &[u8]) -> Vec<Escaped> {
        if value.len() < ESCAPED_BYTES_MIN {
            return Vec::new();
        }
        let most = value.len().div_ceil(value.len().div_ceil(PIECE_BYTES_MAX));
        let mut pieces = vec![Vec::new()];
        for unit in Units(value) {
            if pieces.last().is_some_and(|last: &Vec<u8>| last.len() + unit.len() > most) {
                pieces.push(Vec::new());
            }
            pieces.last_mut().into_iter().for_each(|last| last.extend_from_slice(unit));
        }
        pieces.into_iter().filter(|piece| piece.len() >= ESCAPED_BYTES_MIN).map(|value| Escaped { value }).collect()
    }

    /// No text that carries it is longer.
    pub fn longest(&self) -> usize {
        self.value.len() * GROWTH_MAX
    }

    /// The first two bytes of every text that carries it.
    pub fn starts(&self) -> Vec<[u8; 2]> {
        let mut units = Units(&self.value);
        let (Some(first), Some(second)) = (units.next(), units.next()) else { return Vec::new() };
        let is_space = |unit: &[u8]| unit == b" ";
        let mut after = vec![second[0], b'%', b'\\', b'&'];
        after.extend(is_space(second).then_some(b'+'));
        let mut starts = Vec::new();
        match first {
            [alone] => starts.extend(after.iter().map(|next| [*alone, *next])),
            [one, two, ..] => starts.push([*one, *two]),
            [] => {}
        }
        if is_space(first) {
            starts.extend(after.iter().map(|next| [b'+', *next]));
        }
        let high = char::from_digit(u32::from(first[0] >> 4), 16).map_or(b'0', |digit| digit as u8);
        starts.extend([[b'%', high], [b'%', high.to_ascii_uppercase()]]);
        starts.extend([[b'\\', b'u'], [b'\\', b'x'], [b'\\', first[0]], [b'&', b'#']]);
        starts.extend(LETTERED.iter().filter(|(plain, _)| [*plain] == *first).map(|(_, letter)| [b'\\', *letter]));
        starts.extend(NAMED.iter().filter(|(plain, _)| [*plain] == *first).map(|(_, name)| [b'&', name[0]]));
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// Whether it begins here, plain or escaped: the length of the text that carries it.
    pub fn at(&self, text: &[u8]) -> Option<usize> {
        // Nearly all text that begins like it ends to be like it at once.
        let is_plain = |(own, other): &(&u8, &u8)| own == other && !BEGINS_ESCAPE.contains(other);
        let same = self.value.iter().zip(text).take_while(is_plain).count();
        if same == self.value.len() {
            return Some(same);
        }
        if !text.get(same).is_some_and(|byte| BEGINS_ESCAPE.contains(byte)) {
            return None;
        }
        let mut ends = Ends::default();
        ends.add(0);
        for unit in Units(&self.value) {
            let mut next = Ends::default();
            for end in ends.all() {
                ways(unit, &text[*end..], |length| next.add(end + length));
            }
            if next.count == 0 {
                return None;
            }
            ends = next;
        }
        ends.all().iter().max().copied()
    }
}

/// Where the part that was read so far may end. More than one only where a character stands for itself or begins an escape.
#[derive(Default)]
struct Ends {
    at: [usize; 8],
    count: usize,
}

impl Ends {
    fn all(&self) -> &[usize] {
        &self.at[..self.count]
    }

    /// One more, if it is new; past the limit (runs of the escaping character) those that are known suffice.
    fn add(&mut self, end: usize) {
        if self.count < self.at.len() && !self.all().contains(&end) {
            self.at[self.count] = end;
            self.count += 1;
        }
    }
}

/// The characters of a value as bytes; what is not UTF-8 goes byte by byte.
struct Units<'a>(&'a [u8]);

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = match self.0.first()? {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let whole = self.0.get(..length).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok());
        let (unit, rest) = self.0.split_at(if whole { length } else { 1 });
        self.0 = rest;
        Some(unit)
    }
}

/// The lengths of all ways in which this character is written at the beginning of the text.
fn ways(unit: &[u8], text: &[u8], mut found: impl FnMut(usize)) {
    if text.starts_with(unit) {
        found(unit.len());
    }
    match text.first() {
        Some(b'%') if bytes_as_hex(unit, text, b"%") => found(unit.len() * 3),
        Some(b'+') if unit == b" " => found(1),
        Some(b'\\') => behind_backslash(unit, text, found),
        Some(b'&') => reference(unit, &text[1..]).map(|length| length + 1).into_iter().for_each(found),
        _ => {}
    }
}

fn behind_backslash(unit: &[u8], text: &[u8], mut found: impl FnMut(usize)) {
    let Some(second) = text.get(1) else { return };
    let stands_for = |letter: &u8| LETTERED.iter().any(|(plain, of)| of == letter && [*plain] == *unit);
    if stands_for(second) || (unit == [*second] && !second.is_ascii_alphanumeric()) {
        found(2);
    }
    if *second == b'x' && bytes_as_hex(unit, text, b"\\x") {
        found(unit.len() * 4);
    }
    if let Some(character) = character(unit) {
        let mut length = 0;
        let as_written = |code: &u16| {
            let written = text[length..].strip_prefix(b"\\u").and_then(|rest| rest.get(..4));
            length += 6;
            written.and_then(|digits| number(digits, 16)) == Some(u32::from(*code))
        };
        // Beyond the first 65,536 characters in two halves (RFC 8259, section 7).
        if character.encode_utf16(&mut [0; 2]).iter().all(as_written) {
            found(length);
        }
    }
}

/// The length of what follows a `&`, when it refers to this character.
fn reference(unit: &[u8], rest: &[u8]) -> Option<usize> {
    if let Some((_, name)) = NAMED.iter().find(|(plain, name)| [*plain] == *unit && rest.starts_with(name)) {
        return Some(name.len());
    }
    let end = rest.iter().take(unit.len() * GROWTH_MAX - 1).position(|byte| *byte == b';')?;
    let (digits, radix) = match rest[..end].strip_prefix(b"#")? {
        [b'x' | b'X', digits @ ..] => (digits, 16),
        digits => (digits, 10),
    };
    (number(digits, radix)? == u32::from(character(unit)?)).then_some(end + 1)
}

/// Whether the text begins with each byte in two hexadecimal digits, `mark` before each.
fn bytes_as_hex(unit: &[u8], text: &[u8], mark: &[u8]) -> bool {
    unit.iter().zip(text.chunks(mark.len() + 2)).all(|(byte, written)| {
        written.strip_prefix(mark).and_then(|digits| number(digits, 16)) == Some(u32::from(*byte))
    }) && text.len() >= unit.len() * (mark.len() + 2)
}

fn character(unit: &[u8]) -> Option<char> {
    std::str::from_utf8(unit).ok()?.chars().next()
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
    u32::from_str_radix(text, radix).ok()
}
