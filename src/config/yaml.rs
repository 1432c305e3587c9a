//! YAML text as a small tree in which every value knows its place.
//!
//! This is the one file that knows the YAML crate; it uses the event parser beneath its serde front, because
//! that yields places and the way a scalar is written. Scalars stay text: the field that reads one decides
//! what it is, so a version named `1.10` is not the number 1.1 and a weight never passes through a float.
//!
//! Invariant: work and memory are bounded before they are spent: nesting by [`MAX_DEPTH`], the tree with all
//! its aliases expanded by [`MAX_NODES`].

use std::borrow::Cow;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{self as parser, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::{Place, Problem};
use crate::pace::{discard, paced};

/// How deep values may nest. The file's own shape needs 8.
pub(super) const MAX_DEPTH: usize = 32;

/// How many values a file may have, expanded aliases included; 200,000 routes have about 2,000,000.
pub(super) const MAX_NODES: usize = 4_000_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node<'s> {
    pub(super) place: Place,
    pub(super) value: Value<'s>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value<'s> {
    /// Nothing: `key:` with nothing behind it, `null` or `~`.
    Null,
    /// Any other scalar.
    Text(Text<'s>),
    /// A sequence.
    List(Vec<Node<'s>>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key<'s>, Node<'s>)>),
    /// A value that could not be made; whoever reads it reports why.
    Broken(Box<Problem>),
}

/// A scalar.
#[derive(Clone, Debug)]
pub(super) struct Text<'s> {
    /// What it says, after substitution.
    pub(super) text: Cow<'s, str>,
    /// What the file says, if substitution made it something else.
    pub(super) written: Option<Cow<'s, str>>,
}

/// The name of a field.
#[derive(Clone, Debug)]
pub(super) struct Key<'s> {
    pub(super) place: Place,
    pub(super) text: Cow<'s, str>,
}

impl<'s> Node<'s> {
    /// What kind of value it is, for a person.
    pub(super) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "fields",
            Value::Broken(_) => "a faulty value",
        }
    }

    /// The field of that name, if this has fields and it is there.
    pub(super) fn field(&self, name: &str) -> Option<&(Key<'s>, Self)> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name),
            _ => None,
        }
    }

    /// Drops this in pieces, where it is the whole of a large file.
    pub(super) fn discard(self) {
        let Value::Map(sections) = self.value else { return };
        for (_, section) in sections {
            match section.value {
                Value::List(items) => discard(items),
                Value::Map(fields) => discard(fields),
                Value::Null | Value::Text(_) | Value::Broken(_) => {}
            }
        }
    }

    /// How many values this is, itself included. Shallower than [`MAX_DEPTH`].
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum::<usize>(),
            Value::Null | Value::Text(_) | Value::Broken(_) => 0,
        }
    }
}

/// The one document in `source`.
///
/// # Errors
/// The first fault of the syntax: what follows it cannot be understood.
pub(super) fn parse(source: &str) -> Result<Node<'_>, Box<Problem>> {
    let tree = build(source, Builder::default())?;
    Ok(tree.root.unwrap_or(Node { place: Place::START, value: Value::Null }))
}

/// All documents in `source`, in order; the bounds hold for all of them together.
///
/// # Errors
/// The first fault of the syntax.
pub(super) fn parse_all(source: &str) -> Result<Vec<Node<'_>>, Box<Problem>> {
    let tree = build(source, Builder { several: true, ..Builder::default() })?;
    Ok(tree.finished.into_iter().chain(tree.root).collect())
}

fn build<'s>(source: &'s str, mut tree: Builder<'s>) -> Result<Builder<'s>, Box<Problem>> {
    let options = parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    for event in paced(Parser::<StrInput<'_>>::new_from_str_with_options(source, options)) {
        let (event, span) = event.map_err(|error| Box::new(syntax(source, &error)))?;
        tree.take(event, place(span))?;
    }
    Ok(tree)
}

/// Where a span of the YAML crate is. It may end on a later line; then the first line is marked to its end.
fn place(span: Span) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let width = if span.end.line() == span.start.line() {
        span.end.col().saturating_sub(span.start.col()).max(1)
    } else {
        usize::MAX
    };
    Place { line: number(span.start.line()), column: number(span.start.col() + 1), width: number(width) }
}

/// A fault of the syntax.
fn syntax(source: &str, error: &ScanError) -> Problem {
    let at = error.marker();
    let problem = Problem::new(place(Span::empty(*at)), format!("not valid YAML: {}", error.info()));
    let line = source.lines().nth(at.line().saturating_sub(1)).unwrap_or_default();
    let first = line.chars().nth(at.col()).unwrap_or_default();
    let unclosed = problem.says("unclosed") || problem.says("end of stream") || problem.says("EOF");
    if line.contains("${") {
        problem.help("between `{ }` and `[ ]`, put quotes around a value with `${…}` in it")
    } else if unclosed {
        problem.help("close it; if its end was never there, the file was not saved whole")
    } else if line.contains('\t') {
        problem.help("indent with spaces; YAML does not take tabs")
    } else if first == '*' {
        problem.help("a value that begins with `*` needs quotes: \"*.example.com\"")
    } else if matches!(first, '%' | '@' | '`' | '&' | '!') {
        problem.help(format!("a value that begins with `{first}` needs quotes"))
    } else {
        problem.help("fields of one mapping begin in one column; check also the blank after `:` and the quotes")
    }
}

