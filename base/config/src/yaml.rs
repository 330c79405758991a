//! In: the events of the YAML parser. Out: a tree in which every key and value
//! knows its place, with aliases and merge keys put in. Never interprets a
//! value, never recurses on input, never lets an alias multiply without limit.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::problem::{Position, Sink, as_u32, quoted};

/// The deepest nesting that is read. The language needs seven levels.
pub(crate) const DEPTH_MAX: usize = 64;

/// The most values in one file, with what aliases repeat.
pub(crate) const NODES_MAX: usize = 100_000;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
}

/// What a value is before anybody asks for a type.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar as written; `plain` when it had no quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, without duplicates.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) key_plain: bool,
    pub(crate) value: Node,
}

/// The tree of the one document in this text; `None` when it is not readable.
/// What is wrong goes into the sink.
pub(crate) fn read(sink: &mut Sink<'_>, text: &str) -> Option<Node> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::new(sink);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => {
                if builder.event(event, span).is_err() {
                    return builder.root;
                }
            }
            Err(error) => {
                crate::syntax::report(builder.sink, &error_place(&error), error.info());
                return None;
            }
        }
    }
    let nothing = Node { at: Position { line: 1, column: 1, length: 1 }, kind: Kind::Null };
    Some(builder.root.unwrap_or(nothing))
}

/// Reading stops; the reason is in the sink.
struct Stop;

enum Frame {
    List { at: Position, anchor: usize, items: Vec<Node> },
    Map { at: Position, anchor: usize, pairs: Vec<(Node, Node)>, key: Option<Node> },
}

struct Builder<'b, 's> {
    sink: &'b mut Sink<'s>,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    line_checked: u32,
}

