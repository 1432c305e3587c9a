//! How a type reads itself from the tree: what is wrong is noted with its place, and reading goes on.
//!
//! [`Read::read`] gives `None` when it noted a fault; whatever depends on that value is then skipped, and
//! everything else in the file is still looked at. So one pass finds all faults, and none is a consequence of
//! another.
//!
//! Invariant: `None` means that at least one fault was noted.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::diagnostic::{printable_name, quoted};
use super::map::Map;
use super::problem::{Place, Problem, Problems};
use super::tree::{Key, Node, Value};
use super::values::{self, NotAValue};
use crate::algorithm::nearest::{MAX_COMPARISONS, nearest_within};
use crate::coop::in_pieces;
use crate::model::Name;

/// A type that reads itself from the tree.
pub(crate) trait Read: Sized {
    /// The value that `node` is, or `None` with a fault noted.
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self>;
}

/// A step on the way from the root of the tree to a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathStep<'n> {
    Field(&'n str),
    Item(usize),
}

/// Where reading is, and the faults found so far.
pub(crate) struct Reader<'n> {
    /// The whole file, for what depends on another section.
    pub(crate) root: &'n Node<'n>,
    directory: &'n Path,
    trail: Vec<(PathStep<'n>, Place)>,
    pub(crate) problems: Problems,
    /// How many names may still be compared to find the nearest one.
    comparisons: usize,
    /// Regular expressions compiled so far; they are the only values that are costly to judge.
    pub(crate) regexes: usize,
}

impl<'n> Reader<'n> {
    pub(crate) fn new(root: &'n Node<'n>, directory: &'n Path) -> Self {
        Self {
            root,
            directory,
            trail: Vec::new(),
            problems: Problems::default(),
            comparisons: MAX_COMPARISONS,
            regexes: 0,
        }
    }

    /// Runs `read` one step further on the trail. `place` is where the step itself is written.
    pub(crate) fn below<T>(&mut self, step: PathStep<'n>, place: Place, read: impl FnOnce(&mut Self) -> T) -> T {
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

    /// Notes a fault further down, at the end of `way`.
    pub(crate) fn note_below(&mut self, way: &[(PathStep<'n>, Place)], problem: Problem) {
        let depth = self.trail.len();
        self.trail.extend_from_slice(way);
        self.note(problem);
        self.trail.truncate(depth);
    }

    /// A path of the file's world, resolved against the file's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// The field that is being read, such as `routes[2].match.host`.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for (step, _) in &self.trail {
            match step {
                PathStep::Field(name) if path.is_empty() => path = printable_name(name),
                PathStep::Field(name) => {
                    path.push('.');
                    path.push_str(&printable_name(name));
                }
                // Writing to a string cannot fail.
                PathStep::Item(at) => drop(write!(path, "[{at}]")),
            }
        }
        path
    }

    /// The name of the innermost field on the trail, for messages.
    pub(crate) fn subject(&self) -> String {
        let named = self.trail.iter().rev().find_map(|(step, _)| match step {
            PathStep::Field(name) => Some(quoted(name)),
            PathStep::Item(_) => None,
        });
        named.unwrap_or_else(|| "the file".to_owned())
    }

    /// Where the value that is being read is named: its key, or its place in a list.
    pub(crate) fn here(&self) -> Place {
        self.trail.last().map_or(Place::START, |(_, place)| *place)
    }

    /// The candidate that `name` was most likely meant to be.
    pub(crate) fn nearest<'a>(&mut self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        nearest_within(name, candidates, &mut self.comparisons)
    }

    /// Notes that `node` is not what is allowed.
    pub(crate) fn wrong<T>(&mut self, node: &Node<'_>, expected: impl Into<String>, help: Option<&str>) -> Option<T> {
        let mut problem = Problem::new(node.place, format!("wrong value for {}", self.subject()))
            .found(node.shown())
            .expected(expected);
        if let Some(help) = help {
            problem = problem.help(help);
        }
        self.note(problem);
        None
    }

    /// Notes that `node` is a value of the wrong kind, or why it is broken.
    pub(crate) fn wrong_kind<T>(&mut self, node: &Node<'_>, expected: &str) -> Option<T> {
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
        let allowed = listed(words);
        let text = self.text(node, &allowed)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let near = self.nearest(text, words.iter().map(|(word, _)| *word));
        let problem = Problem::new(node.place, format!("wrong value for {}", self.subject()));
        self.note(problem.found(node.shown()).expected(allowed).nearest(near));
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
            if let Some(value) = self.below(PathStep::Item(at), item.place, |reader| read(reader, item)) {
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
            let value = self.below(PathStep::Field(&key.text), key.place, |reader| {
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

/// The words that are allowed, for a message.
pub(crate) fn listed<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
