//! The attempts of a request on the general lane: an endpoint is chosen, and what failed is counted and tried again where
//! [`Attempts`](crate::proxy::request::attempts::Attempts) allows it. For endpoints of HTTP/1.1 the engine's hooks call
//! this, for those of HTTP/2 the relay.

use std::sync::Arc;

use http::header;
use pingora_error::{BError, Error, ErrorType, OkOrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::context::{EngineContext, Routed};
use super::error;
use crate::proxy::request::attempts::Sent;
use crate::proxy::request::failure::NO_ENDPOINT;

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
    error.set_retry(again);
    error
}

/// The endpoint answered with this head; whether nobody gets it, and the request is tried again.
pub(crate) fn is_asked_again(session: &Session, context: &mut EngineContext, head: &ResponseHeader) -> bool {
    let kept = !session.as_ref().retry_buffer_truncated() && session.response_written().is_none();
    let sent = Sent { bytes: context.progress.bytes_in, now: Instant::now() };
    let later = head.headers.contains_key(header::RETRY_AFTER);
    let Some((version, attempts)) = context.routed_mut().and_then(Routed::attempt_on) else { return false };
    version.retry.on.has_answer(head.status.as_u16(), later) && attempts.is_asked_again(sent, version, || kept)
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
    error.set_retry(match failure {
        Some(failure) => attempts.broke(failure, sent, version, || kept && unanswered),
        None => turned_away && attempts.turned_away(sent, version, || kept),
    });
    if error.retry() {
        context.exchange.resume();
        context.end_reported = false;
    }
    error
}
