//! The reference of the configuration, made of its schema: a part for each section and each kind of value, in the order in
//! which they are first named.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde_json::Value;

/// The parts for `schema`.
pub(super) fn of(schema: &Value) -> String {
    let definitions = schema["$defs"].as_object().unwrap();
    let mut text = String::new();
    let mut waiting = VecDeque::from([("The file", schema)]);
    let mut named: Vec<&str> = Vec::new();
    while let Some((name, definition)) = waiting.pop_front() {
        write!(text, "\n### {name}\n\n{}\n", part(definition)).unwrap();
        for reference in references(definition) {
            if !named.contains(&reference) {
                named.push(reference);
                waiting.push_back((reference, &definitions[reference]));
            }
        }
    }
    assert_eq!(named.len(), definitions.len(), "the file names each definition of the schema");
    text
}

/// A section as a table of its fields, or what a value may be.
fn part(definition: &Value) -> String {
    let about = about(definition);
    let Some(fields) = definition["properties"].as_object() else {
        return format!("{about}{}", values(definition));
    };
    assert_eq!(definition["additionalProperties"], Value::Bool(false), "{about}");
    let mut text = format!("{about}\n\n| field | type | default | meaning |\n|---|---|---|---|");
    for (name, field) in fields {
        let required =
            definition["required"].as_array().is_some_and(|names| names.contains(&Value::from(name.as_str())));
        let default = match field.get("default") {
            Some(default) => format!("`{}`", default.to_string().trim_matches('"')),
            None if required => "**required**".to_owned(),
            None => "–".to_owned(),
        };
        write!(text, "\n| `{name}` | {} | {default} | {} |", kind(field), self::about(field)).unwrap();
    }
    text
}

/// What kind of value a field has.
fn kind(field: &Value) -> String {
    if let Some(name) = reference(field) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(ways) = field["anyOf"].as_array() {
        let ways: Vec<String> = ways.iter().map(kind).filter(|kind| kind != "null").collect();
        return ways.join(" or ");
    }
    if let Some(words) = field["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(" or ");
    }
    let types = field["type"].as_array().cloned().unwrap_or_else(|| vec![field["type"].clone()]);
    match types[0].as_str().unwrap_or("any") {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" => format!("{} by name", kind(&field["additionalProperties"])),
        "integer" => "whole number".to_owned(),
        "string" => "text".to_owned(),
        kind => kind.to_owned(),
    }
}

/// The words or forms of a value that is no section.
fn values(definition: &Value) -> String {
    if let Some(words) = definition["oneOf"].as_array() {
        let word = |word: &Value| match word["const"].as_str() {
            Some(text) => format!("\n* `{text}`: {}", about(word)),
            None => {
                let (name, field) = word["properties"].as_object().unwrap().iter().next().unwrap();
                format!("\n* `{name}: …`, {}: {}", kind(field), about(word))
            }
        };
        return format!("\n{}", words.iter().map(word).collect::<String>());
    }
    if let Some(ways) = definition["anyOf"].as_array() {
        let way = |way: &Value| format!("\n* {}: {}", kind(way), about(way));
        let ways = ways.iter().filter(|way| way["description"].is_string());
        let ways = ways.map(way).collect::<String>();
        return if ways.is_empty() { ways } else { format!("\n{ways}") };
    }
    let examples = definition["examples"].as_array().map_or(&[][..], Vec::as_slice);
    let examples: Vec<String> = examples.iter().filter_map(Value::as_str).map(|text| format!("`{text}`")).collect();
    if examples.is_empty() { String::new() } else { format!(" For instance {}.", examples.join(", ")) }
}

/// The names that a definition refers to, in its order.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = reference(value).into_iter();
            own.chain(fields.iter().filter(|(name, _)| *name != "$defs").flat_map(|(_, field)| references(field)))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn reference(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The description in one line of a table.
fn about(value: &Value) -> String {
    value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}
