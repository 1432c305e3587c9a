//! The base split of a service: written, or implied by its release or its only version; naming versions that exist,
//! 100 in all.

use super::version::{MAX_VERSIONS, Version};
use crate::config::syntax::diagnostic::quoted;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read as _, Reader};
use crate::config::syntax::tree::{Node, Value};
use crate::model::{Name, NotASplit, Split, Weight};

/// The names of the versions, those with faults of their own included.
pub(crate) fn declared<'n>(fields: &Fields<'_, 'n>) -> Vec<&'n str> {
    match fields.get("versions").map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| &*key.text).collect(),
        _ => Vec::new(),
    }
}

/// Notes when `name`, which the field says, is no version of the service. Whether it is one.
fn check_declared(fields: &mut Fields<'_, '_>, field: &'static str, name: &str) -> bool {
    let versions = declared(fields);
    if versions.contains(&name) {
        return true;
    }
    let near = fields.reader.nearest(name, versions.iter().copied());
    let found = fields.get(field).map_or_else(String::new, |(_, node)| node.shown());
    fields.fault_at(field, |place| {
        let problem = Problem::new(place, "no version has this name").found(found).nearest(near);
        problem.expected(format!("a version of this service: {}", versions.join(", ")))
    });
    false
}

/// The field `release` of a service: a version that exists, without a `split` beside it. Outside `None`: a fault
/// was noted.
pub(crate) fn check_release(fields: &mut Fields<'_, '_>, release: Option<Option<Name>>) -> Option<Option<Name>> {
    let known = match &release {
        Some(Some(name)) => check_declared(fields, "release", name),
        Some(None) | None => true,
    };
    if fields.get("release").is_some() && fields.get("split").is_some() {
        fields.fault_at("split", |place| {
            Problem::new(place, "`release` and `split` together").help(
                "keep `release` if rollouts move the weights, and `split` if you do: with `release` the weights are \
                 100 for it until it changes",
            )
        });
        return None;
    }
    release.filter(|_| known)
}

/// Notes when `stable` is no version that exists and can serve, or when the service is not rolled out.
pub(crate) fn check_stable(
    fields: &mut Fields<'_, '_>,
    stable: Option<&Option<Name>>,
    versions: Option<&Map<Version>>,
    split: Option<&Split>,
) {
    let name = stable.and_then(Option::as_ref);
    let known = name.filter(|name| check_declared(fields, "stable", name));
    if fields.get("stable").is_some() && fields.get("release").is_none() && fields.get("rollout").is_none() {
        fields.fault_at("stable", |place| {
            Problem::new(place, "`stable` without `release` or `rollout`").help(
                "`stable` says what serves where no state of a rollout is known: add `release: NAME`, or remove it",
            )
        });
        return;
    }
    // What has weight by the split has been noted there.
    if let Some(name) = known
        && versions.and_then(|versions| versions.get(name)).is_some_and(|version| version.endpoints.is_empty())
        && split.is_some_and(|split| split.weight(name) == Weight::ZERO)
    {
        let message = format!("version `{name}` is `stable` and has no endpoints");
        fields.fault_at("stable", |place| {
            Problem::new(place, message).help("name the version that serves now, or give this one endpoints")
        });
    }
}

/// A rollout begins where one version has everything.
pub(crate) fn check_rollout(fields: &mut Fields<'_, '_>, split: Option<&Split>) {
    let Some(split) = split else { return };
    let complete = split.iter().any(|(_, weight)| weight == Weight::FULL);
    if fields.get("rollout").is_some() && !complete {
        fields.fault_at("split", |place| {
            Problem::new(place, "a service with a `rollout` and a `split` between versions")
                .help("a rollout begins where one version has everything: write `release: NAME` instead of `split`")
        });
    }
}

/// The base split of a service: what it states as `weights`, or what its release or its only version implies. Of what
/// has faults of its own, `None` is given.
pub(crate) fn make_split(
    fields: &mut Fields<'_, '_>,
    versions: Option<&Map<Version>>,
    release: Option<&Option<Name>>,
    weights: Option<Option<Map<Weight>>>,
) -> Option<Split> {
    let declared = declared(fields);
    if versions.is_some_and(Map::is_empty) {
        fields.fault_at("versions", |place| {
            Problem::new(place, "the service has no versions")
                .help("add one: `versions: { v1: { endpoints: [\"127.0.0.1:8080\"] } }`")
        });
        return None;
    }
    let weights = weights.filter(|_| check_versions(fields, &declared))?;
    let weights = weights.map(|weights| weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect());
    let weights = match release {
        Some(Some(release)) => Some(vec![(release.clone(), Weight::FULL)]),
        Some(None) => weights,
        None => return None,
    };
    let weights = match (weights, declared.as_slice()) {
        (Some(weights), _) => weights,
        (None, [only]) => vec![(Name::from(*only), Weight::FULL)],
        (None, []) => return None,
        (None, several @ [first, ..]) => {
            let example: Vec<_> = several.iter().enumerate().map(|(at, name)| example_weight(at, name)).collect();
            let message = format!("a service with {} versions needs a `split`", several.len());
            fields.fault_here(
                &message,
                &format!(
                    "say who gets what: `split: {{ {} }}`; or leave it to rollouts: `release: {first}`",
                    example.join(", ")
                ),
            );
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

/// The weights that the file states.
pub(crate) fn read_weights<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Weight>> {
    reader.map(node, MAX_VERSIONS, |reader, node| Weight::read(node, reader))
}

/// Notes the names in the split that no version has. Whether there are none.
fn check_versions(fields: &mut Fields<'_, '_>, declared: &[&str]) -> bool {
    let Some((split, Node { value: Value::Map(entries), .. })) = fields.get("split") else { return true };
    let mut known = true;
    for (key, _) in entries.iter().filter(|(key, _)| !declared.contains(&&*key.text)) {
        known = false;
        let near = fields.reader.nearest(&key.text, declared.iter().copied());
        let problem = Problem::new(key.place, format!("no version {}", quoted(&key.text)))
            .expected(format!("a version of this service: {}", declared.join(", ")))
            .nearest(near);
        fields.reader.below(PathStep::Field(&split.text), split.place, |reader| {
            reader.below(PathStep::Field(&key.text), key.place, |reader| reader.note(problem));
        });
    }
    known
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
    let (percent, hundredths) = (basis_points / 100, basis_points % 100);
    if hundredths == 0 { percent.to_string() } else { format!("{percent}.{hundredths:02}") }
}

/// Notes that a version has traffic and nothing that serves it.
fn note_empty(fields: &mut Fields<'_, '_>, name: &str, weight: Weight) {
    let Some((versions, node)) = fields.get("versions") else { return };
    let Some((key, _)) = node.field(name) else { return };
    let problem = Problem::new(key.place, format!("version `{name}` has a weight of {weight} and no endpoints"))
        .help("add endpoints, or give it the weight 0");
    fields.reader.below(PathStep::Field(&versions.text), versions.place, |reader| {
        reader.below(PathStep::Field(&key.text), key.place, |reader| reader.note(problem));
    });
}
