//! In: a pattern and a text. Out: whether they match. `?` is one character and
//! `*` any number of them within one part, `**` any number across `/`; `**/`
//! also matches nothing. Time is bounded by the product of both lengths.

/// Whether the whole text matches the pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    let tokens = tokens(pattern);
    let text: Vec<char> = text.chars().collect();
    // `reached[i]`: the tokens so far can match the first `i` characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in &tokens {
        reached = step(token, &text, &reached);
    }
    reached[text.len()]
}

enum Token {
    /// This character.
    One(char),
    /// Any character but `/`.
    Any,
    /// Any characters but `/`.
    Within,
    /// Any characters.
    Across,
    /// Nothing, or anything that ends in `/`.
    Folders,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    let mut part_begins = true;
    while let Some(first) = rest.chars().next() {
        if part_begins && let Some(after) = rest.strip_prefix("**/") {
            tokens.push(Token::Folders);
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("**") {
            tokens.push(Token::Across);
            rest = after.trim_start_matches('*');
            part_begins = false;
            continue;
        }
        tokens.push(match first {
            '*' => Token::Within,
            '?' => Token::Any,
            c => Token::One(c),
        });
        part_begins = first == '/';
        rest = &rest[first.len_utf8()..];
    }
    tokens
}

fn step(token: &Token, text: &[char], before: &[bool]) -> Vec<bool> {
    let mut after = vec![false; before.len()];
    match token {
        Token::One(wanted) => {
            for (index, c) in text.iter().enumerate() {
                after[index + 1] = before[index] && c == wanted;
            }
        }
        Token::Any => {
            for (index, c) in text.iter().enumerate() {
                after[index + 1] = before[index] && *c != '/';
            }
        }
        Token::Within => {
            after[0] = before[0];
            for (index, c) in text.iter().enumerate() {
                after[index + 1] = before[index + 1] || (after[index] && *c != '/');
            }
        }
        Token::Across => {
            after[0] = before[0];
            for index in 0..text.len() {
                after[index + 1] = before[index + 1] || after[index];
            }
        }
        Token::Folders => {
            let mut begun = before[0];
            after[0] = before[0];
            for (index, c) in text.iter().enumerate() {
                after[index + 1] = before[index + 1] || (begun && *c == '/');
                begun = begun || before[index + 1];
            }
        }
    }
    after
}
