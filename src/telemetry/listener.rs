//! Client connections of one listener.
//!
//! A connection is counted by a value that its stream holds, so it is counted down however it ends.

use std::sync::Arc;

use crate::model::Name;

use super::label::ConnectionRefusal;
use super::sharded::Sharded;

const OPEN: usize = 0;
const ACCEPTED: usize = 1;
const REFUSED: usize = 2;
const WIDTH: usize = REFUSED + ConnectionRefusal::ALL.len();

/// What happened on one listener. Obtained from [`Recorder::listener`](super::Recorder::listener).
#[derive(Debug)]
pub(crate) struct ListenerSeries {
    listener: Name,
    counters: Sharded,
}

impl ListenerSeries {
    pub(super) fn new(listener: Name, shards: usize) -> Self {
        Self { listener, counters: Sharded::new(shards, WIDTH) }
    }

    /// The listener's name.
    #[must_use]
    pub(crate) const fn listener(&self) -> &Name {
        &self.listener
    }

    /// A connection was accepted: it is open until the returned value is dropped.
    pub(crate) fn accepted(self: &Arc<Self>) -> OpenConnection {
        self.counters.add(ACCEPTED, 1);
        self.counters.add(OPEN, 1);
        OpenConnection(Arc::clone(self))
    }

    /// A connection that was accepted was closed before it carried a request, or, by [`ConnectionRefusal::Limit`],
    /// before its next one.
    pub(crate) fn refused(&self, reason: ConnectionRefusal) {
        self.counters.add(REFUSED + reason.index(), 1);
    }

    /// Connections open now.
    #[must_use]
    pub(crate) fn connections(&self) -> u64 {
        self.counters.gauge(OPEN)
    }

    /// Connections accepted so far.
    #[must_use]
    pub(crate) fn accepted_total(&self) -> u64 {
        self.counters.sum(ACCEPTED)
    }

    /// Connections refused so far for `reason`.
    #[must_use]
    pub(crate) fn refused_total(&self, reason: ConnectionRefusal) -> u64 {
        self.counters.sum(REFUSED + reason.index())
    }
}

/// An open client connection; dropping it counts it down.
#[derive(Debug)]
#[must_use = "what is dropped is no longer open"]
pub(crate) struct OpenConnection(Arc<ListenerSeries>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.counters.sub_one(OPEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_up_and_down_and_refusals_by_reason() {
        let listener = Arc::new(ListenerSeries::new("web".into(), 4));
        let (one, two) = (listener.accepted(), listener.accepted());
        ConnectionRefusal::ALL.iter().for_each(|reason| listener.refused(*reason));
        drop(one);
        assert_eq!((listener.connections(), listener.accepted_total()), (1, 2));
        drop(two);
        assert_eq!(listener.connections(), 0);
        assert!(ConnectionRefusal::ALL.iter().all(|reason| listener.refused_total(*reason) == 1));
    }
}
