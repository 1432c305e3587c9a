//! Requests by the lane that carries them, and how many are in flight in the whole process.

use super::label::Lane;
use super::sharded::Sharded;

const IN_FLIGHT: usize = 0;
const CARRIED: usize = 1;
const WIDTH: usize = CARRIED + Lane::ALL.len();

/// What the lanes carry. Obtained from [`Recorder::lanes`](super::Recorder::lanes).
#[derive(Debug)]
pub struct Lanes(Sharded);

impl Lanes {
    pub(super) fn new(shards: usize) -> Self {
        Self(Sharded::new(shards, WIDTH))
    }

    /// A request's head is complete: it is in flight until [`Self::left`].
    #[inline]
    pub fn entered(&self) {
        self.0.add(IN_FLIGHT, 1);
    }

    /// A request is over; `lane` carried it. To be called by the thread that called [`Self::entered`], so that
    /// [`Self::in_flight`] is never 0 too early.
    #[inline]
    pub fn left(&self, lane: Lane) {
        self.0.add(CARRIED + lane.index(), 1);
        self.0.sub_one(IN_FLIGHT);
    }

    /// Requests and streams in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.gauge(IN_FLIGHT)
    }

    /// Requests that `lane` carried to their end.
    #[must_use]
    pub fn carried(&self, lane: Lane) -> u64 {
        self.0.sum(CARRIED + lane.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_flight_until_their_lane_has_carried_them() {
        let lanes = Lanes::new(2);
        lanes.entered();
        lanes.entered();
        lanes.left(Lane::Express);
        assert_eq!((lanes.in_flight(), lanes.carried(Lane::Express), lanes.carried(Lane::General)), (1, 1, 0));
        lanes.left(Lane::General);
        assert_eq!((lanes.in_flight(), lanes.carried(Lane::General)), (0, 1));
    }
}
