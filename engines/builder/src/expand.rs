//! Replaces variables and takes quotes off, as Docker does.
//!
//! In: text as written, the escape character, and what the variables are.
//! Out: the text as it is meant, or why it cannot be read. Never: a command substitution or a glob.
//!
//! The rules are those of the Dockerfile reference, "Environment replacement"; where it is silent,
//! those of BuildKit's word tests.

use std::iter::Peekable;
use std::str::Chars;

/// Expands one word. `lookup` says what a variable is; `None` is unset.
pub(crate) fn word(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expander = Expander { rest: text.chars().peekable(), escape, lookup, depth: 0 };
    expander.until(None)
}

/// Deeper nesting of `${a:-${b:-…}}` is no honest Dockerfile.
const DEPTH_MAX: u32 = 50;

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: u32,
}

impl Expander<'_> {
    fn until(&mut self, stop: Option<char>) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("variables are nested more than {DEPTH_MAX} deep"));
        }
        let mut result = String::new();
        while let Some(character) = self.rest.next() {
            match character {
                _ if Some(character) == stop => {
                    self.depth -= 1;
                    return Ok(result);
                }
                '\'' => self.single_quoted(&mut result)?,
                '"' => self.double_quoted(&mut result)?,
                '$' => result.push_str(&self.variable()?),
                // At the very end of a word it means nothing.
                _ if character == self.escape => result.extend(self.rest.next()),
                _ => result.push(character),
            }
        }
        self.depth -= 1;
        match stop {
            None => Ok(result),
            Some(stop) => Err(format!("a `{stop}` is missing at the end")),
        }
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), String> {
        for character in self.rest.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            result.push(character);
        }
        Err("a single quote is not closed".to_owned())
    }

    fn double_quoted(&mut self, result: &mut String) -> Result<(), String> {
        while let Some(character) = self.rest.next() {
            match character {
                '"' => return Ok(()),
                '$' => result.push_str(&self.variable()?),
                _ if character == self.escape => {
                    match self.rest.next_if(|next| matches!(next, '"' | '$') || *next == self.escape) {
                        Some(escaped) => result.push(escaped),
                        None => result.push(character),
                    }
                }
                _ => result.push(character),
            }
        }
        Err("a double quote is not closed".to_owned())
    }

    /// After the `$`.
    fn variable(&mut self) -> Result<String, String> {
        if self.rest.next_if_eq(&'{').is_some() {
            return self.braced();
        }
        match self.name().as_str() {
            "" => Ok("$".to_owned()),
            name => Ok((self.lookup)(name).unwrap_or_default()),
        }
    }

    /// After the `${`.
    fn braced(&mut self) -> Result<String, String> {
        let name = self.name();
        if name.is_empty() {
            return Err("`${` is followed by no name".to_owned());
        }
        let value = (self.lookup)(&name);
        let mut operator = self.rest.next();
        if operator == Some('}') {
            return Ok(value.unwrap_or_default());
        }
        // With a colon, empty counts as unset.
        let value = match operator {
            Some(':') => {
                operator = self.rest.next();
                value.filter(|value| !value.is_empty())
            }
            _ => value,
        };
        match operator {
            Some(operator @ ('-' | '+' | '?')) => {
                let word = self.until(Some('}'))?;
                match (operator, value) {
                    ('-', Some(value)) | ('?', Some(value)) => Ok(value),
                    ('-', None) | ('+', Some(_)) => Ok(word),
                    ('?', None) if word.is_empty() => Err(format!("`{name}` is not set")),
                    ('?', None) => Err(format!("`{name}` is not set: {word}")),
                    _ => Ok(String::new()),
                }
            }
            Some(other) => Err(format!("`${{{name}{other}…}}` is not yet supported")),
            None => Err("a `}` is missing at the end".to_owned()),
        }
    }

    /// A name, digits, or one of the shell's special characters; empty when it is none of them.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                let is_word = |next: &char| next.is_ascii_alphanumeric() || *next == '_';
                while let Some(character) = self.rest.next_if(is_word) {
                    name.push(character);
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let found = word(text, '\\', &lookup).unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn variables_are_replaced_where_they_stand_bare_or_in_double_quotes() {
        check("a${HOME}b", "a/rootb");
        check("$HOME/x", "/root/x");
        check("\"$HOME\"", "/root");
        check("'$HOME'", "$HOME");
        check("\\$HOME", "$HOME");
        check("$UNSET.", ".");
        check("$.", "$.");
    }

    #[test]
    fn defaults_and_alternatives_see_unset_and_empty() {
        check("${UNSET:-d}", "d");
        check("${UNSET:-${HOME}x}", "/rootx");
        check("${EMPTY:-d}|${EMPTY-d}", "d|");
        check("${HOME:+a}|${EMPTY:+a}|${EMPTY+a}", "a||a");
        check("${HOME:?why}", "/root");
        check("${UNSET:?why}", "error: `UNSET` is not set: why");
        check("${UNSET?}", "error: `UNSET` is not set");
    }

    #[test]
    fn quotes_and_escapes_are_taken_off() {
        check("a\"b c\"d", "ab cd");
        check("\"a\\tb\\\"\"", "a\\tb\"");
        check("a\\tb", "atb");
        check("'a\\tb'", "a\\tb");
        check("end\\", "end");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        check("'open", "error: a single quote is not closed");
        check("\"open", "error: a double quote is not closed");
        check("${HOME", "error: a `}` is missing at the end");
        check("${}", "error: `${` is followed by no name");
        check("${HOME:=x}", "error: `${HOME=…}` is not yet supported");
        check("${HOME#x}", "error: `${HOME#…}` is not yet supported");
        let deep = "${A:-".repeat(60);
        check(&deep, "error: variables are nested more than 50 deep");
    }
}
