//! The alerts that one receiver has not got yet, oldest first.
//!
//! Invariants: no more than [`QUEUE_CAPACITY`] alerts wait; no two of them have the same id; an alert that is being
//! sent is not the one that makes room.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Alert;

/// Alerts that wait for one receiver at most.
pub(crate) const QUEUE_CAPACITY: usize = 64;

/// An alert that is still to be delivered, as it is stored over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Whom.
    pub(crate) receiver: String,
    /// Attempts that failed.
    #[serde(rename = "tries")]
    pub(crate) attempts: u32,
    /// What.
    pub(crate) alert: Alert,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// With the attempts that failed.
    waiting: VecDeque<(Alert, u32)>,
    /// The first one is being sent.
    sending: bool,
}

impl Queue {
    /// Adds an alert, unless it is there already. If there is no room, the oldest one is given back instead.
    pub(super) fn push(&mut self, alert: Alert, attempts: u32) -> Option<Alert> {
        if self.waiting.iter().any(|(waiting, _)| waiting.id == alert.id) {
            return None;
        }
        self.waiting.push_back((alert, attempts));
        if self.waiting.len() <= QUEUE_CAPACITY {
            return None;
        }
        self.waiting.remove(usize::from(self.sending)).map(|(oldest, _)| oldest)
    }

    /// The alert to be sent now, if there is one. It stays in the queue until [`Queue::settle`].
    pub(super) fn next(&mut self) -> Option<Alert> {
        let (alert, _) = self.waiting.front()?;
        self.sending = true;
        Some(alert.clone())
    }

    /// Takes out what [`Queue::next`] gave: it is delivered or given up.
    pub(super) fn settle(&mut self) {
        self.sending = false;
        self.waiting.pop_front();
    }

    /// Keeps what [`Queue::next`] gave for another attempt. How many have failed now?
    pub(super) fn failed(&mut self) -> u32 {
        self.sending = false;
        self.waiting.front_mut().map_or(0, |(_, attempts)| {
            *attempts = attempts.saturating_add(1);
            *attempts
        })
    }

    /// Everything that waits, oldest first, with the attempts that failed.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &(Alert, u32)> {
        self.waiting.iter()
    }
}
