//! The engine's errors and ours: a connection's or a stream's error travels through the engine as the cause of one of its
//! own, and what comes out is sorted into the kinds that all lanes have.

use std::io;

use pingora_error::{BError, Error, ErrorSource, ErrorType};

use crate::proxy::codec::body::Malformed;
use crate::proxy::codec::head::BAD_REQUEST;
use crate::proxy::request::end::End;
use crate::proxy::request::failure::{BODY_TOO_LARGE, Failure, INTERNAL, PROTOCOL, RESET, TIMEOUT, UNPROCESSED};
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::traffic::Refusal;

/// The type of an error of `upstream`; what it is says its cause.
const UPSTREAM: ErrorType = ErrorType::Custom("weir: upstream");

/// The type of [`asked_again`].
const ASKED_AGAIN: ErrorType = ErrorType::Custom("weir: asked again");

/// The engine's error types for chunks and trailers that are malformed; its constants are private there.
const INVALID_CHUNKS: [&str; 2] = ["InvalidChunk", "InvalidTrailerEnd"];

/// There is no connection to an endpoint.
pub(crate) fn of_connect(error: ConnectError) -> BError {
    Error::because(UPSTREAM, "connecting to the endpoint", error).into_up()
}

/// The endpoint's answer is thrown away, and the request is tried again.
pub(crate) fn asked_again() -> BError {
    Error::explain(ASKED_AGAIN, "the endpoint's answer is not the last").into_up()
}

/// Whether the request is tried again after an answer.
pub(crate) fn is_asked_again(error: &Error) -> bool {
    *error.etype() == ASKED_AGAIN
}

/// A stream to an endpoint failed.
pub(crate) fn of_stream(failure: StreamFailure) -> BError {
    Error::because(UPSTREAM, "the request to the endpoint", failure).into_up()
}

/// Whether the endpoint did not process the request.
pub(crate) fn is_unprocessed(error: &Error) -> bool {
    matches!(error.root_cause().downcast_ref(), Some(StreamFailure::Unprocessed))
}

/// Whether the endpoint ended the stream only: no sign of a connection that was over before the request came.
pub(crate) fn is_reset(error: &Error) -> bool {
    matches!(error.root_cause().downcast_ref(), Some(StreamFailure::Reset(_)))
}

/// What an error of an attempt means, given that the exchange may have been ended from outside. `None` if the
/// endpoint is not to blame.
pub(crate) fn failure(error: &Error, ended: Option<End>) -> Option<Failure> {
    if let Some(end) = ended {
        return Failure::of_end(end);
    }
    if matches!(error.esource(), ErrorSource::Downstream) {
        return None;
    }
    let cause = error.root_cause();
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(Failure::from(error));
    }
    if let Some(failure) = cause.downcast_ref::<StreamFailure>() {
        return Failure::of_stream(*failure);
    }
    // What our own stream found wrong with the answer, the engine passes on as an error of reading.
    if cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<Malformed>()) {
        return Some(PROTOCOL);
    }
    Some(match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => TIMEOUT,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => RESET,
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::InvalidH2
        | ErrorType::H2Downgrade => PROTOCOL,
        _ if matches!(error.esource(), ErrorSource::Upstream) => RESET,
        _ => return None,
    })
}

/// A client's body that is refused; the engine only keeps the status.
pub(crate) fn of_body(refusal: Refusal) -> BError {
    Error::explain(ErrorType::HTTPStatus(refusal.status), refusal.text).into_down()
}

/// The response for an error that no endpoint is to blame for; `None` when the client is gone.
pub(crate) fn local_response(error: &Error, ended: Option<End>) -> Option<Refusal> {
    if let Some(refusal) = ended.and_then(End::refusal) {
        return Some(refusal);
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::HTTPStatus(413)) => Some(BODY_TOO_LARGE),
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(_)) => Some(BAD_REQUEST),
        (ErrorSource::Downstream, kind) if INVALID_CHUNKS.contains(&kind.as_str()) => Some(BAD_REQUEST),
        (ErrorSource::Downstream, _) => None,
        _ if is_unprocessed(error) => Some(UNPROCESSED),
        _ => Some(INTERNAL),
    }
}