/// A list or mapping whose end has not come yet.
struct Open<'s> {
    place: Place,
    anchor: usize,
    kind: Kind<'s>,
}

/// What an [`Open`] collects.
enum Kind<'s> {
    List(Vec<Node<'s>>),
    /// With the key whose value comes next.
    Map(Vec<(Key<'s>, Node<'s>)>, Option<Key<'s>>),
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Builder<'s> {
    root: Option<Node<'s>>,
    open: Vec<Open<'s>>,
    /// Finished values that an alias may name.
    anchors: HashMap<usize, Node<'s>>,
    nodes: usize,
    documents: usize,
    /// More than one document is allowed.
    several: bool,
    /// The documents before the one that is being read.
    finished: Vec<Node<'s>>,
}

impl<'s> Builder<'s> {
    fn take(&mut self, event: Event<'s>, place: Place) -> Result<(), Box<Problem>> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                self.finished.extend(self.root.take());
                if self.documents > 1 && !self.several {
                    return Err(Problem::new(place, "a second document begins here")
                        .help("the file is one document: remove the `---` and what does not belong to it")
                        .into());
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.scalar(text, style, anchor, place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.begin(Open { place, anchor, kind: Kind::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.begin(Open { place, anchor, kind: Kind::Map(Vec::new(), None) })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { place, anchor, kind: Kind::List(items) }) => {
                    self.finish(Node { place, value: Value::List(items) }, anchor)
                }
                Some(Open { place, anchor, kind: Kind::Map(entries, _) }) => {
                    self.finish(Node { place, value: Value::Map(entries) }, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, place),
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'s, str>,
        style: ScalarStyle,
        anchor: usize,
        place: Place,
    ) -> Result<(), Box<Problem>> {
        if let Some(Open { kind: Kind::Map(_, key @ None), .. }) = self.open.last_mut() {
            *key = Some(Key { place, text });
            return Ok(());
        }
        let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        let value = if null { Value::Null } else { Value::Text(Text { text, written: None }) };
        self.finish(Node { place, value }, anchor)
    }

    fn begin(&mut self, open: Open<'s>) -> Result<(), Box<Problem>> {
        if let Some(Open { kind: Kind::Map(_, None), .. }) = self.open.last() {
            return Err(Problem::new(open.place, "a field's name is a list or has fields of its own")
                .help("a value with braces or brackets in it needs quotes")
                .into());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::new(open.place, format!("values nest deeper than {MAX_DEPTH} levels"))
                .help("nothing in this file needs that: check the indentation and the brackets")
                .into());
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node<'s>, anchor: usize) -> Result<(), Box<Problem>> {
        self.spend(1, node.place)?;
        if anchor > 0 {
            self.spend(node.size(), node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node);
        Ok(())
    }

    fn put(&mut self, node: Node<'s>) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { kind: Kind::List(items), .. }) => items.push(node),
            Some(Open { kind: Kind::Map(entries, key), .. }) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Box<Problem>> {
        if let Some(Open { kind: Kind::Map(_, None), .. }) = self.open.last() {
            return Err(Problem::new(place, "an alias cannot be a field's name")
                .help("a name that begins with `*` needs quotes")
                .into());
        }
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::new(place, "an alias stands inside the value that it repeats")
                .help("an anchor can be used only after its value has ended")
                .into());
        };
        let size = node.size();
        let depth = self.open.len() + depth(node);
        if depth > MAX_DEPTH {
            return Err(Problem::new(place, format!("values nest deeper than {MAX_DEPTH} levels"))
                .help("an alias repeats a value that is itself deep: write out what is needed")
                .into());
        }
        let node = node.clone();
        self.spend(size, place)?;
        self.put(node);
        Ok(())
    }

    fn spend(&mut self, nodes: usize, place: Place) -> Result<(), Box<Problem>> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Problem::new(place, format!("the file has more than {MAX_NODES} values, aliases included"))
                .help("use fewer aliases, or split the configuration between several processes")
                .into());
        }
        Ok(())
    }
}

fn no_tag(tagged: bool, place: Place) -> Result<(), Box<Problem>> {
    if tagged {
        return Err(Problem::new(place, "a YAML tag (`!…`) has no meaning here")
            .help("remove the tag; a text that begins with `!` needs quotes")
            .into());
    }
    Ok(())
}

fn depth(node: &Node<'_>) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
        Value::Null | Value::Text(_) | Value::Broken(_) => 0,
    }
}
