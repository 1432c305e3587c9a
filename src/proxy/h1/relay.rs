//! One request to its endpoint and its response back: both directions at once, in one task, with bounded memory.
//!
//! ```text
//! client ─► input ─► body ─► out ─► endpoint        upload: the head and as much body as fits leave together
//! client ◄─ out ◄─ body ◄─ input ◄─ endpoint        download: likewise
//! ```
//!
//! Small messages are gathered in `out` and leave in one write. Where the framing stays the same, what does not fit
//! is written from where it was read; of a request that is not sent again all of its body, in one write with the head.
//!
//! Invariant: no byte is read for which there is no room, so a slow reader slows its writer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::response::{self, ParsedResponse, ResponseRewrite};
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::{Body, Chunk, Malformed, Piece, Sender};
use crate::proxy::codec::reframing::{Reframing, gather};
use crate::proxy::codec::response::{MAX_HEAD, MAX_INFORMATIONAL, SWITCHING};
use crate::proxy::express::broken::{BAD_ANSWER, Broken};
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::ParseContext;
use crate::proxy::express::upload::{Upload, Written};
use crate::proxy::io::buffer::{Buffer, GATHERED, LARGE};
use crate::proxy::io::timer::Timer;
use crate::proxy::io::transport::Transport;
use crate::proxy::request::end::{End, GRACE, HALF_CLOSED_CHECK};
use crate::proxy::request::failure::RESET;
use crate::proxy::request::trailers;
use crate::proxy::upstream::connection::Checkout;
use crate::snapshot::{ClientLimits, Timeouts};

/// The response on its way.
#[derive(Default)]
pub(super) struct Download {
    input: Buffer,
    out: Buffer,
    body: Option<Body>,
    chunked: bool,
    informational: u8,
    /// The endpoint sent something.
    pub(super) begun: bool,
    /// The endpoint's connection ends with this response.
    pub(super) closes: bool,
    /// The client's connection ends with this response: it was told so.
    pub(super) closes_client: bool,
    /// The client has something of the final head.
    pub(super) told: bool,
    /// The endpoint took the upgrade: what follows its head is a tunnel's.
    switched: bool,
}

impl Download {
    /// Whether the endpoint took the upgrade.
    pub(super) fn is_switched(&self) -> bool {
        self.switched
    }

    /// What the endpoint sent behind what was passed on.
    pub(super) fn into_rest(self) -> Buffer {
        self.input
    }

    /// Throws away what is here of a response that nobody gets.
    fn throw_away(&mut self) {
        let Some(body) = &mut self.body else { return };
        while let Ok(Piece { framing, data }) = body.next_of(Sender::Endpoint, self.input.data()) {
            self.input.consume(framing + data);
            body.took(data);
            if data == 0 {
                break;
            }
        }
    }

    /// Whether the response ended exactly where its framing says.
    pub(super) fn ended_exactly(&self) -> bool {
        self.body == Some(Body::Done) && self.input.is_empty()
    }
}

/// What an exchange works with.
pub(super) struct Relay<'a, 's> {
    pub(super) client: &'a mut Transport,
    /// What the client sent and nobody read.
    pub(super) input: &'a mut Buffer,
    pub(super) timer: &'a mut Timer,
    pub(super) endpoint: &'a mut Transport,
    pub(super) checkout: &'a Checkout,
    pub(super) upload: &'a mut Upload,
    pub(super) download: &'a mut Download,
    pub(super) context: &'a mut ExpressContext<'s>,
    pub(super) ticket: &'a mut Ticket<&'s Ledger>,
    pub(super) parse_context: ParseContext,
    pub(super) rewrite: ResponseRewrite<'a>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: ClientLimits,
    /// The time, if it was read in this turn.
    pub(super) now: Option<Instant>,
    /// When something moved last.
    pub(super) active: Instant,
    pub(super) moved: bool,
    /// The client does not take what was written.
    pub(super) client_blocked: bool,
    /// The endpoint does not take what was written.
    pub(super) endpoint_blocked: bool,
    /// The client ended its half of the connection; when to look next whether it is still there.
    pub(super) half_closed: Option<Instant>,
}

