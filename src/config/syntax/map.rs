//! Named things in the order of the file.
//!
//! A plain `BTreeMap` would forget the file's order, which is the order people see on the screen and the order
//! in which an affinity's cumulative weights are laid out; a plain list would make 100,000 look-ups quadratic.
//! So it is a list with an index beside it, sorted by name.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::values;
use crate::model::Name;

/// Named things in the order of the file, found by name in logarithmic time.
#[derive(Clone, PartialEq)]
pub(crate) struct Map<T> {
    entries: Vec<(Name, T)>,
    /// Positions in `entries`, sorted by name.
    by_name: Vec<usize>,
}

impl<T> Map<T> {
    /// The map of these entries. Of two with the same name, either may be found by [`Map::get`]; the reader
    /// of the file refuses such a map.
    #[must_use]
    pub(crate) fn new(entries: Vec<(Name, T)>) -> Self {
        let name = |at: &usize| entries.get(*at).map(|(name, _)| name);
        let mut by_name: Vec<usize> = (0..entries.len()).collect();
        by_name.sort_by(|a, b| name(a).cmp(&name(b)));
        Self { entries, by_name }
    }

    /// Adds these behind the others, if there are any.
    pub(crate) fn extend(&mut self, more: Vec<(Name, T)>) {
        if !more.is_empty() {
            let mut entries = std::mem::take(&mut self.entries);
            entries.extend(more);
            *self = Self::new(entries);
        }
    }

    /// The thing of that name.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        let named = |at: &usize| self.entries.get(*at).map_or("", |(name, _)| &**name);
        let found = self.by_name.binary_search_by(|at| named(at).cmp(name)).ok()?;
        self.by_name.get(found).and_then(|at| self.entries.get(*at)).map(|(_, thing)| thing)
    }

    /// Names and things, in the order of the file.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &T)> {
        self.entries.iter().map(|(name, thing)| (name, thing))
    }

    /// The names, in the order of the file.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &Name> + Clone {
        self.entries.iter().map(|(name, _)| name)
    }

    /// How many there are.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), by_name: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Map<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": generator.subschema_for::<values::Name>(),
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_the_order_of_the_file_and_finds_by_name() {
        let map = Map::new(vec![("c".into(), 1), ("a".into(), 2), ("b".into(), 3)]);
        assert_eq!(map.names().map(|n| &**n).collect::<Vec<_>>(), ["c", "a", "b"]);
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.get("d")), (Some(&2), Some(&3), Some(&1), None));
    }
}
