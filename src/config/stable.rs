//! Which version is stable where no state is known: what the file says, and where it does not say it.
//!
//! A file without `stable` is valid, because a state that is known decides. But a new replica, an empty volume and a lost
//! directory know none, and the version that is to be released is the last one to be given everything unjudged. So the
//! places where the word is missing are kept: `weir check` remarks on them, and `weir run` needs them to refuse.

use std::collections::HashMap;

use super::Config;
use super::load::no_diagnostic;
use super::restart::{Mark, marked};
use super::section::service::{Service, Version};
use super::section::split::declared;
use super::syntax::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS};
use super::syntax::map::Map;
use super::syntax::problem::Problem;
use super::syntax::read::{Fields, Read as _};
use super::syntax::yaml::{Node, Value};
use crate::coop::in_pieces;
use crate::model::{Name, Split, Weight};

/// A service that is rolled out, has several versions, and does not say which one is stable.
#[derive(Clone, Debug)]
pub(super) struct Unsaid {
    service: Name,
    mark: Mark,
}

/// The field `stable` of a service: a version that exists and can serve, of a service that is rolled out. Outside `None`:
/// a fault was noted.
pub(crate) fn read_stable(
    fields: &mut Fields<'_, '_>,
    versions: Option<&Map<Version>>,
    split: Option<&Split>,
) -> Option<Option<Name>> {
    let declared = declared(fields);
    let stable = fields.with("stable", |reader, node| {
        let name = Name::read(node, reader)?;
        if declared.contains(&&*name) {
            return Some(name);
        }
        let near = reader.nearest(&name, declared.iter().copied());
        let problem = Problem::new(node.place, "no version has this name").found_node(node).nearest(near);
        reader.note(problem.expected(format!("a version of this service: {}", declared.join(", "))));
        None
    });
    if fields.get("stable").is_some() && fields.get("release").is_none() && fields.get("rollout").is_none() {
        fields.fault_at("stable", |place| {
            Problem::new(place, "`stable` without `release` or `rollout`").help(
                "`stable` says what serves where no state of a rollout is known: add `release: NAME`, or remove it",
            )
        });
        return None;
    }
    // What has weight by the split has been noted there.
    if let Some(Some(name)) = &stable
        && versions.and_then(|versions| versions.get(name)).is_some_and(|version| version.endpoints.is_empty())
        && split.is_some_and(|split| split.weight(name) == Weight::ZERO)
    {
        let message = format!("version `{name}` is `stable` and has no endpoints");
        fields.fault_at("stable", |place| {
            Problem::new(place, message).help("name the version that serves now, or give this one endpoints")
        });
        return None;
    }
    stable
}

/// The services that do not say which version is stable, each with the place where they should.
pub(super) fn unsaid(services: &Map<Service>, root: &Node<'_>, source: &str) -> Vec<Unsaid> {
    let Some(Value::Map(nodes)) = root.field("services").map(|(_, node)| &node.value) else { return Vec::new() };
    let mut names = Vec::new();
    let mut places = Vec::new();
    for ((key, node), (name, service)) in in_pieces(nodes.iter().zip(services.iter())) {
        if service.rollout.is_some() && service.stable.is_none() && service.versions.len() > 1 {
            let place = node.field("release").map_or(key.place, |(release, _)| release.place);
            names.push((place, name.clone()));
            places.push((format!("services.{name}.stable"), place));
        }
    }
    names.sort_by_key(|(place, _)| place.line);
    let marks = marked(places, source);
    names.into_iter().zip(marks).map(|((_, service), mark)| Unsaid { service, mark }).collect()
}

/// The version of which it is likeliest that it serves now: the one that stands before the release, or the first.
fn likely(service: &Service) -> &str {
    let full = || service.split.iter().find(|(_, weight)| *weight == Weight::FULL).map(|(name, _)| name);
    let wanted = service.release.as_ref().or_else(full);
    let earlier = service.versions.names().take_while(|name| Some(*name) != wanted).last();
    earlier.or(wanted).map_or("NAME", |name| &**name)
}

/// The other versions that are named in the help; a service may have 64.
const NAMED: usize = 8;

impl Config {
    /// Where `stable` is missing: remarks, for the file is valid. `limit` of them at most, and how many more there are.
    #[must_use]
    pub fn stable_unsaid(&self, limit: usize) -> (Vec<Diagnostic>, usize) {
        let all = &self.origin.unsaid;
        let remarks = all.iter().take(limit).map(|unsaid| {
            self.say_stable(
                unsaid,
                "nothing says which version is stable where no state is known",
                "without it, a Weir that knows no state (a new replica, an empty volume) does not start",
            )
        });
        (remarks.collect(), all.len().saturating_sub(limit))
    }

    /// Why these services cannot be rolled out, each with its reason: no state tells which version is stable, nor does the
    /// file.
    #[must_use]
    pub fn stable_unknown(&self, services: &[(Name, String)]) -> Diagnostics {
        let unsaid: HashMap<&str, &Unsaid> =
            self.origin.unsaid.iter().map(|unsaid| (&*unsaid.service, unsaid)).collect();
        let (mut list, mut more) = (Vec::new(), 0);
        for (service, why) in services {
            if list.len() == MAX_DIAGNOSTICS {
                more += 1;
                continue;
            }
            let message = format!("nothing says which version is stable: {why}");
            let help = "Weir does not guess: the version to be released may be one that failed";
            list.push(match unsaid.get(&**service) {
                Some(unsaid) => self.say_stable(unsaid, &message, help),
                None => Diagnostic::of_file(&self.origin.file.display().to_string(), message, help),
            });
        }
        Diagnostics::of(list, more).unwrap_or_else(|| no_diagnostic(&self.origin.file.display().to_string()))
    }

    fn say_stable(&self, unsaid: &Unsaid, message: &str, why: &str) -> Diagnostic {
        let service = self.services.get(&unsaid.service);
        let likely = service.map_or("NAME", likely);
        let others = service.into_iter().flat_map(|service| service.versions.names());
        let others: Vec<&str> = others.map(|name| &**name).filter(|name| *name != likely).take(NAMED).collect();
        let help = format!(
            "add the line `stable: {likely}` if {likely} is what serves now, or name the one that does ({}); {why}",
            others.join(", ")
        );
        unsaid.mark.diagnostic(&self.origin.file, message, &help)
    }
}
