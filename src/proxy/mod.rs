//! The data plane; the only folder that knows pingora.
//!
//! ```text
//! listener ─ accept, PROXY header, TLS ─► connection ─► general lane (pingora's HttpProxy) ─► upstream
//!                                                        │ calls guard · route · split · balance
//!                                                        └ pass ─► record
//! ```
//!
//! The accept loop, the TLS configuration, the signals and the shutdown are ours; of pingora we use the
//! HTTP/1 and HTTP/2 sessions, the proxy loop between them and TLS towards endpoints.
//!
//! Invariant: nothing here changes what requests read; it reads [`Current`] and writes atomics.

pub mod accept;
mod codec;
pub mod descriptors;
mod h1;
mod io;
mod pingora;
mod request;
mod slots;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::watch;
use tokio::time::Instant;

use self::pingora::hooks::General;
use self::request::attempts::MAX_ATTEMPTS;
use self::request::record::Gear;
use crate::drain::Bell;
use crate::model::Name;
use crate::snapshot::Current;
use crate::telemetry::{AccessLog, ListenerSeries, Recorder};

/// A traffic listener that is bound.
#[derive(Clone)]
pub struct Bound {
    /// Its name.
    pub name: Name,
    /// Where it is really bound: a port 0 of the file is the real port here.
    pub address: String,
    /// Its connections.
    pub series: Arc<ListenerSeries>,
}

/// What client connections are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Serve.
    Serve,
    /// Accept no more.
    Refuse,
    /// End as soon as no request is in flight.
    EndIdle,
}

/// The running data plane, as all its workers share it.
#[derive(Clone)]
pub struct Proxy {
    gear: Arc<Gear>,
    order: Arc<watch::Sender<Order>>,
    announce: Arc<watch::Sender<bool>>,
    all: Arc<watch::Sender<bool>>,
    lanes: Lanes,
}

/// How the data plane is carried.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    /// Worker threads.
    pub workers: usize,
    /// Whether the express lane is open.
    pub express: bool,
}

/// One worker's data plane. A worker is a thread with a runtime of its own: a connection, what it waits for and
/// the upstream connections that it may use stay on one processor.
pub struct Worker {
    proxy: Proxy,
    engine: Arc<HttpProxy<General>>,
}

impl Proxy {
    /// The data plane for a number of workers; it serves nothing until listeners are handed to
    /// [`accept::listener::serve`].
    #[must_use]
    pub fn new(current: Current, recorder: Arc<Recorder>, access_log: AccessLog, bell: Bell, lanes: Lanes) -> Self {
        let gear = Arc::new(Gear {
            current,
            recorder,
            access_log,
            bell,
            leaving: AtomicBool::new(false),
            cut: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            last_arrival: std::sync::Mutex::new(Instant::now()),
        });
        Self {
            gear,
            order: Arc::new(watch::Sender::new(Order::Serve)),
            announce: Arc::new(watch::Sender::new(false)),
            all: Arc::new(watch::Sender::new(false)),
            lanes,
        }
    }

    /// What one worker needs.
    ///
    /// # Panics
    /// If the system's certificate authorities cannot be read: the engine does.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let conf = ServerConf { threads: 1, max_retries: MAX_ATTEMPTS, ..ServerConf::default() };
        let engine = http_proxy(&Arc::new(conf), General { gear: Arc::clone(&self.gear) });
        Worker { proxy: self.clone(), engine: Arc::new(engine) }
    }

    /// From now on every response announces that its connection closes; connections are still accepted.
    pub fn announce_close(&self) {
        self.gear.leaving.store(true, Ordering::Release);
        self.announce.send_replace(true);
    }

    /// Stops accepting: the accept queues are emptied first, then the sockets close.
    pub fn stop_accepting(&self) {
        self.order.send_replace(Order::Refuse);
        // HTTP/2 connections that came after the first announcement have not heard it, and go on until they do.
        self.announce.send_replace(true);
    }

    /// Ends connections on which no request is in flight.
    pub fn end_idle(&self) {
        self.gear.ending.store(true, Ordering::Release);
        self.order.send_replace(Order::EndIdle);
    }

    /// Ends everything that is still in flight.
    pub fn cut_all(&self) {
        self.gear.cutting.store(true, Ordering::Release);
        self.all.send_replace(true);
    }

    /// Requests and streams in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.gear.recorder.lanes().in_flight()
    }

    /// Client connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.gear.connections.load(Ordering::Acquire)
    }

    /// Requests and streams that were cut, by drains and at the end.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.gear.cut.load(Ordering::Relaxed)
    }

    /// How long no connection and no request has arrived.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        self.gear.quiet()
    }
}

impl Worker {
    /// Starts what a worker does beside its connections. To be called on its runtime.
    pub fn start(self: &Arc<Self>) {
        let Proxy { gear, order, all, .. } = &self.proxy;
        let (mut bell, mut order, mut all) = (gear.bell.listen(), order.subscribe(), all.subscribe());
        tokio::spawn(async move {
            // Until the data plane is gone.
            while tokio::select! {
                heard = bell.changed() => heard.is_ok(),
                heard = order.changed() => heard.is_ok(),
                heard = all.changed() => heard.is_ok(),
            } {
                h1::wake_all();
            }
        });
        tokio::spawn(pingora::unread::run(Arc::clone(gear)));
        let current = gear.current.clone();
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                second.tick().await;
                // The limit can be changed from outside.
                descriptors::Division::now().keep();
                upstream::Pools::of_this_worker().sweep();
                h1::forget_old(&current);
            }
        });
    }
}
