//! The last command of an operator that was refused: kept until the next one that is accepted, so that whoever looks later
//! sees why nothing happened. It decides nothing, so it does not survive a restart.

use crate::rollout::engine::{CommandRefused, Event};

/// A command that was refused. Its texts are as short as the API lets them be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What, and why not.
    pub(crate) refused: CommandRefused,
    /// Who asked.
    pub(crate) author: String,
    /// Why they did, if they said.
    pub(crate) reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
}

/// Who asked for these and why, if an operator did.
pub(super) fn asked(events: &[Event]) -> Option<(String, String)> {
    events.iter().find_map(|event| match event {
        Event::Start { by, reason, .. } | Event::Verb { by, reason, .. } => Some((by.clone(), reason.clone())),
        _ => None,
    })
}
