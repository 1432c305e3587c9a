//! The attempts of a request on the general lane: an endpoint is chosen, and what failed is counted and tried again where
//! [`Attempts`](crate::proxy::request::attempts::Attempts) allows it. For endpoints of HTTP/1.1 the engine's hooks call
//! this, for those of HTTP/2 the relay.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora_error::{BError, Error, ErrorType, OkOrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::context::{EngineContext, Routed};
use super::error;
use crate::proxy::request::attempts::Sent;
use crate::proxy::request::context::Assignment;
use crate::proxy::request::failure::NO_ENDPOINT;
use crate::proxy::request::flags::FlagValues;
use crate::proxy::request::rescue::{FailedRequest, Rescued, rescue};
use crate::traffic::Refusal;

/// Waits before an endpoint is tried again, where that is wanted.
pub(crate) async fn pause(context: &mut EngineContext) {
    if let Some(pause) = context.routed_mut().and_then(|routed| routed.attempts.take_pause()) {
        // Who ends the exchange drops this wait with it.
        tokio::time::sleep(pause).await;
    }
}

/// Begins the next attempt: its endpoint is chosen and has it in flight.
///
/// # Errors
/// If no endpoint takes it.
pub(crate) fn begin(context: &mut EngineContext) -> Result<()> {
    // The engine hands the buffered body through again at each attempt.
    context.progress.bytes_in = 0;
    let exchange = Arc::clone(&context.exchange);
    let routed = context.routed_mut().or_err(ErrorType::InternalError, "the request has no route yet")?;
    let key = routed.key;
    let (version, attempts) = routed.attempt_on().or_err(ErrorType::InternalError, "the version is none")?;
    if attempts.choose(version, key).is_none() {
        let refusal = attempts.no_endpoint(version);
        return Error::e_explain(ErrorType::HTTPStatus(refusal.status), refusal.text);
    }
    attempts.began = Instant::now();
    let timeouts = routed.timeouts();
    let endpoint = routed.endpoint().or_err(ErrorType::InternalError, "the endpoint is none")?;
    exchange.attempt(endpoint.live.ledger.enter(), timeouts, routed.has_body, routed.attempts.began);
    exchange.ends_by(routed.attempts.deadline());
    Ok(())
}

/// The attempt has no connection; the error says whether the request is tried again.
pub(crate) fn connect_failed(context: &mut EngineContext, mut error: BError) -> BError {
    let failure = error::failure(&error, context.exchange.ended()).unwrap_or(NO_ENDPOINT);
    context.exchange.over();
    let again = context
        .routed_mut()
        .and_then(Routed::attempt_on)
        .is_some_and(|(version, attempts)| attempts.connect_failed(failure, version, Instant::now()));
    error.set_retry(again || is_rescued(context, (failure.refusal.status, Some(failure.refusal.cause)), true));
    error
}

/// The endpoint answered with this head; whether nobody gets it, and the request is tried again.
pub(crate) fn is_asked_again(session: &Session, context: &mut EngineContext, head: &ResponseHeader) -> bool {
    let kept = !session.as_ref().retry_buffer_truncated() && session.response_written().is_none();
    let sent = Sent { bytes: context.progress.bytes_in, now: Instant::now() };
    let later = head.headers.contains_key(header::RETRY_AFTER);
    let Some((version, attempts)) = context.routed_mut().and_then(Routed::attempt_on) else { return false };
    let status = head.status.as_u16();
    let again = version.retry.on.has_answer(status, later) && attempts.is_asked_again(sent, version, || kept);
    again || is_rescued(context, (status, None), kept)
}

/// Whether the request, which failed on its version for good, is tried on another. `kept`: all of it is still here.
fn is_rescued(context: &mut EngineContext, (status, cause): (u16, Option<&'static str>), kept: bool) -> bool {
    let version = context.routed().and_then(Routed::version);
    if status < 500 || version.is_none_or(|version| version.rescuer.is_none()) {
        return false;
    }
    let now = Instant::now();
    let sent = Sent { bytes: context.progress.bytes_in, now };
    let duration = context.began.map_or(Duration::ZERO, |began| now - began);
    let Some(routed) = context.routed_mut() else { return false };
    let (route, service) = (Arc::clone(&routed.route), Arc::clone(&routed.service));
    let Some(version) = service.versions.get(routed.version) else { return false };
    let (version_at, reason, key) = (routed.version, routed.reason, routed.key);
    let cohort = service.cohort_name(routed.cohort);
    // Flags are counted once, with the request's end.
    let flags = FlagValues::default();
    let from = Assignment { route: &route, service: &service, version, version_at, reason, cohort, key, flags };
    let failed = FailedRequest { status, cause, sent, duration };
    let rescued = rescue(from, &mut routed.attempts, failed, || kept);
    let Some(Rescued { to, permit }) = rescued else { return false };
    (routed.version, routed.reason) = (to.version_at, to.reason);
    context.permit = permit;
    context.request_entered();
    true
}

/// The attempt broke; the error says whether the request is tried again.
pub(crate) fn broke(session: &Session, context: &mut EngineContext, mut error: BError) -> BError {
    let failure = error::failure(&error, context.exchange.ended());
    let kept = !session.as_ref().retry_buffer_truncated();
    let unanswered = session.response_written().is_none();
    context.exchange.over();
    if error::is_asked_again(&error) {
        error.set_retry(true);
        return error;
    }
    error.set_retry(false);
    let (turned_away, reset) = (error::is_unprocessed(&error), error::is_reset(&error));
    let failure = failure.filter(|_| !turned_away);
    context.end_reported |= failure.is_some() && context.exchange.ended().is_some();
    let sent = Sent { bytes: context.progress.bytes_in, now: Instant::now() };
    let Some((version, attempts)) = context.routed_mut().and_then(Routed::attempt_on) else { return error };
    if reset {
        // It says something about the request: the connection was not dead before.
        attempts.answer_began();
    }
    let again = match failure {
        Some(failure) => attempts.broke(failure, sent, version, || kept && unanswered),
        None => turned_away && attempts.turned_away(sent, version, || kept),
    };
    let refusal = failure.map(|failure| failure.refusal);
    let rescued = |refusal: Refusal| is_rescued(context, (refusal.status, Some(refusal.cause)), kept && unanswered);
    error.set_retry(again || refusal.is_some_and(rescued));
    if error.retry() {
        context.exchange.resume();
        context.end_reported = false;
    }
    error
}
