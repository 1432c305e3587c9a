//! Copies of requests for a mirror: which request is copied, and what becomes of its copy until it is handed over.
//!
//! ```text
//! version chosen ─► is it copied? ─► head ─► body, as far as it is small ─► permit ─► queue ─► proxy::mirror
//!                                              └── too large ──┐    └── none ──┐ └── full ─┐
//!                                                              └───────────────┴───────────┴─► dropped and counted
//! ```
//!
//! Invariant: nothing here waits, and nothing of the request depends on what comes of its copy.

use std::sync::Arc;

use super::context::Assignment;
use crate::model::Name;
use crate::proxy::codec::body::{Body, Malformed, Piece};
use crate::proxy::mirror_queue::{MirrorQueue, MirroredRequest};
use crate::snapshot::Mirror;
use crate::telemetry::MirrorOutcome;

/// A copy of a request, of which not everything is here yet.
#[derive(Debug)]
pub(crate) struct MirrorCopy {
    mirror: Arc<Mirror>,
    from: Name,
    route: Name,
    compares: bool,
    head: Vec<u8>,
    body: Vec<u8>,
    /// More came of the body than is copied.
    too_large: bool,
}

/// The copy of a request with this method, if it is copied. `special`: it is, or becomes, something else than one request
/// with one response: an upgrade, a tunnel, a call of gRPC.
#[inline]
pub(crate) fn copy(assigned: &Assignment<'_>, method: &str, special: bool) -> Option<Box<MirrorCopy>> {
    let mirror = assigned.service.mirror.as_ref()?;
    begin(mirror, assigned, method, special)
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

#[cold]
fn begin(mirror: &Arc<Mirror>, assigned: &Assignment<'_>, method: &str, special: bool) -> Option<Box<MirrorCopy>> {
    if special || assigned.route.probe || !mirror.takes(assigned.version_at, method) {
        return None;
    }
    let from = assigned.version.name.clone();
    Some(Box::new(MirrorCopy {
        mirror: Arc::clone(mirror),
        from,
        route: assigned.route.name.clone(),
        // Two of what is not safe would change data twice.
        compares: mirror.compare.is_some() && is_safe(method),
        head: Vec::new(),
        body: Vec::new(),
        too_large: false,
    }))
}

impl MirrorCopy {
    /// Whether it has its head.
    pub(crate) fn has_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// Copies the head that an HTTP/1.1 endpoint of the request's version gets.
    pub(crate) fn set_head(&mut self, head: Vec<u8>) {
        self.head = head;
    }

    /// Copies a piece of the body.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.too_large |= self.body.len() + piece.len() > self.mirror.max_body;
        if !self.too_large {
            self.body.extend_from_slice(piece);
        }
    }

    /// The body is sent from its beginning once more.
    pub(crate) fn restart(&mut self) {
        self.body.clear();
    }

    /// Copies a whole body, which `input` begins with in the client's framing.
    pub(crate) fn push_framed(&mut self, mut body: Body, input: &[u8]) -> Result<(), Malformed> {
        let mut rest = input;
        while !body.is_done() {
            let Piece { framing, data } = body.next(rest)?;
            let (piece, later) = rest.get(framing..).and_then(|rest| rest.split_at_checked(data)).unwrap_or_default();
            if piece.is_empty() && !body.is_done() {
                return Err(Malformed);
            }
            self.push(piece);
            body.took(data);
            rest = later;
        }
        Ok(())
    }

    /// Hands the copy over to be sent, if there is room for it.
    pub(crate) fn send(self, queue: &MirrorQueue) {
        if self.too_large {
            return self.body_is_missing();
        }
        let live = Arc::clone(&self.mirror.live);
        let Some(permit) = live.try_enter(self.mirror.max_in_flight) else {
            return live.series.ended(MirrorOutcome::Overflow);
        };
        let Self { mirror, from, route, compares, head, body, .. } = self;
        if !queue.try_send(Box::new(MirroredRequest { mirror, from, route, compares, head, body, _permit: permit })) {
            live.series.ended(MirrorOutcome::Overflow);
        }
    }

    /// The copy is not sent, as its body is not here.
    pub(crate) fn body_is_missing(&self) {
        self.mirror.live.series.ended(MirrorOutcome::Body);
    }
}
