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

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::response::{self, ResponseRewrite};
use super::state::{HeadKind, LockedStream, StreamHandle};
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::{Body, Chunk, Malformed, Piece, Sender, gather};
use crate::proxy::codec::response::{self as codec, MAX_HEAD, MAX_INFORMATIONAL, Read, SWITCHING};
use crate::proxy::express::broken::{BAD_ANSWER, BAD_BODY, Broken};
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::{ParseContext, ResponseHead};
use crate::proxy::express::upload::{REPLAYED, Upload};
use crate::proxy::io::buffer::{Buffer, GATHERED, SIZE};
use crate::proxy::io::transport::Transport;
use crate::proxy::request::end::{End, GRACE};
use crate::proxy::request::failure::RESET;
use crate::proxy::request::kind;
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
    pub(super) rewrite: ResponseRewrite<'a>,
    /// The protocol of a tunnel that the endpoint was offered.
    pub(super) offered: Option<&'a str>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: ClientLimits,
    pub(super) turn: Turn,
}

/// What happened in a turn, and what is waited for.
pub(super) struct Turn {
    /// The time, if it was read.
    pub(super) now: Option<Instant>,
    /// When something moved last.
    pub(super) active: Instant,
    pub(super) moved: bool,
    /// The client does not take what was written.
    pub(super) client_blocked: bool,
    /// The endpoint does not take what was written.
    pub(super) endpoint_blocked: bool,
}

impl Turn {
    /// The first one, now.
    pub(super) fn new(now: Instant) -> Self {
        Self { now: Some(now), active: now, moved: false, client_blocked: false, endpoint_blocked: false }
    }

    /// The time of this turn, read once.
    pub(super) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// The end of a turn.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.moved) {
            self.active = self.now();
        }
        self.now = None;
    }
}

/// How far an exchange is, as far as its deadlines depend on it.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    /// The response's head was written.
    pub(super) answered: bool,
    /// All of the request was sent, or no more of it is taken.
    pub(super) sent: bool,
    /// One side of a tunnel has ended.
    pub(super) half_closed: bool,
}

