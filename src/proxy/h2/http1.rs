//! One request to an HTTP/1.1 endpoint and its response back: both directions at once, with bounded memory.
//!
//! ```text
//! DATA ─► the stream's body ─► out ─► endpoint       upload: the head and as much body as fits leave together
//! DATA ◄─ output ◄─────────── input ◄─ endpoint      download: the head and what came with it
//!                └──────────────────── endpoint      of a long body what follows: straight into frames
//! ```
//!
//! Invariant: nothing is read from the endpoint for which the windows and the output have no room, so a client that does
//! not read slows its endpoint, and a stream that waits holds next to nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::response;
use super::state::{HeadKind, LockedStream, StreamHandle};
use super::turn::{Stage, Turn, due};
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::{Body, Chunk, Malformed, Piece, Sender, Trailing};
use crate::proxy::codec::hpack::FieldLines;
use crate::proxy::codec::response::{self as codec, MAX_HEAD, MAX_INFORMATIONAL, Read, SWITCHING};
use crate::proxy::express::broken::{BAD_ANSWER, Broken};
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::{ParseContext, ResponseHead, says_when};
use crate::proxy::express::upload::{Upload, Written};
use crate::proxy::io::buffer::{Buffer, SIZE};
use crate::proxy::io::transport::Transport;
use crate::proxy::request::failure::RESET;
use crate::proxy::request::response::ClientFields;
use crate::proxy::request::{kind, trailers};
use crate::proxy::upstream::connection::Checkout;
use crate::snapshot::{ClientLimits, Timeouts};

/// The response on its way.
#[derive(Default)]
pub(super) struct Download {
    input: Buffer,
    body: Option<Body>,
    informational: u8,
    /// The endpoint sent something.
    pub(super) begun: bool,
    /// The endpoint's connection ends with this response.
    pub(super) closes: bool,
    /// The end of the stream was written.
    ended: bool,
    /// Trailers that go on, as lines.
    trailers: Buffer,
    /// The endpoint switched to the protocol of a tunnel: bytes go both ways as they are.
    tunnel: bool,
}

/// What was made of the bytes at the front of a response.
enum Parsed {
    Informational(usize),
    Final(ResponseHead, usize),
    /// A head of so many bytes that opened a tunnel.
    Tunnel(usize),
    Invalid,
    /// Nobody gets it: the request is tried again.
    AskedAgain,
}

impl Download {
    /// Whether the response ended exactly where its framing says.
    pub(super) fn ended_exactly(&self) -> bool {
        self.body == Some(Body::Done) && self.input.is_empty()
    }
}

/// What an exchange with an HTTP/1.1 endpoint works with.
pub(super) struct Http1Relay<'a, 's> {
    pub(super) stream: &'a StreamHandle,
    pub(super) endpoint: &'a mut Transport,
    pub(super) checkout: &'a Checkout,
    pub(super) upload: &'a mut Upload,
    pub(super) download: &'a mut Download,
    pub(super) context: &'a mut ExpressContext<'s>,
    pub(super) ticket: &'a mut Ticket<&'s Ledger>,
    pub(super) parse_context: ParseContext,
    pub(super) rewrite: ClientFields<'a>,
    /// The protocol of a tunnel that the endpoint was offered.
    pub(super) offered: Option<&'a str>,
    pub(super) timeouts: &'s Timeouts,
    pub(super) limits: &'a ClientLimits,
    pub(super) turn: Turn,
}

