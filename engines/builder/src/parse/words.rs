//! Splits the rest of an instruction into words.
//!
//! In: text and the offset at which it begins in its line. Out: words with their offsets.
//! Never: the removal of quotes or escapes; that is `expand`'s.

/// A word and where it begins in the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

/// Words between white space; quotes mean nothing (COPY, EXPOSE, FROM).
pub(super) fn split(text: &str, offset: usize) -> Vec<Word<'_>> {
    let start = text.as_ptr() as usize;
    text.split_whitespace().map(|word| Word { text: word, offset: offset + (word.as_ptr() as usize - start) }).collect()
}

/// Words between white space that is neither quoted nor escaped (ENV, LABEL, ARG).
pub(super) fn split_quoted(text: &str, offset: usize, escape: char) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut begin = None;
    let mut quote = None;
    let mut is_escaped = false;
    for (index, character) in text.char_indices() {
        if begin.is_none() {
            if character.is_whitespace() {
                continue;
            }
            begin = Some(index);
        }
        match quote {
            _ if is_escaped => is_escaped = false,
            // Nothing is escaped within single quotes.
            _ if character == escape && quote != Some('\'') => is_escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None if character.is_whitespace() => {
                let start = begin.take().unwrap_or(index);
                words.push(Word { text: &text[start..index], offset: offset + start });
            }
            None => {}
        }
    }
    if let Some(start) = begin {
        words.push(Word { text: text[start..].trim_end(), offset: offset + start });
    }
    words
}
