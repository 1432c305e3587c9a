//! Load in the shapes that real clients have, every request on a [`Ledger`].
//!
//! No client retries. A connection whose end was announced is replaced before the next request; one that is found
//! ended without a word is replaced too, and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Failure, H1, H2, Protocol, Request, Response};
use super::eventually::{eventually, within};
use super::ledger::{Ledger, Sent};
use super::socket::Target;

/// A load to be started.
#[derive(Clone)]
pub(crate) struct Load {
    target: Target,
    request: Request,
    keep_alive: usize,
    new_connections: usize,
    http2: (usize, usize),
    think: Duration,
    limit: u64,
}

/// A load that runs. Dropping it ends it, with requests in flight left without an outcome.
pub(crate) struct Running {
    ledger: Ledger,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

/// What all workers of one load share.
#[derive(Clone)]
struct Shared {
    load: Arc<Load>,
    ledger: Ledger,
    stopped: watch::Receiver<bool>,
}

impl Load {
    /// A load of `GET /` at this target, without clients yet and without limit.
    pub(crate) fn at(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            request: Request::get("/"),
            keep_alive: 0,
            new_connections: 0,
            http2: (0, 0),
            think: Duration::ZERO,
            limit: u64::MAX,
        }
    }

    /// Sends this request, with a nonce of its own each time.
    pub(crate) fn request(self, request: Request) -> Self {
        Self { request, ..self }
    }

    /// With so many HTTP/1 clients that keep their connection.
    pub(crate) fn keep_alive(self, clients: usize) -> Self {
        Self { keep_alive: clients, ..self }
    }

    /// With so many HTTP/1 clients that open a connection for each request.
    pub(crate) fn new_connections(self, clients: usize) -> Self {
        Self { new_connections: clients, ..self }
    }

    /// With so many HTTP/2 connections that have so many streams at once.
    pub(crate) fn http2(self, connections: usize, streams: usize) -> Self {
        Self { http2: (connections, streams), ..self }
    }

    /// With so many clients of this protocol: HTTP/1 connections that are kept, or streams of one HTTP/2 connection.
    pub(crate) fn clients(self, protocol: Protocol, clients: usize) -> Self {
        match protocol {
            Protocol::Http1 => self.keep_alive(clients),
            Protocol::Http2 => self.http2(1, clients),
        }
    }

    /// With a pause of up to this long between a client's requests.
    pub(crate) fn think(self, up_to: Duration) -> Self {
        Self { think: up_to, ..self }
    }

    /// Ends after so many requests of all clients together.
    pub(crate) fn count(self, requests: u64) -> Self {
        Self { limit: requests, ..self }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let ledger = Ledger::new();
        let (stop, stopped) = watch::channel(false);
        let shared = Shared { load: Arc::new(self), ledger: ledger.clone(), stopped };
        let mut workers = JoinSet::new();
        for seed in 0..shared.load.keep_alive {
            workers.spawn(keep_alive(shared.clone(), seed));
        }
        for seed in 0..shared.load.new_connections {
            workers.spawn(new_connections(shared.clone(), seed));
        }
        let (connections, streams) = shared.load.http2;
        for _ in 0..connections {
            let slot = Arc::new(tokio::sync::Mutex::new(None));
            for seed in 0..streams {
                workers.spawn(http2(shared.clone(), slot.clone(), seed));
            }
        }
        assert!(!workers.is_empty(), "a load has clients: keep_alive, new_connections or http2");
        Running { ledger, stop, workers }
    }

    /// Starts it, waits for its end (it needs a [`Self::count`]) and gives the account.
    pub(crate) async fn run(self) -> Ledger {
        assert!(self.limit < u64::MAX, "a load without count has no end");
        self.start().finish().await
    }
}

impl Running {
    /// The account so far.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until `more` requests have come to an outcome from now on.
    pub(crate) async fn wait_more(&self, more: u64) {
        let goal = self.ledger.settled() + more;
        let settled = async || {
            let settled = self.ledger.settled();
            if settled >= goal { Ok(()) } else { Err(format!("{settled} of {goal}")) }
        };
        eventually("the load goes on", settled).await;
    }

    /// Sends nothing new, waits for what is in flight, and gives the account.
    pub(crate) async fn stop(self) -> Ledger {
        self.stop.send(true).ok();
        self.finish().await
    }

    /// Waits for the end and gives the account. Patience counts from the last outcome.
    pub(crate) async fn finish(mut self) -> Ledger {
        while let Some(ended) = within("the load ends", self.next()).await {
            ended.unwrap();
        }
        self.ledger
    }

