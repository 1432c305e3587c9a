//! How a type reads itself from the tree: what is wrong is noted with its place, and reading goes on.
//!
//! [`Read::read`] gives `None` when it noted a fault; whatever depends on that value is then skipped, and
//! everything else in the file is still looked at. So one pass finds all faults, and none is a consequence of
//! another.
//!
//! Invariant: `None` means that at least one fault was noted.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::diagnostic::{printable_name, quoted};
use super::map::Map;
use super::problem::{MAX_COMPARISONS, Place, Problem, Problems, nearest};
use super::values::{self, NotAValue};
use super::yaml::{Key, Node, Value};
use crate::coop::in_pieces;
use crate::model::Name;

/// A type that reads itself from the tree.
pub(crate) trait Read: Sized {
    /// The value that `node` is, or `None` with a fault noted.
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self>;
}

/// What required fields look like, for help.
const EXAMPLES: [(&str, &str); 12] = [
    ("version", "1"),
    ("listeners", "[{ name: web, address: 0.0.0.0:8080 }]"),
    ("name", "web"),
    ("address", "127.0.0.1:8080"),
    ("versions", "{ v1: { endpoints: [\"127.0.0.1:8080\"] } }"),
    ("endpoints", "[\"127.0.0.1:8080\"]"),
    ("service", "NAME"),
    ("cert", "tls.crt"),
    ("key", "tls.key"),
    ("weight", "10"),
    ("when", "before_start"),
    ("url", "https://hooks.example.com/weir"),
];

/// After how many faulty fields of one mapping the rest are not looked at: such a mapping is no section of this
/// file at all, and looking each one up among the others is quadratic.
const MAX_FIELD_FAULTS: usize = 64;

/// A step on the way from the root of the tree to a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'n> {
    Field(&'n str),
    Item(usize),
}

/// Where reading is, and the faults found so far.
pub(crate) struct Reader<'n> {
    directory: &'n Path,
    trail: Vec<(Step<'n>, Place)>,
    pub(crate) problems: Problems,
    /// How many names may still be compared to find the nearest one.
    comparisons: usize,
    /// Regular expressions compiled so far; they are the only values that are costly to judge.
    pub(crate) regexes: usize,
}

impl<'n> Reader<'n> {
    pub(crate) fn new(directory: &'n Path) -> Self {
        Self { directory, trail: Vec::new(), problems: Problems::default(), comparisons: MAX_COMPARISONS, regexes: 0 }
    }

    /// Runs `read` one step further on the trail. `place` is where the step itself is written.
    pub(crate) fn below<T>(&mut self, step: Step<'n>, place: Place, read: impl FnOnce(&mut Self) -> T) -> T {
        self.trail.push((step, place));
        let value = read(self);
        self.trail.pop();
        value
    }

    /// Notes a fault of the value that is being read.
    pub(crate) fn note(&mut self, problem: Problem) {
        let path = self.path();
        self.problems.push(problem.path(path));
    }

