//! Other programs' YAML files, read with the same care as Weir's own: bounded, and every value knows its place.
//!
//! Nothing is substituted in them and nothing is known of what they mean; that is for who imports them. Merge keys
//! (`<<: *name`) are followed, as Kubernetes' tools do. Each value remembers whether it was read, so that who imports can
//! name what was not.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

use super::load;
use super::syntax::diagnostic::{Diagnostics, printable_name};
use super::syntax::problem::Problem;
use super::syntax::tree::{Key, Node, Value};
use super::syntax::yaml;

/// A value of another program's file.
#[derive(Debug)]
pub(crate) struct ImportedValue {
    /// The line on which it begins, from 1.
    pub(crate) line: u32,
    way: Rc<Way>,
    kind: Kind,
    /// It was read or named. Of a list or mapping it counts only when that is empty.
    seen: Cell<bool>,
}

#[derive(Debug)]
enum Kind {
    Null,
    Text(String),
    List(Vec<ImportedValue>),
    Map(Vec<(String, ImportedValue)>),
}

/// How one gets to a value: each step knows the one before, so that a path is made only where it is shown.
#[derive(Debug)]
struct Way {
    before: Option<Rc<Self>>,
    step: WayStep,
}

#[derive(Debug)]
enum WayStep {
    /// A document of the file with this name.
    Document(Rc<str>),
    Field(String),
    Item(usize),
}

impl ImportedValue {
    /// The field of that name, if this has fields, it is there and it has a value.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, value)| key == name && !value.is_null()).map(|(_, value)| value)
    }

    /// What the single value says, as it is written; a number or a truth value is not told from a text. It counts as read.
    #[must_use]
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => {
                self.seen.set(true);
                Some(text)
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The items, if it is a list.
    #[must_use]
    pub(crate) fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(items) => {
                self.seen.set(true);
                Some(items)
            }
            Kind::Null | Kind::Text(_) | Kind::Map(_) => None,
        }
    }

    /// The fields, in the order of the file; none if it has no fields.
    #[must_use]
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match &self.kind {
            Kind::Map(entries) => {
                self.seen.set(true);
                entries
            }
            Kind::Null | Kind::Text(_) | Kind::List(_) => &[],
        }
    }

    /// Whether there is nothing: `key:` without a value, or `null`.
    #[must_use]
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The name of the file that it stands in.
    #[must_use]
    pub(crate) fn file(&self) -> &str {
        let mut way = &self.way;
        loop {
            match (&way.step, &way.before) {
                (WayStep::Document(file), _) => return file,
                (_, Some(before)) => way = before,
                (_, None) => return "",
            }
        }
    }

    /// How one gets to it, such as `spec.analysis.metrics[0].name`; empty for a whole document. Printable.
    #[must_use]
    pub(crate) fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut way = Some(&self.way);
        while let Some(Way { before, step }) = way.map(Rc::as_ref) {
            steps.push(step);
            way = before.as_ref();
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                WayStep::Document(_) => {}
                WayStep::Field(name) if path.is_empty() => path = printable_name(name),
                WayStep::Field(name) => path.extend([".", &printable_name(name)]),
                WayStep::Item(at) => {
                    let _ = write!(path, "[{at}]");
                }
            }
        }
        path
    }

    /// Counts it, and all that is in it, as named.
    pub(crate) fn name_all(&self) {
        self.seen.set(true);
        match &self.kind {
            Kind::Null | Kind::Text(_) => {}
            Kind::List(items) => items.iter().for_each(Self::name_all),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| value.name_all()),
        }
    }

    /// What is in it of which nothing was read or named: the outermost values, in the order of the file.
    #[must_use]
    pub(crate) fn unseen(&self) -> Vec<&Self> {
        let mut found = Vec::new();
        if self.collect_unseen(&mut found) { vec![self] } else { found }
    }

    /// Adds what was not seen in it to `found`; if that is all of it, nothing is added and the answer is true. Recursion is
    /// bounded by the depth of the tree.
    fn collect_unseen<'f>(&'f self, found: &mut Vec<&'f Self>) -> bool {
        let inner: Vec<&Self> = match &self.kind {
            // Nothing is said by it.
            Kind::Null => return false,
            Kind::Text(_) => return !self.seen.get(),
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        };
        if inner.is_empty() {
            return !self.seen.get();
        }
        let before = found.len();
        let mut all = true;
        for value in inner {
            if value.collect_unseen(found) {
                found.push(value);
            } else {
                // A field without a value does not keep its neighbours from being named together.
                all &= value.is_null();
            }
        }
        all &= found.len() > before;
        if all {
            found.truncate(before);
        }
        all
    }

    /// Recursion is bounded by the depth of the tree.
    fn of(node: &Node<'_>, way: Rc<Way>) -> Result<Self, Box<Problem>> {
        let kind = match &node.value {
            Value::Null | Value::Broken(_) => Kind::Null,
            Value::Text(text) => Kind::Text(text.text.clone().into_owned()),
            Value::List(items) => {
                let item = |(at, node)| Self::of(node, below(&way, WayStep::Item(at)));
                Kind::List(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
            }
            Value::Map(entries) => {
                let mut fields = Fields::default();
                fields.add(entries, true)?;
                let field = |(name, node): (&str, &Node<'_>)| {
                    let value = Self::of(node, below(&way, WayStep::Field(name.to_owned())))?;
                    Ok((name.to_owned(), value))
                };
                Kind::Map(fields.list.into_iter().map(field).collect::<Result<_, Box<Problem>>>()?)
            }
        };
        Ok(Self { line: node.place.line, way, kind, seen: Cell::new(false) })
    }
}