    /// The end of a worker. Returns also, and waits anew, whenever requests were settled meanwhile.
    async fn next(&mut self) -> Option<Result<(), tokio::task::JoinError>> {
        let before = self.ledger.settled();
        let pause = super::eventually::patience() / 2;
        match tokio::time::timeout(pause, self.workers.join_next()).await {
            Ok(ended) => ended,
            Err(_) if self.ledger.settled() > before => Some(Ok(())),
            Err(_) => self.workers.join_next().await,
        }
    }
}

impl Shared {
    /// The next request to send, after the pause; none when the load ends.
    async fn next(&self, seed: &mut u64) -> Option<(Sent, Request)> {
        if self.load.think > Duration::ZERO {
            // Any sequence that differs between clients will do; see Knuth's MMIX for the constants.
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pause = self.load.think.mul_f64((*seed >> 32) as f64 / f64::from(u32::MAX));
            let mut stopped = self.stopped.clone();
            tokio::time::timeout(pause, stopped.wait_for(|stop| *stop)).await.ok();
        }
        if *self.stopped.borrow() {
            return None;
        }
        let sent = self.ledger.send(self.load.limit)?;
        let request = self.load.request.clone().nonce(&sent.nonce());
        Some((sent, request))
    }

    async fn connect(&self) -> Result<H1, Failure> {
        self.ledger.note(|counts| counts.connections += 1);
        H1::try_connect(&self.load.target).await
    }
}

async fn keep_alive(shared: Shared, seed: usize) {
    let mut seed = seed as u64;
    let mut kept: Option<H1> = None;
    while let Some((sent, request)) = shared.next(&mut seed).await {
        if let Some(h1) = &mut kept
            && !h1.is_open().await
        {
            shared.ledger.note(|counts| counts.unannounced_closes += 1);
            kept = None;
        }
        let reached = match kept.take() {
            Some(h1) => Ok(h1),
            None => shared.connect().await,
        };
        let (h1, result) = exchange(reached, &request).await;
        sent.settle(&result);
        match h1 {
            Some(h1) if h1.announced_close() => shared.ledger.note(|counts| counts.announced_closes += 1),
            Some(h1) if result.is_ok() => kept = Some(h1),
            Some(_) => shared.ledger.note(|counts| counts.unannounced_closes += 1),
            None => {}
        }
    }
}

async fn new_connections(shared: Shared, seed: usize) {
    let mut seed = seed as u64;
    while let Some((sent, request)) = shared.next(&mut seed).await {
        let reached = shared.connect().await;
        let (_, result) = exchange(reached, &request.header("connection", "close")).await;
        sent.settle(&result);
    }
}

async fn exchange(reached: Result<H1, Failure>, request: &Request) -> (Option<H1>, Result<Response, Failure>) {
    match reached {
        Err(failure) => (None, Err(failure)),
        Ok(mut h1) => {
            let result = h1.try_send(request).await;
            (Some(h1), result)
        }
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<H2>>>>;

async fn http2(shared: Shared, slot: Slot, seed: usize) {
    let mut seed = seed as u64;
    while let Some((sent, request)) = shared.next(&mut seed).await {
        let mut result = over(&shared, &slot, &request).await;
        // A stream that meets the announced end on its way was not processed (RFC 9113 §6.8): as every client does,
        // it goes over the next connection. That it was executed once, the origins' journals tell.
        if matches!(result, Err((Failure::Unprocessed(_), true))) {
            result = over(&shared, &slot, &request).await;
        }
        sent.settle(&result.map_err(|(failure, _)| failure));
    }
}

/// One attempt; a failure with whether the connection's end was announced.
async fn over(shared: &Shared, slot: &Slot, request: &Request) -> Result<Response, (Failure, bool)> {
    let h2 = connection(shared, slot).await.map_err(|failure| (failure, false))?;
    h2.try_send(request).await.map_err(|failure| (failure, h2.announced_close()))
}

/// The slot's connection, replaced if its end was announced or found.
async fn connection(shared: &Shared, slot: &Slot) -> Result<Arc<H2>, Failure> {
    let mut slot = slot.lock().await;
    if let Some(h2) = &*slot {
        match (h2.announced_close(), h2.is_open()) {
            (false, true) => return Ok(h2.clone()),
            (true, _) => shared.ledger.note(|counts| counts.announced_closes += 1),
            (false, false) => shared.ledger.note(|counts| counts.unannounced_closes += 1),
        }
        *slot = None;
    }
    shared.ledger.note(|counts| counts.connections += 1);
    let h2 = Arc::new(H2::try_connect(&shared.load.target).await?);
    *slot = Some(h2.clone());
    Ok(h2)
}
