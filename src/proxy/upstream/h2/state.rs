//! What is known of HTTP/2 connections beside what the `h2` crate tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

/// What the connections to one endpoint have in common.
#[derive(Debug)]
pub(crate) struct SharedState {
    /// Rings when requests may join a connection, or must not any more.
    pub(crate) changed: Notify,
    /// So many requests a connection may carry in all, as far as is known.
    allowance: AtomicU64,
}

impl Default for SharedState {
    fn default() -> Self {
        Self { changed: Notify::new(), allowance: AtomicU64::new(u64::MAX) }
    }
}

impl SharedState {
    pub(crate) fn allowance(&self) -> u64 {
        self.allowance.load(Ordering::Acquire)
    }

    /// An endpoint that ends connections after so many requests will do so again. Who knows it sends no more on one, and
    /// nobody is turned away.
    fn learn(&self, total: u64) {
        self.allowance.store(total.max(1), Ordering::Release);
    }

    /// A connection carried all it may, and the endpoint did not end it: that was not why it ended another.
    pub(super) fn unlearn(&self, carried: u64) {
        self.allowance.fetch_max(carried.saturating_mul(2), Ordering::AcqRel);
    }
}

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// The endpoint's first SETTINGS arrived: how many streams it takes is known.
    settled: AtomicBool,
    /// No new request may go on it.
    over: AtomicBool,
    /// The last stream that a GOAWAY lets live.
    last_stream: AtomicU32,
    pub(super) shared: Arc<SharedState>,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl ConnectionState {
    pub(super) fn new(shared: Arc<SharedState>) -> Self {
        Self {
            settled: AtomicBool::new(false),
            over: AtomicBool::new(false),
            last_stream: AtomicU32::new(NO_GOAWAY),
            shared,
        }
    }

    pub(crate) fn settled(&self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.shared.changed.notify_waiters();
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// A GOAWAY arrived: streams above `last` were not and will not be processed (RFC 9113 §6.8).
    pub(crate) fn going_away(&self, last: u32) {
        self.last_stream.fetch_min(last, Ordering::AcqRel);
        // The highest announces a close and ends nothing yet.
        if last < ANNOUNCED {
            self.shared.learn(u64::from(last.div_ceil(2)));
        }
        self.retire();
    }

    pub(super) fn saw_goaway(&self) -> bool {
        self.last_stream.load(Ordering::Acquire) != NO_GOAWAY
    }

    /// Whether the endpoint said that it does not process this stream.
    pub(crate) fn excludes(&self, stream: u32) -> bool {
        stream > self.last_stream.load(Ordering::Acquire)
    }

    /// No new request goes on the connection; those under way end in their own time.
    pub(crate) fn retire(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.shared.changed.notify_waiters();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The last stream while no GOAWAY names one; ids end at 2³¹−1.
const NO_GOAWAY: u32 = u32::MAX;

/// The last stream of a GOAWAY that only announces the end, 2³¹−1 (RFC 9113 §6.8).
const ANNOUNCED: u32 = u32::MAX >> 1;
