//! What is held for clients and endpoints that do not read: counted for the whole process, and ended beyond a limit.
//!
//! Each request on the general lane holds a bounded amount while its client takes nothing of the answer, while its
//! endpoint takes nothing of the body, or while the rest of a small body is to come; but connections can be many.
//! So each worker looks at its own a few times a second, adds up what waits, and beyond `limits.unread_bytes`
//! cuts its share of it, those first that have waited longest. One of which nothing waits, such as an event stream
//! between two events, is never among them.
//!
//! Invariant: no request takes a lock of another worker, or waits, to be counted here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Exchange;
use crate::proxy::shared::Shared;

/// The exchanges of one worker.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Those since the last check, and those that were still there. Only the worker's own thread locks it.
    exchanges: Mutex<Vec<Weak<Exchange>>>,
    /// What was counted at the last check.
    counted: AtomicU64,
}

/// How often a worker checks. In between, at 30,000 answers a second, a gigabyte could come; sound rates are far below.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What one of them holds at most while nothing is taken: the engine's pieces, or one of them and a stream's
/// window, and the exchange itself.
const HELD: u64 = 320 * 1024;

impl Unread {
    /// An exchange has begun.
    pub(crate) fn watch(&self, exchange: &Arc<Exchange>) {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(exchange));
    }

    /// Checks again and again.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.sweep(&shared, Instant::now());
        }
    }

    /// Counts what waits on this worker, and cuts what is too much.
    fn sweep(&self, shared: &Shared, now: Instant) {
        let mut waiting = self.waiting(now);
        let own = HELD * waiting.len() as u64;
        let unread = shared.recorder.unread();
        let total = unread.counted(self.counted.swap(own, Ordering::Relaxed), own);
        let limit = shared.current.peek().client.unread_bytes;
        let cut = share(own, total, limit);
        if cut == 0 {
            return;
        }
        waiting.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        for (_, exchange) in waiting.iter().take(cut) {
            exchange.end_unread(now);
            exchange.handle.abandon_blocked();
            unread.cut();
        }
    }

    /// The exchanges of which something waits, and for how long it has; those that are over are forgotten.
    fn waiting(&self, now: Instant) -> Vec<(Duration, Arc<Exchange>)> {
        let mut waiting = Vec::new();
        let mut all = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|exchange| {
            let Some(exchange) = exchange.upgrade() else { return false };
            if let Some(quiet) = exchange.unread_for(now) {
                waiting.push((quiet, exchange));
            }
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

/// How many of a worker's exchanges must go: its share of what is above the limit, and a tenth of the limit more, so
/// that this is not the next check's work again.
fn share(own: u64, total: u64, limit: u64) -> usize {
    if total <= limit || total == 0 {
        return 0;
    }
    let excess = u128::from(total - limit + limit / 10);
    let bytes = (excess * u128::from(own)).div_ceil(u128::from(total)).min(u128::from(own));
    usize::try_from(bytes.div_ceil(u128::from(HELD))).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gives_up_its_share_and_no_more_than_it_has() {
        let limit = 100 * HELD;
        for (own, total, cut) in [(0, 0, 0), (100, 100, 0), (101, 101, 11), (50, 200, 28), (200, 200, 110), (0, 500, 0)]
        {
            assert_eq!(share(own * HELD, total * HELD, limit), cut, "{own} of {total}");
        }
        assert!(share(HELD, u64::MAX, 0) <= 1);
    }
}
