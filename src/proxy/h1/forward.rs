//! One request of the express lane after its version is chosen: endpoint, connection, relay, and what to do when
//! that fails. What may be tried again is [`Attempts`](crate::proxy::request::attempts::Attempts)' to say.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::Client;
use super::context::Passage;
use super::relay::{Broken, Download, Relay, Upload};
use super::response::{Asked, Inward};
use crate::drain::{Ledger, Ticket};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::context::Assignment;
use crate::proxy::request::end::{BODY_DRAIN, End, LOCAL_RESPONSE_TIMEOUT};
use crate::proxy::request::failure::{DRAINED, DRILL, Failure, SLOW_CLIENT, TIMEOUT, UNREAD, WRITE_TIMEOUT};
use crate::proxy::request::upload::Manner;
use crate::proxy::request::{fault, local_response};
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::PooledConnection;
use crate::proxy::upstream::connector::connect;
use crate::proxy::upstream::destination::{Destination, PoolKey};
use crate::snapshot::live::FaultInjection;
use crate::snapshot::{Endpoint, Snapshot, Timeouts};
use crate::traffic::Refusal;

/// A request that this lane carries.
pub(super) struct Request<'s> {
    pub(super) passage: Passage<'s>,
    pub(super) upload: Upload,
    pub(super) asked: Asked,
    /// The client ends its connection after the answer.
    pub(super) closes: bool,
    /// An endpoint of the version takes requests.
    pub(super) available: bool,
    pub(super) idempotent: bool,
    /// The client's affinity key, hashed: it also keeps the client on one endpoint.
    pub(super) key: Option<u64>,
    /// A key made for this client, to be set as a cookie.
    pub(super) new_key: Option<String>,
}

/// What becomes of the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request.
    Request,
    /// It ends.
    Close,
    /// It ends, but the client still sends: closing at once would take the answer from it.
    Linger,
    /// It ends without a word, which tells the client that its response is not complete.
    Abort,
}

/// A connection to an endpoint while a request uses it.
struct Held<'s> {
    connection: PooledConnection,
    /// Where it belongs in the pool.
    key: PoolKey,
    /// Since when it is held.
    since: Instant,
    ticket: Ticket<&'s Ledger>,
}

/// The endpoint of a request that is not on its way yet; a drain waits for it.
struct Chosen<'s> {
    endpoint: &'s Endpoint,
    ticket: Ticket<&'s Ledger>,
}

impl<'s> Request<'s> {
    /// Finds an endpoint and a connection to it, trying another endpoint where that is allowed.
    ///
    /// # Errors
    /// What to answer.
    async fn hold(&mut self, pools: &Pools, mut first: Option<Chosen<'s>>) -> Result<Held<'s>, Refusal> {
        let Assignment { version, service, .. } = self.passage.assigned;
        loop {
            let Some(Chosen { endpoint, ticket }) = first.take().or_else(|| self.choose()) else {
                return Err(self.passage.attempts.no_endpoint(&version.series));
            };
            let attempts = &self.passage.attempts;
            let began = attempts.began;
            let fresh = attempts.is_fresh() || self.upload.is_streamed();
            let mut connecting = pin!(connection(pools, endpoint, &service.timeouts, fresh, began));
            let passage = &self.passage;
            let is_cut = || passage.is_cut() || ticket.is_due();
            let connected =
                poll_fn(|cx| if is_cut() { Poll::Ready(None) } else { connecting.as_mut().poll(cx).map(Some) }).await;
            let failure = match connected {
                None => {
                    ticket.count_cut();
                    self.passage.progress.ended = Some(End::Cut);
                    return Err(DRAINED);
                }
                Some(Ok((connection, reused, key))) => {
                    let since = if reused { began } else { Instant::now() };
                    self.passage.attempts.connected(reused, since);
                    return Ok(Held { connection, key, since, ticket });
                }
                Some(Err(failure)) => failure,
            };
            let attempts = &mut self.passage.attempts;
            if !attempts.connect_failed(failure, version, self.key) {
                return Err(failure.refusal);
            }
            attempts.began = Instant::now();
        }
    }

    /// Chooses the next endpoint and enters it.
    fn choose(&mut self) -> Option<Chosen<'s>> {
        let version = self.passage.assigned.version;
        let endpoint = version.endpoints.get(self.passage.attempts.choose(version, self.key)?)?;
        Some(Chosen { endpoint, ticket: endpoint.live.ledger.enter_borrowed() })
    }