/// Why an exchange must end now, if it must: the drain's deadline, or that nothing moved for too long.
pub(super) fn due(
    stream: &StreamHandle,
    context: &ExpressContext<'_>,
    ticket: &Ticket<&Ledger>,
    turn: &Turn,
    stage: Stage,
    (timeouts, limits): (&Timeouts, &ClientLimits),
) -> Option<Broken> {
    if context.is_cut() || ticket.is_due() {
        ticket.count_cut();
        return Some(Broken::Ended(End::Cut));
    }
    let waits = turn.client_blocked || turn.endpoint_blocked;
    if stream.is_cut_while(waits.then_some(turn.active)) {
        return Some(Broken::Ended(End::Unread));
    }
    let idle = timeouts.idle;
    let (limit, broken) = if turn.client_blocked {
        (limits.write_timeout, Broken::ClientSlow)
    } else if stage.answered {
        match (context.progress.kind.is_stream(), stage.half_closed) {
            (true, false) => return None,
            // It may be one that nobody reads any more.
            (true, true) => (idle, Broken::Ended(End::Left)),
            (false, _) => (idle, Broken::Ended(End::Idle)),
        }
    } else if stage.sent {
        (timeouts.first_byte, Broken::Ended(End::FirstByte))
    } else if turn.endpoint_blocked {
        (idle, Broken::Ended(End::Idle))
    } else {
        (idle + GRACE, Broken::Ended(End::Upload))
    };
    stream.is_late(turn.active + limit).then_some(broken)
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
        let times = (&self.timeouts, &self.limits);
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
            let upload = &mut *self.upload;
            let endpoint = Pin::new(&mut *self.endpoint);
            let place = stream.place();
            let mut body: &[u8] = &[];
            if upload.out.is_empty() || upload.goes_as_read(&endpoint) {
                let Piece { data, .. } = upload.body.next(place.body.data()).map_err(|Malformed| BAD_BODY)?;
                body = place.body.data().get(..data).unwrap_or_default();
            }
            let written = match (upload.out.data(), body) {
                ([], []) => None,
                (bytes, []) | ([], bytes) => Some(endpoint.poll_write(cx, bytes)),
                (out, body) => Some(endpoint.poll_write_vectored(cx, &[IoSlice::new(out), IoSlice::new(body)])),
            };
            if let Some(Poll::Ready(Ok(n))) = written {
                let of_body = n.saturating_sub(upload.out.len());
                upload.out.consume(n - of_body);
                upload.out.rest();
                if of_body > 0 {
                    place.body.consume(of_body);
                    upload.body.took(of_body);
                    self.context.progress.bytes_in += of_body as u64;
                    upload.replayable = false;
                    stream.used(of_body);
                }
            }
            match written {
                Some(Poll::Ready(Ok(n))) if n > 0 => {
                    upload.split |= !upload.out.is_empty() || !upload.body.is_done();
                    self.turn.moved = true;
                }
                Some(Poll::Ready(_)) => {
                    // What it says about that may be on its way.
                    upload.refused = true;
                    return Poll::Ready(Ok(()));
                }
                Some(Poll::Pending) => {
                    self.turn.endpoint_blocked = true;
                    return Poll::Pending;
                }
                None => {
                    stream.place().body.rest();
                    if Pin::new(&mut *self.endpoint).poll_flush(cx).is_pending() {
                        self.turn.endpoint_blocked = true;
                        return Poll::Pending;
                    }
                    if !upload.body.is_done() {
                        // The connection polls the stream when more has come.
                        return Poll::Pending;
                    }
                    if self.download.tunnel && Pin::new(&mut *self.endpoint).poll_shutdown(cx).is_pending() {
                        return Poll::Pending;
                    }
                    upload.complete = true;
                    // What came before the endpoint had all may be of an answer that was early, also where only its
                    // beginning is here.
                    if upload.split && (!self.download.input.is_empty() || self.checkout.has_unread()) {
                        self.download.closes = true;
                    }
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
                if !is_well_framed(head.body(parse_context.head_only), here.get(length..).unwrap_or_default()) {
                    return Parsed::Invalid;
                }
                write_head(head, length, parse_context, rewrite, &mut stream)
            });
            drop(stream);
            match read {
                Read::Partial => return Poll::Ready(Ok(())),
                Read::Invalid | Read::Head(Parsed::Invalid) => return Poll::Ready(Err(BAD_ANSWER)),
                Read::Head(Parsed::Informational(length)) => {
                    self.download.input.consume(length);
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
        let head = ResponseHead { status: TUNNEL_OPEN, body, kind, closes: true, grpc_failed: false };
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
            let piece = body.next_of(Sender::Endpoint, download.input.data());
            let Piece { framing, data } = piece.map_err(|Malformed| BAD_ANSWER)?;
            download.input.consume(framing);
            if data == 0 {
                if body.is_done() {
                    stream.send(true, &[]);
                    (download.ended, self.turn.moved) = (true, true);
                }
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
                    body.next_of(Sender::Endpoint, rest).map_err(|Malformed| BAD_ANSWER)?.framing
                }
                _ => 0,
            };
            download.ended = body.is_done();
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
                stream.place().window -= *n as i64;
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

/// Moves body into `out` where it joins what is there, gets another framing, or may be sent again.
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
                upload.out.push(b"0\r\n\r\n");
            }
        }
        if upload.body.is_done() || upload.out.len() >= GATHERED || upload.goes_as_read(endpoint) {
            break;
        }
        let moved = gather(&mut upload.body, Sender::Client, &mut place.body, &mut upload.out, upload.chunked);
        let moved = moved.map_err(|Malformed| BAD_BODY)?;
        if moved == 0 {
            break;
        }
        stream.used(moved);
        context.progress.bytes_in += moved as u64;
        upload.limit.check(context.progress.bytes_in).map_err(Broken::Client)?;
    }
    if upload.out.size() > REPLAYED {
        upload.replayable = false;
        upload.out.keep(false);
    }
    Ok(())
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
    rewrite: &ResponseRewrite<'_>,
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
    rewrite: &ResponseRewrite<'_>,
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