#[cfg(test)]
impl ImportedValue {
    /// A copy of which nothing was read, with the texts that `alter` gives in place of its own.
    pub(crate) fn altered(&self, alter: &mut dyn FnMut(&Self, &str) -> Option<String>) -> Self {
        let kind = match &self.kind {
            Kind::Null => Kind::Null,
            Kind::Text(text) => Kind::Text(alter(self, text).unwrap_or_else(|| text.clone())),
            Kind::List(items) => Kind::List(items.iter().map(|item| item.altered(alter)).collect()),
            Kind::Map(entries) => {
                Kind::Map(entries.iter().map(|(name, value)| (name.clone(), value.altered(alter))).collect())
            }
        };
        Self { line: self.line, way: Rc::clone(&self.way), kind, seen: Cell::new(false) }
    }
}

fn below(way: &Rc<Way>, step: WayStep) -> Rc<Way> {
    Rc::new(Way { before: Some(Rc::clone(way)), step })
}

/// The fields of a mapping: its own before those that it merges, and each name once.
#[derive(Default)]
struct Fields<'n> {
    list: Vec<(&'n str, &'n Node<'n>)>,
    /// Names, with the lines on which they stand.
    known: HashMap<&'n str, u32>,
}

impl<'n> Fields<'n> {
    /// Recursion is bounded by the depth of the tree. `own`: it is the mapping itself, so no name may stand twice.
    fn add(&mut self, entries: &'n [(Key<'n>, Node<'n>)], own: bool) -> Result<(), Box<Problem>> {
        for (key, node) in entries.iter().filter(|(key, _)| key.text != "<<") {
            match self.known.get(&*key.text) {
                None => {
                    self.known.insert(&key.text, key.place.line);
                    self.list.push((&key.text, node));
                }
                Some(line) if own => {
                    let message = format!("`{}` stands twice, first on line {line}", printable_name(&key.text));
                    return Err(Problem::new(key.place, message).help("remove one").into());
                }
                Some(_) => {}
            }
        }
        for (key, node) in entries.iter().filter(|(key, _)| key.text == "<<") {
            match &node.value {
                Value::Map(merged) => self.add(merged, false)?,
                Value::List(several) => {
                    for node in several {
                        let Value::Map(merged) = &node.value else { return Err(not_merged(key)) };
                        self.add(merged, false)?;
                    }
                }
                Value::Null | Value::Text(_) | Value::Broken(_) => return Err(not_merged(key)),
            }
        }
        Ok(())
    }
}

fn not_merged(key: &Key<'_>) -> Box<Problem> {
    let problem = Problem::new(key.place, "a merge key without fields to merge");
    problem.help("`<<` takes an alias of fields, `<<: *name`, or a list of such").into()
}

