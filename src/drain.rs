//! Going away without harm: work in flight is counted by kind, may finish until a deadline, and is then cut.
//!
//! An endpoint has one [`Ledger`]. Whoever works on it holds a [`Ticket`]; leaving is `Drop`, so a ticket
//! cannot be forgotten. When a drain's deadline passes, the owner of the drain raises the ledger's
//! [`Cut`] level and notifies through the [`Notifier`]; each holder then looks at its own ledger and ends what is due.
//!
//! ```text
//! enter ──► Ticket(Request) ──becomes──► Ticket(WebSocket) ──► drop
//!              │ cut level ≥ Requests        │ cut level = All
//!              ▼                             ▼
//!            ended, counted                ended, counted
//! ```
//!
//! Invariant: nothing here waits or locks on the way of a request; counts are relaxed atomics.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::watch;

/// What kind of work is in flight, because a drain gives each its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// An ordinary request and its response.
    Request,
    /// A connection upgraded to WebSocket.
    WebSocket,
    /// A stream of server-sent events.
    Sse,
    /// A gRPC call.
    Grpc,
    /// A connection upgraded to another allowed protocol.
    Upgrade,
}

impl Kind {
    /// Whether the work counts as a stream, which may live long.
    #[must_use]
    pub(crate) const fn is_stream(self) -> bool {
        !matches!(self, Self::Request)
    }
}

/// How much of the work in flight shall end now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Cut {
    /// Nothing: all may finish.
    #[default]
    Nothing = 0,
    /// Requests, but not streams.
    Requests = 1,
    /// Everything.
    All = 2,
}

/// The work in flight on one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    in_flight: AtomicU64,
    streams: AtomicU64,
    cut: AtomicU8,
    cut_count: AtomicU64,
}

impl Ledger {
    /// Enters a request; it is in flight until the ticket is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Ticket {
        Ticket::new(Arc::clone(self))
    }

    /// Like [`Self::enter`], for one who borrows the ledger all the while: it saves counting a reference that all
    /// threads share.
    pub(crate) fn enter_borrowed(&self) -> Ticket<&Self> {
        Ticket::new(self)
    }

    /// Requests in flight, streams included.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open streams.
    #[must_use]
    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Says what shall end now. Call the [`Notifier`] after it, so that the holders look.
    pub(crate) fn set_cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::Release);
    }

    /// How many requests and streams were cut so far.
    #[must_use]
    pub(crate) fn cut_count(&self) -> u64 {
        self.cut_count.load(Ordering::Relaxed)
    }
}

/// One piece of work in flight; dropping it takes the work out of its ledger.
#[derive(Debug)]
#[must_use = "the work is in flight only while its ticket lives"]
pub(crate) struct Ticket<L: Deref<Target = Ledger> = Arc<Ledger>> {
    ledger: L,
    kind: Kind,
}

impl<L: Deref<Target = Ledger>> Ticket<L> {
    fn new(ledger: L) -> Self {
        ledger.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { ledger, kind: Kind::Request }
    }

    /// The work turned out to be of `kind`. A stream stays one: a second call changes nothing.
    pub(crate) fn becomes(&mut self, kind: Kind) {
        if kind.is_stream() && !self.kind.is_stream() {
            self.ledger.streams.fetch_add(1, Ordering::Relaxed);
            self.kind = kind;
        }
    }

    /// Whether the drain's deadline for this kind of work has passed.
    #[must_use]
    pub(crate) fn is_due(&self) -> bool {
        let level = self.ledger.cut.load(Ordering::Acquire);
        if self.kind.is_stream() { level >= Cut::All as u8 } else { level >= Cut::Requests as u8 }
    }

    /// Notes that this work was cut rather than finished.
    pub(crate) fn count_cut(&self) {
        self.ledger.cut_count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<L: Deref<Target = Ledger>> Drop for Ticket<L> {
    fn drop(&mut self) {
        if self.kind.is_stream() {
            self.ledger.streams.fetch_sub(1, Ordering::Relaxed);
        }
        self.ledger.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notifies all work in flight that some of it may be due.
///
/// One for the whole process: it is used a few times per drain, and a check costs one atomic load.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<watch::Sender<u64>>);

impl Default for Notifier {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Notifier {
    /// Wakes every subscriber.
    pub(crate) fn notify(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Is woken by every later notification.
    #[must_use]
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_in_flight_while_its_ticket_lives() {
        let ledger = Arc::new(Ledger::default());
        let first = ledger.enter();
        let mut second = ledger.enter();
        second.becomes(Kind::Sse);
        second.becomes(Kind::WebSocket);
        assert_eq!((ledger.in_flight(), ledger.streams(), second.kind), (2, 1, Kind::Sse));
        drop(first);
        drop(second);
        assert_eq!((ledger.in_flight(), ledger.streams()), (0, 0));
    }

    #[test]
    fn each_kind_is_due_at_its_own_deadline() {
        let ledger = Arc::new(Ledger::default());
        let request = ledger.enter();
        let mut stream = ledger.enter();
        stream.becomes(Kind::Grpc);
        assert!(!request.is_due() && !stream.is_due());
        ledger.set_cut(Cut::Requests);
        assert!(request.is_due() && !stream.is_due());
        ledger.set_cut(Cut::All);
        assert!(request.is_due() && stream.is_due());
        ledger.set_cut(Cut::Nothing);
        assert!(!request.is_due(), "an endpoint that is ready again cuts nothing");
    }

    #[tokio::test]
    async fn the_notifier_wakes_its_subscribers() {
        let notifier = Notifier::default();
        let mut subscriber = notifier.subscribe();
        notifier.notify();
        assert!(subscriber.changed().await.is_ok());
    }
}