    /// Counts an attempt whose connection failed; whether another one follows.
    fn tries_again(&mut self, failure: Failure, download: &Download) -> bool {
        let series = self.passage.series();
        let attempts = &mut self.passage.attempts;
        if download.begun {
            attempts.answer_began();
        }
        let again = attempts.broke(failure, series, || self.idempotent && self.upload.replay());
        if again {
            attempts.began = Instant::now();
        }
        again
    }
}

impl Client {
    /// Carries a request to an endpoint of its version and the response back.
    pub(super) async fn run(&mut self, pools: &Pools, snapshot: &Snapshot, request: &mut Request<'_>) -> Next {
        if !request.available {
            let refusal = request.passage.attempts.no_endpoint(request.passage.series());
            return self.refuse(request, refusal, false).await;
        }
        if let Some(drill) = &request.passage.assigned.version.faults {
            if let Some(refusal) = self.drilled(drill, request).await {
                return self.refuse(request, refusal, false).await;
            }
            request.passage.attempts.began = Instant::now();
        }
        let mut first = None;
        if !self.has_body(request.upload.body) {
            first = match self.prepare(request).await {
                Ok(chosen) => chosen,
                Err(broken) => return self.ended(request, broken).await,
            };
            request.passage.attempts.began = Instant::now();
        }
        loop {
            let mut held = match request.hold(pools, first.take()).await {
                Ok(held) => held,
                Err(refusal) => return self.refuse(request, refusal, true).await,
            };
            let mut download = Download::default();
            let carried = self.carry(snapshot, request, &mut held, &mut download).await;
            match carried {
                Ok(()) => return self.finish(pools, request, held, &download),
                Err(Broken::Endpoint(failure)) => {
                    if !download.told {
                        request.passage.unanswered();
                    }
                    if !request.tries_again(failure, &download) {
                        drop(held);
                        return self.broken(request, failure.refusal).await;
                    }
                }
                Err(broken) => {
                    drop(held);
                    return self.ended(request, broken).await;
                }
            }
        }
    }

