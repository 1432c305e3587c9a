//! The general lane: pingora's `HttpProxy` carries HTTP/1 and HTTP/2, streams and upgrades; its hooks call the
//! traffic stages in their order and hold no logic of their own.
//!
//! ```text
//! early_request_filter   the head is complete: clock, timeouts
//! request_filter         validate ─ route ─ split
//! upstream_peer          balance ─ which connection          (again for each attempt)
//! upstream_request_filter, response_filter                   what we change in messages
//! fail_to_connect, error_while_proxy                         what may be tried again
//! fail_to_proxy          the one place for answers of our own to a failure
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora_error::{Error, ErrorSource, ErrorType, OkOrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use tokio::time::Instant;

use super::context::{EngineContext, Routed};
use super::exchange::{EXCHANGE, Exchange};
use super::{admission, attempt, connector, error, h2_relay, intake, message, upload};
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::codec::response::{MAX_HEAD, MAX_INFORMATIONAL};
use crate::proxy::request::end::BODY_DRAIN;
use crate::proxy::request::failure::WRITE_TIMEOUT;
use crate::proxy::request::headers::RequestRewrite;
use crate::proxy::request::upload::Manner;
use crate::proxy::shared::Shared;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::Checkout;

/// The hooks.
pub(crate) struct General {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pools: Arc<Pools>,
}

fn routed(context: &mut EngineContext) -> Result<&mut Routed> {
    context.routed_mut().or_err(ErrorType::InternalError, "the request has no route yet")
}

#[async_trait]
impl ProxyHttp for General {
    type CTX = EngineContext;

    fn new_ctx(&self) -> EngineContext {
        let exchange = EXCHANGE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Exchange::orphan()));
        EngineContext::new(Arc::clone(&self.shared), exchange)
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, context: &mut EngineContext) -> Result<()> {
        context.began = Some(Instant::now());
        context.exchange.handle.request_begun();
        self.shared.request_begun();
        intake::complete(session.as_downstream_mut(), &context.exchange.handle)?;
        let client = self.shared.current.peek().client;
        // Without this the engine waits for the next request for ever.
        if session.get_keepalive().is_some() {
            let seconds = if self.shared.is_draining() { None } else { Some(client.keepalive.as_secs().max(1)) };
            session.set_keepalive(seconds);
        }
        session.set_write_timeout(Some(client.write_timeout));
        session.as_downstream_mut().set_total_drain_timeout(Some(BODY_DRAIN));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut EngineContext) -> Result<bool> {
        message::join_cookies(session.req_header_mut())?;
        let admitted = match admission::admit(session.as_downstream(), context) {
            Ok(()) => match context.take_permit().await {
                Ok(()) => context.inject_fault().await,
                Err(refusal) => Some(refusal),
            },
            Err(refusal) => Some(refusal),
        };
        let Some(refusal) = admitted else {
            // Over HTTP/2 only the engine knows whether the head ended the stream.
            if let Some(routed) = context.routed_mut() {
                routed.has_body &= !session.as_downstream_mut().is_body_empty();
            }
            return Ok(false);
        };
        context.answer(session.as_downstream_mut(), refusal, false).await?;
        Ok(true)
    }

    /// Requests to HTTP/2 endpoints take a way of ours from here on, through the hooks below.
    async fn proxy_upstream_filter(&self, session: &mut Session, context: &mut EngineContext) -> Result<bool> {
        let version = context.routed().and_then(Routed::version);
        let speaks_h2 = version.and_then(|version| version.endpoints.first()).is_some_and(|first| first.upstream.http2);
        if speaks_h2 {
            h2_relay::forward(self, &self.pools, session, context).await?;
        }
        Ok(!speaks_h2)
    }

    async fn upstream_peer(&self, session: &mut Session, context: &mut EngineContext) -> Result<Box<HttpPeer>> {
        attempt::pause(context).await;
        attempt::begin(context)?;
        if routed(context)?.has_body && routed(context)?.manner.is_none() {
            upload::take_in(session.as_downstream_mut(), context).await?;
        }
        let routed = routed(context)?;
        let fresh = routed.attempts.is_fresh() || routed.manner == Some(Manner::Streamed);
        let endpoint = routed.endpoint().or_err(ErrorType::InternalError, "the request has no endpoint yet")?;
        let mut peer = Box::new(connector::peer(&self.pools, endpoint, &routed.timeouts(), fresh));
        peer.options.http_upstream_request_policy.h1_upgrade = match routed.upgrade.as_deref() {
            None => H1UpgradePolicy::Deny,
            Some(token) if token.eq_ignore_ascii_case("websocket") => H1UpgradePolicy::WebSocketOnly,
            Some(_) => H1UpgradePolicy::Preserve,
        };
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        context: &mut EngineContext,
    ) -> Result<()> {
        let checkout = connector::check_out(digest);
        // The engine keeps no connections: it does not know which are reused.
        let reused = reused || checkout.as_ref().is_some_and(Checkout::is_reused);
        let plain = checkout.as_ref().is_some_and(|checkout| !checkout.is_tls());
        context.connected(checkout, reused, reused || plain);
        if context.routed().is_some_and(|routed| routed.upgrade.is_some()) {
            context.exchange.cork();
        }
        context.send_off();
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut EngineContext,
    ) -> Result<()> {
        let handle = Arc::clone(&context.exchange.handle);
        let Some(routed) = context.routed() else { return Ok(()) };
        let service = routed.service();
        let version = session.req_header().version;
        let peer = handle.client.map(|peer| peer.to_string()).unwrap_or_default();
        let rewrite = RequestRewrite {
            peer: &peer,
            trusted: routed.snapshot.trusts(handle.client),
            underscore: routed.underscore,
            tls: handle.tls,
            authority: &routed.authority,
            request_id: context.request_id.as_bytes(),
            version: message::version(version),
            may_wait: routed.has_body && version != http::Version::HTTP_10,
            overrides: service.chooser.overrides(),
            told: routed.assignment().and_then(|assigned| assigned.told()),
            flags: routed.flags(),
        };
        message::to_origin(head, &rewrite)?;
        if let Some(target) = &routed.target {
            message::set_target(head, target)?;
        }
        if let Some(host) = &service.host {
            message::set_host(head, host)?;
        }
        if let Some(token) = &routed.upgrade {
            message::offer_upgrade(head, token)?;
        }
        let to_http1 = routed.endpoint().is_some_and(|endpoint| !endpoint.upstream.http2);
        if to_http1 && session.req_header().version == http::Version::HTTP_2 && session.is_body_empty() {
            message::declare_no_body(head)?;
        }
        context.copy_head(head);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut EngineContext,
    ) -> Result<()> {
        context.put_ahead(body);
        let bytes = body.as_ref().map_or(0, Bytes::len) as u64;
        if end_of_stream && bytes == 0 {
            // The engine writes every piece as a chunk and then the end. An empty chunk is an end already, and the
            // second one would be the start of the next request (RFC 9112 §7.1).
            *body = None;
        }
        let exchange = Arc::clone(&context.exchange);
        if bytes > 0 {
            exchange.moved(Instant::now());
        }
        context.copy_body(body.as_deref().unwrap_or_default(), end_of_stream);
        context.progress.bytes_in += bytes;
        let total = context.progress.bytes_in;
        let Some(routed) = context.routed() else { return Ok(()) };
        let limit = routed.service().body_limit(&routed.snapshot);
        if !context.progress.kind.is_stream() {
            limit.check(total).map_err(error::of_body)?;
        }
        if end_of_stream && routed.has_body {
            if exchange.answered_early() {
                exchange.mark_unusable();
            }
            exchange.request_sent(Instant::now());
        } else if end_of_stream && routed.upgrade.is_some() {
            exchange.request_sent(Instant::now());
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut EngineContext,
    ) -> Result<()> {
        let exchange = Arc::clone(&context.exchange);
        let routed = routed(context)?;
        if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
            routed.attempts.informed();
            routed.informational = routed.informational.saturating_add(1);
            if routed.informational > MAX_INFORMATIONAL {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "too many 1xx responses").into_up());
            }
            exchange.informed();
            return Ok(());
        }
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS
            && !routed.upgrade.as_deref().is_some_and(|offered| message::takes(head, offered))
        {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "101 for what was not offered").into_up());
        }
        if attempt::is_asked_again(session, context, head) {
            return Err(error::asked_again());
        }
        let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > MAX_HEAD {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "the response head is too large").into_up());
        }
        let routed = self::routed(context)?;
        if let Some((version, attempts)) = routed.attempt_on() {
            attempts.answered(head.status.as_u16(), attempts.began.elapsed(), version);
        }
        // The endpoint answered before it had the whole request: it may take the rest for another request.
        let sent_whole = routed.manner == Some(Manner::Whole);
        let early = if sent_whole { !exchange.is_acknowledged() } else { !session.as_downstream_mut().is_body_done() };
        if routed.has_body && early {
            exchange.mark_unusable();
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut EngineContext,
    ) -> Result<()> {
        message::to_client(head);
        match head.status {
            http::StatusCode::SWITCHING_PROTOCOLS => context.exchange.handle.switch(),
            status if status.is_informational() => return Ok(()),
            _ => {}
        }
        context.progress.kind = message::kind_of(session.req_header(), head);
        context.progress.status = Some(head.status.as_u16());
        context.progress.answered_after = context.began.map(|began| began.elapsed());
        context.exchange.responded(context.progress.kind, Instant::now());
        // A call that fails at once has its status here instead of in the trailers.
        context.progress.grpc_failed = message::is_grpc(session.req_header()) && message::grpc_failed(&head.headers);
        if self.shared.is_draining() {
            session.set_keepalive(None);
        }
        if context.progress.kind.is_stream() {
            // A silent client is no reason to end a stream; only a drain is.
            session.as_downstream_mut().set_read_timeout(None);
        }
        if session.req_header().version == http::Version::HTTP_10
            && head.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            // HTTP/1.0 has no chunks (RFC 9112 §7.1): the end of the connection ends the body.
            head.set_version(http::Version::HTTP_10);
            session.set_keepalive(None);
        }
        if let Some(routed) = context.routed()
            && let Some(assigned) = routed.assignment()
        {
            message::add_client_fields(head, assigned.client_fields(routed.set_cookie.as_deref()))?;
        }
        context.stream_opened();
        Ok(())
    }

    fn upstream_response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut http::HeaderMap,
        context: &mut EngineContext,
    ) -> Result<()> {
        message::trailers_to_client(trailers);
        context.progress.grpc_failed |= message::is_grpc(session.req_header()) && message::grpc_failed(trailers);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        ends: bool,
        context: &mut EngineContext,
    ) -> Result<Option<Duration>> {
        if let Some(body) = body {
            context.progress.bytes_out += body.len() as u64;
            context.exchange.answering(body.len(), ends, Instant::now());
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut EngineContext,
        error: Box<Error>,
    ) -> Box<Error> {
        attempt::connect_failed(context, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut EngineContext,
        _reused: bool,
    ) -> Box<Error> {
        attempt::broke(session, context, error)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut EngineContext) -> FailToProxy {
        let ended = context.exchange.ended();
        // A 101 is a final answer: what follows it is the tunnel's.
        let is_final =
            |status: http::StatusCode| !status.is_informational() || status == http::StatusCode::SWITCHING_PROTOCOLS;
        let written = session.response_written().is_some_and(|head| is_final(head.status));
        let blamed = error::failure(error, ended).map(|failure| failure.refusal);
        let failed = context.routed().and_then(|routed| routed.attempts.why_failed());
        let refusal = match error.etype() {
            ErrorType::HTTPStatus(_) if *error.esource() != ErrorSource::Downstream => failed.or(blamed),
            _ => blamed.or_else(|| error::local_response(error, ended)),
        };
        // The engine only knows that it could not read on.
        let refusal = refusal.or_else(|| context.exchange.handle.is_misframed().then_some(BAD_REQUEST));
        match refusal {
            Some(refusal) if !written => {
                let answered = context.answer(session.as_downstream_mut(), refusal, true).await;
                context.progress.client_gone = answered.is_err();
                context.progress.complete = !context.progress.client_gone;
                context.over_at = Some(Instant::now());
                if session.as_downstream().as_http1().is_some() {
                    // The engine would drop the connection, and the client may still send.
                    session.as_downstream_mut().shutdown().await;
                }
                FailToProxy { error_code: refusal.status, can_reuse_downstream: false }
            }
            Some(refusal) => {
                context.progress.cause = Some(refusal.cause);
                if session.as_downstream().is_http2() {
                    // A reset takes back what its connection did not send yet; this lets it send what came.
                    tokio::task::yield_now().await;
                }
                FailToProxy { error_code: 0, can_reuse_downstream: false }
            }
            None => {
                context.progress.client_gone = true;
                if *error.etype() == ErrorType::WriteTimedout {
                    context.progress.cause = Some(WRITE_TIMEOUT);
                }
                FailToProxy { error_code: 0, can_reuse_downstream: false }
            }
        }
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, context: &mut EngineContext) {
        context.over_at.get_or_insert_with(Instant::now);
        if error.is_none() {
            context.progress.complete = true;
        }
    }

    fn suppress_error_log(&self, _session: &Session, _: &EngineContext, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _: &EngineContext,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
