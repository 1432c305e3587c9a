//! Reads a small body whole before its endpoint hears of the request; see [`crate::proxy::request::upload`].
//!
//! The bytes stay where they were read, and the relay takes them from there: nothing is copied, and a body of declared
//! length that came with its head, as most small ones do, costs a comparison.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::forward::H1Request;
use crate::drain::{Ledger, Ticket};
use crate::proxy::codec::body::{Body, Malformed};
use crate::proxy::express::broken::{BAD_BODY, Broken};
use crate::proxy::request::end::{End, GRACE};
use crate::proxy::request::upload::{BodyLimit, Manner, PAUSE, Scan, is_small};

/// A body that is read.
struct Intake {
    scan: Scan,
    declared: bool,
    /// The largest body that is passed on.
    limit: BodyLimit,
    /// How long the client may pause.
    idle: Duration,
    began: Instant,
    /// Until when the request must be over.
    deadline: Option<Instant>,
    active: Instant,
}

impl Client {
    /// Whether nothing of the body is to be waited for: there is none, or it is small and came with its head.
    pub(super) fn has_body(&self, body: Body) -> bool {
        match body {
            Body::Done => true,
            Body::Length(length) => is_small(Some(length)) && length <= self.input.len() as u64,
            Body::Chunked(_) | Body::UntilClose => false,
        }
    }

    /// Reads the body of a request if it is small, and says how it is to be sent. `ticket` is that of its endpoint.
    pub(super) async fn take_in(
        &mut self,
        request: &H1Request<'_>,
        ticket: &Ticket<&Ledger>,
    ) -> Result<Manner, Broken> {
        let length = match request.upload.body {
            Body::Length(length) => Some(length),
            _ => None,
        };
        if !is_small(length) {
            return Ok(Manner::Streamed);
        }
        let context = &request.context;
        let mut intake = Intake {
            scan: Scan::new(request.upload.body),
            declared: length.is_some(),
            limit: request.upload.limit,
            idle: context.assigned.service.timeouts.idle + GRACE,
            began: context.began,
            deadline: context.attempts.deadline(),
            active: context.began,
        };
        let is_cut = || context.is_cut() || ticket.is_due();
        let taken = poll_fn(|cx| self.poll_intake(cx, &mut intake, is_cut)).await;
        if taken == Err(Broken::Ended(End::Cut)) {
            ticket.count_cut();
        }
        taken
    }

    fn poll_intake(
        &mut self,
        cx: &mut Context<'_>,
        intake: &mut Intake,
        is_cut: impl Fn() -> bool,
    ) -> Poll<Result<Manner, Broken>> {
        loop {
            let manner = intake.scan.look(self.input.data()).map_err(|Malformed| BAD_BODY)?;
            intake.limit.check(intake.scan.data()).map_err(Broken::Client)?;
            if let Some(manner) = manner {
                return Poll::Ready(Ok(manner));
            }
            match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                Poll::Ready(Ok(n)) if n > 0 => intake.active = Instant::now(),
                Poll::Ready(_) => return Poll::Ready(Err(Broken::ClientGone)),
                Poll::Pending if is_cut() => return Poll::Ready(Err(Broken::Ended(End::Cut))),
                Poll::Pending => {
                    let (late, pause) = (intake.active + intake.idle, intake.began + PAUSE);
                    let late = intake.deadline.map_or(late, |all| all.min(late));
                    let pauses = !intake.declared && pause < late;
                    ready!(self.timer.poll(cx, if pauses { pause } else { late }));
                    return Poll::Ready(if pauses { Ok(Manner::Streamed) } else { Err(Broken::Ended(End::Upload)) });
                }
            }
        }
    }
}
