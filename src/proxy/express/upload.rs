//! A request on its way to an HTTP/1 endpoint.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::broken::{BAD_BODY, Broken};
use crate::proxy::codec::body::{Body, Malformed, Piece, Sender};
use crate::proxy::codec::reframing::{Reframing, gather};
use crate::proxy::io::buffer::{Buffer, GATHERED, LARGE, SIZE};
use crate::proxy::io::transport::Transport;
use crate::proxy::request::headers::ToldVersion;
use crate::proxy::request::trailers;
use crate::proxy::request::upload::{BodyLimit, Proof};
use crate::proxy::upstream::connection::Checkout;

/// What a request may be sent again with.
const REPLAYED: usize = LARGE - SIZE;

/// The request on its way.
pub(crate) struct Upload {
    /// What is to be written: the head, and body after it.
    pub(crate) out: Buffer,
    pub(crate) body: Body,
    pub(crate) chunked: bool,
    /// All that was sent so far is kept in `out`.
    pub(crate) replayable: bool,
    pub(crate) complete: bool,
    /// It took more than one write, so the endpoint could answer before it had all.
    pub(crate) split: bool,
    /// The endpoint takes no more; it may have answered.
    pub(crate) refused: bool,
    /// The largest body that is passed on.
    pub(crate) limit: BodyLimit,
    /// What must hold when an answer comes, or the connection ends with it.
    proof: Proof,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Bytes left, so many of them of the body as it was read.
    Some(usize),
    /// There was nothing to write.
    Nothing,
    /// The endpoint does not take it yet.
    Blocked,
    /// The endpoint takes no more. What it says about that may be on its way.
    Refused,
}

impl Upload {
    /// A request whose head is in `out`.
    pub(crate) fn new(mut out: Buffer, body: Body, idempotent: bool, limit: BodyLimit) -> Self {
        out.keep(idempotent);
        let chunked = matches!(body, Body::Chunked(_));
        let proof = Proof::of_whole(body);
        Self { out, body, chunked, replayable: idempotent, complete: false, split: false, refused: false, limit, proof }
    }

    /// The body is sent as it comes.
    pub(crate) fn stream(&mut self) {
        self.proof = Proof::Late;
    }

    /// Whether the body is sent as it comes, on a connection of its own.
    pub(crate) fn is_streamed(&self) -> bool {
        self.proof == Proof::Late
    }

    /// Whether an answer whose first byte is here can only be one to all of the request.
    pub(crate) fn is_answered_whole(&self, checkout: &Checkout) -> bool {
        match self.proof {
            Proof::None => true,
            Proof::Acknowledged => checkout.is_acknowledged(),
            Proof::Late => self.complete && checkout.is_answered_late(),
        }
    }

    /// Whether the body is written from where it was read, behind what is in `out`.
    fn goes_as_read(&self, endpoint: &Transport) -> bool {
        !self.chunked && !self.replayable && (self.out.is_empty() || endpoint.is_write_vectored())
    }

    /// Whether body is moved into `out`: where it joins what is there, gets another framing, or may be sent again.
    pub(crate) fn gathers(&self, endpoint: &Transport) -> bool {
        !self.body.is_done() && self.out.len() < GATHERED && !self.goes_as_read(endpoint)
    }

    /// Moves one piece of the body from `input` to `out`; how many bytes of it.
    pub(crate) fn gather(&mut self, input: &mut Buffer) -> Result<usize, Broken> {
        let reframing = if self.chunked { Reframing::Chunked(trailers::passes_to_endpoint) } else { Reframing::Plain };
        gather(&mut self.body, Sender::Client, input, &mut self.out, reframing).map_err(|Malformed| BAD_BODY)
    }

    /// Gives up what is kept for another try, if it is too much.
    pub(crate) fn limit_replay(&mut self) {
        if self.out.size() > REPLAYED {
            self.replayable = false;
            self.out.keep(false);
        }
    }

    /// Writes what is in `out`, and behind it what is at the front of `input` and goes as it was read.
    // Twice for each request; the compiler would make it a call.
    #[inline(always)]
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &mut Transport,
        input: &mut Buffer,
    ) -> Result<Written, Broken> {
        let mut body: &[u8] = &[];
        if self.out.is_empty() || self.goes_as_read(endpoint) {
            let Piece { framing, data } = self.body.next(input.data()).map_err(|Malformed| BAD_BODY)?;
            input.consume(framing);
            body = input.data().get(..data).unwrap_or_default();
        }
        let endpoint = Pin::new(endpoint);
        let written = match (self.out.data(), body) {
            ([], []) => return Ok(Written::Nothing),
            (bytes, []) | ([], bytes) => endpoint.poll_write(cx, bytes),
            (out, body) => endpoint.poll_write_vectored(cx, &[IoSlice::new(out), IoSlice::new(body)]),
        };
        let n = match written {
            Poll::Ready(Ok(n)) if n > 0 => n,
            Poll::Ready(_) => {
                self.refused = true;
                return Ok(Written::Refused);
            }
            Poll::Pending => return Ok(Written::Blocked),
        };
        let of_body = n.saturating_sub(self.out.len());
        self.out.consume(n - of_body);
        self.out.rest();
        if of_body > 0 {
            input.consume(of_body);
            self.body.took(of_body);
            self.replayable = false;
        }
        self.split |= !self.out.is_empty() || !self.body.is_done();
        Ok(Written::Some(of_body))
    }

    /// Whether what came before the endpoint had all may be of an answer that was early, also where only its beginning is
    /// `here`.
    pub(crate) fn may_be_answered_early(&self, here: &Buffer, checkout: &Checkout) -> bool {
        self.split && (!here.is_empty() || checkout.has_unread())
    }

    /// Whether all of the request was written.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Says another version to the endpoint than the head, all of which is still to be sent, says so far.
    pub(crate) fn retell(&mut self, from: Option<ToldVersion<'_>>, to: Option<ToldVersion<'_>>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let was = from.lines().concat();
        let all = self.out.data();
        let Some(at) = memchr::memmem::find(all, was.as_bytes()) else { return };
        let (before, rest) = all.split_at_checked(at).unwrap_or_default();
        let mut out = Buffer::default();
        out.keep(self.replayable);
        out.push(before);
        to.lines().into_iter().for_each(|line| out.push(line.as_bytes()));
        out.push(rest.get(was.len()..).unwrap_or_default());
        self.out = out;
    }

    /// Prepares to send the request again, if all of it that was sent is still there.
    pub(crate) fn replay(&mut self) -> bool {
        if self.replayable {
            self.out.rewind();
            (self.complete, self.split, self.refused) = (false, false, false);
        }
        self.replayable
    }
}
