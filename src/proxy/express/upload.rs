//! A request on its way to an HTTP/1 endpoint.

use tokio::io::AsyncWrite;

use crate::proxy::codec::body::Body;
use crate::proxy::io::buffer::{Buffer, LARGE, SIZE};
use crate::proxy::io::transport::Transport;
use crate::proxy::request::upload::{BodyLimit, Proof};
use crate::proxy::upstream::connection::Checkout;

/// What a request may be sent again with.
pub(crate) const REPLAYED: usize = LARGE - SIZE;

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
    pub(crate) fn goes_as_read(&self, endpoint: &Transport) -> bool {
        !self.chunked && !self.replayable && (self.out.is_empty() || endpoint.is_write_vectored())
    }

    /// Whether all of the request was written.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
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
