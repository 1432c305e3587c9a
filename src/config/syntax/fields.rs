//! The fields of one mapping: which are known, and each in one of the few ways in which a field is read.
//!
//! Invariant: `None` means that at least one fault was noted.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::diagnostic::quoted;
use super::problem::{Place, Problem};
use super::read::{PathStep, Read, Reader};
use super::tree::{Key, Node, Scalar, Value};

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

/// The fields of one mapping. A field that is there without a value counts as absent.
pub(crate) struct Fields<'r, 'n> {
    pub(crate) reader: &'r mut Reader<'n>,
    entries: &'n [(Key<'n>, Node<'n>)],
    faults: usize,
    /// What unknown fields were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'r, 'n> Fields<'r, 'n> {
    /// The fields of `node`, of which `known` are allowed.
    pub(crate) fn of(node: &'n Node<'n>, reader: &'r mut Reader<'n>, known: &'static [&'static str]) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Text(text) => {
                let expected = format!("fields: {}", known.join(", "));
                return reader.wrong(node, expected, in_braces(text, known).as_deref());
            }
            _ => return reader.wrong_kind(node, &format!("fields: {}", known.join(", "))),
        };
        let mut fields = Self { reader, entries, faults: 0, meant: Vec::new() };
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
                self.reader.below(PathStep::Field(&key.text), key.place, |reader| read(reader, node)).map(Some)
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

    /// A section of its own, which is as if it were empty when it is absent.
    pub(crate) fn section<T: Read + Default>(&mut self, name: &'static str) -> Option<T> {
        self.optional(name).map(Option::unwrap_or_default)
    }

    /// A field that `read` makes a value of, and that has nothing in it when it is absent.
    pub(crate) fn section_with<T: Default>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>) -> Option<T>,
    ) -> Option<T> {
        self.with(name, read).map(Option::unwrap_or_default)
    }

    /// A list with a number of items inside `bounds`, empty when it is absent.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<usize>,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>, RangeInclusive<usize>) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        self.list_or(name, Vec::new(), (), bounds, read)
    }

    /// A list with a default, which the file would write as `_written`, and with a number of items inside `bounds`.
    pub(crate) fn list_or<T>(
        &mut self,
        name: &'static str,
        default: Vec<T>,
        _written: impl Serialize,
        bounds: RangeInclusive<usize>,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>, RangeInclusive<usize>) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        self.with(name, |reader, node| read(reader, node, bounds)).map(|items| items.unwrap_or(default))
    }

    /// A field that `read` makes a value of, and that has a default, which the file would write as `_written`.
    pub(crate) fn with_or<T>(
        &mut self,
        name: &'static str,
        default: T,
        _written: impl Serialize,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>) -> Option<T>,
    ) -> Option<T> {
        self.with(name, read).map(|value| value.unwrap_or(default))
    }

    /// A list that must be there, with a number of items inside `bounds`.
    pub(crate) fn required_list<T>(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<usize>,
        read: impl FnOnce(&mut Reader<'n>, &'n Node<'n>, RangeInclusive<usize>) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        self.required_with(name, |reader, node| read(reader, node, bounds))
    }

    /// Which of the fields `names` is there, when exactly one of them must be. `what` it is that they say, such as
    /// `what is measured`. `None`: a fault was noted.
    pub(crate) fn one_of(&mut self, names: &[&'static str], what: &str) -> Option<&'static str> {
        let set: Vec<&'static str> = names.iter().copied().filter(|name| self.get(name).is_some()).collect();
        match set.as_slice() {
            [one] => return Some(one),
            [] if names.len() == 1 => {
                self.fault_here(&format!("{what} is missing"), &format!("add `{}`", names.concat()));
            }
            [] => {
                let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                self.fault_here(&format!("{what} is missing"), &format!("add one of {}", all.join(", ")));
            }
            [first, second, ..] => {
                let message = format!("`{first}` and `{second}` together");
                self.fault_at(second, |place| Problem::new(place, message).help("keep one of them"));
            }
        }
        None
    }

    /// Notes when the bound `max` is below the bound `min`.
    pub(crate) fn check_order(&mut self, min: Option<f64>, max: Option<f64>) {
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            self.fault_at("max", |place| {
                Problem::new(place, "`max` is below `min`").expected(format!("{min} or more"))
            });
        }
    }

    /// Notes a fault of the field `name`, at its value, or of the mapping if the field is absent.
    pub(crate) fn fault_at(&mut self, name: &str, problem: impl FnOnce(Place) -> Problem) {
        self.faults += 1;
        match self.get(name) {
            Some((key, node)) => {
                self.reader.below(PathStep::Field(&key.text), key.place, |reader| reader.note(problem(node.place)));
            }
            None => self.reader.note(problem(self.reader.here())),
        }
    }

    /// Notes a fault further down, at the end of `way`.
    pub(crate) fn note_below(&mut self, way: &[(PathStep<'n>, Place)], problem: Problem) {
        self.faults += 1;
        self.reader.note_below(way, problem);
    }

    /// Notes a fault of the mapping itself.
    pub(crate) fn fault_here(&mut self, message: &str, help: &str) {
        self.faults += 1;
        let problem = Problem::new(self.reader.here(), message).help(help);
        self.reader.note(problem);
    }

    /// Notes when the value of the field `name` is not inside `bounds`, which depend on another field.
    pub(crate) fn check_within<T>(&mut self, name: &str, value: Option<T>, bounds: &RangeInclusive<T>)
    where
        T: PartialOrd + fmt::Display,
    {
        let Some((key, node)) = self.get(name) else { return };
        if value.is_none_or(|value| bounds.contains(&value)) {
            return;
        }
        self.faults += 1;
        self.reader.below(PathStep::Field(&key.text), key.place, |reader| outside(reader, node, bounds));
    }

    /// Notes when of `cert` and `key` one is missing.
    pub(crate) fn check_pair(&mut self) {
        let (present, missing) = match (self.get("cert").is_some(), self.get("key").is_some()) {
            (true, false) => ("cert", "key"),
            (false, true) => ("key", "cert"),
            (true, true) | (false, false) => return,
        };
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
            self.reader.below(PathStep::Field(name), key.place, |reader| reader.note(problem));
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
        self.reader.below(PathStep::Field(&key.text), key.place, |reader| reader.note(problem));
    }

    fn twice(&mut self, key: &'n Key<'n>) {
        self.faults += 1;
        let problem = Problem::new(key.place, format!("{} stands twice", quoted(&key.text)))
            .help("each field stands once: remove one");
        self.reader.below(PathStep::Field(&key.text), key.place, |reader| reader.note(problem));
    }

    /// Whether every field was known and stood once. Ask last: faults of the others are then noted as well.
    pub(crate) fn done(self) -> Option<()> {
        (self.faults == 0).then_some(())
    }
}

/// How a bare number is written where fields are: as the one of `known` that it is most likely meant for.
fn in_braces(bare: &Scalar<'_>, known: &[&str]) -> Option<String> {
    let number = bare.written.is_none() && bare.text.parse().is_ok_and(f64::is_finite);
    let field = ["weight", "min", "max"].into_iter().find(|field| number && known.contains(field))?;
    Some(format!("write `{{ {field}: {} }}`", bare.text))
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
    outside(reader, node, bounds);
    None
}

/// Notes that a value is not inside `bounds`.
fn outside<T: fmt::Display>(reader: &mut Reader<'_>, node: &Node<'_>, bounds: &RangeInclusive<T>) {
    let _: Option<T> = reader.wrong(node, format!("{} to {}", bounds.start(), bounds.end()), None);
}
