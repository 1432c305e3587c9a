//! States of versions and endpoints: what is wanted now, and what stands against it, changed without a new snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::{EndpointState, Name};

/// States that operators put over the file's: by service, version and, for one endpoint, its name.
pub type States = BTreeMap<(Name, Name, Option<Name>), EndpointState>;

/// What is wanted of `endpoint`, or of the version itself: what an operator said, else what the file declares.
pub(in crate::snapshot) fn desired(
    states: &States,
    (service, version): (&Name, &Name),
    endpoint: Option<&Name>,
    declared: EndpointState,
) -> EndpointState {
    if states.is_empty() {
        return declared;
    }
    states.get(&(service.clone(), version.clone(), endpoint.cloned())).copied().unwrap_or(declared)
}

/// Why an endpoint that is wanted takes no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Out {
    /// It is ejected for what happened to requests.
    Ejected = 1 << 2,
    /// It accepts no connections.
    Unreachable = 1 << 3,
    /// It failed its checks.
    Unhealthy = 1 << 4,
}

/// A state that changes while it is read, and what stands against it: one number, so that whether an endpoint takes
/// requests is one look.
#[derive(Debug)]
pub(crate) struct StateCell(AtomicU8);

impl StateCell {
    pub(in crate::snapshot) const fn new(state: EndpointState) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    /// The state of this moment.
    #[inline]
    #[must_use]
    pub(crate) fn get(&self) -> EndpointState {
        match self.0.load(Ordering::Acquire) & STATE {
            READY => EndpointState::Ready,
            DRAIN => EndpointState::Drain,
            _ => EndpointState::Maint,
        }
    }

    /// Whether it is `ready` and nothing stands against it.
    #[inline]
    #[must_use]
    pub(crate) fn is_available(&self) -> bool {
        self.0.load(Ordering::Acquire) == READY
    }

    /// Whether it is out for this reason, whatever else holds.
    #[must_use]
    pub(crate) fn is_out(&self, why: Out) -> bool {
        self.0.load(Ordering::Acquire) & why as u8 != 0
    }

    pub(in crate::snapshot) fn set(&self, state: EndpointState) {
        let next = |now: u8| Some(now & !STATE | state as u8);
        let _before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Takes it out for this reason, or ends that; whether that is news.
    pub(super) fn set_out(&self, why: Out, out: bool) -> bool {
        let bit = why as u8;
        let before =
            if out { self.0.fetch_or(bit, Ordering::AcqRel) } else { self.0.fetch_and(!bit, Ordering::AcqRel) };
        (before & bit != 0) != out
    }
}

const READY: u8 = EndpointState::Ready as u8;
const DRAIN: u8 = EndpointState::Drain as u8;
/// The bits of the state; the others are [`Out`]'s.
const STATE: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_every_state_beside_what_stands_against_it() {
        for state in EndpointState::ALL {
            let cell = StateCell::new(state);
            assert_eq!((cell.get(), cell.is_available()), (state, state == EndpointState::Ready));
            assert!(cell.set_out(Out::Ejected, true) && !cell.set_out(Out::Ejected, true));
            assert!(cell.set_out(Out::Unreachable, true));
            assert_eq!((cell.get(), cell.is_available()), (state, false));
            cell.set(EndpointState::Ready);
            assert!(!cell.is_available() && cell.is_out(Out::Ejected) && cell.is_out(Out::Unreachable));
            assert!(cell.set_out(Out::Ejected, false) && !cell.is_available());
            assert!(cell.set_out(Out::Unreachable, false) && cell.is_available());
        }
    }
}
