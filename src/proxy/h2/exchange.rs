//! One request of a client's connection, from its head to its record: where it goes, the attempts that it takes, and what
//! its client gets when none of them succeeds. What may be tried again is
//! [`Attempts`](crate::proxy::request::attempts::Attempts)' to say.
//!
//! Invariant: whoever drops an exchange under way ends it: it is recorded as left by its client, and its connection to the
//! endpoint goes, or the stream on it.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::ended::Ended;
use super::fields::PooledFields;
use super::head::H2Head;
use super::http1::{Download, Http1Relay};
use super::http2::{Failed, Http2Relay, Progress};
use super::local::{self, RefusedRequest};
use super::request::{self, HeadRewrite};
use super::state::{HeadKind, StreamHandle};
use super::turn::Turn;
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::Body;
use crate::proxy::codec::frame::ErrorCode;
use crate::proxy::express::acquire::{self, AcquiredConnection, AcquiredStream, ChosenEndpoint};
use crate::proxy::express::broken::Broken;
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::ParseContext;
use crate::proxy::express::upload::Upload;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::admit::{self, Identified, Ingress, Rejected, RoutedRequest};
use crate::proxy::request::end::{End, GRACE};
use crate::proxy::request::failure::{Failure, INTERNAL, RESET, UNPROCESSED, WRITE_TIMEOUT};
use crate::proxy::request::fault;
use crate::proxy::request::headers::RequestRewrite;
use crate::proxy::request::mirror::{self, MirrorCopy};
use crate::proxy::request::token::websocket_key;
use crate::proxy::request::upload::{BodyLimit, Manner, PAUSE, SMALL, is_small};
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::destination::PoolKey;
use crate::proxy::upstream::multiplex::slot::Opening;
use crate::snapshot::{ClientLimits, Service, Version};
use crate::traffic::validate::Framing;
use crate::traffic::validate::refusal::METHOD_UNSUPPORTED;
use crate::traffic::{HttpVersion, Refusal, Request as _};

/// A stream that a client opened.
pub(super) struct Opened {
    pub(super) stream: StreamHandle,
    pub(super) fields: PooledFields,
    /// Nothing comes after the head.
    pub(super) ends: bool,
}

/// Carries a request to its end.
pub(super) async fn exchange(opened: Opened) -> Ended {
    let Opened { stream, fields, ends } = opened;
    let common = &*stream.common;
    let shared = &*common.worker.shared;
    let read = common.worker.snapshot();
    let mut head = H2Head::new(&fields, ends);
    let (head_only, malformed) = (head.method() == "HEAD", head.is_malformed());
    let (sni, tls) = (common.sni.as_deref(), common.tls);
    let ingress = Ingress { listener: &common.listener, sni, peer: common.peer, tls };
    let known = Identified::of(&mut head, &ingress, shared, &read.snapshot);
    let head = known.head;
    let admitted = admit::admit(head, &ingress, &read.snapshot, |_| true);
    // Borrowed, here and below: it is large, and moved for each name that it gets.
    let admitted = match &admitted {
        Ok(admitted) => admitted,
        Err(rejected) => {
            let refusal = match rejected {
                Rejected::Refused(refusal) => *refusal,
                Rejected::NotCarried => INTERNAL,
            };
            let mut refused = RefusedRequest::enter(shared, known.logged);
            let ended = refused.answer(&stream, refusal, head_only).await;
            // An error of the stream, of which the client is told why (RFC 9113 §8.1.1).
            return if malformed { Ended::Reset(ErrorCode::PROTOCOL_ERROR) } else { ended };
        }
    };
    let routed = &admitted.routed;
    let RoutedRequest { validated, service, .. } = routed;
    let key = head.protocol().map(|_| websocket_key()).unwrap_or_default();
    let tunnel = head.protocol().map(|protocol| (protocol, key.as_str()));
    let refusal = admitted.refusal.or_else(|| tunnel.and_then(|(protocol, _)| refuses_tunnel(service, protocol)));
    let assigned = admitted.assignment();
    let rewrite = HeadRewrite {
        rewrite: RequestRewrite {
            peer: &common.peer_text,
            trusted: known.trusted,
            underscore: routed.underscore,
            tls: common.tls,
            authority: validated.authority,
            request_id: known.request_id.as_bytes(),
            version: HttpVersion::Http2,
            may_wait: !ends && tunnel.is_none(),
            overrides: service.chooser.overrides(),
            told: assigned.told(),
            flags: admitted.flags,
        },
        target: &validated.target,
        host: service.host.as_deref(),
        framing: validated.framing,
        ends,
        tunnel,
    };
    let mut exchange = Exchange {
        context: ExpressContext::enter(shared, assigned, head.method(), known.logged),
        pools: &common.worker.pools,
        stream: &stream,
        limits: &read.snapshot.client,
        head,
        rewrite: &rewrite,
        body_limit: service.body_limit(&read.snapshot),
        parse_context: ParseContext { head_only, grpc: head.is_grpc() },
        set_cookie: admitted.set_cookie.as_deref(),
        expects: validated.expect_continue && !ends,
    };
    exchange.begin_copy();
    // Until it is known how it ends: whoever drops it does so because its client left.
    exchange.context.progress.client_gone = true;
    exchange.run(refusal).await
}

