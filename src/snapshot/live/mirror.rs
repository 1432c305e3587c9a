//! A mirror across snapshots: whose turn it is to be copied, and which copies are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Weight;
use crate::telemetry::MirrorSeries;

/// What outlives a snapshot of the copies of a service's requests for one version.
///
/// Invariant: there are never more copies under way than the limit that each of them was admitted with.
#[derive(Debug)]
pub(crate) struct MirrorLive {
    /// Requests that could have been copied.
    turns: AtomicU64,
    under_way: AtomicU64,
    pub(crate) series: Arc<MirrorSeries>,
}

/// A copy that is under way; dropped with it.
#[derive(Debug)]
pub(crate) struct MirrorPermit(Arc<MirrorLive>);

impl MirrorLive {
    pub(super) fn new(series: Arc<MirrorSeries>) -> Self {
        Self { turns: AtomicU64::new(0), under_way: AtomicU64::new(0), series }
    }

    /// Whether the next request is copied: exactly this share of any ten thousand is, spread evenly (Bresenham's line).
    pub(crate) fn is_next(&self, share: Weight) -> bool {
        let (whole, share) = (u64::from(Weight::FULL.basis_points()), u64::from(share.basis_points()));
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) % whole;
        (turn + 1) * share / whole > turn * share / whole
    }

    /// Admits one more copy, if fewer than `most` are under way.
    pub(crate) fn try_enter(self: &Arc<Self>, most: u64) -> Option<MirrorPermit> {
        let one_more = |now| (now < most).then_some(now + 1);
        self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(MirrorPermit(Arc::clone(self)))
    }
}

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::{Recorder, RecorderOptions};

    fn live() -> Arc<MirrorLive> {
        let options = RecorderOptions { threads: 1, version: "", revision: "", started: Instant::now() };
        Arc::new(MirrorLive::new(Recorder::new(options).mirror(&"shop".into(), &"v2".into())))
    }

    proptest! {
        #[test]
        fn the_share_is_exact_over_ten_thousand_and_even_within(share in 0..=10_000_u16, before in 0..20_000_usize) {
            let (live, weight) = (live(), Weight::from_basis_points(share).unwrap());
            (0..before).for_each(|_| _ = live.is_next(weight));
            let mut copied = 0;
            for seen in 1..=10_000_u64 {
                copied += u64::from(live.is_next(weight));
                let due = seen * u64::from(share) / 10_000;
                prop_assert!(copied.abs_diff(due) <= 1, "{copied} of {seen}");
            }
            prop_assert_eq!(copied, u64::from(share));
        }
    }

    #[test]
    fn no_more_are_under_way_than_may_be() {
        let live = live();
        let (first, second) = (live.try_enter(2), live.try_enter(2));
        assert!(first.is_some() && second.is_some() && live.try_enter(2).is_none());
        drop(first);
        assert!(live.try_enter(2).is_some() && live.try_enter(1).is_none());
    }
}
