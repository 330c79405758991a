//! In: the tree of a file. Out: typed values, one reader per section below.
//! Collects every problem and goes on; never stops at the first one, never
//! skips a key that it does not know.

pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod env;
pub(crate) mod environments;
pub(crate) mod jobs;
pub(crate) mod names;
pub(crate) mod order;
pub(crate) mod paths;
pub(crate) mod quantities;
pub(crate) mod services;
pub(crate) mod top;
pub(crate) mod verify;

use std::collections::BTreeSet;

use crate::model::Spanned;
use crate::nearest;
use crate::problem::{Position, Sink, quoted};
use crate::yaml::{Entry, Kind, Node};

/// The keys of one kind of table.
pub(crate) struct Section {
    /// With its article: `a service`.
    pub(crate) what: &'static str,
    /// Keys that are read.
    pub(crate) read: &'static [&'static str],
    /// Keys that the language has and this version refuses.
    pub(crate) later: &'static [&'static str],
}

/// A table whose keys have been checked.
pub(crate) struct Table<'n> {
    entries: &'n [Entry],
}

impl<'n> Table<'n> {
    /// The value of a key; `on` is also found as the `true` that an editor's
    /// YAML 1.1 makes of it.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The key and its value.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key || (key == "on" && is_on_as_true(entry)))
    }
}

