//! Folding of paths into patterns, and the bounded table of the patterns of one service.
//!
//! In: a method and a path. Out: the number of its pattern. Segments that look like an id become
//! `:id`; what does not fit the limits goes under `*`. No regular expressions, and no allocation for
//! a pattern that is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::Method;

/// Patterns of one service; all further ones share the last place, `*`.
pub(crate) const PATTERNS_MAX: usize = 200;
/// The place of all that is not counted by itself.
pub(crate) const REST: usize = PATTERNS_MAX;
/// A pattern is cut behind the last segment that fits.
const PATTERN_BYTES_MAX: usize = 160;
/// Deeper paths are cut.
const SEGMENTS_MAX: usize = 12;
/// What an id becomes.
const ID: &str = ":id";

/// A method and a pattern, such as `GET /orders/:id`, on the stack.
pub(crate) struct Folded {
    bytes: [u8; PATTERN_BYTES_MAX],
    length: usize,
}

impl Folded {
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        let mut folded = Folded { bytes: [0; PATTERN_BYTES_MAX], length: 0 };
        folded.push(method_name(method));
        folded.push(" ");
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in segments.by_ref().take(SEGMENTS_MAX) {
            let before = folded.length;
            // Two bytes stay free for a final `/*`.
            let fits = folded.push("/") && folded.push_segment(segment);
            if !fits || folded.length > PATTERN_BYTES_MAX - 2 {
                folded.length = before;
                folded.push("/*");
                return folded;
            }
        }
        if segments.next().is_some() {
            folded.push("/*");
        }
        folded
    }

    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        // Only whole texts are pushed.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn push(&mut self, text: &str) -> bool {
        let end = self.length + text.len();
        match self.bytes.get_mut(self.length..end) {
            Some(room) => {
                room.copy_from_slice(text.as_bytes());
                self.length = end;
                true
            }
            None => false,
        }
    }

    /// A segment that is an id, or a file name with a content hash in it, or itself.
    fn push_segment(&mut self, segment: &str) -> bool {
        if is_id(segment) {
            return self.push(ID);
        }
        if !segment.bytes().any(|b| b.is_ascii_digit()) {
            return self.push(segment);
        }
        let mut separator = "";
        for piece in segment.split('.') {
            let piece = if is_hash(piece) { ID } else { piece };
            if !(self.push(separator) && self.push(piece)) {
                return false;
            }
            separator = ".";
        }
        true
    }
}

/// Methods come from clients; all but the known ones share a name.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if bytes.contains(&b'@') || segment.contains("%40") {
        return true;
    }
    if digits == 0 {
        return false;
    }
    // Numbers, dates, UUIDs, and hexadecimal hashes.
    let numeric = bytes.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b',' | b':'));
    numeric || is_hash(segment) || is_token(bytes, digits) || is_numbered(bytes)
}

/// Eight or more hexadecimal digits, also in groups as a UUID has them, with a decimal among them.
fn is_hash(text: &str) -> bool {
    let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    text.len() >= 8 && hexadecimal && text.bytes().any(|b| b.is_ascii_digit())
}

/// Long and without words: base 64, ULID, NanoID, JWT and the like.
fn is_token(bytes: &[u8], digits: usize) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
    bytes.len() >= 16 && digits * 8 >= bytes.len() && bytes.iter().all(plain)
}

/// Letters and then three or more digits: `ORD-12345`, `user1234`, `cus_0042`.
fn is_numbered(bytes: &[u8]) -> bool {
    let digits = bytes.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let word = bytes.get(..bytes.len() - digits).unwrap_or_default();
    let letter = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_');
    digits >= 3 && word.iter().all(letter)
}

/// The patterns of one service, each with its number. Numbers are never given twice.
#[derive(Default)]
pub(crate) struct Patterns {
    known: ArcSwap<HashMap<Box<str>, usize>>,
    adding: Mutex<()>,
}

impl Patterns {
    /// The number of the pattern of this request; a new one is added only when `may_add`.
    pub(crate) fn place(&self, method: &Method, path: &str, may_add: bool) -> usize {
        let folded = Folded::new(method, path);
        let known = self.known.load();
        match known.get(folded.as_str()) {
            Some(place) => *place,
            None if !may_add || known.len() >= PATTERNS_MAX => REST,
            None => self.add(folded.as_str()),
        }
    }

    #[cold]
    fn add(&self, pattern: &str) -> usize {
        let _one = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if let Some(place) = known.get(pattern) {
            return *place;
        }
        let place = known.len();
        if place >= PATTERNS_MAX {
            return REST;
        }
        let mut more = HashMap::clone(&known);
        more.insert(pattern.into(), place);
        self.known.store(Arc::new(more));
        place
    }

    /// Method and pattern of every number, in the order of the numbers.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let known = self.known.load();
        let mut names = vec![("*".to_owned(), "*".to_owned()); PATTERNS_MAX + 1];
        for (pattern, place) in known.iter() {
            let (method, path) = pattern.split_once(' ').unwrap_or(("*", pattern));
            if let Some(name) = names.get_mut(*place) {
                *name = (method.to_owned(), path.to_owned());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_folded_and_words_are_not() {
        for (path, pattern) in [
            ("/", "GET /"),
            ("/orders", "GET /orders"),
            ("/orders/17", "GET /orders/:id"),
            ("/orders/17/lines/3", "GET /orders/:id/lines/:id"),
            ("/v1/users/ann@example.org", "GET /v1/users/:id"),
            ("/v1/users/ann%40example.org", "GET /v1/users/:id"),
            ("/u/6f9619ff-8b86-d011-b42d-00cf4fc964ff", "GET /u/:id"),
            ("/r/34e57f01", "GET /r/:id"),
            ("/days/2024-06-01", "GET /days/:id"),
            ("/o/ORD-12345", "GET /o/:id"),
            ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET /t/:id"),
            ("/deadbeef", "GET /deadbeef"),
            ("/api/v2/http2", "GET /api/v2/http2"),
            ("/assets/app.3f2a9c1b.js", "GET /assets/app.:id.js"),
            ("/lib-1.2.3.js", "GET /lib-1.2.3.js"),
            ("/a/", "GET /a/"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l/m", "GET /a/b/c/d/e/f/g/h/i/j/k/l/*"),
            ("*", "GET /*"),
        ] {
            assert_eq!(Folded::new(&Method::GET, path).as_str(), pattern);
        }
        let long = format!("/a/{}/b", "x".repeat(400));
        assert_eq!(Folded::new(&Method::GET, &long).as_str(), "GET /a/*");
        let odd = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(Folded::new(&odd, "/pot").as_str(), "OTHER /pot");
    }

    #[test]
    fn patterns_above_the_limit_share_one_place() {
        let patterns = Patterns::default();
        for n in 0..PATTERNS_MAX + 50 {
            // Letters only, so that nothing is folded.
            let name: String = format!("/{n:03}").bytes().map(|b| (b + 60) as char).collect();
            assert_eq!(patterns.place(&Method::GET, &name, false), REST);
            let place = patterns.place(&Method::GET, &name, true);
            assert_eq!(place, n.min(REST), "{name}");
            assert_eq!(patterns.place(&Method::GET, &name, false), place);
        }
        assert_eq!(patterns.names()[REST].1, "*");
    }
}
