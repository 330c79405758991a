//! Rust source as tokens: enough to know code from text and comments, and where functions and tests begin and end.
//!
//! In: the text of a file. Out: tokens with lines, functions, lines that belong to tests. Never: parses, expands a
//! macro, or fails on what does not compile.

use std::ops::RangeInclusive;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// One character of punctuation.
    Sign,
    /// A string or a character.
    Text,
    /// A comment of either form, documentation included.
    Comment,
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    /// Where it begins, from 1.
    pub line: usize,
}

impl Token<'_> {
    fn ends_on(&self) -> usize {
        self.line + self.text.matches('\n').count()
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// From `fn` to the closing brace.
    pub lines: RangeInclusive<usize>,
}

/// Splits source into tokens.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            line += usize::from(bytes[at] == b'\n');
            at += 1;
            continue;
        }
        let (kind, length) = token(&source[at..]);
        let token = Token { kind, text: &source[at..at + length], line };
        line = token.ends_on();
        found.push(token);
        at += length;
    }
    found
}

/// The kind and length of the token that `rest` begins with; never longer than `rest`, never empty.
fn token(rest: &str) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let (prefix, tail) = rest.split_at(word);
    match prefix {
        "" | "b" | "c" if tail.starts_with('"') => (Kind::Text, word + quoted(tail, '"')),
        "b" if tail.starts_with('\'') => (Kind::Text, word + quoted(tail, '\'')),
        "r" | "br" | "cr" => match raw_string(tail) {
            Some(length) => (Kind::Text, word + length),
            None if tail.starts_with('#') => (Kind::Word, raw_name(word, tail)),
            None => (Kind::Word, word),
        },
        "" if tail.starts_with('\'') => quote(tail),
        "" => (Kind::Sign, rest.chars().next().map_or(1, char::len_utf8)),
        _ => (Kind::Word, word),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(rest: &str) -> usize {
    let (bytes, mut depth, mut at) = (rest.as_bytes(), 0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a text that opens and closes with `quote`, escapes understood.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of `##"…"##`, if `rest` is that.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&close).map_or(rest.len(), |end| hashes + 1 + end + close.len()))
}

/// The length of `r#name`.
fn raw_name(word: usize, tail: &str) -> usize {
    let name = tail[1..].find(|c: char| !is_word(c)).unwrap_or(tail.len() - 1);
    word + 1 + name
}

/// A character, or a lifetime.
fn quote(rest: &str) -> (Kind, usize) {
    let mut after = rest.chars().skip(1);
    match (after.next(), after.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => (Kind::Text, quoted(rest, '\'')),
        _ => (Kind::Word, rest[1..].find(|c: char| !is_word(c)).map_or(rest.len(), |end| end + 1)),
    }
}

/// The tokens without comments.
pub fn code<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    tokens.iter().filter(|token| token.kind != Kind::Comment).copied().collect()
}

/// Every function with a body, inner ones too. Takes code (no comments).
pub fn functions<'a>(code: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, pair) in code.windows(2).enumerate() {
        let named = is(&pair[0], "fn") && pair[1].kind == Kind::Word;
        let body = || item_end(&code[at..]).filter(|end| is(&code[at + end], "}"));
        if let Some(end) = named.then(body).flatten() {
            found.push(Function { name: pair[1].text, lines: pair[0].line..=code[at + end].line });
        }
    }
    found
}

/// The lines of all items under `#[test]`, `#[tokio::test]`, `#[cfg(test)]` and their like. Takes code (no comments).
pub fn test_lines(code: &[Token<'_>]) -> Vec<RangeInclusive<usize>> {
    let mut found = Vec::new();
    for (at, pair) in code.windows(2).enumerate() {
        if !(is(&pair[0], "#") && is(&pair[1], "[")) {
            continue;
        }
        let Some(close) = closing(&code[at + 1..]).map(|close| at + 1 + close) else { continue };
        if !marks_test(&code[at + 2..close]) {
            continue;
        }
        let end = item_end(&code[close + 1..]).map_or(code.len() - 1, |end| close + 1 + end);
        found.push(pair[0].line..=code[end].line);
    }
    found
}

/// Whether the inside of `#[…]` makes an item a test.
fn marks_test(inside: &[Token<'_>]) -> bool {
    let has = |word| inside.iter().any(|token| is(token, word));
    let path = inside.iter().take_while(|token| !is(token, "(") && !is(token, "=")).filter(|t| t.kind == Kind::Word);
    match path.last() {
        Some(last) if is(last, "cfg") => has("test") && !has("not"),
        Some(last) => is(last, "test"),
        None => false,
    }
}

/// Where the item that `code` begins with ends: at its closing brace, or at a semicolon before any brace.
fn item_end(code: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate().filter(|(_, token)| token.kind == Kind::Sign) {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.checked_sub(1)?,
            ";" if depth == 0 => return Some(at),
            "{" if depth == 0 => return closing(&code[at..]).map(|end| at + end),
            _ => {}
        }
    }
    None
}

/// Where the bracket that `code` begins with closes.
fn closing(code: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate().filter(|(_, token)| token.kind == Kind::Sign) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn is(token: &Token<'_>, text: &str) -> bool {
    matches!(token.kind, Kind::Word | Kind::Sign) && token.text == text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        let found = tokens(source);
        found.iter().map(|t| format!("{:?} {} {}", t.kind, t.line, t.text)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn strings_comments_lifetimes_and_characters_are_told_apart() {
        let source = "a<'b> '{' b\"x\\\"{\" // fn {\n/* /* } */ */ r#\"}\"#\nr#fn 'é' \"two\nlines\" z";
        let expected = "Word 1 a\nSign 1 <\nWord 1 'b\nSign 1 >\nText 1 '{'\nText 1 b\"x\\\"{\"\nComment 1 // fn {\n\
                        Comment 2 /* /* } */ */\nText 2 r#\"}\"#\nWord 3 r#fn\nText 3 'é'\nText 3 \"two\nlines\"\nWord 4 z";
        assert_eq!(shown(source), expected);
    }

    #[test]
    fn what_does_not_end_goes_to_the_end_of_the_file() {
        for source in ["\"abc", "/* abc", "r#\"abc", "'", "r#", "b'", "//"] {
            let length: usize = tokens(source).iter().map(|token| token.text.len()).sum();
            assert_eq!(length, source.len(), "{source}");
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_the_closing_brace() {
        let source = "trait T { fn none(&self) -> [u8; 3]; }\npub fn a<T>(f: impl Fn() -> T)\nwhere\n  T: Copy,\n{\n  \
                      let s = \"}\"; // }\n  fn inner() {}\n}\ntype F = fn(u8);\n";
        let found: Vec<_> = functions(&code(&tokens(source))).into_iter().map(|f| (f.name, f.lines)).collect();
        assert_eq!(found, [("a", 2..=8), ("inner", 7..=7)]);
    }

    #[test]
    fn lines_of_tests_are_known() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n#[cfg(not(test))]\nfn c() {}\n#[tokio::test(flavor = \
                      \"x\")]\n#[rest]\nasync fn d() {\n}\n";
        assert_eq!(test_lines(&code(&tokens(source))), [2..=5, 8..=11]);
    }
}
