//! Feature flags of one request: which its service has, and what each is for it. A flag is a service whose versions are `off`
//! and `on`, so its chooser decides, and a request counts on the version that it got.

use std::sync::Arc;

use super::decision::decision;
use crate::snapshot::{FlagSwitch, Service, Snapshot};
use crate::traffic::Request;

/// The flags of one request, and which of them are on.
#[derive(Clone, Copy, Default)]
pub(crate) struct FlagValues<'s> {
    flags: &'s [Arc<Service>],
    /// A bit for each.
    on: u16,
}

impl<'s> FlagValues<'s> {
    /// Decides the flags of a request to `service`, an index; `key` is its client's affinity key there.
    #[inline]
    pub(crate) fn choose(snapshot: &'s Snapshot, service: usize, request: &impl Request, key: Option<u64>) -> Self {
        let flags = snapshot.flags_of(service);
        let on = if flags.is_empty() { 0 } else { choose(flags, request, key) };
        Self { flags, on }
    }

    /// Those of a request to `service` that were decided before.
    pub(crate) fn decided(snapshot: &'s Snapshot, service: usize, on: u16) -> Self {
        Self { flags: snapshot.flags_of(service), on }
    }

    /// Which are on, to be kept for [`Self::decided`].
    pub(crate) const fn bits(self) -> u16 {
        self.on
    }

    /// Each flag's service, its switch, and the index of the version that the request got.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'s Service, &'s FlagSwitch, usize)> {
        let flags = self.flags.iter().enumerate();
        flags
            .filter_map(move |(at, service)| Some((&**service, service.flag.as_ref()?, usize::from(self.on >> at & 1))))
    }
}

#[cold]
fn choose(flags: &[Arc<Service>], request: &impl Request, key: Option<u64>) -> u16 {
    let mut on = 0;
    for (at, service) in flags.iter().enumerate().take(u16::BITS as usize) {
        let choice = service.chooser.choose_for(request, key);
        if let Some(version) = service.versions.get(choice.version) {
            version.series.decided(decision(choice.reason));
        }
        on |= u16::from(choice.version == FlagSwitch::ON) << at;
    }
    on
}
