//! The entries, in memory.
//!
//! In: names and texts from outside. Out: entries, newest first, or the reason
//! why one is not taken. Never: more than [`ENTRIES_MAX`] entries; the oldest leaves.

use guestbook::json;
use std::collections::VecDeque;

/// Small enough that the whole list is one short answer.
pub const ENTRIES_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 60;
const TEXT_CHARS_MAX: usize = 500;

/// What somebody wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    number: u64,
    name: String,
    text: String,
}

impl Entry {
    pub fn to_json(&self) -> String {
        let Entry { number, name, text } = self;
        format!(r#"{{"number":{number},"name":{},"text":{}}}"#, json::quote(name), json::quote(text))
    }
}

#[derive(Debug, Default)]
pub struct Book {
    /// Newest first.
    entries: VecDeque<Entry>,
    written: u64,
}

impl Book {
    pub fn write(&mut self, name: &str, text: &str) -> Result<&Entry, String> {
        let name = checked("name", name, NAME_CHARS_MAX)?;
        let text = checked("text", text, TEXT_CHARS_MAX)?;
        self.written += 1;
        self.entries.truncate(ENTRIES_MAX - 1);
        self.entries.push_front(Entry { number: self.written, name, text });
        Ok(&self.entries[0])
    }

    pub fn to_json(&self) -> String {
        let entries: Vec<String> = self.entries.iter().map(Entry::to_json).collect();
        format!(r#"{{"written":{},"entries":[{}]}}"#, self.written, entries.join(","))
    }
}

fn checked(field: &str, value: &str, chars_max: usize) -> Result<String, String> {
    let value = value.trim();
    match value.chars().count() {
        0 => Err(format!("`{field}` is empty")),
        count if count > chars_max => Err(format!("`{field}` has {count} characters, at most {chars_max} fit")),
        _ => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_comes_first() {
        let mut book = Book::default();
        book.write("Ada", "first").unwrap();
        book.write(" Linus ", "\"second\"\n").unwrap();
        let expected = concat!(
            r#"{"written":2,"entries":[{"number":2,"name":"Linus","text":"\"second\""},"#,
            r#"{"number":1,"name":"Ada","text":"first"}]}"#
        );
        assert_eq!(book.to_json(), expected);
    }

    #[test]
    fn a_full_book_loses_its_oldest_entry() {
        let mut book = Book::default();
        for round in 0..ENTRIES_MAX + 5 {
            book.write("Ada", &format!("text {round}")).unwrap();
        }
        assert_eq!(book.entries.len(), ENTRIES_MAX);
        assert_eq!(book.entries[ENTRIES_MAX - 1].number, 6);
    }

    #[test]
    fn what_is_empty_or_too_long_is_not_taken() {
        let mut book = Book::default();
        assert_eq!(book.write("  ", "x"), Err("`name` is empty".to_owned()));
        let long = "é".repeat(501);
        let error = book.write("Ada", &long).unwrap_err();
        assert_eq!(error, "`text` has 501 characters, at most 500 fit");
        assert_eq!(book.to_json(), r#"{"written":0,"entries":[]}"#);
    }
}
