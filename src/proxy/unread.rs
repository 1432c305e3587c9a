//! What is held for clients and endpoints that do not read: counted for the whole process, and ended beyond a limit.
//!
//! Each request holds a bounded amount while its client takes nothing of the answer, while its endpoint takes nothing of
//! the body, or while the rest of a small body is to come; but connections can be many. So each worker looks at its own a
//! few times a second, adds up what waits, and beyond `limits.unread_bytes` cuts its share of it, those first that have
//! waited longest. One of which nothing waits, such as an event stream between two events, is never among them.
//!
//! Invariant: no request takes a lock of another worker, or waits, to be counted here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::shared::Shared;

/// Somebody who holds what others do not read: an exchange, or a connection with several of them.
pub(crate) trait Holder: Send + Sync {
    /// Calls `found` with each exchange of which something waits: a number by which it is known here, for how long nothing
    /// of it was taken, and how many bytes it holds.
    fn waiting(&self, now: Instant, found: &mut dyn FnMut(usize, Duration, u64));

    /// Ends one of them at once.
    fn cut(&self, number: usize, now: Instant);
}

/// What one worker holds for those who do not read.
#[derive(Default)]
pub(crate) struct Unread {
    /// Those since the last check, and those that were still there. Only the worker's own thread locks it.
    holders: Mutex<Vec<Weak<dyn Holder>>>,
    /// What was counted at the last check.
    counted: AtomicU64,
}

/// An exchange of which something waits.
struct Waiting {
    holder: Arc<dyn Holder>,
    number: usize,
    quiet: Duration,
    bytes: u64,
}

/// Who took nothing for so long may not be reading.
pub(crate) const QUIET: Duration = Duration::from_millis(200);

/// How often a worker checks. In between, at 30,000 answers a second, a gigabyte could come; sound rates are far below.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Unread {
    /// Looks at this one from now on, for as long as it lives.
    pub(crate) fn watch(&self, holder: Weak<dyn Holder>) {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).push(holder);
    }

    /// Checks again and again.
    pub(crate) async fn run(&self, shared: &Shared) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.sweep(shared, Instant::now());
        }
    }

    /// Counts what waits on this worker, and cuts what is too much.
    fn sweep(&self, shared: &Shared, now: Instant) {
        let mut waiting = self.waiting(now);
        let own = waiting.iter().map(|waiting| waiting.bytes).sum();
        let unread = shared.recorder.unread();
        let total = unread.counted(self.counted.swap(own, Ordering::Relaxed), own);
        let limit = shared.current.peek().client.unread_bytes;
        let mut excess = share(own, total, limit);
        if excess == 0 {
            return;
        }
        waiting.sort_unstable_by_key(|waiting| std::cmp::Reverse(waiting.quiet));
        for Waiting { holder, number, bytes, .. } in waiting {
            if excess == 0 {
                break;
            }
            holder.cut(number, now);
            unread.cut();
            excess = excess.saturating_sub(bytes);
        }
    }

    /// The exchanges of which something waits; holders that are over are forgotten.
    fn waiting(&self, now: Instant) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        let mut all = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|holder| {
            let Some(holder) = holder.upgrade() else { return false };
            holder.waiting(now, &mut |number, quiet, bytes| {
                if quiet >= QUIET {
                    waiting.push(Waiting { holder: Arc::clone(&holder), number, quiet, bytes });
                }
            });
            true
        });
        // What a burst took is given back.
        if all.capacity() > 4 * all.len().max(64) {
            let kept = 2 * all.len();
            all.shrink_to(kept);
        }
        waiting
    }
}

/// How many bytes of a worker's own must go: its share of what is above the limit, and a tenth of the limit more, so that
/// this is not the next check's work again.
fn share(own: u64, total: u64, limit: u64) -> u64 {
    if total <= limit || total == 0 {
        return 0;
    }
    let excess = u128::from(total - limit + limit / 10);
    let bytes = (excess * u128::from(own)).div_ceil(u128::from(total)).min(u128::from(own));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gives_up_its_share_and_no_more_than_it_has() {
        for (own, total, cut) in [(0, 0, 0), (100, 100, 0), (101, 101, 11), (50, 200, 28), (200, 200, 110), (0, 500, 0)]
        {
            assert_eq!(share(own, total, 100), cut, "{own} of {total}");
        }
        assert!(share(1, u64::MAX, 0) <= 1);
    }
}
