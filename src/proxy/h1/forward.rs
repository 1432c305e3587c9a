//! One request of the express lane after its version is chosen: endpoint, connection, relay, and what to do when
//! that fails. What may be tried again is [`Attempts`](crate::proxy::request::attempts::Attempts)' to say.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::client::Client;
use super::relay::{Download, Relay};
use super::response::ResponseRewrite;
use crate::proxy::express::acquire::{self, AcquiredConnection, ChosenEndpoint};
use crate::proxy::express::broken::Broken;
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::ParseContext;
use crate::proxy::express::upload::Upload;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::end::LOCAL_RESPONSE_TIMEOUT;
use crate::proxy::request::failure::{Failure, WRITE_TIMEOUT};
use crate::proxy::request::fault;
use crate::proxy::request::local_response::{self, Circumstances};
use crate::proxy::request::mirror::MirrorCopy;
use crate::proxy::request::upload::Manner;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::destination::PoolKey;
use crate::snapshot::Snapshot;
use crate::traffic::Refusal;

/// A request that this lane carries.
pub(super) struct H1Request<'s> {
    pub(super) context: ExpressContext<'s>,
    pub(super) upload: Upload,
    pub(super) parse_context: ParseContext,
    /// The client ends its connection after the answer.
    pub(super) closes: bool,
    /// The local response that it gets instead of going to an endpoint.
    pub(super) refusal: Option<Refusal>,
    /// The protocol that the endpoint is offered.
    pub(super) upgrade: Option<&'s str>,
    /// A cookie that keeps its client on its version.
    pub(super) set_cookie: Option<String>,
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

impl H1Request<'_> {
    /// Counts an attempt whose connection failed; whether the request is tried again.
    fn is_retried(&mut self, failure: Failure, download: &Download) -> bool {
        if !download.told {
            self.context.unanswered();
        }
        let (version, sent) = (self.context.assigned.version, self.context.sent());
        let attempts = &mut self.context.attempts;
        if download.begun {
            attempts.answer_began();
        }
        let refusal = failure.refusal;
        attempts.broke(failure, sent, version, || self.upload.replay())
            || self.context.is_rescued((refusal.status, Some(refusal.cause)), || self.upload.replay())
    }
}

impl Client {
    /// Carries a request to an endpoint of its version and the response back.
    pub(super) async fn run(&mut self, pools: &Pools, snapshot: &Snapshot, request: &mut H1Request<'_>) -> Next {
        if let Some(refusal) = request.refusal {
            return self.refuse(request, refusal, false).await;
        }
        if request.context.assigned.version.limit.is_some() {
            // Boxed because it is large and rare.
            match Box::pin(self.take_permit(request)).await {
                Some(Ok(())) => {}
                Some(Err(refusal)) => return self.refuse(request, refusal, false).await,
                None => return self.ended(request, Broken::ClientGone).await,
            }
        }
        if request.context.assigned.version.faults.is_some() {
            if let Some(refusal) = self.inject_fault(request).await {
                return self.refuse(request, refusal, false).await;
            }
            request.context.attempts.began = Instant::now();
        }
        let mut first = None;
        if !self.has_body(request.upload.body) {
            first = match self.prepare(request).await {
                Ok(chosen) => chosen,
                Err(broken) => return self.ended(request, broken).await,
            };
            request.context.attempts.began = Instant::now();
        }
        if let Some(copy) = request.context.copy.take() {
            self.send_copy(request, *copy);
        }
        let (assigned_at, told) = (request.context.assigned.version_at, request.context.assigned.told());
        loop {
            let mut acquired = match acquire::connection(
                &mut request.context,
                pools,
                first.take(),
                request.upload.is_streamed(),
            )
            .await
            {
                Ok(acquired) => acquired,
                Err(refusal) => return self.refuse(request, refusal, true).await,
            };
            if request.context.assigned.version_at != assigned_at {
                request.upload.retell(told, request.context.assigned.told());
            }
            let mut download = Download::default();
            let carried = self.forward(snapshot, request, &mut acquired, &mut download).await;
            match carried {
                // Boxed because it is large and rare.
                Ok(()) if download.is_switched() => {
                    return Box::pin(self.tunnel(request, acquired, download.into_rest(), snapshot.client)).await;
                }
                Ok(()) => return self.finish(pools, request, acquired, &download),
                Err(Broken::AskedAgain) => keep(pools, request, acquired, &download),
                Err(broken) => match broken.failure() {
                    Some(failure) if request.is_retried(failure, &download) => {}
                    Some(failure) => {
                        drop(acquired);
                        return self.broken(request, failure.refusal).await;
                    }
                    None => {
                        drop(acquired);
                        return self.ended(request, broken).await;
                    }
                },
            }
        }
    }

    /// Hands over the request's copy for a mirror, if its body is here.
    #[cold]
    fn send_copy(&self, request: &H1Request<'_>, mut copy: MirrorCopy) {
        let upload = &request.upload;
        if upload.is_streamed() || copy.push_framed(upload.body, self.input.data()).is_err() {
            return copy.body_is_missing();
        }
        copy.send(&request.context.shared.mirrored);
    }