impl Http1Relay<'_, '_> {
    /// Carries both directions until the end of the response was written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let _ = self.poll_upload(cx)?;
        // A tunnel is over when both sides have ended.
        if self.poll_download(cx)?.is_ready() && (!self.download.tunnel || self.is_sent()) {
            self.context.ended_at = Some(self.turn.now());
            return Poll::Ready(Ok(()));
        }
        self.turn.end();
        let half_closed = self.download.tunnel && (self.download.ended || self.is_sent());
        let stage = Stage { answered: self.download.body.is_some(), sent: self.is_sent(), half_closed };
        let times = (self.timeouts, self.limits);
        match due(self.stream, self.context, self.ticket, &self.turn, stage, times) {
            Some(broken) => Poll::Ready(Err(broken)),
            None => Poll::Pending,
        }
    }

    fn is_sent(&self) -> bool {
        self.upload.complete || self.upload.refused
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.is_sent() {
            return Poll::Ready(Ok(()));
        }
        self.turn.endpoint_blocked = false;
        let mut stream = self.stream.lock();
        loop {
            gather_upload(self.upload, self.endpoint, self.context, &mut stream)?;
            match self.upload.poll_write(cx, self.endpoint, &mut stream.place().body)? {
                Written::Some(of_body) => {
                    if of_body > 0 {
                        self.context.progress.bytes_in += of_body as u64;
                        stream.used(of_body);
                    }
                    self.turn.moved = true;
                }
                Written::Refused => return Poll::Ready(Ok(())),
                Written::Blocked => {
                    self.turn.endpoint_blocked = true;
                    return Poll::Pending;
                }
                Written::Nothing => {
                    stream.place().body.rest();
                    if Pin::new(&mut *self.endpoint).poll_flush(cx).is_pending() {
                        self.turn.endpoint_blocked = true;
                        return Poll::Pending;
                    }
                    if !self.upload.body.is_done() {
                        // The connection polls the stream when more has come.
                        return Poll::Pending;
                    }
                    if self.download.tunnel && Pin::new(&mut *self.endpoint).poll_shutdown(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.upload.complete = true;
                    self.download.closes |= self.upload.may_be_answered_early(&self.download.input, self.checkout);
                    self.turn.moved = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.turn.client_blocked = false;
        loop {
            ready!(self.poll_head())?;
            ready!(self.poll_body())?;
            if self.download.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_answer(cx))?;
        }
    }

    /// Writes the heads that are here.
    fn poll_head(&mut self) -> Poll<Result<(), Broken>> {
        while self.download.body.is_none() && !self.download.input.is_empty() {
            let mut stream = self.stream.lock();
            if !stream.has_room() {
                self.turn.client_blocked = true;
                return Poll::Pending;
            }
            let (parse_context, offered, rewrite) = (self.parse_context, self.offered, &self.rewrite);
            let here = self.download.input.data();
            let read = codec::read(here, |head, length| {
                if head.status == SWITCHING {
                    return open_tunnel(head, length, offered, rewrite, &mut stream);
                }
                // What is malformed from the beginning is no answer: the client gets another.
                let last = head.status >= 200;
                let (upload, context) = (&mut *self.upload, &mut *self.context);
                if last && context.is_asked_again(head.status, says_when(head), || upload.replay()) {
                    return Parsed::AskedAgain;
                }
                if last && !is_well_framed(head.body(parse_context.head_only), here.get(length..).unwrap_or_default()) {
                    return Parsed::Invalid;
                }
                write_head(head, length, parse_context, rewrite, &mut stream)
            });
            drop(stream);
            match read {
                Read::Partial => return Poll::Ready(Ok(())),
                Read::Invalid | Read::Head(Parsed::Invalid) => return Poll::Ready(Err(BAD_ANSWER)),
                Read::Head(Parsed::AskedAgain) => return Poll::Ready(Err(Broken::AskedAgain)),
                Read::Head(Parsed::Informational(length)) => {
                    self.download.input.consume(length);
                    self.context.attempts.informed();
                    self.download.informational += 1;
                    if self.download.informational > MAX_INFORMATIONAL {
                        return Poll::Ready(Err(BAD_ANSWER));
                    }
                }
                Read::Head(Parsed::Tunnel(length)) => {
                    self.download.input.consume(length);
                    self.begin_tunnel();
                }
                Read::Head(Parsed::Final(head, length)) => {
                    let download = &mut *self.download;
                    download.input.consume(length);
                    download.body = Some(head.body);
                    download.ended = head.body.is_done();
                    // The endpoint may take the rest of an unfinished request for the next one.
                    download.closes |= head.closes || !self.upload.complete;
                    self.ticket.becomes(head.kind);
                    self.turn.moved = true;
                    let now = self.turn.now();
                    self.context.answered(&head, now);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// From now on bytes go both ways as they are.
    fn begin_tunnel(&mut self) {
        let kind = kind::of_tunnel(self.offered.map(str::as_bytes));
        let body = Body::UntilClose;
        let head = ResponseHead { status: TUNNEL_OPEN, body, kind, closes: true, later: false, grpc_failed: false };
        let download = &mut *self.download;
        (download.body, download.tunnel, download.closes) = (Some(body), true, true);
        (self.upload.body, self.upload.complete, self.upload.replayable) = (body, false, false);
        self.upload.out.keep(false);
        self.ticket.becomes(kind);
        self.turn.moved = true;
        let now = self.turn.now();
        self.context.answered(&head, now);
    }

    /// Sends what is here of the body.
    fn poll_body(&mut self) -> Poll<Result<(), Broken>> {
        let download = &mut *self.download;
        let Some(body) = &mut download.body else { return Poll::Ready(Ok(())) };
        let mut stream = self.stream.lock();
        while !download.ended {
            let kept = &mut download.trailers;
            let piece = body.next_with(Sender::Endpoint, download.input.data(), |trailing| keep(trailing, kept));
            let Piece { framing, data } = piece.map_err(|Malformed| BAD_ANSWER)?;
            download.input.consume(framing);
            if data == 0 {
                if !body.is_done() {
                    break;
                }
                if download.trailers.is_empty() {
                    stream.send(true, &[]);
                } else {
                    self.context.progress.grpc_failed |=
                        send_trailers(&download.trailers, self.parse_context, &mut stream);
                }
                (download.ended, self.turn.moved) = (true, true);
                break;
            }
            let Some(room) = stream.room() else {
                self.turn.client_blocked = true;
                return Poll::Pending;
            };
            let n = data.min(room);
            let (payload, rest) = download.input.data().split_at_checked(n).unwrap_or_default();
            body.took(n);
            // The end of a chunk, which may be the last, is often there too.
            let framing = match body {
                Body::Chunked(Chunk::End) => {
                    let kept = &mut download.trailers;
                    let piece = body.next_with(Sender::Endpoint, rest, |trailing| keep(trailing, kept));
                    piece.map_err(|Malformed| BAD_ANSWER)?.framing
                }
                _ => 0,
            };
            download.ended = body.is_done() && download.trailers.is_empty();
            stream.send(download.ended, payload);
            download.input.consume(n + framing);
            self.context.progress.bytes_out += n as u64;
            self.turn.moved = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more of the response.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let download = &mut *self.download;
        let straight = match download.body {
            Some(Body::Length(left) | Body::Chunked(Chunk::Data(left))) if download.input.is_empty() => Some(left),
            _ => None,
        };
        let read = if let Some(left) = straight {
            download.input.rest();
            let mut stream = self.stream.lock();
            let Some(room) = stream.room() else {
                self.turn.client_blocked = true;
                return Poll::Pending;
            };
            let most = usize::try_from(left).unwrap_or(room).min(room);
            let id = stream.id;
            let last = if matches!(download.body, Some(Body::Length(_))) { left } else { u64::MAX };
            let endpoint = Pin::new(&mut *self.endpoint);
            let n = ready!(stream.output().poll_fill_data(cx, endpoint, id, most, last));
            if let (Ok(n @ 1..), Some(body)) = (&n, &mut download.body) {
                body.took(*n);
                download.ended = body.is_done();
                stream.sent(*n);
                self.context.progress.bytes_out += *n as u64;
            }
            n
        } else {
            match download.body {
                None if !download.input.has_room() => download.input.grow(MAX_HEAD),
                // A size line or trailers that are as long as the buffer.
                Some(_) if !download.input.has_room() => download.input.grow(2 * SIZE),
                _ => {}
            }
            ready!(download.input.poll_fill(cx, Pin::new(&mut *self.endpoint)))
        };
        match read {
            Ok(n) if n > 0 => {
                download.closes |= !download.begun && !self.upload.is_answered_whole(self.checkout);
                download.begun = true;
                // A head that comes in drops is late all the same.
                self.turn.moved |= download.body.is_some();
                Poll::Ready(Ok(()))
            }
            Ok(_) if download.body == Some(Body::UntilClose) => {
                download.body = Some(Body::Done);
                self.stream.lock().send(true, &[]);
                download.ended = true;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(Broken::Endpoint(RESET))),
        }
    }
}

/// Moves body into `out`, where it does not go as it came.
fn gather_upload(
    upload: &mut Upload,
    endpoint: &Transport,
    context: &mut ExpressContext<'_>,
    stream: &mut LockedStream<'_>,
) -> Result<(), Broken> {
    loop {
        let place = stream.place();
        if upload.body == Body::UntilClose && place.is_spent() {
            upload.body = Body::Done;
            if upload.chunked {
                end_chunks(place.trailers.as_deref(), &mut upload.out);
            }
        }
        if !upload.gathers(endpoint) {
            break;
        }
        let moved = upload.gather(&mut place.body)?;
        if moved == 0 {
            break;
        }
        stream.used(moved);
        context.progress.bytes_in += moved as u64;
        upload.limit.check(context.progress.bytes_in).map_err(Broken::Client)?;
    }
    upload.limit_replay();
    Ok(())
}

/// Keeps a trailer of a response, if it goes on.
fn keep(trailing: Trailing<'_>, kept: &mut Buffer) {
    if let Trailing::Field(name, value) = trailing
        && trailers::passes(name)
    {
        kept.push_field(name, value);
    }
}

/// Sends the trailers of a response; whether they say that the gRPC call failed.
fn send_trailers(kept: &Buffer, parse_context: ParseContext, stream: &mut LockedStream<'_>) -> bool {
    let mut failed = false;
    stream.head(HeadKind::Trailers, true, |encoder, block| {
        for line in kept.data().split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r")) {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at_checked(colon).unwrap_or_default();
            let value = value.get(2..).unwrap_or_default();
            failed |= name.eq_ignore_ascii_case(b"grpc-status") && kind::blames_server(value);
            encoder.field(name, value, block);
        }
    });
    failed && parse_context.grpc
}

/// Writes the last chunk, and the trailers that go on.
fn end_chunks(fields: Option<&FieldLines>, out: &mut Buffer) {
    out.push(b"0\r\n");
    for field in fields.iter().flat_map(|fields| fields.iter()) {
        if trailers::passes_to_endpoint(field.name) {
            out.push(field.line);
        }
    }
    out.push(b"\r\n");
}

/// Whether what is here of a body is framed as it says.
fn is_well_framed(mut body: Body, mut here: &[u8]) -> bool {
    while matches!(body, Body::Chunked(_)) {
        let Ok(Piece { framing, data }) = body.next_of(Sender::Endpoint, here) else { return false };
        body.took(data);
        here = here.get(framing + data..).unwrap_or_default();
        if data == 0 {
            break;
        }
    }
    true
}

/// The status with which a client's tunnel is opened (RFC 8441 §5).
const TUNNEL_OPEN: u16 = 200;

/// Writes what the client gets of a head that switches to another protocol.
fn open_tunnel(
    head: &codec::Head<'_, '_>,
    length: usize,
    offered: Option<&str>,
    rewrite: &ClientFields<'_>,
    stream: &mut LockedStream<'_>,
) -> Parsed {
    let taken = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case("upgrade"));
    let is_offered =
        taken.zip(offered).is_some_and(|(taken, offered)| taken.value.eq_ignore_ascii_case(offered.as_bytes()));
    if !is_offered {
        return Parsed::Invalid;
    }
    let id = stream.id;
    stream
        .output()
        .head(id, false, |encoder, block| response::write_tunnel(head, TUNNEL_OPEN, rewrite, encoder, block));
    Parsed::Tunnel(length)
}

/// Writes what the client gets of a head of `length` bytes.
fn write_head(
    head: &codec::Head<'_, '_>,
    length: usize,
    parse_context: ParseContext,
    rewrite: &ClientFields<'_>,
    stream: &mut LockedStream<'_>,
) -> Parsed {
    let body = head.body(parse_context.head_only);
    let ends = head.status >= 200 && body.is_done();
    let kind = HeadKind::of(head.status);
    stream.head(kind, ends, |encoder, block| response::write_http1(head, rewrite, encoder, block));
    if head.status < 200 {
        Parsed::Informational(length)
    } else {
        Parsed::Final(ResponseHead::of(head, body, parse_context), length)
    }
}
