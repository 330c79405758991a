//! As much JSON (RFC 8259) as a guestbook needs.
//!
//! In: text. Out: a quoted string, or the fields of one flat object whose
//! values are strings. Never: nesting, numbers; they are refused.

use std::iter::Peekable;
use std::str::Chars;

/// Quotes text as a JSON string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Reads `{"name": "Ada", …}`. The error says what was expected.
pub fn read_object(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut input = Input(text.chars().peekable());
    let mut fields = Vec::new();
    input.expect('{', "expected an object in `{ }`")?;
    if input.next_is('}') {
        input.0.next();
    } else {
        loop {
            let name = input.string()?;
            input.expect(':', "expected a `:` after a name")?;
            fields.push((name, input.string()?));
            if !input.next_is(',') {
                break;
            }
            input.0.next();
        }
        input.expect('}', "expected a `,` or the final `}`")?;
    }
    match input.after_space() {
        None => Ok(fields),
        Some(_) => Err("expected nothing after the final `}`"),
    }
}

struct Input<'a>(Peekable<Chars<'a>>);

impl Input<'_> {
    fn after_space(&mut self) -> Option<char> {
        while self.0.next_if(|c| matches!(c, ' ' | '\t' | '\r' | '\n')).is_some() {}
        self.0.peek().copied()
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.after_space() == Some(wanted)
    }

    fn expect(&mut self, wanted: char, otherwise: &'static str) -> Result<(), &'static str> {
        let found = self.next_is(wanted);
        self.0.next();
        if found { Ok(()) } else { Err(otherwise) }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        self.expect('"', "expected a text in quotes")?;
        let mut out = String::new();
        loop {
            match self.0.next().ok_or("expected the closing quote")? {
                '"' => return Ok(out),
                '\\' => out.push(self.escaped()?),
                control if control < ' ' => return Err("expected control characters as `\\u00..`"),
                other => out.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, &'static str> {
        Ok(match self.0.next() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode()?,
            _ => return Err("expected one of `\" \\ / b f n r t u` after `\\`"),
        })
    }

    /// `\u` has four digits; characters beyond them come as two surrogates.
    fn unicode(&mut self) -> Result<char, &'static str> {
        let mut units = vec![self.four_digits()?];
        if (0xd800..0xdc00).contains(&units[0]) {
            if self.0.next() != Some('\\') || self.0.next() != Some('u') {
                return Err("expected the second half of a surrogate pair");
            }
            units.push(self.four_digits()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err("expected a whole surrogate pair"),
        }
    }

    fn four_digits(&mut self) -> Result<u16, &'static str> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.0.next().and_then(|c| c.to_digit(16));
            value = value * 16 + digit.ok_or("expected four hexadecimal digits after `\\u`")?;
        }
        Ok(value as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let seen = match read_object(text) {
            Ok(fields) => format!("{fields:?}"),
            Err(reason) => reason.to_owned(),
        };
        assert_eq!(seen, expected, "\n{text}");
    }

    #[test]
    fn flat_objects_are_read() {
        check(" { } ", "[]");
        check(r#"{"a": "1" , "b":"2"}"#, r#"[("a", "1"), ("b", "2")]"#);
        check(r#"{"a":"\u00e9\ud83d\ude80\/\t"}"#, r#"[("a", "é🚀/\t")]"#);
    }

    #[test]
    fn everything_else_says_what_was_expected() {
        check("", "expected an object in `{ }`");
        check("[]", "expected an object in `{ }`");
        check(r#"{"a":1}"#, "expected a text in quotes");
        check(r#"{"a":"b",}"#, "expected a text in quotes");
        check(r#"{"a" "b"}"#, "expected a `:` after a name");
        check(r#"{"a":"b" "c":"d"}"#, "expected a `,` or the final `}`");
        check(r#"{"a":"b"} x"#, "expected nothing after the final `}`");
        check(r#"{"a":"b"#, "expected the closing quote");
        check(r#"{"a":"\x"}"#, "expected one of `\" \\ / b f n r t u` after `\\`");
        check(r#"{"a":"\ud83d"}"#, "expected the second half of a surrogate pair");
        check(r#"{"a":"\ud83d\u0041"}"#, "expected a whole surrogate pair");
        check(r#"{"a":"\udc00"}"#, "expected a whole surrogate pair");
    }

    #[test]
    fn what_is_quoted_can_be_read_again() {
        let text = "\"quotes\", \\ and \n\u{1} é🚀";
        let object = format!("{{{}:{}}}", quote("a"), quote(text));
        assert_eq!(read_object(&object), Ok(vec![("a".to_owned(), text.to_owned())]));
    }
}
