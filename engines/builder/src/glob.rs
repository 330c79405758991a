//! Patterns for file names.
//!
//! In: a pattern such as `*.txt` or `**/target`. Out: whether a path matches.
//! Never: a file access; time beyond pattern length times path length.
//!
//! `Dialect::Name` is Go's `filepath.Match` for one path component (COPY); `Dialect::Path` is that
//! of `.dockerignore`, where `**` spans folders.

/// What `*` and `**` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Name,
    Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any part of a name.
    Any,
    /// `**` or `**/` before something: nothing, or folders with their slash.
    Folders,
    /// `**` at the end.
    Everything,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether the text has characters that mean something in a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

impl Pattern {
    /// `None` when it is malformed: a class that is not closed or runs backwards, an escape
    /// at the end.
    pub(crate) fn parse(text: &str, dialect: Dialect) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' if dialect == Dialect::Path && rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    match rest.peek() {
                        None => Token::Everything,
                        Some(_) => Token::Folders,
                    }
                }
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => Token::Literal(rest.next()?),
                '[' => class(&mut rest)?,
                _ => Token::Literal(character),
            });
        }
        Some(Self(tokens))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // reached[i]: the tokens so far can match the first i characters.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            reached = token.advance(&reached, &text);
        }
        reached[text.len()]
    }
}

impl Token {
    fn advance(&self, reached: &[bool], text: &[char]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        let mut inside = false; // a run of `*`, `**` is open at this place
        for index in 0..reached.len() {
            let before = index.checked_sub(1).map(|before| (reached[before], text[before]));
            next[index] = match self {
                Self::Any => {
                    inside = reached[index] || (inside && before.is_some_and(|(_, c)| c != '/'));
                    inside
                }
                Self::Everything => {
                    inside |= reached[index];
                    inside
                }
                Self::Folders => {
                    let ends_folder = inside && before.is_some_and(|(_, c)| c == '/');
                    inside |= reached[index];
                    reached[index] || ends_folder
                }
                Self::One => before.is_some_and(|(was, c)| was && c != '/'),
                Self::Literal(literal) => before.is_some_and(|(was, c)| was && c == *literal),
                Self::Class { negated, ranges } => before.is_some_and(|(was, c)| {
                    let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    was && c != '/' && is_in != *negated
                }),
            };
        }
        next
    }
}

/// After the `[`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if(|next| matches!(next, '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => rest.next()?,
            character => character,
        };
        let high = match rest.next_if_eq(&'-') {
            None => low,
            Some(_) => match rest.next()? {
                ']' | '-' => return None,
                '\\' => rest.next()?,
                character => character,
            },
        };
        if low > high {
            return None;
        }
        ranges.push((low, high));
    }
}
