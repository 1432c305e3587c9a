//! The data plane; the only folder that knows pingora.
//!
//! ```text
//! listener ─ accept, PROXY header, TLS ─► connection ─► general lane (pingora's HttpProxy) ─► upstream
//!                                                        │ calls guard · route · split · balance
//!                                                        └ pass ─► record
//! ```
//!
//! The accept loop, the TLS configuration, the signals and the shutdown are ours; of pingora we use the
//! HTTP/1 and HTTP/2 sessions, the proxy loop between them and the upstream connectors with their pool.
//!
//! Invariant: nothing here changes what requests read; it reads [`Current`] and writes atomics.

mod admission;
mod connection;
mod exchange;
mod failure;
mod general;
mod h2_frames;
pub mod listener;
mod message;
mod pass;
pub mod proxy_protocol;
mod record;
mod transport;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::watch;
use tokio::time::Instant;

use self::general::General;
use self::record::Gear;
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

/// The running data plane.
#[derive(Clone)]
pub struct Proxy {
    gear: Arc<Gear>,
    engine: Arc<HttpProxy<General>>,
    order: Arc<watch::Sender<Order>>,
    announce: Arc<watch::Sender<bool>>,
    all: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// Builds the data plane; it serves nothing until listeners are handed to [`listener::serve`].
    #[must_use]
    pub fn new(current: Current, recorder: Arc<Recorder>, access_log: AccessLog, bell: Bell, threads: usize) -> Self {
        let client = current.peek().client;
        let all = Arc::new(watch::Sender::new(false));
        let gear = Arc::new(Gear {
            current,
            recorder,
            access_log,
            bell,
            leaving: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            last_arrival: std::sync::Mutex::new(Instant::now()),
        });
        let conf = ServerConf {
            threads,
            upstream_keepalive_pool_size: POOL_PER_THREAD,
            max_retries: general::MAX_ATTEMPTS,
            ..ServerConf::default()
        };
        let mut engine = http_proxy(&Arc::new(conf), General { gear: Arc::clone(&gear) });
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(client.keepalive);
        engine.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_header_list_size(client.header_bytes)
            .max_concurrent_streams(client.h2_streams)
            .initial_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW);
        engine.h2_options = Some(h2);
        Self {
            gear,
            engine: Arc::new(engine),
            order: Arc::new(watch::Sender::new(Order::Serve)),
            announce: Arc::new(watch::Sender::new(false)),
            all,
        }
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
        self.order.send_replace(Order::EndIdle);
    }

    /// Ends everything that is still in flight.
    pub fn cut_all(&self) {
        self.all.send_replace(true);
    }

    /// Requests and streams in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.gear.requests.load(Ordering::Acquire)
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

/// Idle upstream connections that the engine's pool keeps per worker thread, all endpoints together. The bound
/// that users set is the one per endpoint; this one only has to be above it.
const POOL_PER_THREAD: usize = 4096;

/// Request body bytes a client may send ahead on one HTTP/2 stream.
const H2_STREAM_WINDOW: u32 = 256 * 1024;

/// Request body bytes a client may send ahead on one HTTP/2 connection.
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