    /// A path of the file's world, resolved against the file's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// The field that is being read, such as `routes[2].match.host`.
    fn path(&self) -> String {
        let mut path = String::new();
        for (step, _) in &self.trail {
            match step {
                Step::Field(name) if path.is_empty() => path = printable_name(name),
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(&printable_name(name));
                }
                // Writing to a string cannot fail.
                Step::Item(at) => drop(write!(path, "[{at}]")),
            }
        }
        path
    }

    /// The name of the innermost field on the trail, for messages.
    fn subject(&self) -> String {
        let named = self.trail.iter().rev().find_map(|(step, _)| match step {
            Step::Field(name) => Some(quoted(name)),
            Step::Item(_) => None,
        });
        named.unwrap_or_else(|| "the file".to_owned())
    }

    /// Where the value that is being read is named: its key, or its place in a list.
    fn here(&self) -> Place {
        self.trail.last().map_or(Place::START, |(_, place)| *place)
    }

    /// The candidate that `name` was most likely meant to be.
    pub(crate) fn nearest<'a>(&mut self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        nearest(name, candidates, &mut self.comparisons)
    }

    /// Notes that `node` is not what is allowed.
    pub(crate) fn wrong<T>(&mut self, node: &Node<'_>, expected: impl Into<String>, help: Option<&str>) -> Option<T> {
        let mut problem =
            Problem::new(node.place, format!("wrong value for {}", self.subject())).found_node(node).expected(expected);
        if let Some(help) = help {
            problem = problem.help(help);
        }
        self.note(problem);
        None
    }

    /// Notes that `node` is a value of the wrong kind, or why it is broken.
    fn wrong_kind<T>(&mut self, node: &Node<'_>, expected: &str) -> Option<T> {
        match &node.value {
            Value::Broken(problem) => {
                self.note((**problem).clone());
                None
            }
            Value::Null => {
                let problem = Problem::new(self.here(), format!("{} has no value", self.subject()));
                self.note(problem.found("nothing").expected(expected));
                None
            }
            Value::Map(_) if expected.starts_with("a list") => {
                self.wrong(node, expected, Some("begin each item of a list with `- `, or put the list in `[ ]`"))
            }
            _ => self.wrong(node, expected, None),
        }
    }

    /// The text of a single value.
    pub(crate) fn text(&mut self, node: &'n Node<'n>, expected: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(&text.text),
            _ => self.wrong_kind(node, expected),
        }
    }

    /// A value that parses itself from text.
    pub(crate) fn parse<T: FromStr<Err = NotAValue>>(&mut self, node: &'n Node<'n>) -> Option<T> {
        // An empty text is no value of any such type, and its fault says what is expected.
        let wrong_kind = || "".parse::<T>().err().map_or("a single value", |wrong| wrong.expected);
        let text = match &node.value {
            Value::Text(text) => &text.text,
            _ => return self.wrong_kind(node, wrong_kind()),
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(wrong) => self.wrong(node, wrong.expected, wrong.help),
        }
    }

    /// One of a few words.
    pub(crate) fn choose<T: Copy>(&mut self, node: &'n Node<'n>, words: &[(&str, T)]) -> Option<T> {
        let allowed = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let text = self.text(node, &allowed)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let near = self.nearest(text, words.iter().map(|(word, _)| *word));
        let problem = Problem::new(node.place, format!("wrong value for {}", self.subject()));
        self.note(problem.found_node(node).expected(allowed).nearest(near));
        None
    }

    /// The items of a list, each read by `read`, and whether none of them had a fault.
    pub(crate) fn items<T>(
        &mut self,
        node: &'n Node<'n>,
        expected: &str,
        mut read: impl FnMut(&mut Self, &'n Node<'n>) -> Option<T>,
    ) -> Option<Items<'n, T>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => return self.wrong_kind(node, expected),
        };
        let mut good = Vec::with_capacity(items.len());
        for (at, item) in in_pieces(items.iter().enumerate()) {
            if let Some(value) = self.below(Step::Item(at), item.place, |reader| read(reader, item)) {
                good.push((at, item, value));
            }
        }
        Some(Items { total: items.len(), good })
    }

    /// A list that has no faults, with a number of items inside `bounds`.
    pub(crate) fn list<T: Read>(&mut self, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<T>> {
        let items = self.items(node, "a list", |reader, item| T::read(item, reader))?;
        self.count(items.total, &bounds, node.place)?;
        items.all()
    }

    /// Whether a number of things is inside its bounds.
    pub(crate) fn count(&mut self, count: usize, bounds: &RangeInclusive<usize>, place: Place) -> Option<()> {
        if bounds.contains(&count) {
            return Some(());
        }
        let problem = if count < *bounds.start() {
            let place = if self.trail.is_empty() { place } else { self.here() };
            Problem::new(place, format!("{} is empty", self.subject())).expected("at least one")
        } else {
            Problem::new(place, format!("{} has too many items", self.subject()))
                .found(count.to_string())
                .expected(format!("{} at most", bounds.end()))
        };
        self.note(problem);
        None
    }

    /// The fields of `node`, of which `known` are allowed.
    pub(crate) fn fields<'r>(
        &'r mut self,
        node: &'n Node<'n>,
        known: &'static [&'static str],
    ) -> Option<Fields<'r, 'n>> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => return self.wrong_kind(node, &format!("fields: {}", known.join(", "))),
        };
        let mut fields = Fields { reader: self, entries, faults: 0, meant: Vec::new() };
        for (at, (key, _)) in entries.iter().enumerate() {
            if !known.contains(&&*key.text) {
                fields.unknown(key, known);
            } else if entries.iter().take(at).any(|(earlier, _)| earlier.text == key.text) {
                fields.twice(key);
            }
            if fields.faults >= MAX_FIELD_FAULTS {
                break;
            }
        }
        Some(fields)
    }

    /// Named things: every name is well formed and stands once, and their number is at most `limit`.
    pub(crate) fn map<T>(
        &mut self,
        node: &'n Node<'n>,
        limit: usize,
        mut read: impl FnMut(&mut Self, &'n Node<'n>) -> Option<T>,
    ) -> Option<Map<T>> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => return self.wrong_kind(node, "fields: `name: …`"),
        };
        let mut good = Vec::with_capacity(entries.len());
        let mut seen = HashSet::with_capacity(entries.len());
        for (key, value) in entries {
            let once = seen.insert(&*key.text);
            let value = self.below(Step::Field(&key.text), key.place, |reader| {
                let fits = reader.name(key, once);
                read(reader, value).filter(|_| fits)
            });
            good.extend(value.map(|value| (Name::from(&*key.text), value)));
        }
        self.count(entries.len(), &(0..=limit), node.place)?;
        (good.len() == entries.len()).then(|| Map::new(good))
    }

    /// Whether a name is well formed and stands once.
    fn name(&mut self, key: &Key<'_>, once: bool) -> bool {
        let fits = values::is_name(&key.text);
        if !fits {
            let problem = Problem::new(key.place, "not a valid name").found(quoted(&key.text));
            self.note(problem.expected(values::NAME_EXPECTED));
        } else if !once {
            let problem = Problem::new(key.place, format!("{} stands twice", quoted(&key.text)));
            self.note(problem.help("each name stands once: rename or remove one"));
        }
        fits && once
    }
}