/// The documents of another program's file, in order, empty ones left out. `file` is named in diagnostics.
///
/// # Errors
/// What is wrong with its YAML, or that it is too large.
pub(crate) fn import_documents(file: &str, content: &[u8]) -> Result<Vec<ImportedValue>, Diagnostics> {
    let source = load::decode(file, content)?;
    let nodes = yaml::parse_all(source).map_err(|fault| fault.alone(file, source))?;
    let name: Rc<str> = file.into();
    let document = |node: &Node<'_>| {
        let way = Rc::new(Way { before: None, step: WayStep::Document(Rc::clone(&name)) });
        ImportedValue::of(node, way)
    };
    let documents: Result<Vec<_>, _> = nodes.iter().map(document).collect();
    let mut documents = documents.map_err(|fault| fault.alone(file, source))?;
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(yaml: &str) -> Vec<ImportedValue> {
        import_documents("x", yaml.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn documents_are_told_apart_and_keep_their_lines() {
        let documents = documents("---\na: 1\n---\n\n---\nb:\n  - c: ${D}\n    e:\n");
        let [first, second] = documents.as_slice() else { panic!("{documents:?}") };
        assert_eq!(first.get("a").and_then(ImportedValue::text), Some("1"));
        let items = second.get("b").and_then(ImportedValue::items).unwrap();
        let inner = items[0].get("c").unwrap();
        assert_eq!((inner.text(), inner.line, inner.path().as_str()), (Some("${D}"), 7, "b[0].c"));
        assert!(items[0].get("e").is_none());
        assert_eq!((inner.file(), second.path().as_str()), ("x", ""));
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let faults = import_documents("x", b"a: 1\n---\nb: [\n").unwrap_err();
        assert!(faults.iter().all(|fault| fault.line >= 3), "{faults}");
    }

    #[test]
    fn merge_keys_add_what_is_not_there() {
        let documents = documents(
            "base: &base { a: 1, b: 2 }\nmore: &more { <<: *base, b: 3, c: 4 }\none: { <<: *base, a: 5 }\n\
             two: { <<: [{ d: 6 }, *more], c: 7 }\n",
        );
        let of = |name: &str| -> Vec<(String, String)> {
            let fields = documents[0].get(name).unwrap().entries().iter();
            fields.map(|(name, value)| (name.clone(), value.text().unwrap().to_owned())).collect()
        };
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        assert_eq!(of("one"), pairs(&[("a", "5"), ("b", "2")]));
        assert_eq!(of("two"), pairs(&[("c", "7"), ("d", "6"), ("b", "3"), ("a", "1")]));
    }

    #[test]
    fn what_stands_twice_or_merges_nothing_is_refused() {
        for (yaml, expected) in [
            ("a: 1\nb: 2\na: 3\n", "x:3:1"),
            ("a: { <<: 5 }\n", "a merge key without fields to merge"),
            ("a: { <<: [{ b: 1 }, 5] }\n", "a merge key without fields to merge"),
        ] {
            let faults = import_documents("x", yaml.as_bytes()).unwrap_err().to_string();
            assert!(faults.contains(expected), "{faults}");
        }
    }

    #[test]
    fn what_was_not_read_is_known_by_its_outermost_value() {
        let documents = documents("a: { b: 1, c: { d: 2, e: [3, 4] }, n: }\nf: { g: 5, h: }\ni: []\nj: {}\n");
        let root = &documents[0];
        assert_eq!(root.unseen().iter().map(|value| value.path()).collect::<Vec<_>>(), [""]);
        let c = root.get("a").and_then(|a| a.get("c")).unwrap();
        assert_eq!(c.get("d").and_then(ImportedValue::text), Some("2"));
        let paths = |root: &ImportedValue| root.unseen().iter().map(|value| value.path()).collect::<Vec<_>>();
        assert_eq!(paths(root), ["a.b", "a.c.e", "f", "i", "j"]);
        root.get("f").unwrap().name_all();
        assert!(root.get("i").and_then(ImportedValue::items).is_some_and(<[_]>::is_empty));
        assert_eq!(paths(root), ["a.b", "a.c.e", "j"]);
    }
}
