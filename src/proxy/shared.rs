//! What all requests of the process share: the snapshot, what counts them, and how far the shutdown is.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::mirror_queue::MirrorQueue;
use crate::drain::Notifier;
use crate::snapshot::Current;
use crate::telemetry::{AccessLog, Recorder};

/// How far the shutdown of the data plane is; each phase includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Serve.
    Serving,
    /// Every response announces that its connection closes; connections are still accepted.
    Draining,
    /// No connection is accepted any more.
    Refusing,
    /// Connections end as soon as no request is in flight.
    Closing,
    /// Everything in flight ends now.
    ForceClosing,
}

/// What all requests of the process share.
pub(crate) struct Shared {
    pub(crate) current: Current,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) access_log: AccessLog,
    /// Copies of requests for mirrors.
    pub(crate) mirrored: MirrorQueue,
    /// Wakes when drains pass their deadlines.
    pub(crate) notifier: Notifier,
    /// Requests that were cut, by drains and at the end.
    pub(crate) cut: AtomicU64,
    /// Client connections that are open.
    pub(crate) connections: AtomicU64,
    phase: watch::Sender<Phase>,
    /// The same, to be read by each request.
    reached: AtomicU8,
    /// Written only while the process drains, when arrivals are what it waits out.
    last_arrival: Mutex<Instant>,
}

impl Shared {
    pub(crate) fn new(current: Current, recorder: Arc<Recorder>, access_log: AccessLog, notifier: Notifier) -> Self {
        Self {
            current,
            recorder,
            access_log,
            mirrored: MirrorQueue::default(),
            notifier,
            cut: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Serving),
            reached: AtomicU8::new(Phase::Serving as u8),
            last_arrival: Mutex::new(Instant::now()),
        }
    }

    /// Goes on to `phase`. There is no way back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.reached.fetch_max(phase as u8, Ordering::AcqRel);
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// Whether the shutdown is as far as `phase`.
    #[inline]
    pub(crate) fn is_in(&self, phase: Phase) -> bool {
        self.reached.load(Ordering::Acquire) >= phase as u8
    }

    /// Whether every response announces that its connection closes.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.is_in(Phase::Draining)
    }

    /// Says when the shutdown goes on.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
        self.arrived();
    }

    /// A connection is over.
    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// A request's head is complete.
    pub(crate) fn request_begun(&self) {
        self.recorder.lanes().entered();
        self.arrived();
    }

    /// How long no connection and no request has arrived, as far as the process drains.
    pub(crate) fn quiet(&self) -> Duration {
        self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn arrived(&self) {
        if self.is_draining() {
            *self.last_arrival.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}
