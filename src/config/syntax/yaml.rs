//! YAML text as a small tree in which every value knows its place.
//!
//! This is the one file that knows the YAML crate; it uses the event parser beneath its serde front, because
//! that yields places and the way a scalar is written. Scalars stay text: the field that reads one decides
//! what it is, so a version named `1.10` is not the number 1.1 and a weight never passes through a float.
//!
//! Invariant: work and memory are bounded before they are spent: nesting by [`MAX_DEPTH`], values by [`MAX_NODES`] and by
//! the size of the text that they come from, and everything that anchors and aliases copy by [`MAX_COPIED`].

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{self as parser, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::{Place, Problem, counted};
use super::tree::{Key, Node, Scalar, TreeSize, Value};
use crate::coop::in_pieces;

/// How deep values may nest. The file's own shape needs 8.
pub(crate) const MAX_DEPTH: usize = 32;

/// How many values a file may have, expanded aliases included; 200,000 routes have about 2,000,000.
pub(crate) const MAX_NODES: usize = 4_000_000;

/// Bytes that anchors and aliases may copy. A few kilobytes with a thousand aliases of a thousand aliases would else
/// become gigabytes; 10,000 routes or services that each repeat a dozen values take a third of this.
pub(crate) const MAX_COPIED: usize = 32 << 20;

/// Bytes of the tree for each byte of the file, and how many it may always have. A route takes about 8 for each byte of its
/// text; a file of `[a,a,a,…` would take 40, and of `{a,a,a,…` 60.
const TREE_PER_BYTE: usize = 16;
const TREE_ALWAYS: usize = 1 << 20;

/// The one document in `source`.
///
/// # Errors
/// The first fault of the syntax: what follows it cannot be understood.
pub(crate) fn parse(source: &str) -> Result<Node<'_>, Box<Problem>> {
    let mut tree = Builder::default();
    build(source, &mut tree)?;
    Ok(tree.root.unwrap_or(Node { place: Place::START, value: Value::Null }))
}

/// All documents in `source`, in order; the bounds hold for all of them together.
///
/// # Errors
/// The first fault of the syntax.
pub(crate) fn parse_all(source: &str) -> Result<Vec<Node<'_>>, Box<Problem>> {
    let mut tree = Builder { several: true, ..Builder::default() };
    build(source, &mut tree)?;
    Ok(tree.finished.into_iter().chain(tree.root).collect())
}

fn build<'s>(source: &'s str, tree: &mut Builder<'s>) -> Result<(), Box<Problem>> {
    tree.room = TREE_ALWAYS.saturating_add(source.len().saturating_mul(TREE_PER_BYTE));
    let options = parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    for event in in_pieces(Parser::<StrInput<'_>>::new_from_str_with_options(source, options)) {
        let (event, span) = event.map_err(|error| Box::new(syntax(source, &error)))?;
        tree.take(event, place(span))?;
    }
    Ok(())
}

/// Where a span of the YAML crate is. It may end on a later line; then the first line is marked to its end.
fn place(span: Span) -> Place {
    let width = if span.end.line() == span.start.line() {
        span.end.col().saturating_sub(span.start.col()).max(1)
    } else {
        usize::MAX
    };
    Place { line: counted(span.start.line()), column: counted(span.start.col() + 1), width: counted(width) }
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
struct OpenCollection<'s> {
    place: Place,
    anchor: usize,
    kind: Collection<'s>,
}

/// What an [`OpenCollection`] collects.
enum Collection<'s> {
    List(Vec<Node<'s>>),
    /// With the key whose value comes next.
    Map(Vec<(Key<'s>, Node<'s>)>, Option<Key<'s>>),
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Builder<'s> {
    root: Option<Node<'s>>,
    open: Vec<OpenCollection<'s>>,
    /// Finished values that an alias may name.
    anchors: HashMap<usize, (Node<'s>, TreeSize)>,
    nodes: usize,
    /// Bytes that the tree may still take without copies.
    room: usize,
    /// Bytes that were copied.
    copied: usize,
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
                self.begin(OpenCollection { place, anchor, kind: Collection::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.begin(OpenCollection { place, anchor, kind: Collection::Map(Vec::new(), None) })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(OpenCollection { place, anchor, kind: Collection::List(items) }) => {
                    self.finish(Node { place, value: Value::List(items) }, anchor)
                }
                Some(OpenCollection { place, anchor, kind: Collection::Map(entries, _) }) => {
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
        if let Some(OpenCollection { kind: Collection::Map(_, key @ None), .. }) = self.open.last_mut() {
            let owned = if matches!(text, Cow::Owned(_)) { text.len() } else { 0 };
            *key = Some(Key { place, text });
            return self.fill(size_of::<Key<'_>>() + owned, place);
        }
        let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        let value = if null { Value::Null } else { Value::Text(Scalar { text, written: None }) };
        self.finish(Node { place, value }, anchor)
    }

    fn begin(&mut self, open: OpenCollection<'s>) -> Result<(), Box<Problem>> {
        if let Some(OpenCollection { kind: Collection::Map(_, None), .. }) = self.open.last() {
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
        self.count(1, node.place)?;
        let text = if let Value::Text(Scalar { text: Cow::Owned(text), .. }) = &node.value { text.len() } else { 0 };
        self.fill(size_of::<Node<'_>>() + text, node.place)?;
        if anchor > 0 {
            let measure = node.measure();
            self.copy(&measure, node.place)?;
            self.anchors.insert(anchor, (node.clone(), measure));
        }
        self.put(node);
        Ok(())
    }

    fn put(&mut self, node: Node<'s>) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(OpenCollection { kind: Collection::List(items), .. }) => items.push(node),
            Some(OpenCollection { kind: Collection::Map(entries, key), .. }) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Box<Problem>> {
        if let Some(OpenCollection { kind: Collection::Map(_, None), .. }) = self.open.last() {
            return Err(Problem::new(place, "an alias cannot be a field's name")
                .help("a name that begins with `*` needs quotes")
                .into());
        }
        let Some((_, measure)) = self.anchors.get(&anchor) else {
            return Err(Problem::new(place, "an alias stands inside the value that it repeats")
                .help("an anchor can be used only after its value has ended")
                .into());
        };
        let measure = *measure;
        if self.open.len() + measure.depth > MAX_DEPTH {
            return Err(Problem::new(place, format!("values nest deeper than {MAX_DEPTH} levels"))
                .help("an alias repeats a value that is itself deep: write out what is needed")
                .into());
        }
        self.copy(&measure, place)?;
        if let Some((node, _)) = self.anchors.get(&anchor) {
            self.put(node.clone());
        }
        Ok(())
    }

    /// Counts a copy before it is made.
    fn copy(&mut self, measure: &TreeSize, place: Place) -> Result<(), Box<Problem>> {
        self.copied = self.copied.saturating_add(measure.bytes);
        if self.copied > MAX_COPIED {
            let message =
                format!("the file has more than {} MiB of repeated values, aliases included", MAX_COPIED >> 20);
            return Err(Problem::new(place, message)
                .help("use fewer aliases, or give the anchor to a smaller value: each alias repeats all that is in it")
                .into());
        }
        self.count(measure.nodes, place)
    }

    /// Counts what the tree takes besides copies.
    fn fill(&mut self, bytes: usize, place: Place) -> Result<(), Box<Problem>> {
        self.room = self.room.checked_sub(bytes).ok_or_else(|| {
            Problem::new(place, "the file has more values than a file of its size can mean")
                .help("is this the configuration file? Its values have names and more than a letter each")
        })?;
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Box<Problem>> {
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

#[cfg(test)]
mod tests;
