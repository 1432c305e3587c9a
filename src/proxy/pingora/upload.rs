//! Reads a small body whole before its HTTP/1.1 endpoint hears of the request, on the general lane; see
//! [`crate::proxy::request::upload`].
//!
//! Of a body without a length over HTTP/2 at most [`UNENDED`] is here until its end is.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::server::Session as ServerSession;
use pingora_error::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::context::EngineContext;
use super::error;
use crate::proxy::codec::frame::DEFAULT_MAX_FRAME;
use crate::proxy::request::upload::{Manner, PAUSE, SMALL, is_small};

/// The most that may be here of an HTTP/2 body of unknown length without its end, so that one more DATA frame still fits
/// into what the engine keeps. That frame may be the last, and of a body that ended before its request was sent the
/// engine sends what it kept and nothing else, not even the end. Over HTTP/1 the end is read by itself.
const UNENDED: u64 = (SMALL - DEFAULT_MAX_FRAME) as u64;

/// Reads the body of a request on the general lane before it is sent, if it is small; the engine then sends it as it
/// sends one again.
///
/// # Errors
/// If the client is gone or sends no body, if the body is too large, or if the exchange was ended.
pub(crate) async fn take_in(session: &mut ServerSession, context: &mut EngineContext) -> Result<()> {
    let Some(routed) = context.routed() else { return Ok(()) };
    let mut taken = (Manner::Streamed, BytesMut::new());
    if is_small(routed.length) && !routed.expects {
        context.exchange.gathering(true, Instant::now());
        taken = gather(session, context).await?;
        context.exchange.gathering(false, Instant::now());
        // What was read is counted when it is sent.
        context.progress.bytes_in = 0;
    }
    if let Some(routed) = context.routed_mut() {
        (routed.manner, routed.ahead) = (Some(taken.0), taken.1);
        routed.attempts.began = Instant::now();
    }
    Ok(())
}

/// How a body is to be sent, and what was read of it and the engine does not keep.
async fn gather(session: &mut ServerSession, context: &mut EngineContext) -> Result<(Manner, BytesMut)> {
    let exchange = Arc::clone(&context.exchange);
    let Some(routed) = context.routed() else { return Ok((Manner::Streamed, BytesMut::new())) };
    let (length, limit) = (routed.length, routed.service().body_limit(&routed.snapshot));
    let (undeclared, h2) = (length.is_none(), session.is_http2());
    let until = Instant::now() + PAUSE;
    session.enable_retry_buffering();
    // The engine forgets what it kept when it is too much. Where that cannot happen nothing is kept twice.
    let mut ahead = BytesMut::new();
    loop {
        let piece = tokio::select! {
            biased;
            () = exchange.ending() => return Err(Error::explain(ErrorType::ReadTimedout, "ended from outside").into_down()),
            piece = session.read_request_body() => piece.map_err(|error| error.into_down())?,
            () = tokio::time::sleep_until(until), if undeclared => return Ok((Manner::Streamed, BytesMut::new())),
        };
        let Some(piece) = piece else { return Ok((Manner::Whole, BytesMut::new())) };
        exchange.moved(Instant::now());
        context.progress.bytes_in += piece.len() as u64;
        limit.check(context.progress.bytes_in).map_err(error::of_body)?;
        if undeclared && !h2 {
            ahead.extend_from_slice(&piece);
        }
        if session.retry_buffer_truncated() {
            return Ok((Manner::Streamed, ahead));
        }
        if session.is_body_done() {
            return Ok((Manner::Whole, BytesMut::new()));
        }
        if undeclared && h2 && context.progress.bytes_in > UNENDED {
            return Ok((Manner::Streamed, BytesMut::new()));
        }
    }
}

impl EngineContext {
    /// The request has its connection. A body that is here leaves with its head; one that is sent as it comes ends its
    /// connection, because on the general lane nobody knows when its answer begins.
    pub(crate) fn send_off(&self) {
        match self.routed().and_then(|routed| routed.manner) {
            Some(Manner::Whole) => self.exchange.cork(),
            Some(Manner::Streamed) => self.exchange.mark_unusable(),
            None => {}
        }
    }

    /// Puts what was read before the request was sent in front of what was read now.
    pub(crate) fn put_ahead(&mut self, body: &mut Option<Bytes>) {
        if let Some(routed) = self.routed_mut().filter(|routed| !routed.ahead.is_empty()) {
            let mut ahead = std::mem::take(&mut routed.ahead);
            ahead.extend_from_slice(body.as_deref().unwrap_or_default());
            *body = Some(ahead.freeze());
        }
    }
}
