//! In: a command as one line or as a list. Out: its words. Never runs a
//! shell, and says so when the line needs one.

use crate::model::Spanned;
use crate::problem::quoted;
use crate::read::Reader;
use crate::yaml::{Kind, Node};

/// What only a shell understands when it stands as a word of its own.
const SHELL_WORDS: &[&str] = &["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];

/// One word of a line, and whether any of it was quoted.
struct Word {
    text: String,
    quoted: bool,
}

impl Reader<'_> {
    /// A line that is split into words as a shell does it, or a list of words.
    pub(crate) fn command(&mut self, node: &Node, key: &str) -> Option<Spanned<Vec<String>>> {
        if let Kind::List(items) = &node.kind {
            let mut words = Vec::new();
            for item in items {
                let (text, _) = self.scalar(item, key)?;
                words.push(text.to_owned());
            }
            return self.not_empty(node, key, words);
        }
        let line = self.text(node, key)?;
        let Some(words) = split(&line.value) else {
            let message = format!("a quote in {} does not end", quoted(key));
            self.error(node.at, &message, Some("close it, or write a list of words"));
            return None;
        };
        let shell = words.iter().find(|word| !word.quoted && SHELL_WORDS.contains(&word.text.as_str()));
        if let Some(word) = shell {
            let message = format!("{} has {}, but no shell reads it", quoted(key), quoted(&word.text));
            let hint = format!("write `{key}: [sh, -c, \"…\"]` if the image has a shell");
            self.error(node.at, &message, Some(&hint));
            return None;
        }
        let words = words.into_iter().map(|word| word.text).collect();
        self.not_empty(node, key, words)
    }

    fn not_empty(&mut self, node: &Node, key: &str, words: Vec<String>) -> Option<Spanned<Vec<String>>> {
        if words.first().is_none_or(String::is_empty) {
            let message = format!("{} is empty", quoted(key));
            self.error(node.at, &message, None);
            return None;
        }
        Some(Spanned::new(words, node.at))
    }
}

/// The words of a line by the quoting rules of the POSIX shell (2.2), without
/// expansions; nothing when a quote does not end.
fn split(line: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut current: Option<Word> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.extend(current.take());
            continue;
        }
        let word = current.get_or_insert_with(|| Word { text: String::new(), quoted: false });
        match c {
            '\'' => {
                word.quoted = true;
                loop {
                    match chars.next()? {
                        '\'' => break,
                        inner => word.text.push(inner),
                    }
                }
            }
            '"' => {
                word.quoted = true;
                double_quoted(&mut chars, &mut word.text)?;
            }
            '\\' => {
                word.quoted = true;
                word.text.push(chars.next()?);
            }
            c => word.text.push(c),
        }
    }
    words.extend(current);
    Some(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => text.push(escaped),
                other => {
                    text.push('\\');
                    text.push(other);
                }
            },
            c => text.push(c),
        }
    }
}