impl<'b, 's> Builder<'b, 's> {
    fn new(sink: &'b mut Sink<'s>) -> Builder<'b, 's> {
        Builder {
            sink,
            stack: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            documents: 0,
            line_checked: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(span),
            Event::Alias(anchor) => {
                self.check_tabs(&span);
                self.alias(anchor, span)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tabs(&span);
                self.scalar(&text, style, anchor, tag, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tabs(&span);
                self.check_tag(tag.as_deref(), &span);
                let at = start_of(&span, 1);
                let items = Vec::new();
                self.open(Frame::List { at, anchor, items })
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tabs(&span);
                self.check_tag(tag.as_deref(), &span);
                self.open(Frame::Map { at: start_of(&span, 1), anchor, pairs: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn document(&mut self, span: Span) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        self.sink.error(
            start_of(&span, 3),
            "a second document begins here",
            Some("keep one document in the file: remove the `---`".to_owned()),
        );
        Err(Stop)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: Span,
    ) -> Result<(), Stop> {
        let tag = tag.as_deref();
        self.check_tag(tag, &span);
        let plain = match tag {
            Some(tag) => tag.suffix != "str",
            None => style == ScalarStyle::Plain,
        };
        if text.contains("${{") && !self.sink.is_full() {
            let at = self.expression_at(&span);
            self.sink.error(
                at,
                "expressions `${{ … }}` are not yet supported",
                Some("write the value itself".to_owned()),
            );
        }
        let bare = anchor == 0 && tag.is_none() && style == ScalarStyle::Plain;
        let at = self.scalar_place(&span, bare.then_some(text));
        let kind = if plain && is_null(text) { Kind::Null } else { Kind::Scalar { text: text.to_owned(), plain } };
        self.add(Node { at, kind }, anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let width = span.end.col().saturating_sub(span.start.col()).max(1);
        let at = start_of(&span, width);
        let Some(original) = self.anchors.get(&anchor) else {
            self.sink.error(at, "this alias stands inside of what it repeats", None);
            return Err(Stop);
        };
        let (count, height) = measure(original);
        self.check_depth(height, at)?;
        // Counted before it is copied, so that a bomb costs nothing.
        self.spend(count, at)?;
        let Some(copy) = self.anchors.get(&anchor).cloned() else {
            return Err(Stop);
        };
        self.place(copy);
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<(), Stop> {
        let at = match &frame {
            Frame::List { at, .. } | Frame::Map { at, .. } => *at,
        };
        self.check_depth(1, at)?;
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        match self.stack.pop() {
            Some(Frame::List { at, anchor, items }) => {
                let kind = Kind::List(items);
                self.add(Node { at, kind }, anchor)
            }
            Some(Frame::Map { at, anchor, pairs, .. }) => {
                let kind = Kind::Map(self.entries(pairs));
                self.add(Node { at, kind }, anchor)
            }
            None => Err(Stop),
        }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.spend(1, node.at)?;
        if anchor > 0 {
            let (count, _) = measure(&node);
            self.spend(count, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node);
        Ok(())
    }

    fn place(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { pairs, key, .. }) => match key.take() {
                None => *key = Some(node),
                Some(first) => pairs.push((first, node)),
            },
        }
    }

    fn spend(&mut self, count: usize, at: Position) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(count);
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        self.sink.error(
            at,
            &format!("the file has more than {NODES_MAX} values, counting what aliases repeat"),
            Some("split it, or repeat less with aliases".to_owned()),
        );
        Err(Stop)
    }

    fn check_depth(&mut self, more: usize, at: Position) -> Result<(), Stop> {
        if self.stack.len() + more <= DEPTH_MAX {
            return Ok(());
        }
        let message = format!("nested deeper than {DEPTH_MAX} levels");
        self.sink.error(at, &message, None);
        Err(Stop)
    }

    /// Keys that are text and stand once; merged ones go behind the own ones.
    fn entries(&mut self, pairs: Vec<(Node, Node)>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
        let mut seen: HashMap<String, Position> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        for (key, value) in pairs {
            let Kind::Scalar { text, plain } = key.kind else {
                self.sink.error(key.at, "a key must be text", Some("write `key: value`".to_owned()));
                continue;
            };
            if plain && text == "<<" {
                merged.push(value);
                continue;
            }
            if let Some(first) = seen.get(&text) {
                let message = format!("duplicate key {}", quoted(&text));
                let hint = format!("it stands already in {}:{}", first.line, first.column);
                self.sink.error(key.at, &message, Some(hint));
                continue;
            }
            seen.insert(text.clone(), key.at);
            entries.push(Entry { key: text, key_at: key.at, key_plain: plain, value });
        }
        let mut known: HashSet<String> = seen.into_keys().collect();
        for node in merged {
            self.merge(node, &mut known, &mut entries);
        }
        entries
    }

    fn merge(&mut self, node: Node, known: &mut HashSet<String>, entries: &mut Vec<Entry>) {
        let at = node.at;
        let parts = match node.kind {
            Kind::List(items) => items,
            kind => vec![Node { at, kind }],
        };
        for part in parts {
            let Kind::Map(additions) = part.kind else {
                self.sink.error(
                    part.at,
                    "`<<` takes a table or a list of tables",
                    Some("write `<<: *name`, with `&name` before the table".to_owned()),
                );
                continue;
            };
            for entry in additions {
                if known.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
    }

    /// Where YAML takes a tab for indentation, people see something else.
    fn check_tabs(&mut self, span: &Span) {
        let line = as_u32(span.start.line());
        if line == self.line_checked {
            return;
        }
        self.line_checked = line;
        crate::syntax::report_tab(self.sink, line);
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        let Some(tag) = tag else { return };
        let core = ["str", "int", "bool", "float", "null", "map", "seq"];
        if tag.is_yaml_core_schema() && core.contains(&tag.suffix.as_str()) {
            return;
        }
        self.sink.error(
            start_of(span, 1),
            "tags such as `!name` have no meaning here",
            Some("remove the tag".to_owned()),
        );
    }

    /// How much of the line a scalar takes; a bare one is as long as its text.
    fn scalar_place(&self, span: &Span, bare: Option<&str>) -> Position {
        let start = span.start.col();
        let same_line = span.start.line() == span.end.line();
        let length = match bare {
            Some(text) if same_line => text.chars().count(),
            _ if same_line => span.end.col().saturating_sub(start),
            _ => {
                let line = self.sink.source().line(as_u32(span.start.line()));
                line.trim_end().chars().count().saturating_sub(start)
            }
        };
        start_of(span, length.max(1))
    }

    fn expression_at(&self, span: &Span) -> Position {
        let first = as_u32(span.start.line());
        let last = as_u32(span.end.line());
        for number in first..=last {
            let line = self.sink.source().line(number);
            let skipped = if number == first { span.start.col() } else { 0 };
            let from = line.char_indices().nth(skipped).map_or(line.len(), |(index, _)| index);
            let Some(found) = line[from..].find("${{") else {
                continue;
            };
            let tail = &line[from + found..];
            let end = tail.find("}}").map_or(tail.len(), |end| end + 2);
            return Position {
                line: number,
                column: as_u32(line[..from + found].chars().count() + 1),
                length: as_u32(tail[..end].chars().count()),
            };
        }
        start_of(span, 1)
    }
}

/// How many values this one has, itself included, and how deep it nests.
/// Recursion is bounded: nothing deeper than the limit is ever built.
fn measure(node: &Node) -> (usize, usize) {
    let mut count = 1;
    let mut height = 0;
    let mut visit = |child: &Node| {
        let (inner_count, inner_height) = measure(child);
        count += inner_count;
        height = height.max(inner_height);
    };
    match &node.kind {
        Kind::Null | Kind::Scalar { .. } => return (1, 0),
        Kind::List(items) => items.iter().for_each(&mut visit),
        Kind::Map(entries) => entries.iter().for_each(|entry| visit(&entry.value)),
    }
    (count, height + 1)
}

/// The words of the YAML 1.2 core schema for nothing.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn start_of(span: &Span, length: usize) -> Position {
    marked(&span.start, length)
}

fn error_place(error: &ScanError) -> Position {
    marked(error.marker(), 1)
}

fn marked(marker: &Marker, length: usize) -> Position {
    Position { line: as_u32(marker.line().max(1)), column: as_u32(marker.col() + 1), length: as_u32(length) }
}
