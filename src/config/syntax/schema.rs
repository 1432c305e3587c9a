//! How a value of the file is described in its JSON Schema: to editors, to tools that write the file, to the reference.
//!
//! A section's schema comes from the table that reads it ([`super::section`]); here is what it is put together from.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

/// The schema of a value that is written as text. What a variable stands for, the schema cannot know.
pub(crate) fn text(pattern: &str, description: &str, examples: &[&str]) -> Schema {
    let pattern = format!("{pattern}|\\$\\{{");
    json_schema!({ "type": "string", "pattern": pattern, "description": description, "examples": examples })
}

/// The schema of one of a few words, each with what it means.
pub(crate) fn words(description: &str, words: &[(&str, &str)]) -> Schema {
    let word = |(word, about): &(&str, &str)| json_schema!({ "type": "string", "const": word, "description": about });
    let words: Vec<Schema> = words.iter().map(word).collect();
    json_schema!({ "oneOf": words, "description": description })
}

/// The schema of a value that is written in one of several ways.
pub(crate) fn any_of(description: &str, ways: &[Schema]) -> Schema {
    json_schema!({ "anyOf": ways, "description": description })
}

/// The schema of `T` with a description of its own.
pub(crate) fn described<T: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    schema.insert("description".to_owned(), description.into());
    schema
}

/// Lines of a documentation comment as one text.
pub(crate) fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// A section that is being described.
pub(crate) struct SectionSchema<'g> {
    generator: &'g mut SchemaGenerator,
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl<'g> SectionSchema<'g> {
    pub(crate) fn new(generator: &'g mut SchemaGenerator) -> Self {
        Self { generator, properties: Map::new(), required: Vec::new() }
    }

    /// The field `name`, whose value has the schema of `T`.
    pub(crate) fn field<T: JsonSchema>(&mut self, name: &'static str, about: &[&str]) -> FieldSchema<'_, 'g, T> {
        FieldSchema { section: self, name, about: lines(about), value: PhantomData }
    }

    pub(crate) fn finish(self, about: &[&str]) -> Schema {
        let mut schema = json_schema!({
            "type": "object",
            "additionalProperties": false,
            "description": lines(about),
            "properties": self.properties,
        });
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), self.required.into());
        }
        schema
    }
}

/// A field of a section that is being described. Its methods are those of [`super::fields::Fields`], by the same names and
/// with the same arguments: that one reads what this one describes.
pub(crate) struct FieldSchema<'s, 'g, T> {
    section: &'s mut SectionSchema<'g>,
    name: &'static str,
    about: String,
    value: PhantomData<T>,
}

impl<T: JsonSchema> FieldSchema<'_, '_, T> {
    pub(crate) fn required(self) {
        self.add(Need::Required, Map::new());
    }

    pub(crate) fn required_with<F>(self, _read: F) {
        self.required();
    }

    pub(crate) fn required_within<B: SchemaBound>(self, bounds: RangeInclusive<B>) {
        self.add(Need::Required, numbers(&bounds));
    }

    pub(crate) fn required_list<F>(self, bounds: RangeInclusive<usize>, _read: F) {
        self.add(Need::Required, lengths(&bounds));
    }

    pub(crate) fn optional(self) {
        self.add(Need::Optional, Map::new());
    }

    pub(crate) fn with<F>(self, _read: F) {
        self.optional();
    }

    pub(crate) fn within<B: SchemaBound>(self, bounds: RangeInclusive<B>) {
        self.add(Need::Optional, numbers(&bounds));
    }

    pub(crate) fn section(self) {
        self.optional();
    }

    pub(crate) fn or<D: Serialize>(self, default: D) {
        self.add(Need::Optional, default_of(&default));
    }

    pub(crate) fn bounded<D: Serialize, B: SchemaBound>(self, default: D, bounds: RangeInclusive<B>) {
        let mut more = default_of(&default);
        more.append(&mut numbers(&bounds));
        self.add(Need::Optional, more);
    }

    pub(crate) fn list<F>(self, bounds: RangeInclusive<usize>, _read: F) {
        let mut more = lengths(&bounds);
        if *bounds.start() == 0 {
            more.append(&mut default_of(&[(); 0]));
        }
        self.add(Need::Optional, more);
    }

    pub(crate) fn list_or<D, W: Serialize, F>(self, _default: D, written: W, bounds: RangeInclusive<usize>, _read: F) {
        let mut more = default_of(&written);
        more.append(&mut lengths(&bounds));
        self.add(Need::Optional, more);
    }

    pub(crate) fn with_or<D, W: Serialize, F>(self, _default: D, written: W, _read: F) {
        self.or(written);
    }

    pub(crate) fn section_with<F>(self, _read: F) {
        self.optional();
    }

    /// A field without a value counts as absent, so whatever is not required may be `null`.
    fn add(self, need: Need, mut more: Map<String, Value>) {
        let Self { section, name, about, .. } = self;
        let mut schema = section.generator.subschema_for::<T>();
        if let Need::Optional = need
            && !takes_null(&schema)
        {
            schema = section.generator.subschema_for::<Option<T>>();
        }
        schema.ensure_object().append(&mut more);
        schema.insert("description".to_owned(), about.into());
        if let Need::Required = need {
            section.required.push(name.into());
        }
        section.properties.insert(name.to_owned(), schema.to_value());
    }
}

fn takes_null(schema: &Schema) -> bool {
    let null = Value::from("null");
    let is_null = |way: &Value| way.get("type") == Some(&null);
    let kinds = schema.get("type").and_then(Value::as_array);
    let ways = schema.get("anyOf").and_then(Value::as_array);
    kinds.is_some_and(|kinds| kinds.contains(&null)) || ways.is_some_and(|ways| ways.iter().any(is_null))
}

#[derive(Clone, Copy)]
enum Need {
    Required,
    Optional,
}

fn default_of(default: &impl Serialize) -> Map<String, Value> {
    // What the file can say is JSON; a default that is not would be missing in the committed schema.
    let value = serde_json::to_value(default).ok().map(integral);
    value.map(|value| ("default".to_owned(), value)).into_iter().collect()
}

fn lengths(bounds: &RangeInclusive<usize>) -> Map<String, Value> {
    let least = (*bounds.start() > 0).then(|| ("minItems".to_owned(), (*bounds.start()).into()));
    least.into_iter().chain([("maxItems".to_owned(), (*bounds.end()).into())]).collect()
}

fn numbers<B: SchemaBound>(bounds: &RangeInclusive<B>) -> Map<String, Value> {
    let bound = |name: &str, bound: &B| Some((name.to_owned(), integral(bound.number()?)));
    bound("minimum", bounds.start()).into_iter().chain(bound("maximum", bounds.end())).collect()
}

/// `1` instead of `1.0`, as people write it.
fn integral(value: Value) -> Value {
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number below 2^53")]
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 9e15 => (number as i64).into(),
        _ => value,
    }
}

/// What a field's value may be bounded by.
pub(crate) trait SchemaBound {
    /// The bound as a number, if the schema can state it: it knows no order of texts such as `30s`.
    fn number(&self) -> Option<Value>;
}

macro_rules! bound_by_number {
    ($($type:ty),+) => {
        $(impl SchemaBound for $type {
            fn number(&self) -> Option<Value> {
                Some((*self).into())
            }
        })+
    };
}
bound_by_number!(i32, u16, u32, f64);
