//! When a version was in use last: the fact that says whether it can be removed.
//!
//! Requests write nothing for this. Once a second the counters that they write anyway are read: a version is in
//! use while something is open on it, and was in use since the last observation if more requests have finished than
//! then.

use std::time::{Duration, Instant};

/// When a version was in use last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastUse {
    /// Requests in flight, streams included.
    pub(crate) open: u64,
    /// For how long it has had no request and no open stream; none if no use of it is known.
    pub(crate) idle: Option<Duration>,
    /// For how long this process has watched it: where no use is known, nothing is known of the time before.
    pub(crate) watched: Duration,
}

/// The uses of one version.
#[derive(Debug, Default)]
pub(super) struct UseTracker {
    /// Finished requests at the last observation.
    finished: u64,
    /// At this moment it had been idle for so long.
    last: Option<(Instant, Duration)>,
}

impl UseTracker {
    /// Observes at `now`: so much is open, so many have finished in all.
    pub(super) fn observe(&mut self, now: Instant, open: u64, finished: u64) {
        if open > 0 || finished != self.finished {
            self.finished = finished;
            self.last = Some((now, Duration::ZERO));
        }
    }

    /// An earlier process knew that it had been idle for `idle` at `now`. The later use counts.
    pub(super) fn remember(&mut self, idle: Duration, now: Instant) {
        if self.idle(now).is_none_or(|known| idle < known) {
            self.last = Some((now, idle));
        }
    }

    /// What is known at `now`, after it was watched for so long, with so much open.
    pub(super) fn last(&self, now: Instant, watched: Duration, open: u64) -> LastUse {
        LastUse { open, idle: self.idle(now), watched }
    }

    fn idle(&self, now: Instant) -> Option<Duration> {
        self.last.map(|(at, idle)| idle.saturating_add(now.saturating_duration_since(at)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::histogram::Edges;
    use super::super::{Outcome, StreamKind, VersionSeries};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn version(born: Instant) -> Arc<VersionSeries> {
        let edges = Arc::new(Edges::standard());
        Arc::new(VersionSeries::new("shop".into(), "v1".into(), 2, edges, born))
    }

    #[test]
    fn a_use_is_seen_by_the_next_observation_and_grows_old_from_there() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let version = version(start);
        assert_eq!(version.last_use(at(5)), LastUse { open: 0, idle: None, watched: 5 * SECOND });
        let route = version.route(&"r".into());
        route.finish(Outcome::Status(200), SECOND);
        version.tick(at(10));
        version.tick(at(11));
        assert_eq!(version.last_use(at(70)).idle, Some(60 * SECOND));
        // A use that no tick has seen yet is one all the same.
        route.finish(Outcome::Status(503), SECOND);
        assert_eq!(version.last_use(at(80)).idle, Some(Duration::ZERO));
        assert_eq!(version.last_use(at(79)).idle, Some(Duration::ZERO), "a clock read a little earlier");
    }

    #[test]
    fn an_open_stream_is_use_until_it_closes() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let version = version(start);
        let open = (version.enter(), version.stream(StreamKind::Sse));
        (1..=100).for_each(|second| version.tick(at(second)));
        assert_eq!(version.last_use(at(100)), LastUse { open: 1, idle: Some(Duration::ZERO), watched: 100 * SECOND });
        drop(open);
        version.tick(at(101));
        assert_eq!(version.last_use(at(160)).idle, Some(60 * SECOND), "it was open at the last observation");
    }

    #[test]
    fn what_an_earlier_process_knew_counts_until_something_later_is_seen() {
        let start = Instant::now();
        let version = version(start);
        version.remember_use(100 * SECOND, start);
        assert_eq!(version.last_use(start + 20 * SECOND).idle, Some(120 * SECOND));
        version.remember_use(500 * SECOND, start + 20 * SECOND);
        assert_eq!(version.last_use(start + 20 * SECOND).idle, Some(120 * SECOND), "the later use counts");
        version.route(&"r".into()).finish(Outcome::Status(200), SECOND);
        version.tick(start + 30 * SECOND);
        version.remember_use(100 * SECOND, start + 40 * SECOND);
        assert_eq!(version.last_use(start + 40 * SECOND).idle, Some(10 * SECOND));
    }
}
