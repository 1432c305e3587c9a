//! The base split of a service: present or implied, naming versions that exist, 100 in all.

use super::diagnostic::quoted;
use super::map::Map;
use super::problem::Problem;
use super::read::{Fields, Read as _, Reader, Step};
use super::service::Version;
use super::yaml::{Node, Value};
use crate::model::{Name, NotASplit, Split, Weight};

/// The field `split` of a service. `versions` is `None` if they have faults of their own.
pub(super) fn read_split(fields: &mut Fields<'_, '_>, versions: Option<&Map<Version>>) -> Option<Split> {
    let declared: Vec<&str> = match fields.get("versions").map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| &*key.text).collect(),
        _ => Vec::new(),
    };
    if versions.is_some_and(Map::is_empty) {
        fields.fault_at("versions", |place| {
            Problem::new(place, "the service has no versions")
                .help("add one: `versions: { v1: { endpoints: [\"127.0.0.1:8080\"] } }`")
        });
        return None;
    }
    let weights = fields.with("split", |reader, node| read_weights(reader, node, &declared))?;
    let weights = match (weights, declared.as_slice()) {
        (Some(weights), _) => weights,
        (None, [only]) => vec![(Name::from(*only), Weight::FULL)],
        (None, []) => return None,
        (None, several) => {
            let example: Vec<_> = several.iter().enumerate().map(|(at, name)| example_weight(at, name)).collect();
            let message = format!("a service with {} versions needs a `split`", several.len());
            fields.fault_here(&message, &format!("say who gets what: `split: {{ {} }}`", example.join(", ")));
            return None;
        }
    };
    let split = make(fields, weights)?;
    let mut served = true;
    for (name, weight) in split.iter() {
        let empty =
            versions.and_then(|versions| versions.get(name)).is_some_and(|version| version.endpoints.is_empty());
        if empty && weight > Weight::ZERO {
            served = false;
            note_empty(fields, name, weight);
        }
    }
    served.then_some(split)
}

fn example_weight(at: usize, name: &str) -> String {
    format!("{name}: {}", if at == 0 { 100 } else { 0 })
}

/// The weights that the file states, of versions that exist.
fn read_weights<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, declared: &[&str]) -> Option<Vec<(Name, Weight)>> {
    let mut known = true;
    if let Value::Map(entries) = &node.value {
        for (key, _) in entries.iter().filter(|(key, _)| !declared.contains(&&*key.text)) {
            known = false;
            reader.below(Step::Field(&key.text), key.place, |reader| {
                let near = reader.nearest(&key.text, declared.iter().copied());
                let problem = Problem::new(key.place, format!("no version {}", quoted(&key.text)));
                reader.note(
                    problem.expected(format!("a version of this service: {}", declared.join(", "))).nearest(near),
                );
            });
        }
    }
    let weights = reader.map(node, super::service::MAX_VERSIONS, |reader, node| Weight::read(node, reader))?;
    known.then(|| weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect())
}

/// The split of these weights, if they sum to 100.
fn make(fields: &mut Fields<'_, '_>, weights: Vec<(Name, Weight)>) -> Option<Split> {
    let sum = weights.iter().map(|(_, weight)| weight.to_string()).collect::<Vec<_>>().join(" + ");
    let fault = match Split::new(weights) {
        Ok(split) => return Some(split),
        Err(fault) => fault,
    };
    let help = match &fault {
        NotASplit::Sum { basis_points } => {
            let full = u64::from(Weight::FULL.basis_points());
            let apart = percent(basis_points.abs_diff(full));
            let word = if *basis_points < full { "missing" } else { "too much" };
            format!("{sum} is {}: {apart} {word}", percent(*basis_points))
        }
        NotASplit::Empty | NotASplit::Twice(_) => "give every version its percentage".to_owned(),
    };
    fields.fault_at("split", |place| Problem::new(place, fault.to_string()).help(help));
    None
}

/// Basis points as a percentage.
fn percent(basis_points: u64) -> String {
    let (whole, part) = (basis_points / 100, basis_points % 100);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:02}") }
}

/// Notes that a version has traffic and nothing that serves it.
fn note_empty(fields: &mut Fields<'_, '_>, name: &str, weight: Weight) {
    let Some((versions, node)) = fields.get("versions") else { return };
    let Some((key, _)) = node.field(name) else { return };
    let problem = Problem::new(key.place, format!("version `{name}` has a weight of {weight} and no endpoints"))
        .help("add endpoints, or give it the weight 0");
    fields.reader.below(Step::Field(&versions.text), versions.place, |reader| {
        reader.below(Step::Field(&key.text), key.place, |reader| reader.note(problem));
    });
}