impl Relay<'_, '_> {
    /// Carries both directions until the response is with the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let uploaded = self.poll_upload(cx)?.is_ready();
        let downloaded = self.poll_download(cx)?;
        if downloaded.is_ready() {
            self.context.ended_at = Some(self.now());
            return Poll::Ready(Ok(()));
        }
        if uploaded {
            self.watch_client(cx)?;
        }
        if std::mem::take(&mut self.moved) {
            self.active = self.now();
        }
        let due = self.due(cx);
        self.now = None;
        match due {
            Some(broken) => Poll::Ready(Err(broken)),
            None => Poll::Pending,
        }
    }

    /// The time of this turn, read once.
    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.upload.complete || self.upload.refused {
            return Poll::Ready(Ok(()));
        }
        self.endpoint_blocked = false;
        loop {
            self.gather_upload()?;
            match self.upload.poll_write(cx, self.endpoint, self.input)? {
                Written::Some(of_body) => {
                    self.context.progress.bytes_in += of_body as u64;
                    self.moved = true;
                }
                Written::Refused => return Poll::Ready(Ok(())),
                Written::Blocked => {
                    self.endpoint_blocked = true;
                    return Poll::Pending;
                }
                Written::Nothing => {
                    if Pin::new(&mut *self.endpoint).poll_flush(cx).is_pending() {
                        self.endpoint_blocked = true;
                        return Poll::Pending;
                    }
                    if self.upload.body.is_done() {
                        self.upload.complete = true;
                        self.download.closes |= self.upload.may_be_answered_early(&self.download.input, self.checkout);
                        self.moved = true;
                        return Poll::Ready(Ok(()));
                    }
                    self.input.grow(self.upload.body.ahead());
                    match ready!(self.input.poll_fill(cx, Pin::new(&mut *self.client))) {
                        Ok(n) if n > 0 => self.moved = true,
                        _ => return Poll::Ready(Err(Broken::ClientGone)),
                    }
                }
            }
        }
    }

    /// Moves body into `out`, where it does not go as it is read.
    fn gather_upload(&mut self) -> Result<(), Broken> {
        while self.upload.gathers(self.endpoint) {
            let moved = self.upload.gather(self.input)?;
            self.context.progress.bytes_in += moved as u64;
            self.upload.limit.check(self.context.progress.bytes_in).map_err(Broken::Client)?;
            if moved == 0 {
                break;
            }
        }
        self.upload.limit_replay();
        Ok(())
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.client_blocked = false;
        loop {
            self.gather_download()?;
            let download = &mut *self.download;
            let written = if !download.out.is_empty() {
                let written = Pin::new(&mut *self.client).poll_write(cx, download.out.data());
                if let Poll::Ready(Ok(n)) = written {
                    download.out.consume(n);
                    download.told |= download.body.is_some();
                }
                Some(written)
            } else if let Some(body) = &mut download.body
                && !download.chunked
            {
                let Piece { framing, data } =
                    body.next_of(Sender::Endpoint, download.input.data()).map_err(|Malformed| BAD_ANSWER)?;
                download.input.consume(framing);
                if data == 0 {
                    None
                } else {
                    let bytes = download.input.data().get(..data).unwrap_or_default();
                    let written = Pin::new(&mut *self.client).poll_write(cx, bytes);
                    if let Poll::Ready(Ok(n)) = written {
                        download.input.consume(n);
                        body.took(n);
                        self.context.progress.bytes_out += n as u64;
                    }
                    Some(written)
                }
            } else {
                None
            };
            match written {
                Some(Poll::Ready(Ok(n))) if n > 0 => {
                    // An informational answer is not the one that is waited for.
                    self.moved |= download.told;
                    continue;
                }
                Some(Poll::Ready(_)) => return Poll::Ready(Err(Broken::ClientGone)),
                Some(Poll::Pending) => {
                    self.client_blocked = true;
                    return Poll::Pending;
                }
                None => {}
            }
            if Pin::new(&mut *self.client).poll_flush(cx).is_pending() {
                self.client_blocked = true;
                return Poll::Pending;
            }
            if download.body == Some(Body::Done) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_answer(cx))?;
        }
    }

    /// Reads more of the response.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let download = &mut *self.download;
        match download.body {
            None if !download.input.has_room() => download.input.grow(MAX_HEAD),
            Some(body) => download.input.grow(body.ahead()),
            None => {}
        }
        match ready!(download.input.poll_fill(cx, Pin::new(&mut *self.endpoint))) {
            Ok(n) if n > 0 => {
                download.closes |= !download.begun && !self.upload.is_answered_whole(self.checkout);
                download.begun = true;
                // A head that comes in drops is late all the same.
                self.moved |= download.body.is_some();
                Poll::Ready(Ok(()))
            }
            Ok(_) if download.body == Some(Body::UntilClose) => {
                download.body = Some(Body::Done);
                download.out.push(b"0\r\n\r\n");
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(Broken::Endpoint(RESET))),
        }
    }

    /// Moves what the endpoint sent into `out`: heads, and body where it joins what is there or gets another framing.
    fn gather_download(&mut self) -> Result<(), Broken> {
        while self.download.body.is_none() && !self.download.input.is_empty() {
            let early = !self.upload.complete;
            let close = self.rewrite.close || early || self.context.is_draining();
            let rewrite = ResponseRewrite { close, ..self.rewrite };
            let download = &mut *self.download;
            match response::rewrite_head(download.input.data(), self.parse_context, &rewrite, &mut download.out) {
                ParsedResponse::Partial => return Ok(()),
                ParsedResponse::Invalid => return Err(BAD_ANSWER),
                ParsedResponse::Informational(length) => {
                    download.input.consume(length);
                    self.context.attempts.informed();
                    download.informational += 1;
                    if download.informational > MAX_INFORMATIONAL {
                        return Err(BAD_ANSWER);
                    }
                }
                // It speaks another protocol before it has the request that offers it.
                ParsedResponse::Switched(..) if early => return Err(BAD_ANSWER),
                ParsedResponse::Final(answer, length) | ParsedResponse::Switched(answer, length) => {
                    download.input.consume(length);
                    download.switched = answer.status == SWITCHING;
                    download.body = Some(answer.body);
                    download.chunked = matches!(answer.body, Body::Chunked(_) | Body::UntilClose);
                    // The endpoint may take the rest of an unfinished request for the next one.
                    download.closes |= answer.closes || early;
                    let upload = &mut *self.upload;
                    if self.context.is_asked_again(answer.status, answer.later, || upload.replay()) {
                        download.throw_away();
                        return Err(Broken::AskedAgain);
                    }
                    download.closes_client = close;
                    self.ticket.becomes(answer.kind);
                    self.moved = true;
                    let now = self.now();
                    self.context.answered(&answer, now);
                }
            }
        }
        let download = &mut *self.download;
        let Some(body) = &mut download.body else { return Ok(()) };
        let reframing = reframing(download.chunked, trailers::passes);
        while !body.is_done() && download.out.len() < GATHERED && (download.chunked || !download.out.is_empty()) {
            let moved = gather(body, Sender::Endpoint, &mut download.input, &mut download.out, reframing);
            let moved = moved.map_err(|Malformed| BAD_ANSWER)?;
            self.context.progress.bytes_out += moved as u64;
            if moved == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The client has nothing to say until it has its answer; if it goes, nobody waits for one. That it says it will
    /// send no more is no reason to take its answer from it (RFC 9112 §9.6).
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.half_closed.is_some() {
            return Ok(());
        }
        while self.input.has_room() {
            match self.input.poll_fill(cx, Pin::new(&mut *self.client)) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    self.half_closed = Some(self.now() + HALF_CLOSED_CHECK);
                    return Ok(());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Broken::ClientGone),
            }
        }
        // Who sends so much during a stream wants no stream; and that it left could not be seen any more.
        if self.context.progress.kind.is_stream() { Err(Broken::ClientGone) } else { Ok(()) }
    }

    /// Why the exchange must end now, if it must.
    fn due(&mut self, cx: &mut Context<'_>) -> Option<Broken> {
        if self.context.is_cut() || self.ticket.is_due() {
            self.ticket.count_cut();
            return Some(Broken::Ended(End::Cut));
        }
        let idle = self.timeouts.idle;
        let (limit, broken) = if self.client_blocked {
            (self.limits.write_timeout, Broken::ClientSlow)
        } else if self.download.body.is_some() {
            match (self.context.progress.kind.is_stream(), self.half_closed) {
                (true, None) => return None,
                // It may be one that nobody reads any more.
                (true, Some(_)) => (idle, Broken::Ended(End::Left)),
                (false, _) => (idle, Broken::Ended(End::Idle)),
            }
        } else if self.upload.complete || self.upload.refused {
            (self.context.first_byte_limit(), Broken::Ended(End::FirstByte))
        } else if self.endpoint_blocked {
            (idle, Broken::Ended(End::Idle))
        } else {
            (idle + GRACE, Broken::Ended(End::Upload))
        };
        let deadline = self.active + limit;
        let deadline = self.context.deadline().map_or(deadline, |all| all.min(deadline));
        while let Some(look) = self.half_closed {
            if self.timer.poll(cx, deadline.min(look)).is_pending() {
                return None;
            }
            let now = Instant::now();
            if now >= deadline {
                return Some(broken);
            }
            if self.client.is_broken() {
                return Some(Broken::ClientGone);
            }
            self.half_closed = Some(now + HALF_CLOSED_CHECK);
        }
        self.timer.poll(cx, deadline).is_ready().then_some(broken)
    }
}

/// How a body is sent on, with the trailers that pass if it is in chunks.
fn reframing(chunked: bool, passes: fn(&str) -> bool) -> Reframing {
    if chunked { Reframing::Chunked(passes) } else { Reframing::Plain }
}

impl Body {
    /// How much is worth reading at once.
    fn ahead(self) -> usize {
        match self {
            Self::Length(left) | Self::Chunked(Chunk::Data(left)) => usize::try_from(left).unwrap_or(LARGE).min(LARGE),
            Self::Done | Self::Chunked(_) | Self::UntilClose => 0,
        }
    }
}
