//! The data plane; the only folder that knows pingora.
//!
//! ```text
//! accept ─► connection ─┬─ h1: the express lane ───────┐
//!                       └─ pingora: the general lane ──┴─► request (the rules) ─► upstream ─► endpoint
//! ```
//!
//! Accepting, TLS on both sides, connections to endpoints, signals and shutdown are ours; of pingora we use the sessions
//! with clients and `HttpProxy`, in `pingora` alone.
//!
//! Invariant: nothing here changes what requests read; it reads [`Current`] and writes atomics.

pub(crate) mod accept;
mod codec;
pub(crate) mod descriptors;
mod express;
mod h1;
mod h2;
mod health;
mod io;
mod mirror;
mod mirror_queue;
mod pingora;
mod request;
mod seats;
mod shared;
mod unread;
mod upstream;
mod worker;

#[cfg(fuzzing)]
pub(crate) use self::codec::fuzz;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::pingora::engine::Engine;
use self::shared::{Phase, Shared};
use self::worker::Worker;
use crate::drain::Notifier;
use crate::model::Name;
use crate::snapshot::Current;
use crate::telemetry::{AccessLog, ListenerSeries, Recorder};

/// A traffic listener that is bound.
#[derive(Clone)]
pub(crate) struct Bound {
    /// Its name.
    pub(crate) name: Name,
    /// Where it is really bound: a port 0 of the file is the real port here.
    pub(crate) address: String,
    /// Its connections.
    pub(crate) series: Arc<ListenerSeries>,
}

/// The running data plane, as all its workers share it.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    express: bool,
}

/// One worker's lanes: our own, and the engine's. A worker is a thread with a runtime of its own.
pub(crate) struct Lanes {
    worker: Arc<Worker>,
    engine: Arc<Engine>,
    /// Whether the express lane is open.
    express: bool,
}

impl Proxy {
    /// The data plane; it serves nothing until listeners are handed to [`accept::listener::serve`]. `express`: whether
    /// the express lane is open.
    #[must_use]
    pub(crate) fn new(
        current: Current,
        recorder: Arc<Recorder>,
        access_log: AccessLog,
        notifier: Notifier,
        express: bool,
    ) -> Self {
        Self { shared: Arc::new(Shared::new(current, recorder, access_log, notifier)), express }
    }

    /// What one worker needs.
    ///
    /// # Panics
    /// Where there is no `/dev/null`.
    #[must_use]
    pub(crate) fn lanes(&self) -> Lanes {
        let worker = Arc::new(Worker::new(Arc::clone(&self.shared)));
        Lanes { engine: Arc::new(Engine::new(Arc::clone(&worker))), worker, express: self.express }
    }

    /// Follows the health of endpoints, for as long as the process lives.
    pub(crate) async fn follow_health(&self) {
        health::follow(self.shared.current.clone()).await;
    }

    /// Sends copies of requests to mirrors, for as long as the process lives.
    pub(crate) async fn send_mirrored(&self) {
        mirror::send(&self.shared).await;
    }

    /// From now on every response announces that its connection closes; connections are still accepted.
    pub(crate) fn announce_close(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Stops accepting: the accept queues are emptied first, then the sockets close.
    pub(crate) fn stop_accepting(&self) {
        // HTTP/2 connections that came after the first announcement hear this one.
        self.shared.enter(Phase::Refusing);
    }

    /// Ends connections on which no request is in flight.
    pub(crate) fn end_idle(&self) {
        self.shared.enter(Phase::Closing);
    }

    /// Ends everything that is still in flight.
    pub(crate) fn cut_all(&self) {
        self.shared.enter(Phase::ForceClosing);
    }

    /// Requests and streams in flight.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.shared.recorder.lanes().in_flight()
    }

    /// Client connections that are open.
    #[must_use]
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Requests and streams that were cut, by drains and at the end.
    #[must_use]
    pub(crate) fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// How long no connection and no request has arrived.
    #[must_use]
    pub(crate) fn quiet(&self) -> Duration {
        self.shared.quiet()
    }
}

impl Lanes {
    /// Starts what a worker does beside its connections. To be called on its runtime.
    pub(crate) fn start(&self) {
        let worker = Arc::clone(&self.worker);
        tokio::spawn(async move {
            let (mut notifier, mut phases) = (worker.shared.notifier.subscribe(), worker.shared.phases());
            // Until the data plane is gone.
            while tokio::select! {
                heard = notifier.changed() => heard.is_ok(),
                heard = phases.changed() => heard.is_ok(),
            } {
                worker.wakers.wake_all();
            }
        });
        let worker = Arc::clone(&self.worker);
        tokio::spawn(async move { worker.unread.run(&worker.shared).await });
        let worker = Arc::clone(&self.worker);
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                second.tick().await;
                // The limit can be changed from outside.
                descriptors::Division::now().apply();
                worker.pools.sweep();
                worker.forget_replaced();
            }
        });
    }
}
