//! States of versions and endpoints: what is wanted now, changed without a new snapshot.

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

/// A state that changes while it is read.
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
        match self.0.load(Ordering::Acquire) {
            READY => EndpointState::Ready,
            DRAIN => EndpointState::Drain,
            _ => EndpointState::Maint,
        }
    }

    pub(in crate::snapshot) fn set(&self, state: EndpointState) {
        self.0.store(state as u8, Ordering::Release);
    }
}

const READY: u8 = EndpointState::Ready as u8;
const DRAIN: u8 = EndpointState::Drain as u8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_every_state() {
        for state in EndpointState::ALL {
            assert_eq!(StateCell::new(state).get(), state);
        }
    }
}
