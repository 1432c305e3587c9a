//! Other programs' YAML files, read with the same care as Weir's own: bounded, and every value knows its line.
//!
//! Nothing is substituted in them and nothing is known of what they mean; that is for who imports them.

use super::load;
use super::syntax::diagnostic::Diagnostics;
use super::syntax::tree::{Key, Node, Value};
use super::syntax::yaml;

/// A value of another program's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedValue {
    /// The line on which it begins, from 1.
    pub(crate) line: u32,
    value: ImportedKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ImportedKind {
    Null,
    Text(String),
    List(Vec<ImportedValue>),
    Map(Vec<(String, ImportedValue)>),
}

impl ImportedValue {
    /// The field of that name, if this has fields, it is there and it has a value.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, value)| key == name && !value.is_null()).map(|(_, value)| value)
    }

    /// What the single value says, as it is written; a number or a truth value is not told from a text.
    #[must_use]
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            ImportedKind::Text(text) => Some(text),
            ImportedKind::Null | ImportedKind::List(_) | ImportedKind::Map(_) => None,
        }
    }

    /// The items, if it is a list.
    #[must_use]
    pub(crate) fn items(&self) -> Option<&[Self]> {
        match &self.value {
            ImportedKind::List(items) => Some(items),
            ImportedKind::Null | ImportedKind::Text(_) | ImportedKind::Map(_) => None,
        }
    }

    /// The fields, in the order of the file; none if it has no fields.
    #[must_use]
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            ImportedKind::Map(entries) => entries,
            ImportedKind::Null | ImportedKind::Text(_) | ImportedKind::List(_) => &[],
        }
    }

    /// Whether there is nothing: `key:` without a value, or `null`.
    #[must_use]
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.value, ImportedKind::Null)
    }

    /// Recursion is bounded by the depth of the tree.
    fn of(node: &Node<'_>) -> Self {
        let value = match &node.value {
            Value::Null | Value::Broken(_) => ImportedKind::Null,
            Value::Text(text) => ImportedKind::Text(text.text.clone().into_owned()),
            Value::List(items) => ImportedKind::List(items.iter().map(Self::of).collect()),
            Value::Map(entries) => {
                let entry = |(key, node): &(Key<'_>, Node<'_>)| (key.text.clone().into_owned(), Self::of(node));
                ImportedKind::Map(entries.iter().map(entry).collect())
            }
        };
        Self { line: node.place.line, value }
    }
}

/// The documents of another program's file, in order, empty ones left out. `file` is named in diagnostics.
///
/// # Errors
/// What is wrong with its YAML, or that it is too large.
pub(crate) fn import_documents(file: &str, content: &[u8]) -> Result<Vec<ImportedValue>, Diagnostics> {
    let source = load::decode(file, content)?;
    match yaml::parse_all(source) {
        Ok(nodes) => Ok(nodes.iter().map(ImportedValue::of).filter(|document| !document.is_null()).collect()),
        Err(fault) => Err(fault.alone(file, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart_and_keep_their_lines() {
        let documents = import_documents("x", b"---\na: 1\n---\n\n---\nb:\n  - c: ${D}\n    e:\n").unwrap();
        let [first, second] = documents.as_slice() else { panic!("{documents:?}") };
        assert_eq!(first.get("a").and_then(ImportedValue::text), Some("1"));
        let items = second.get("b").and_then(ImportedValue::items).unwrap();
        let inner = items[0].get("c").unwrap();
        assert_eq!((inner.text(), inner.line), (Some("${D}"), 7));
        assert_eq!(items[0].get("e"), None);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let faults = import_documents("x", b"a: 1\n---\nb: [\n").unwrap_err();
        assert!(faults.iter().all(|fault| fault.line >= 3), "{faults}");
    }
}