    /// Chooses the endpoint of a request with a body and reads the body if it is small. Its endpoint has it in flight
    /// all the while.
    async fn prepare<'s>(&mut self, request: &mut H1Request<'s>) -> Result<Option<ChosenEndpoint<'s>>, Broken> {
        let Some(chosen) = request.context.choose() else { return Ok(None) };
        if self.take_in(request, &chosen.ticket).await? == Manner::Streamed {
            request.upload.stream();
        }
        Ok(Some(chosen))
    }

    /// Waits until the request has its permit; none if its client broke the connection meanwhile.
    async fn take_permit(&mut self, request: &mut H1Request<'_>) -> Option<Result<(), Refusal>> {
        let mut taking = pin!(request.context.take_permit());
        poll_fn(|cx| match self.is_gone(cx) {
            true => Poll::Ready(None),
            false => taking.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Whether the client broke the connection. That it says it will send no more is no reason (RFC 9112 §9.6).
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.input.has_room() {
            match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return self.transport.is_broken(),
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Injects a fault into a request; the local response if that is an error.
    async fn inject_fault(&mut self, request: &mut H1Request<'_>) -> Option<Refusal> {
        let context = &mut request.context;
        let version = context.assigned.version;
        let fault = fault::begin(version, &mut context.progress)?;
        if !fault.delay.is_zero() {
            let until = Instant::now() + fault.delay;
            let timer = &mut self.timer;
            poll_fn(|cx| if context.is_cut() { Poll::Ready(()) } else { timer.poll(cx, until) }).await;
        }
        fault::end(fault, &version.series)
    }

    /// Carries a request over the connection that was found for it.
    async fn forward<'s>(
        &mut self,
        snapshot: &Snapshot,
        request: &mut H1Request<'s>,
        acquired: &mut AcquiredConnection<'s>,
        download: &mut Download,
    ) -> Result<(), Broken> {
        let service = request.context.assigned.service;
        let fields = request.context.assigned.client_fields(request.set_cookie.as_deref());
        let mut relay = Relay {
            client: &mut self.transport,
            input: &mut self.input,
            timer: &mut self.timer,
            endpoint: &mut acquired.connection.transport,
            checkout: &acquired.connection.checkout,
            upload: &mut request.upload,
            download,
            context: &mut request.context,
            ticket: &mut acquired.ticket,
            parse_context: request.parse_context,
            rewrite: ResponseRewrite { close: request.closes, fields, upgrade: request.upgrade },
            timeouts: service.timeouts,
            limits: snapshot.client,
            now: Some(acquired.since),
            active: acquired.since,
            moved: false,
            client_blocked: false,
            endpoint_blocked: false,
            half_closed: None,
        };
        poll_fn(|cx| relay.poll(cx)).await
    }

    /// The response is with the client.
    fn finish(
        &self,
        pools: &Pools,
        request: &mut H1Request<'_>,
        acquired: AcquiredConnection<'_>,
        download: &Download,
    ) -> Next {
        request.context.progress.complete = true;
        if request.upload.is_complete() {
            keep(pools, request, acquired, download);
        }
        match (request.upload.is_complete(), download.closes_client) {
            (true, false) => Next::Request,
            (true, true) => Next::Close,
            (false, _) => Next::Linger,
        }
    }

    /// An exchange was ended by something else than its endpoint.
    pub(super) async fn ended(&mut self, request: &mut H1Request<'_>, broken: Broken) -> Next {
        let refusal = match broken {
            Broken::ClientGone | Broken::AskedAgain => {
                request.context.progress.client_gone = true;
                return Next::Abort;
            }
            Broken::ClientSlow => {
                (request.context.progress.client_gone, request.context.progress.cause) = (true, Some(WRITE_TIMEOUT));
                return Next::Abort;
            }
            Broken::Endpoint(failure) => failure.refusal,
            Broken::Client(refusal) => refusal,
            Broken::Ended(end) => {
                request.context.progress.ended = Some(end);
                if let Some(failure) = Failure::of_end(end) {
                    request.context.attempts.fell_silent(failure, request.context.assigned.version);
                }
                match end.refusal() {
                    Some(refusal) => refusal,
                    None => {
                        request.context.progress.client_gone = true;
                        return Next::Abort;
                    }
                }
            }
        };
        self.broken(request, refusal).await
    }

    /// Answers with `refusal` if the client has no response yet.
    async fn broken(&mut self, request: &mut H1Request<'_>, refusal: Refusal) -> Next {
        if request.context.progress.status.is_some() {
            request.context.progress.cause = Some(refusal.cause);
            return Next::Abort;
        }
        self.refuse(request, refusal, true).await
    }

    /// Gives a local response; `attempted` as in [`Circumstances`].
    async fn refuse(&mut self, request: &mut H1Request<'_>, refusal: Refusal, attempted: bool) -> Next {
        let unread = !request.upload.body.is_done();
        let draining = request.context.is_draining();
        let close = Circumstances { attempted, unread, last: request.closes, draining }.close(refusal);
        let mut answer = Buffer::default();
        local_response::write(refusal, request.parse_context.head_only, close, &mut answer);
        request.context.progress.answered_locally(refusal);
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
        request.context.progress.client_gone = !written;
        request.context.progress.complete = written;
        if written {
            request.context.progress.bytes_out = refusal.body_bytes(request.parse_context.head_only);
        }
        match (written, close, unread) {
            (false, ..) => Next::Abort,
            (true, false, _) => Next::Request,
            (true, true, false) => Next::Close,
            (true, true, true) => Next::Linger,
        }
    }
}

/// Keeps a connection for the next request, if the endpoint has all of this one and its answer was read to its end.
fn keep(pools: &Pools, request: &H1Request<'_>, acquired: AcquiredConnection<'_>, download: &Download) {
    if download.ended_exactly() && !download.closes {
        let limit = request.context.assigned.service.timeouts.pool_idle;
        let until = request.context.ended_at.unwrap_or_else(Instant::now) + limit;
        let bodied = request.context.progress.bytes_in > 0;
        pools.http1.put(PoolKey::of(acquired.endpoint), acquired.connection, until, bodied);
    }
}