    /// Chooses the endpoint of a request with a body and reads the body if it is small. Its endpoint has it in flight
    /// all the while.
    async fn prepare<'s>(&mut self, request: &mut Request<'s>) -> Result<Option<Chosen<'s>>, Broken> {
        let Some(chosen) = request.choose() else { return Ok(None) };
        if self.take_in(request, &chosen.ticket).await? == Manner::Streamed {
            request.upload.stream();
        }
        Ok(Some(chosen))
    }

    /// Does to a request what a drill wants; the answer if that is an error.
    async fn drilled(&mut self, drill: &FaultInjection, request: &mut Request<'_>) -> Option<Refusal> {
        let passage = &mut request.passage;
        let series = passage.series();
        let fault = fault::begin(drill, series)?;
        passage.progress.cause = Some(DRILL.cause);
        if !fault.delay.is_zero() {
            let until = Instant::now() + fault.delay;
            let timer = &mut self.timer;
            poll_fn(|cx| if passage.is_cut() { Poll::Ready(()) } else { timer.poll(cx, until) }).await;
        }
        fault::end(fault, series)
    }

    /// Carries a request over the connection that was found for it.
    async fn carry<'s>(
        &mut self,
        snapshot: &Snapshot,
        request: &mut Request<'s>,
        held: &mut Held<'s>,
        download: &mut Download,
    ) -> Result<(), Broken> {
        let service = request.passage.assigned.service;
        let cookie = service.affinity_cookie.as_ref().zip(request.new_key.as_deref());
        let mut relay = Relay {
            client: &mut self.transport,
            input: &mut self.input,
            timer: &mut self.timer,
            endpoint: &mut held.connection.transport,
            checkout: &held.connection.checkout,
            upload: &mut request.upload,
            download,
            passage: &mut request.passage,
            ticket: &mut held.ticket,
            asked: request.asked,
            inward: Inward { close: request.closes, cookie, tls: self.tls },
            timeouts: service.timeouts,
            limits: snapshot.client,
            now: Some(held.since),
            active: held.since,
            moved: false,
            client_blocked: false,
            endpoint_blocked: false,
            half_closed: None,
        };
        poll_fn(|cx| relay.poll(cx)).await
    }

    /// The response is with the client.
    fn finish(&self, pools: &Pools, request: &mut Request<'_>, held: Held<'_>, download: &Download) -> Next {
        request.passage.progress.complete = true;
        let limit = request.passage.assigned.service.timeouts.pool_idle;
        if request.upload.is_complete() && download.ended_exactly() && !download.closes {
            let until = request.passage.ended_at.unwrap_or_else(Instant::now) + limit;
            let bodied = request.passage.progress.bytes_in > 0;
            pools.http1.put(held.key, held.connection, until, bodied);
        }
        match (request.upload.is_complete(), download.closes_client) {
            (true, false) => Next::Request,
            (true, true) => Next::Close,
            (false, _) => Next::Linger,
        }
    }

    /// An exchange was ended by something else than its endpoint.
    async fn ended(&mut self, request: &mut Request<'_>, broken: Broken) -> Next {
        let refusal = match broken {
            Broken::ClientGone => {
                request.passage.progress.client_gone = true;
                return Next::Abort;
            }
            Broken::ClientSlow => {
                (request.passage.progress.client_gone, request.passage.progress.cause) = (true, Some(WRITE_TIMEOUT));
                return Next::Abort;
            }
            Broken::Endpoint(failure) => failure.refusal,
            Broken::Client(refusal) => refusal,
            Broken::Ended(end) => {
                request.passage.progress.ended = Some(end);
                match end {
                    End::Left => {
                        request.passage.progress.client_gone = true;
                        return Next::Abort;
                    }
                    End::FirstByte | End::Idle => {
                        TIMEOUT.charge(&request.passage.assigned.version.series);
                        TIMEOUT.refusal
                    }
                    End::Upload => SLOW_CLIENT,
                    End::Cut => DRAINED,
                    End::Unread => UNREAD,
                }
            }
        };
        self.broken(request, refusal).await
    }

    /// Answers with `refusal` if the client has no response yet.
    async fn broken(&mut self, request: &mut Request<'_>, refusal: Refusal) -> Next {
        if request.passage.progress.status.is_some() {
            request.passage.progress.cause = Some(refusal.cause);
            return Next::Abort;
        }
        self.refuse(request, refusal, true).await
    }

    /// Gives an answer of our own.
    async fn refuse(&mut self, request: &mut Request<'_>, refusal: Refusal, close: bool) -> Next {
        let unread = !request.upload.body.is_done();
        let close = close || refusal.close || request.closes || unread || request.passage.is_draining();
        let mut answer = Buffer::default();
        local_response::write(refusal, request.asked.head_only, close, &mut answer);
        request.passage.progress.answered_locally(refusal);
        let until = Instant::now() + LOCAL_RESPONSE_TIMEOUT;
        let written = poll_fn(|cx| {
            while !answer.is_empty() {
                match Pin::new(&mut self.transport).poll_write(cx, answer.data()) {
                    Poll::Ready(Ok(n)) if n > 0 => answer.consume(n),
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => {
                        ready!(self.timer.poll(cx, until));
                        return Poll::Ready(false);
                    }
                }
            }
            // What is encrypted and not sent yet goes with the end of the connection, or with the next answer.
            Pin::new(&mut self.transport).poll_flush(cx).map(|flushed| flushed.is_ok())
        })
        .await;
        request.passage.progress.client_gone = !written;
        request.passage.progress.complete = written;
        if written {
            request.passage.progress.bytes_out = refusal.body_bytes(request.asked.head_only);
        }
        match (written, close, unread) {
            (false, ..) => Next::Abort,
            (true, false, _) => Next::Request,
            (true, true, false) => Next::Close,
            (true, true, true) => Next::Linger,
        }
    }

    /// Ends the connection once the client has seen its answer: it is told that no more comes, and what it still sends
    /// is read for a moment, because closing a socket with unread bytes resets it (RFC 9112 §9.6).
    pub(super) async fn linger(&mut self) {
        let until = Instant::now() + BODY_DRAIN;
        self.input.clear();
        poll_fn(|cx| {
            // A client that is gone already is what is waited for.
            let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
            loop {
                match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                    Poll::Ready(Ok(n)) if n > 0 => self.input.clear(),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx, until),
                }
                if Instant::now() >= until {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}

/// A connection to an endpoint: a pooled one, or a new one; whether it is reused, and its key in the pool.
async fn connection(
    pools: &Pools,
    endpoint: &Endpoint,
    timeouts: &Timeouts,
    fresh: bool,
    now: Instant,
) -> Result<(PooledConnection, bool, PoolKey), Failure> {
    let key = PoolKey::of(endpoint);
    if !fresh && let Some(connection) = pools.http1.checkout(key, now) {
        return Ok((connection, true, key));
    }
    let to = Destination::of(endpoint, timeouts);
    // Boxed because it is large and rare.
    let connection = Box::pin(connect(&to, &pools.tls)).await.map_err(|error| Failure::from(&error))?;
    Ok((connection, false, key))
}