/// Reads nodes into values and collects what is wrong with them.
pub(crate) struct Reader<'s> {
    sink: Sink<'s>,
    /// The environments of the file; `None` when that section is unreadable,
    /// so that one fault does not cause others.
    pub(crate) environments: Option<BTreeSet<String>>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(sink: Sink<'s>) -> Reader<'s> {
        Reader { sink, environments: None }
    }

    pub(crate) fn into_sink(self) -> Sink<'s> {
        self.sink
    }

    pub(crate) fn error(&mut self, at: Position, message: &str, hint: Option<&str>) {
        self.sink.error(at, message, hint.map(str::to_owned));
    }

    /// An unknown word, with the nearest known one as the hint.
    pub(crate) fn unknown(&mut self, at: Position, message: &str, word: &str, known: &[&str]) {
        self.sink.error(at, message, nearest::hint(word, known));
    }

    pub(crate) fn not_yet(&mut self, at: Position, what: &str) {
        let message = format!("{} is not yet supported", quoted(what));
        self.error(at, &message, Some(instead(what)));
    }

    /// A table of this kind; nothing counts as an empty one.
    pub(crate) fn table<'n>(&mut self, node: &'n Node, section: &Section) -> Option<Table<'n>> {
        let entries = self.entries(node, section.what)?;
        let mut has_on = false;
        for entry in entries {
            let mut key = entry.key.as_str();
            if section.read.contains(&"on") && (key == "on" || is_on_as_true(entry)) {
                key = "on";
                if has_on {
                    self.error(entry.key_at, "duplicate key `on`", None);
                }
                has_on = true;
            }
            if !section.read.contains(&key) {
                self.refuse_key(entry, section);
            }
        }
        Some(Table { entries })
    }

    fn refuse_key(&mut self, entry: &Entry, section: &Section) {
        if section.later.contains(&entry.key.as_str()) {
            self.not_yet(entry.key_at, &entry.key);
            return;
        }
        if entry.key.contains("${{") {
            return;
        }
        let message = format!("unknown key {} in {}", quoted(&entry.key), section.what);
        let mut known = section.read.to_vec();
        known.sort_unstable();
        let all: Vec<&str> = section.read.iter().chain(section.later).copied().collect();
        match nearest::nearest(&entry.key, &all) {
            Some(near) => {
                let hint = format!("did you mean `{near}`?");
                self.error(entry.key_at, &message, Some(&hint));
            }
            None => self.unknown(entry.key_at, &message, &entry.key, &known),
        }
    }

    /// The entries of any table; nothing counts as an empty one.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries.as_slice()),
            Kind::Null => Some(&[]),
            Kind::Scalar { text, .. } if text.contains("${{") => None,
            Kind::Scalar { .. } | Kind::List(_) => {
                let message = format!("{what} must be a table of `key: value`, not {}", found(node));
                self.error(node.at, &message, None);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, node: &Node, key: &str) -> Option<Spanned<String>> {
        let (text, _) = self.scalar(node, key)?;
        if text.is_empty() {
            let message = format!("{} is empty", quoted(key));
            self.error(node.at, &message, None);
            return None;
        }
        Some(Spanned::new(text.to_owned(), node.at))
    }

    /// A scalar as written, and whether it had no quotes. An expression has
    /// been refused before and gives nothing here.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, key: &str) -> Option<(&'n str, bool)> {
        match &node.kind {
            Kind::Scalar { text, .. } if text.contains("${{") => None,
            Kind::Scalar { text, plain } => Some((text.as_str(), *plain)),
            Kind::Null => {
                let message = format!("{} has no value", quoted(key));
                let hint = "give it one, or remove the key to keep the default";
                self.error(node.at, &message, Some(hint));
                None
            }
            Kind::List(_) | Kind::Map(_) => {
                let message = format!("{} must be one value, not {}", quoted(key), found(node));
                self.error(node.at, &message, None);
                None
            }
        }
    }

    /// One value, or a list of values.
    pub(crate) fn one_or_more<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items.as_slice()),
            Kind::Scalar { .. } => Some(std::slice::from_ref(node)),
            Kind::Null => {
                self.scalar(node, key)?;
                None
            }
            Kind::Map(_) => {
                let message = format!("{} must be a list, not a table", quoted(key));
                let hint = format!("write `{key}: [first, second]`");
                self.error(node.at, &message, Some(&hint));
                None
            }
        }
    }

    /// One text or a list of texts.
    pub(crate) fn texts(&mut self, node: &Node, key: &str) -> Option<Vec<Spanned<String>>> {
        let items = self.one_or_more(node, key)?;
        Some(items.iter().filter_map(|item| self.text(item, key)).collect())
    }

    /// One of some words; those of `later` are refused as not yet supported.
    pub(crate) fn word(
        &mut self,
        node: &Node,
        key: &str,
        read: &[&'static str],
        later: &[&'static str],
    ) -> Option<&'static str> {
        let (text, _) = self.scalar(node, key)?;
        if let Some(word) = read.iter().find(|word| **word == text) {
            return Some(*word);
        }
        if later.contains(&text) {
            self.not_yet(node.at, &format!("{key}: {text}"));
            return None;
        }
        let message = format!("{} is not a value of {}", quoted(text), quoted(key));
        let known: Vec<&str> = read.iter().chain(later).copied().collect();
        match nearest::nearest(text, &known) {
            Some(near) => {
                let hint = format!("did you mean `{near}`?");
                self.error(node.at, &message, Some(&hint));
            }
            None => self.unknown(node.at, &message, text, read),
        }
        None
    }

    /// `true` or `false` of the YAML 1.2 core schema.
    pub(crate) fn boolean(&mut self, node: &Node, key: &str) -> Option<Spanned<bool>> {
        let (text, plain) = self.scalar(node, key)?;
        match text {
            "true" | "True" | "TRUE" if plain => Some(Spanned::new(true, node.at)),
            "false" | "False" | "FALSE" if plain => Some(Spanned::new(false, node.at)),
            _ => {
                let message = format!("{} must be `true` or `false`", quoted(key));
                self.error(node.at, &message, None);
                None
            }
        }
    }

    /// `on` or `off`, also as an editor's YAML 1.1 writes them.
    pub(crate) fn switch(&mut self, node: &Node, key: &str) -> Option<Spanned<bool>> {
        let (text, plain) = self.scalar(node, key)?;
        match text {
            "on" => Some(Spanned::new(true, node.at)),
            "off" => Some(Spanned::new(false, node.at)),
            "true" if plain => Some(Spanned::new(true, node.at)),
            "false" if plain => Some(Spanned::new(false, node.at)),
            _ => {
                let message = format!("{} must be `on` or `off`", quoted(key));
                self.error(node.at, &message, None);
                None
            }
        }
    }
}

/// What to do without what this version cannot do.
fn instead(what: &str) -> &'static str {
    match what {
        "as: env" => "remove `as`: the value is in the file `/run/secrets/NAME`",
        "on: manual" => "remove the job, or let it run `on: push`: a push is what starts jobs",
        "keep" | "internal" => "remove it: files stay as long as a remembered result needs them",
        _ => "this version cannot do it; remove it",
    }
}

/// Whether this node is the word `off`.
pub(crate) fn is_off(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { text, plain } => text == "off" || (*plain && text == "false"),
        Kind::Null | Kind::List(_) | Kind::Map(_) => false,
    }
}

/// What stands there, for "must be …, not …".
pub(crate) fn found(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Null => "nothing",
        Kind::Scalar { .. } => "one value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a table",
    }
}

fn is_on_as_true(entry: &Entry) -> bool {
    entry.key_plain && entry.key == "true"
}
