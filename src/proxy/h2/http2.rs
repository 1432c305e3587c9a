//! One request over a stream to an HTTP/2 endpoint and its response back: both directions at once.
//!
//! ```text
//! DATA ─► the stream's body ─► the endpoint's connection          (what was sent of a small body is kept for another try)
//! DATA ◄─ output ◄──────────── the endpoint's stream
//! ```

use std::task::{Context, Poll, ready};

use super::response;
use super::state::{HeadKind, StreamHandle};
use super::turn::{Stage, Turn, due};
use crate::algorithm::decimal::decimal;
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::Body;
use crate::proxy::codec::frame::ErrorCode;
use crate::proxy::codec::hpack::FieldLines;
use crate::proxy::codec::response::MAX_INFORMATIONAL;
use crate::proxy::express::broken::{BAD_ANSWER, Broken};
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::{ParseContext, RETRY_AFTER, ResponseHead};
use crate::proxy::request::failure::{PROTOCOL, RESET};
use crate::proxy::request::response::ClientFields;
use crate::proxy::request::upload::{BodyLimit, SMALL};
use crate::proxy::request::{kind, trailers};
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::slot::Event;
use crate::proxy::upstream::multiplex::stream::Stream;
use crate::snapshot::{ClientLimits, Timeouts};

/// Why an exchange with an HTTP/2 endpoint did not come to its regular end.
pub(super) enum Failed {
    /// The endpoint did not process the request.
    Unprocessed,
    /// The endpoint ended its stream with this code.
    Reset(ErrorCode),
    Broken(Broken),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<StreamFailure> for Failed {
    fn from(failure: StreamFailure) -> Self {
        match failure {
            StreamFailure::Unprocessed => Self::Unprocessed,
            StreamFailure::Reset(code) => Self::Reset(code),
            StreamFailure::Broken => Self::Broken(Broken::Endpoint(RESET)),
            StreamFailure::Protocol => Self::Broken(Broken::Endpoint(PROTOCOL)),
        }
    }
}

/// How far an attempt is.
#[derive(Default)]
pub(super) struct Progress {
    /// All of the request was sent.
    sent: bool,
    /// The final head was written.
    answered: bool,
    informational: u8,
    /// How much of the response's body is missing, where its length was declared.
    left: Option<u64>,
    ended: bool,
}

impl Progress {
    /// Nothing happened yet; `sent`: nothing comes after the head.
    pub(super) fn new(sent: bool) -> Self {
        Self { sent, ..Self::default() }
    }
}

/// What an exchange with an HTTP/2 endpoint works with.
pub(super) struct Http2Relay<'a, 's> {
    pub(super) stream: &'a StreamHandle,
    pub(super) upstream: &'a mut Stream,
    pub(super) progress: Progress,
    pub(super) limit: BodyLimit,
    pub(super) context: &'a mut ExpressContext<'s>,
    pub(super) ticket: &'a mut Ticket<&'s Ledger>,
    pub(super) parse_context: ParseContext,
    pub(super) rewrite: ClientFields<'a>,
    pub(super) timeouts: &'s Timeouts,
    pub(super) limits: &'a ClientLimits,
    pub(super) turn: Turn,
}

impl Http2Relay<'_, '_> {
    /// Carries both directions until the end of the response was written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if !self.progress.sent {
            self.poll_upload(cx)?;
        }
        if self.poll_download(cx)?.is_ready() {
            self.context.ended_at = Some(self.turn.now());
            return Poll::Ready(Ok(()));
        }
        self.turn.end();
        let stage = Stage { answered: self.progress.answered, sent: self.progress.sent, half_closed: false };
        let times = (self.timeouts, self.limits);
        match due(self.stream, self.context, self.ticket, &self.turn, stage, times) {
            Some(broken) => {
                // A connection that is silent may hang as a whole.
                self.upstream.retire();
                Poll::Ready(Err(broken.into()))
            }
            None => Poll::Pending,
        }
    }

    /// Sends what is here of the request. An endpoint that takes no more is no reason to end: its answer may be on its way.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        self.turn.endpoint_blocked = false;
        let mut stream = self.stream.lock();
        loop {
            let place = stream.place();
            if place.body.size() > SMALL || self.progress.answered {
                place.body.keep(false);
            }
            if place.received_end
                && place.body.is_empty()
                && let Some(came) = &place.trailers
            {
                let sent = self.upstream.send_trailers(|encoder, block| {
                    response::write_trailers(came, trailers::passes_to_endpoint, encoder, block);
                });
                self.progress.sent = true;
                self.context.send_copy();
                return sent.map_err(Failed::from);
            }
            let ends = place.received_end && place.trailers.is_none();
            if place.body.is_empty() && !ends {
                place.body.rest();
                return Ok(());
            }
            let all = place.body.len();
            match self.upstream.poll_send(cx, place.body.data(), ends) {
                Poll::Pending => {
                    self.turn.endpoint_blocked = true;
                    return Ok(());
                }
                Poll::Ready(sent) => {
                    let n = sent?;
                    if let Some(copy) = &mut self.context.copy {
                        copy.push(place.body.data().get(..n).unwrap_or_default());
                    }
                    place.body.consume(n);
                    stream.used(n);
                    self.turn.moved = true;
                    self.context.progress.bytes_in += n as u64;
                    self.limit.check(self.context.progress.bytes_in).map_err(Broken::Client)?;
                    if ends && n == all {
                        self.progress.sent = true;
                        self.context.send_copy();
                        return Ok(());
                    }
                }
            }
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.turn.client_blocked = false;
        while !self.progress.ended {
            if !self.stream.lock().has_room() {
                self.turn.client_blocked = true;
                return Poll::Pending;
            }
            match ready!(self.upstream.poll_event(cx))? {
                Event::Informational => self.inform()?,
                Event::Head { end } => self.answer(end)?,
                Event::Data => ready!(self.poll_data()),
                Event::Trailers => {
                    let fields = self.upstream.fields().ok_or(BAD_ANSWER)?;
                    let status = fields.iter().find(|field| field.name == "grpc-status").map(|field| field.value);
                    self.context.progress.grpc_failed |=
                        self.parse_context.grpc && status.is_some_and(kind::blames_server);
                    let mut stream = self.stream.lock();
                    let write = |encoder: &mut _, block: &mut _| {
                        response::write_trailers(fields, trailers::passes, encoder, block)
                    };
                    stream.head(HeadKind::Trailers, true, write);
                    self.progress.ended = true;
                }
                Event::End => {
                    self.stream.lock().send(true, &[]);
                    self.progress.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn inform(&mut self) -> Result<(), Failed> {
        self.context.attempts.informed();
        self.progress.informational += 1;
        if self.progress.informational > MAX_INFORMATIONAL {
            return Err(BAD_ANSWER.into());
        }
        self.write_head(false)?;
        Ok(())
    }

    /// Writes the final head.
    fn answer(&mut self, ends: bool) -> Result<(), Failed> {
        let fields = self.upstream.fields().ok_or(BAD_ANSWER)?;
        let status = fields.status().ok_or(BAD_ANSWER)?;
        let later = status >= 500 && fields.iter().any(|field| field.name == RETRY_AFTER);
        let stream = self.stream;
        if self.context.is_asked_again(status, later, || stream.lock().place().replay()) {
            return Err(Broken::AskedAgain.into());
        }
        self.write_head(ends)?;
        let fields = self.upstream.fields().ok_or(BAD_ANSWER)?;
        let head = ResponseHead { later, ..final_head(fields, status, ends, self.parse_context) };
        let declared = fields.iter().find(|field| field.name == "content-length");
        self.progress.left = declared.and_then(|field| decimal(field.value));
        (self.progress.answered, self.progress.ended) = (true, ends);
        self.ticket.becomes(head.kind);
        self.turn.moved = true;
        let now = self.turn.now();
        self.context.answered(&head, now);
        Ok(())
    }

    fn write_head(&mut self, ends: bool) -> Result<u16, Failed> {
        let fields = self.upstream.fields().ok_or(BAD_ANSWER)?;
        let status = fields.status().ok_or(BAD_ANSWER)?;
        let mut stream = self.stream.lock();
        let rewrite = &self.rewrite;
        stream.head(HeadKind::of(status), ends, |encoder, block| {
            response::write_http2(status, fields, rewrite, encoder, block);
        });
        Ok(status)
    }

    /// Sends what is here of the body, as far as there is room.
    fn poll_data(&mut self) -> Poll<()> {
        let ends = self.upstream.ends();
        let buffered = self.upstream.buffered();
        let (mut sent, mut blocked) = (0, false);
        let handle = self.stream;
        let grown = self.upstream.read_within(|bytes| {
            let mut stream = handle.lock();
            let mut rest = bytes;
            while !rest.is_empty() {
                let Some(room) = stream.room() else {
                    blocked = true;
                    break;
                };
                let (now, later) = rest.split_at_checked(rest.len().min(room)).unwrap_or_default();
                stream.send(ends && later.is_empty(), now);
                sent += now.len();
                rest = later;
            }
            (sent, stream.growth())
        });
        self.stream.lock().has_grown(grown);
        self.context.progress.bytes_out += sent as u64;
        if let Some(left) = &mut self.progress.left {
            *left = left.saturating_sub(sent as u64);
            // Its end may come in a frame of its own. A client that has all that was declared need not wait for it.
            if *left == 0 {
                (self.context.progress.complete, self.context.progress.client_gone) = (true, false);
            }
        }
        self.turn.moved |= sent > 0;
        self.progress.ended = ends && sent == buffered;
        self.turn.client_blocked = blocked;
        if blocked { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// What a final head says.
fn final_head(fields: &FieldLines, status: u16, ends: bool, parse_context: ParseContext) -> ResponseHead {
    let value = |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.value);
    let failed = || value("grpc-status").is_some_and(kind::blames_server);
    ResponseHead {
        status,
        body: if ends { Body::Done } else { Body::UntilClose },
        kind: kind::of_response(value("content-type"), parse_context.grpc),
        closes: false,
        later: false,
        // A call that fails at once has its status here instead of in the trailers.
        grpc_failed: parse_context.grpc && failed(),
    }
}
