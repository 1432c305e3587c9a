//! The file as a small tree in which every value knows its place.
//!
//! Scalars stay text: the field that reads one decides what it is, so a version named `1.10` is not the number 1.1 and a
//! weight never passes through a float.

use std::borrow::Cow;

use super::diagnostic::quoted;
use super::problem::{Place, Problem};
use crate::coop::drop_in_pieces;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node<'s> {
    pub(crate) place: Place,
    pub(crate) value: Value<'s>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Value<'s> {
    /// Nothing: `key:` with nothing behind it, `null` or `~`.
    Null,
    /// Any other scalar.
    Text(Scalar<'s>),
    /// A sequence.
    List(Vec<Node<'s>>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key<'s>, Node<'s>)>),
    /// A value that could not be made; whoever reads it reports why.
    Broken(Box<Problem>),
}

/// A scalar.
#[derive(Clone, Debug)]
pub(crate) struct Scalar<'s> {
    /// What it says, after substitution.
    pub(crate) text: Cow<'s, str>,
    /// What the file says, if substitution made it something else.
    pub(crate) written: Option<Cow<'s, str>>,
}

/// The name of a field.
#[derive(Clone, Debug)]
pub(crate) struct Key<'s> {
    pub(crate) place: Place,
    pub(crate) text: Cow<'s, str>,
}

impl<'s> Node<'s> {
    /// What kind of value it is, for a person.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "fields",
            Value::Broken(_) => "a faulty value",
        }
    }

    /// What this is, as the file writes it, for a person.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => match &text.written {
                Some(written) => format!("{}, after substitution", quoted(written)),
                None if text.text.is_empty() => "an empty text".to_owned(),
                None => quoted(&text.text),
            },
            _ => self.kind().to_owned(),
        }
    }

    /// Whether this has fields of its own, so that it is the long form of something.
    pub(crate) const fn has_fields(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// The field of that name, if this has fields and it is there.
    pub(crate) fn field(&self, name: &str) -> Option<&(Key<'s>, Self)> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name),
            _ => None,
        }
    }

    /// Drops this in pieces, where it is the whole of a large file.
    pub(crate) fn discard(self) {
        let Value::Map(sections) = self.value else { return };
        for (_, section) in sections {
            match section.value {
                Value::List(items) => drop_in_pieces(items),
                Value::Map(fields) => drop_in_pieces(fields),
                Value::Null | Value::Text(_) | Value::Broken(_) => {}
            }
        }
    }

    /// What a copy of this takes, and whatever reads the copy. Texts count in full, for what is read from them is
    /// its own. Shallower than [`MAX_DEPTH`](super::yaml::MAX_DEPTH).
    pub(crate) fn measure(&self) -> TreeSize {
        let mut measure = TreeSize { nodes: 1, bytes: size_of::<Self>(), depth: 0 };
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| measure.hold(&item.measure())),
            Value::Map(entries) => {
                for (key, node) in entries {
                    measure.bytes += size_of::<Key<'_>>() + key.text.len();
                    measure.hold(&node.measure());
                }
            }
            Value::Text(text) => measure.bytes += text.text.len(),
            Value::Null | Value::Broken(_) => {}
        }
        measure.depth += 1;
        measure
    }
}

/// How large a value is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TreeSize {
    pub(crate) nodes: usize,
    pub(crate) bytes: usize,
    pub(crate) depth: usize,
}

impl TreeSize {
    /// Counts a value that is inside of this.
    fn hold(&mut self, inner: &Self) {
        self.nodes += inner.nodes;
        self.bytes += inner.bytes;
        self.depth = self.depth.max(inner.depth);
    }
}