/// A value that is inside `bounds`.
fn inside<'n, T>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: &RangeInclusive<T>) -> Option<T>
where
    T: Read + PartialOrd + fmt::Display,
{
    let value = T::read(node, reader)?;
    if bounds.contains(&value) {
        return Some(value);
    }
    reader.wrong(node, format!("{} to {}", bounds.start(), bounds.end()), None)
}

/// The items of a list that had no fault, each with its position and its node.
pub(crate) struct Items<'n, T> {
    pub(crate) good: Vec<(usize, &'n Node<'n>, T)>,
    /// How many there are, those with faults included.
    pub(crate) total: usize,
}

impl<T> Items<'_, T> {
    /// All items, if none had a fault.
    pub(crate) fn all(self) -> Option<Vec<T>> {
        (self.good.len() == self.total).then(|| self.good.into_iter().map(|(_, _, value)| value).collect())
    }
}

/// The fields of one mapping. A field that is there without a value counts as absent.
pub(crate) struct Fields<'r, 'n> {
    pub(crate) reader: &'r mut Reader<'n>,
    entries: &'n [(Key<'n>, Node<'n>)],
    faults: usize,
    /// What unknown fields were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'n> Fields<'_, 'n> {
    /// The key and the value of the field of that name, if it is there and has a value.
    pub(crate) fn get(&self, name: &str) -> Option<&'n (Key<'n>, Node<'n>)> {
        self.entries.iter().find(|(key, node)| key.text == name && !matches!(node.value, Value::Null))
    }

    /// The names of the fields that are there and have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'n str> {
        self.entries.iter().filter(|(_, node)| !matches!(node.value, Value::Null)).map(|(key, _)| &*key.text)
    }

    /// The field that `read` makes a value of, if it is there. Outside `None`: a fault was noted.
    pub(crate) fn with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            None => Some(None),
            Some((key, node)) => {
                self.reader.below(Step::Field(&key.text), key.place, |reader| read(reader, node)).map(Some)
            }
        }
    }

    /// A field that may be absent.
    pub(crate) fn optional<T: Read>(&mut self, name: &'static str) -> Option<Option<T>> {
        self.with(name, |reader, node| T::read(node, reader))
    }

    /// A field that has a default.
    pub(crate) fn or<T: Read>(&mut self, name: &'static str, default: T) -> Option<T> {
        self.optional(name).map(|value| value.unwrap_or(default))
    }

    /// A field that must be there.
    pub(crate) fn required<T: Read>(&mut self, name: &'static str) -> Option<T> {
        self.required_with(name, |reader, node| T::read(node, reader))
    }

    /// A field that must be there, and that `read` makes a value of.
    pub(crate) fn required_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>) -> Option<T>,
    ) -> Option<T> {
        let value = self.with(name, read)?;
        if value.is_none() {
            self.missing(name);
        }
        value
    }

    /// A field that may be absent and whose value is inside `bounds`.
    pub(crate) fn within<T>(&mut self, name: &'static str, bounds: RangeInclusive<T>) -> Option<Option<T>>
    where
        T: Read + PartialOrd + fmt::Display,
    {
        self.with(name, |reader, node| inside(reader, node, &bounds))
    }

    /// A field that must be there, and whose value is inside `bounds`.
    pub(crate) fn required_within<T>(&mut self, name: &'static str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: Read + PartialOrd + fmt::Display,
    {
        self.required_with(name, |reader, node| inside(reader, node, &bounds))
    }

    /// A field with a default, whose value is inside `bounds`.
    pub(crate) fn bounded<T>(&mut self, name: &'static str, default: T, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: Read + PartialOrd + fmt::Display,
    {
        self.within(name, bounds).map(|value| value.unwrap_or(default))
    }

    /// Notes a fault of the field `name`, at its value, or of the mapping if the field is absent.
    pub(crate) fn fault_at(&mut self, name: &str, problem: impl FnOnce(Place) -> Problem) {
        self.faults += 1;
        match self.get(name) {
            Some((key, node)) => {
                self.reader.below(Step::Field(&key.text), key.place, |reader| reader.note(problem(node.place)));
            }
            None => self.reader.note(problem(self.reader.here())),
        }
    }

    /// Notes a fault of the mapping itself.
    pub(crate) fn fault_here(&mut self, message: &str, help: &str) {
        self.faults += 1;
        let problem = Problem::new(self.reader.here(), message).help(help);
        self.reader.note(problem);
    }

    /// Notes that of a certificate and its key one is missing.
    pub(crate) fn half_pair(&mut self, present: &str, missing: &str) {
        self.fault_at(present, |place| {
            Problem::new(place, format!("`{present}` without `{missing}`"))
                .help(format!("a certificate and its key go together: add `{missing}: …`"))
        });
    }

    /// Notes that a field is missing, unless another one was probably meant to be it.
    fn missing(&mut self, name: &'static str) {
        self.faults += 1;
        if self.meant.contains(&name) {
            return;
        }
        let example = EXAMPLES.iter().find(|(field, _)| *field == name).map_or("…", |(_, example)| *example);
        let help = format!("add `{name}: {example}`");
        if let Some((key, _)) = self.entries.iter().find(|(key, _)| key.text == name) {
            let problem = Problem::new(key.place, format!("`{name}` has no value")).help(help);
            self.reader.below(Step::Field(name), key.place, |reader| reader.note(problem));
            return;
        }
        let whose = match self.reader.path() {
            path if path.is_empty() => "the file".to_owned(),
            path => format!("`{path}`"),
        };
        let problem = Problem::new(self.reader.here(), format!("{whose} has no `{name}`"));
        self.reader.note(problem.help(help));
    }

    fn unknown(&mut self, key: &'n Key<'n>, known: &'static [&'static str]) {
        self.faults += 1;
        let near = self.reader.nearest(&key.text, known.iter().copied());
        self.meant.extend(near);
        let mut problem = Problem::new(key.place, format!("unknown field {}", quoted(&key.text)))
            .expected(known.join(", "))
            .nearest(near);
        if key.text == "<<" {
            problem = problem.help("merge keys are not read: repeat the whole value with an alias, `key: *name`");
        }
        self.reader.below(Step::Field(&key.text), key.place, |reader| reader.note(problem));
    }

    fn twice(&mut self, key: &'n Key<'n>) {
        self.faults += 1;
        let problem = Problem::new(key.place, format!("{} stands twice", quoted(&key.text)))
            .help("each field stands once: remove one");
        self.reader.below(Step::Field(&key.text), key.place, |reader| reader.note(problem));
    }

    /// Whether every field was known and stood once. Ask last: faults of the others are then noted as well.
    pub(crate) fn done(self) -> Option<()> {
        (self.faults == 0).then_some(())
    }
}
