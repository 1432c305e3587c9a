//! Requests by the lane that carries them, and how many are in flight in the whole process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::label::{H2Abuse, Lane};
use super::sharded::Sharded;

const IN_FLIGHT: usize = 0;
const CARRIED: usize = 1;
const WIDTH: usize = CARRIED + Lane::ALL.len();

/// What the lanes carry. Obtained from [`Recorder::lanes`](super::Recorder::lanes).
#[derive(Debug)]
pub(crate) struct LaneSeries(Sharded);

impl LaneSeries {
    pub(super) fn new(shards: usize) -> Self {
        Self(Sharded::new(shards, WIDTH))
    }

    /// A request's head is complete: it is in flight until [`Self::left`].
    #[inline]
    pub(crate) fn entered(&self) {
        self.0.add(IN_FLIGHT, 1);
    }

    /// A request is over; `lane` carried it. To be called by the thread that called [`Self::entered`], so that
    /// [`Self::in_flight`] is never 0 too early.
    #[inline]
    pub(crate) fn left(&self, lane: Lane) {
        self.0.add(CARRIED + lane.index(), 1);
        self.0.sub_one(IN_FLIGHT);
    }

    /// Requests and streams in flight.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.0.gauge(IN_FLIGHT)
    }

    /// Requests that `lane` carried to their end.
    #[must_use]
    pub(crate) fn carried(&self, lane: Lane) -> u64 {
        self.0.sum(CARRIED + lane.index())
    }
}

/// What is held for clients and endpoints that do not read. Obtained from
/// [`Recorder::unread`](super::Recorder::unread).
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: AtomicU64,
    cut: AtomicU64,
}

impl Unread {
    /// A worker's part was `before` bytes and is `now`. Returns that of all.
    pub(crate) fn counted(&self, before: u64, now: u64) -> u64 {
        let last = self.bytes.fetch_add(now, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        (last + now).saturating_sub(before)
    }

    /// A request was cut.
    pub(crate) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// HTTP/2 connections that were ended for what their clients did, by what that was. Obtained from
/// [`Recorder::h2_abuse`](super::Recorder::h2_abuse).
#[derive(Debug, Default)]
pub(crate) struct H2AbuseSeries([AtomicU64; H2Abuse::ALL.len()]);

impl H2AbuseSeries {
    /// A connection was ended.
    pub(crate) fn ended(&self, kind: H2Abuse) {
        if let Some(count) = self.0.get(kind.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, kind: H2Abuse) -> u64 {
        self.0.get(kind.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_flight_until_their_lane_has_carried_them() {
        let lanes = LaneSeries::new(2);
        lanes.entered();
        lanes.entered();
        lanes.left(Lane::Express);
        assert_eq!((lanes.in_flight(), lanes.carried(Lane::Express), lanes.carried(Lane::General)), (1, 1, 0));
        lanes.left(Lane::General);
        assert_eq!((lanes.in_flight(), lanes.carried(Lane::General)), (0, 1));
    }
}