/// Why a tunnel for this protocol is not opened (RFC 8441 §5): the service does not allow it, or speaks HTTP/2 to its
/// endpoints, which would have to allow it themselves.
fn refuses_tunnel(service: &Service, protocol: &str) -> Option<Refusal> {
    let allowed = service.upgrades.iter().any(|token| token.eq_ignore_ascii_case(protocol));
    (!allowed || !service.speaks_http1).then_some(METHOD_UNSUPPORTED)
}

/// A request whose version is chosen.
struct Exchange<'a, 's> {
    context: ExpressContext<'s>,
    pools: &'a Pools,
    stream: &'a StreamHandle,
    limits: &'a ClientLimits,
    head: &'a H2Head<'a>,
    rewrite: &'a HeadRewrite<'a>,
    body_limit: BodyLimit,
    parse_context: ParseContext,
    /// A cookie that keeps its client on its version.
    set_cookie: Option<&'a str>,
    /// The client may wait for `100 Continue`.
    expects: bool,
}

impl<'s> Exchange<'_, 's> {
    /// Carries the request to an endpoint of its version and the response back.
    async fn run(&mut self, refusal: Option<Refusal>) -> Ended {
        if let Some(refusal) = refusal {
            return self.refuse(refusal).await;
        }
        let version: &Version = self.context.assigned.version;
        if version.limit.is_some()
            && let Err(refusal) = self.context.take_permit().await
        {
            return self.refuse(refusal).await;
        }
        if version.faults.is_some() {
            if let Some(refusal) = self.inject_fault().await {
                return self.refuse(refusal).await;
            }
            self.context.attempts.began = Instant::now();
        }
        if version.speaks_http2() { self.run_http2().await } else { self.run_http1().await }
    }

    /// Begins the request's copy for a mirror, if it is copied.
    fn begin_copy(&mut self) {
        let special = self.rewrite.tunnel.is_some() || self.parse_context.grpc;
        if let Some(mut copy) = mirror::copy(&self.context.assigned, self.head.method(), special) {
            let mut out = Buffer::default();
            request::write_http1(self.head, self.rewrite, &mut out);
            copy.set_head(out.data().to_vec());
            self.context.copy = Some(copy);
        }
    }

    /// Injects a fault; the local response if that is an error.
    async fn inject_fault(&mut self) -> Option<Refusal> {
        let context = &mut self.context;
        let version = context.assigned.version;
        let fault = fault::begin(version, &mut context.progress)?;
        if !fault.delay.is_zero() {
            let until = Instant::now() + fault.delay;
            let stream = self.stream;
            poll_fn(|_| if context.is_cut() || stream.is_late(until) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
        fault::end(fault, &version.series)
    }

    async fn run_http1(&mut self) -> Ended {
        let mut upload = self.upload();
        let mut first = None;
        if !self.has_body(upload.body) {
            first = match self.prepare(&mut upload).await {
                Ok(chosen) => chosen,
                Err(broken) => return self.ended(broken).await,
            };
            self.context.attempts.began = Instant::now();
        }
        if let Some(copy) = self.context.copy.take() {
            self.send_copy(*copy, upload.is_streamed());
        }
        let assigned_at = self.context.assigned.version_at;
        loop {
            let acquired = acquire::connection(&mut self.context, self.pools, first.take(), upload.is_streamed()).await;
            let mut acquired = match acquired {
                Ok(acquired) => acquired,
                Err(refusal) => return self.refuse(refusal).await,
            };
            if self.context.assigned.version_at != assigned_at {
                upload.retell(self.rewrite.rewrite.told, self.context.assigned.told());
            }
            let mut download = Download::default();
            match self.forward_http1(&mut upload, &mut acquired, &mut download).await {
                Ok(()) => return self.finish_http1(&upload, acquired, &download),
                Err(Broken::AskedAgain) => {}
                Err(broken) => {
                    drop(acquired);
                    let Some(failure) = broken.failure() else { return self.ended(broken).await };
                    if download.begun {
                        self.context.attempts.answer_began();
                    }
                    let (version, sent) = (self.context.assigned.version, self.context.sent());
                    let refusal = failure.refusal;
                    if !self.context.attempts.broke(failure, sent, version, || upload.replay())
                        && !self.context.is_rescued((refusal.status, Some(refusal.cause)), || upload.replay())
                    {
                        return self.broken(refusal).await;
                    }
                }
            }
        }
    }

    /// The request as an HTTP/1.1 endpoint gets it.
    fn upload(&self) -> Upload {
        let mut out = Buffer::default();
        request::write_http1(self.head, self.rewrite, &mut out);
        let body = match self.rewrite.framing {
            _ if self.rewrite.ends || self.rewrite.tunnel.is_some() => Body::Done,
            Framing::Frames { length: Some(length) } => Body::of_length(length),
            _ => Body::UntilClose,
        };
        let mut upload = Upload::new(out, body, self.context.attempts.is_idempotent(), self.body_limit);
        upload.chunked = self.rewrite.is_chunked();
        upload
    }

    /// Whether nothing of the body is to be waited for: there is none, or it is here.
    fn has_body(&self, body: Body) -> bool {
        body.is_done() || (!self.expects && self.stream.lock().place().received_end)
    }

    /// Chooses the endpoint of a request with a body and reads the body if it is small. Its endpoint has it in flight all
    /// the while.
    async fn prepare(&mut self, upload: &mut Upload) -> Result<Option<ChosenEndpoint<'s>>, Broken> {
        let Some(chosen) = self.context.choose() else { return Ok(None) };
        if self.take_in(upload.body, &chosen.ticket).await? == Manner::Streamed {
            upload.stream();
        }
        Ok(Some(chosen))
    }

    /// Waits for the body of a request if it is small, and says how it is to be sent.
    async fn take_in(&self, body: Body, ticket: &Ticket<&Ledger>) -> Result<Manner, Broken> {
        let length = match body {
            Body::Length(length) => Some(length),
            _ => None,
        };
        if self.expects || !is_small(length) {
            return Ok(Manner::Streamed);
        }
        let context = &self.context;
        let idle = context.assigned.service.timeouts.idle + GRACE;
        let (mut active, mut seen) = (context.began, 0);
        poll_fn(|_| {
            let (ended, here) = {
                let mut stream = self.stream.lock();
                let place = stream.place();
                (place.received_end, place.body.len())
            };
            self.body_limit.check(here as u64).map_err(Broken::Client)?;
            if ended || here > SMALL {
                return Poll::Ready(Ok(if ended && here <= SMALL { Manner::Whole } else { Manner::Streamed }));
            }
            if context.is_cut() || ticket.is_due() {
                ticket.count_cut();
                return Poll::Ready(Err(Broken::Ended(End::Cut)));
            }
            if here > seen {
                (active, seen) = (Instant::now(), here);
            }
            if self.stream.is_cut_while((here > 0).then_some(active)) {
                return Poll::Ready(Err(Broken::Ended(End::Unread)));
            }
            let (late, pause) = (active + idle, context.began + PAUSE);
            let late = context.attempts.deadline().map_or(late, |all| all.min(late));
            let pauses = length.is_none() && pause < late;
            match self.stream.is_late(if pauses { pause } else { late }) {
                false => Poll::Pending,
                true if pauses => Poll::Ready(Ok(Manner::Streamed)),
                true => Poll::Ready(Err(Broken::Ended(End::Upload))),
            }
        })
        .await
    }

    async fn forward_http1(
        &mut self,
        upload: &mut Upload,
        acquired: &mut AcquiredConnection<'s>,
        download: &mut Download,
    ) -> Result<(), Broken> {
        let fields = self.context.assigned.client_fields(self.set_cookie);
        let mut relay = Http1Relay {
            stream: self.stream,
            endpoint: &mut acquired.connection.transport,
            checkout: &acquired.connection.checkout,
            upload,
            download,
            timeouts: &self.context.assigned.service.timeouts,
            context: &mut self.context,
            ticket: &mut acquired.ticket,
            parse_context: self.parse_context,
            rewrite: fields,
            offered: self.rewrite.tunnel.map(|(protocol, _)| protocol),
            limits: self.limits,
            turn: Turn::new(acquired.since),
        };
        poll_fn(|cx| relay.poll(cx)).await
    }

    /// Hands over the request's copy for a mirror, if its body is here.
    #[cold]
    fn send_copy(&self, mut copy: MirrorCopy, streamed: bool) {
        let mut stream = self.stream.lock();
        let place = stream.place();
        if streamed || !(self.rewrite.ends || place.received_end) {
            return copy.body_is_missing();
        }
        copy.push(place.body.data());
        copy.send(&self.context.shared.mirrored);
    }

    /// The response is written.
    fn finish_http1(&mut self, upload: &Upload, acquired: AcquiredConnection<'_>, download: &Download) -> Ended {
        let ended = self.finish();
        let limit = self.context.assigned.service.timeouts.pool_idle;
        if upload.is_complete() && download.ended_exactly() && !download.closes {
            let until = self.context.ended_at.unwrap_or_else(Instant::now) + limit;
            let bodied = self.context.progress.bytes_in > 0;
            self.pools.http1.put(PoolKey::of(acquired.endpoint), acquired.connection, until, bodied);
        }
        ended
    }

    async fn run_http2(&mut self) -> Ended {
        if self.rewrite.ends
            && let Some(copy) = self.context.copy.take()
        {
            self.send_copy(*copy, false);
        }
        loop {
            let mut acquired = match acquire::stream(&mut self.context, self.pools).await {
                Ok(acquired) => acquired,
                Err(refusal) => return self.refuse(refusal).await,
            };
            // What is sent of a small body is kept until there is an answer.
            self.stream.lock().place().body.keep(true);
            let failed = match self.forward_http2(&mut acquired).await {
                Ok(()) => return self.finish(),
                Err(failed) => failed,
            };
            drop(acquired);
            let (stream, version, sent) = (self.stream, self.context.assigned.version, self.context.sent());
            let replay = || stream.lock().place().replay();
            let context = &mut self.context;
            let attempts = &mut context.attempts;
            match failed {
                Failed::Unprocessed if attempts.turned_away(sent, version, replay) => {}
                Failed::Unprocessed => return self.broken(UNPROCESSED).await,
                Failed::Broken(Broken::AskedAgain) => {}
                Failed::Broken(broken) => match broken.failure() {
                    Some(failure) if attempts.broke(failure, sent, version, replay) => {}
                    Some(Failure { refusal, .. })
                        if context.is_rescued((refusal.status, Some(refusal.cause)), replay) => {}
                    Some(failure) => return self.broken(failure.refusal).await,
                    None => return self.ended(broken).await,
                },
                Failed::Reset(code) => {
                    // It says something about the request: the connection was not dead before.
                    attempts.answer_began();
                    let as_failed = (RESET.refusal.status, Some(RESET.refusal.cause));
                    if !attempts.broke(RESET, sent, version, replay) && !context.is_rescued(as_failed, replay) {
                        return self.reset(code).await;
                    }
                }
            }
            self.context.progress.bytes_in = 0;
            if let Some(copy) = &mut self.context.copy {
                copy.restart();
            }
        }
    }

    async fn forward_http2(&mut self, acquired: &mut AcquiredStream<'s>) -> Result<(), Failed> {
        let (head, mut rewrite) = (self.head, self.rewrite);
        let told = self.context.assigned.told();
        let rescued;
        if told != rewrite.rewrite.told {
            rescued = HeadRewrite { rewrite: RequestRewrite { told, ..rewrite.rewrite }, ..*rewrite };
            rewrite = &rescued;
        }
        let scheme = if acquired.endpoint.upstream.tls.is_some() { "https" } else { "http" };
        let opening = Opening { ends: rewrite.ends, head: self.parse_context.head_only };
        acquired.connection.open(opening, |encoder, block| {
            request::write_http2(head, rewrite, scheme, encoder, block);
        })?;
        let fields = self.context.assigned.client_fields(self.set_cookie);
        let mut relay = Http2Relay {
            stream: self.stream,
            upstream: &mut acquired.connection,
            progress: Progress::new(rewrite.ends),
            limit: self.body_limit,
            timeouts: &self.context.assigned.service.timeouts,
            context: &mut self.context,
            ticket: &mut acquired.ticket,
            parse_context: self.parse_context,
            rewrite: fields,
            limits: self.limits,
            turn: Turn::new(acquired.since),
        };
        poll_fn(|cx| relay.poll(cx)).await
    }

    /// The response was written to its end.
    fn finish(&mut self) -> Ended {
        let progress = &mut self.context.progress;
        (progress.complete, progress.client_gone) = (true, false);
        Ended::Answered
    }

    /// The exchange was ended by something else than its endpoint.
    async fn ended(&mut self, broken: Broken) -> Ended {
        let refusal = match broken {
            Broken::ClientGone | Broken::AskedAgain => return Ended::Reset(ErrorCode::CANCEL),
            Broken::ClientSlow => {
                self.context.progress.cause = Some(WRITE_TIMEOUT);
                return Ended::Reset(ErrorCode::CANCEL);
            }
            Broken::Endpoint(failure) => failure.refusal,
            Broken::Client(refusal) => refusal,
            Broken::Ended(end) => {
                self.context.progress.ended = Some(end);
                if let Some(failure) = Failure::of_end(end) {
                    self.context.attempts.fell_silent(failure, self.context.assigned.version);
                }
                match end.refusal() {
                    Some(refusal) => refusal,
                    None => return Ended::Reset(ErrorCode::CANCEL),
                }
            }
        };
        self.broken(refusal).await
    }

    /// Answers with `refusal` if the client has no response yet.
    async fn broken(&mut self, refusal: Refusal) -> Ended {
        if self.context.progress.status.is_none() {
            return self.refuse(refusal).await;
        }
        (self.context.progress.client_gone, self.context.progress.cause) = (false, Some(refusal.cause));
        if self.parse_context.grpc {
            return self.end_call();
        }
        Ended::Reset(ErrorCode::INTERNAL_ERROR)
    }

    /// Ends a gRPC call whose endpoint is gone or has to go with the status that its client would see without Weir, and
    /// may try again for: UNAVAILABLE.
    fn end_call(&mut self) -> Ended {
        let mut stream = self.stream.lock();
        stream.head(HeadKind::Trailers, true, |encoder, block| {
            encoder.field(b"grpc-status", b"14", block);
            encoder.field(b"grpc-message", b"the connection to the endpoint ended", block);
        });
        Ended::Answered
    }

    /// The endpoint ended its stream with an error. The client of a gRPC call learns which: it makes its status of it.
    async fn reset(&mut self, code: ErrorCode) -> Ended {
        let refusal = RESET.refusal;
        if self.context.progress.status.is_none() {
            if !self.parse_context.grpc {
                return self.refuse(refusal).await;
            }
            self.context.progress.answered_locally(refusal);
        }
        (self.context.progress.client_gone, self.context.progress.cause) = (false, Some(refusal.cause));
        // An end in good order before the end of the answer is none. Nobody but the client of a call reads more of it.
        let is_told = self.parse_context.grpc && code != ErrorCode::NO_ERROR;
        Ended::Reset(if is_told { code } else { ErrorCode::INTERNAL_ERROR })
    }

    /// Gives a local response.
    async fn refuse(&mut self, refusal: Refusal) -> Ended {
        local::answer(self.stream, refusal, self.parse_context.head_only, &mut self.context.progress).await
    }
}
