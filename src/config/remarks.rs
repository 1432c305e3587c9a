//! Which version is stable where no state is known: what the file says, and where it does not say it.
//!
//! A file without `stable` is valid, because a state that is known decides. But a new replica, an empty volume and a lost
//! directory know none, and the version that is to be released is the last one to be given everything unjudged. So the
//! places where the word is missing are kept: `weir check` remarks on them, and `weir run` needs them to refuse.

use std::collections::HashMap;

use super::file::{Config, ServiceMark};
use super::section::service::Service;
use super::syntax::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS};
use super::syntax::map::Map;
use super::syntax::tree::Node;
use crate::model::{Name, Weight};

/// The services that do not say which version is stable, each with the place where they should.
pub(super) fn missing_stable(services: &Map<Service>, root: &Node<'_>, source: &str) -> Vec<ServiceMark> {
    ServiceMark::find(services, (root, source), "stable", |service, name, node| {
        let missing = service.rollout.is_some() && service.stable.is_none() && service.versions.len() > 1;
        missing.then(|| node.field("release").map_or(name, |(release, _)| release.place))
    })
}

/// Why a service cannot be rolled out.
#[derive(Clone, Debug)]
pub(crate) struct NotStartable {
    /// The service.
    pub(crate) service: Name,
    /// Why.
    pub(crate) why: String,
    /// What to write, where it is not the line `stable`.
    pub(crate) help: Option<String>,
}

/// The version of which it is likeliest that it serves now: the one that stands before the release, or the first.
fn likely(service: &Service) -> &str {
    let full = service.split.iter().find(|(_, weight)| *weight == Weight::FULL).map(|(name, _)| name);
    let wanted = service.release.as_ref().or(full);
    let earlier = service.versions.names().take_while(|name| Some(*name) != wanted).last();
    earlier.or(wanted).map_or("NAME", |name| &**name)
}

/// The other versions that are named in the help; a service may have 64.
const NAMED: usize = 8;

impl Config {
    /// Where `stable` is missing: remarks, for the file is valid. `limit` of them at most, and how many more there are.
    #[must_use]
    pub(crate) fn stable_missing(&self, limit: usize) -> (Vec<Diagnostic>, usize) {
        let all = &self.origin.missing_stable;
        let remarks = all.iter().take(limit).map(|unsaid| {
            self.ask_for_stable(
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
    pub(crate) fn stable_unknown(&self, services: &[NotStartable]) -> Diagnostics {
        let unsaid: HashMap<&str, &ServiceMark> =
            self.origin.missing_stable.iter().map(|unsaid| (&*unsaid.service, unsaid)).collect();
        let (mut list, mut more) = (Vec::new(), 0);
        for NotStartable { service, why, help } in services {
            if list.len() == MAX_DIAGNOSTICS {
                more += 1;
                continue;
            }
            let unsaid = unsaid.get(&**service);
            if let Some(help) = help {
                let message = format!("it is not clear where the rollout of `{service}` starts: {why}");
                list.push(match unsaid {
                    Some(unsaid) => unsaid.mark.diagnostic(&self.origin.file, &message, help),
                    None => Diagnostic::of_file(&self.origin.file.display().to_string(), message, help),
                });
                continue;
            }
            let message = format!("nothing says which version is stable: {why}");
            let help = "Weir does not guess: the version to be released may be one that failed";
            list.push(match unsaid {
                Some(unsaid) => self.ask_for_stable(unsaid, &message, help),
                None => Diagnostic::of_file(&self.origin.file.display().to_string(), message, help),
            });
        }
        Diagnostics::of(list, more).unwrap_or_else(|| Diagnostics::unexplained(&self.origin.file.display().to_string()))
    }

    fn ask_for_stable(&self, unsaid: &ServiceMark, message: &str, why: &str) -> Diagnostic {
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
